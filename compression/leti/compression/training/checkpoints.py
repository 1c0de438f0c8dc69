"""The state of a training as an .npz file: parameters and what the optimizer keeps of each; nothing is pickled."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from leti.compression.files import write_whole
from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch


def write_checkpoint(
    path: Path, run: str, epochs: int, modules: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state after so many epochs of a run; a reader finds it whole, or the one before."""
    arrays = {"run": np.array(run), "epochs": np.array(epochs)}
    for name, tensor in modules.state_dict().items():
        arrays[f"module/{name}"] = tensor.numpy()
    for number, kept in optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            if value is not None:
                arrays[f"optimizer/{number}/{name}"] = torch.as_tensor(value).numpy()
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    write_whole(path, file.getvalue())


def read_checkpoint(path: Path, run: str, modules: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put the state of a run into its modules and optimizer; return how many epochs it has had, none without a file.

    Raises :class:`~leti.core.errors.ArtifactError` for a file that is damaged, or of another run.
    """
    if not path.exists():
        return 0
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays["run"]) != run:
            raise ArtifactError(
                f"{path.name!r} is of another network, teacher or recipe", field="checkpoint", remedy="take it away"
            )
        modules.load_state_dict({name: torch.from_numpy(array) for name, array in _below("module/", arrays)})
        kept: dict[int, dict[str, torch.Tensor]] = {}
        for place, array in _below("optimizer/", arrays):
            number, _, name = place.partition("/")
            kept.setdefault(int(number), {})[name] = torch.from_numpy(array)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
        return int(arrays["epochs"])
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path.name!r} is no checkpoint: {error}", field="checkpoint") from error


def _below(prefix: str, arrays: dict[str, Array]) -> list[tuple[str, Array]]:
    return [(name.removeprefix(prefix), array) for name, array in arrays.items() if name.startswith(prefix)]
