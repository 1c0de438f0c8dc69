"""Shapes that a TFLite file leaves open, worked out by LiteRT in a process of its own.

A file holds the shapes that its tensors have for the inputs it was made for, with 1 for what was left open, which
beyond the batch is no shape at all. LiteRT works them out as it would on a device; a file that crashes it, or keeps it
busy, costs that process alone.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.cost import Shape
from leti.generator.importers.tflite.file import TfliteFile

TIMEOUT_S = 120.0
MAX_ADDRESS_SPACE_BYTES = 8 * 2**30
_RESHAPES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})


def open_shapes(source: Path | bytes, file: TfliteFile, given: Mapping[str, Shape]) -> dict[int, Shape]:
    """Return the shapes of a file's tensors, by number, where those it states are not those for inputs ``given``.

    Raises :class:`InvalidInput` naming an input whose shape is open and not given, or one that there is not.
    """
    wanted = _given_shapes(file, given)
    for number in file.inputs:
        tensor = file.tensor(number)
        if number not in wanted and -1 in tensor.signature[1:]:
            shape = ",".join("?" if n < 0 else str(n) for n in (tensor.shape[0], *tensor.signature[1:]))
            raise InvalidInput(
                f"input {tensor.name!r} has the open shape {tensor.signature}",
                field="input_shapes",
                remedy=f"give it: --input-shape {tensor.name}={shape}",
            )
    changed = {number: shape for number, shape in wanted.items() if shape != file.tensor(number).shape}
    if not changed and not _is_open(file):
        return {}
    with _file_of(source) as path:
        shapes = _resized(path, {number: wanted.get(number, file.tensor(number).shape) for number in file.inputs})
    return {number: shape for number, shape in enumerate(shapes) if shape is not None}


def _given_shapes(file: TfliteFile, given: Mapping[str, Shape]) -> dict[int, Shape]:
    numbers = {file.tensor(number).name: number for number in file.inputs}
    plain = {name.removeprefix("serving_default_").removesuffix(":0"): number for name, number in numbers.items()}
    known = {**file.signature_names(), **plain, **numbers}
    if len(file.inputs) == 1:
        known[""] = file.inputs[0]
    found = {}
    for name, shape in given.items():
        if known.get(name) not in file.inputs:
            raise InvalidInput(
                f"has no input {name!r}", field="input_shapes", remedy=f"its inputs: {', '.join(numbers)}"
            )
        stated = file.tensor(known[name]).shape
        if len(shape) != len(stated) or min(shape, default=1) < 1:
            raise InvalidInput(f"cannot be {shape}: {name!r} is of {stated}", field="input_shapes")
        found[known[name]] = tuple(shape)
    return found


def _is_open(file: TfliteFile) -> bool:
    """Return whether a shape inside the file depends on more than the batch, so that what it states is of no use."""
    if not any(-1 in file.tensor(number).signature for number in file.inputs):
        return False
    for operator in file.operators():
        made = [file.tensor(number) for number in operator.outputs if number >= 0]
        if any(-1 in tensor.signature[1:] for tensor in made):
            return True
        if operator.name in _RESHAPES and operator.inputs and operator.inputs[0] >= 0:
            read = file.tensor(operator.inputs[0])
            if any(math.prod(tensor.shape) != math.prod(read.shape) for tensor in made):
                return True
    return False


@contextmanager
def _file_of(source: Path | bytes) -> Iterator[Path]:
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="leti-") as directory:
        path = Path(directory, "model.tflite")
        path.write_bytes(source)
        yield path


def _resized(path: Path, inputs: Mapping[int, Shape]) -> list[Shape | None]:
    """Return the shape of each tensor once the inputs have the given shapes, ``None`` for one that is not there."""
    command = [sys.executable, "-m", __name__, str(path.resolve()), json.dumps(list(inputs.items()))]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
        answer = json.loads(done.stdout) if done.returncode == 0 else done.stderr.decode(errors="replace")
    except (subprocess.TimeoutExpired, ValueError, OSError) as error:
        answer = str(error)
    if isinstance(answer, str):
        why = (answer.strip().splitlines() or ["LiteRT ended without an answer"])[-1]
        raise InvalidInput(
            f"has shapes that LiteRT does not work out for inputs of {list(inputs.values())}: {why[:300]}",
            field="input_shapes",
            remedy="convert the model with fixed input shapes",
        )
    return [None if shape is None else tuple(shape) for shape in answer]


def _work_out(path: str, inputs: Sequence[tuple[int, Sequence[int]]]) -> list[list[int] | None]:
    """Run the model once on zeros, and return the shapes that its tensors then have."""
    with needs("export"):
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

    builtin = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(path, num_threads=1, experimental_op_resolver_type=builtin)
    for number, shape in inputs:
        interpreter.resize_tensor_input(number, shape)
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
    interpreter.invoke()
    found: list[list[int] | None] = []
    for entry in sorted(interpreter.get_tensor_details(), key=lambda entry: int(entry["index"])):
        found += [None] * (entry["index"] - len(found))
        found.append([int(n) for n in entry["shape"]])
    return found


def _main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE_BYTES, MAX_ADDRESS_SPACE_BYTES))
    except (ImportError, ValueError):
        pass  # not a Unix, or already under a lower limit
    path, inputs = sys.argv[1:]
    json.dump(_work_out(path, json.loads(inputs)), sys.stdout)


if __name__ == "__main__":
    _main()
