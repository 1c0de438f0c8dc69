"""What the steps of a compression made, kept in a folder: a run that was broken off goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, final

from leti.compression.files import write_whole
from leti.core.codec import from_json, to_json
from leti.core.errors import ArtifactError, LetiError
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

T = TypeVar("T")

_VERSION: Final = 1


@final
@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How products of a kind are kept: to bytes, and back."""

    suffix: str
    write: Callable[[T], bytes]
    read: Callable[[bytes], T]


def json_form(cls: Any) -> Form[Any]:
    """Return the form of a dataclass, or a tuple of them, as the codec has it."""
    return Form(
        "json", lambda value: json.dumps(to_json(value)).encode(), lambda data: from_json(cls, json.loads(data))
    )


def _write_arrays(arrays: Mapping[str, Array]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _read_arrays(data: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _write_network(imported: Imported) -> bytes:
    said = json.dumps({"graph": to_json(imported.graph), "names": list(imported.names)}).encode()
    arrays: dict[str, Array] = {"said": np.frombuffer(said, np.uint8)}
    for number, weights in enumerate(imported.loaded_weights()):
        arrays |= {f"{number}.{position}": array for position, array in enumerate(weights)}
    return _write_arrays(arrays)


def _read_network(data: bytes) -> Imported:
    arrays = _read_arrays(data)
    said = json.loads(arrays["said"].tobytes())
    graph = from_json(Graph, said["graph"])
    counts = [sum(name.startswith(f"{number}.") for name in arrays) for number in range(len(graph.ops))]
    weights = tuple(
        tuple(arrays[f"{number}.{position}"] for position in range(count)) for number, count in enumerate(counts)
    )
    return Imported(graph, tuple(said["names"]), weights)


ARRAYS: Final[Form[Mapping[str, Array]]] = Form("npz", _write_arrays, _read_arrays)
BYTES: Final[Form[bytes]] = Form("bin", lambda value: value, lambda data: data)
NETWORK: Final[Form[Imported]] = Form("network.npz", _write_network, _read_network)


def digest(*parts: object) -> str:
    """Return what products that follow from these parts, plain values or dataclasses, are known by."""
    return hashlib.sha256(json.dumps(to_json(list(parts)), sort_keys=True).encode()).hexdigest()[:20]


@final
class Work:
    """Products of steps by the name of the step and what they follow from; without a folder, as long as this lives.

    A file is there whole or not at all. One that is damaged counts as none. Each says how long its making took.
    """

    def __init__(self, folder: Path | None) -> None:
        """Keep products in ``folder``, made if need be; raise ``ArtifactError`` where it cannot be written to."""
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self._made: dict[str, Any] = {}
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArtifactError(f"{folder} cannot be written to: {error.strerror}", field="out") from error

    def kept(self, step: str, name: str, follows_from: object, form: Form[T], make: Callable[[], T]) -> T:
        """Return the product of that name, made only where it is not there; its seconds are added to the step's."""
        file = f"{name}-{digest(_VERSION, follows_from)}.{form.suffix}"
        if file in self._made:
            known: T = self._made[file]
            return known
        path = self.path(file)
        found = _read(path, form)
        if found is None:
            start_s = time.monotonic()
            value = make()
            found = time.monotonic() - start_s, value
            if path is not None:
                _write(path, json.dumps(found[0]).encode() + b"\n" + form.write(value))
        self.seconds[step] = self.seconds.get(step, 0.0) + found[0]
        self._made[file] = found[1]
        return found[1]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds inside the block, whose products keep themselves, to a step's."""
        start_s = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - start_s

    def path(self, name: str) -> Path | None:
        """Return the place of a file in the folder, where there is one."""
        return None if self.folder is None else self.folder / name


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error.strerror}", field="out") from error


def _read(path: Path | None, form: Form[T]) -> tuple[float, T] | None:
    if path is None or not path.exists():
        return None
    try:
        seconds, _, content = path.read_bytes().partition(b"\n")
        return float(seconds), form.read(content)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, LetiError):
        return None
