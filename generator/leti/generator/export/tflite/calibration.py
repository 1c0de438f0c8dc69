"""Ranges of activations: a program run in float32 on representative data."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.export.tflite.versions import set_versions
from leti.generator.export.tflite.writer import Operator, Program
from leti.generator.weights import Array

with needs("export"):
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

Ranges = Mapping[int, tuple[float, float]]
"""The least and the greatest value of each tensor."""

_REMEDY = "numpy.save of an array, or numpy.savez of one for each input"

SAMPLES = 2
"""How often a program is run where nobody gives data: ranges of random data settle at once."""


def representative_data(program: Program, seed: int) -> list[tuple[Array, ...]]:
    """Return seeded inputs of a program: normal, and whole numbers that are valid as any index of two and more."""
    rng = np.random.default_rng(seed)
    inputs = [program.tensors[number] for number in program.inputs]
    return [tuple(_drawn(rng, t.shape, t.dtype) for t in inputs) for _ in range(SAMPLES)]


def read_samples(path: Path, inputs: Sequence[TensorType]) -> Iterator[tuple[Array, ...]]:
    """Yield representative data of a .npy file, or of a .npz file of an array an input, in their order.

    Arrays are ``(samples, …)``, beyond which they are of the inputs' shapes; as many samples as a batch go together.
    Raises :class:`InvalidInput` for a file of another form.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path.name!r} cannot be read: {error}", field="representative", remedy=_REMEDY) from error
    shapes = ", ".join(str(array.shape) for array in arrays)
    counts = {len(array) // t.shape[0] for array, t in zip(arrays, inputs, strict=False) if array.ndim and t.shape}
    fits = len(arrays) == len(inputs) and all(a.shape[1:] == t.shape[1:] for a, t in zip(arrays, inputs, strict=True))
    if not fits or len(counts) != 1 or 0 in counts:
        wanted = ", ".join(str(("samples", *t.shape[1:])) for t in inputs)
        raise InvalidInput(f"holds arrays of {shapes}, not of {wanted}", field="representative", remedy=_REMEDY)
    for i in range(counts.pop()):
        yield tuple(
            array[i * t.shape[0] : (i + 1) * t.shape[0]].astype(t.dtype)
            for array, t in zip(arrays, inputs, strict=True)
        )


def calibrate(program: Program, data: Iterable[Sequence[Array]]) -> Ranges:
    """Return the ranges of a program's tensors over ``data``, an array for each input a sample, computed in float32.

    Raises :class:`InvalidInput` for data that is not of the inputs' shapes, and :class:`InvalidGraph` where LiteRT
    cannot run the program in float32.
    """
    twin, stands_for = _float_twin(program)
    set_versions(twin)
    file, numbers = twin.pack_numbered()
    ranges: dict[int, tuple[float, float]] = {}
    try:
        model = Interpreter(
            model_content=file,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        model.allocate_tensors()
        for sample in data:
            for number, array in zip(twin.inputs, sample, strict=True):
                model.set_tensor(numbers[number], array)
            model.invoke()
            for number, tensor in enumerate(twin.tensors):
                if number in numbers and tensor.data is None and tensor.dtype == "float32":
                    values = model.get_tensor(numbers[number])
                    low, high = ranges.get(number, (np.inf, -np.inf))
                    ranges[number] = (min(low, float(values.min())), max(high, float(values.max())))
    except RuntimeError as error:
        raise InvalidGraph(f"does not run in float32: {error}", field="graph") from error
    except ValueError as error:
        raise InvalidInput(f"does not fit the network's inputs: {error}", field="representative") from error
    if any(not np.isfinite(limit) for limits in ranges.values() for limit in limits):
        raise InvalidGraph("makes values that are not finite on the representative data", field="graph")
    return ranges | {number: ranges[source] for number, source in stands_for.items() if source in ranges}


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    if dtype in ("float32", "int8"):
        return rng.standard_normal(shape, dtype=np.float32)
    return rng.integers(0, 2, shape).astype(dtype)


def _float_twin(program: Program) -> tuple[Program, dict[int, int]]:
    """Return the program in float32 throughout, and for what ``QUANTIZE`` and ``DEQUANTIZE`` make what they read."""
    stands_for: dict[int, int] = {}
    operators = []
    for operator in program.operators:
        reads = [stands_for.get(tensor, tensor) for tensor in operator.reads]
        if operator.builtin in ("QUANTIZE", "DEQUANTIZE"):
            stands_for[operator.makes[0]] = reads[0]
        else:
            operators.append(Operator(operator.builtin, operator.options, reads, operator.makes, operator.version))
    tensors = [replace(t, dtype="float32") if t.dtype == "int8" and t.data is None else t for t in program.tensors]
    outputs = [stands_for.get(tensor, tensor) for tensor in program.outputs]
    return Program(tensors, operators, program.inputs, outputs), stands_for
