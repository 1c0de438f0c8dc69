"""What networks are run on: random inputs, the same for the same seed in every runtime."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from leti.core.errors import MeasurementFailed
from leti.core.extras import needs

with needs("agent"):
    import numpy as np
    from numpy.typing import NDArray

SEED: Final = 0

TensorType = tuple[tuple[int, ...], str]
"""Shape and data type (a name that numpy knows) of an input or output."""


def random_inputs(types: Iterable[TensorType], seed: int = SEED) -> list[NDArray[Any]]:
    """Return an array for each input of a network, drawn one after another.

    Raises :class:`~leti.core.errors.MeasurementFailed` for types that no network takes.
    """
    random = np.random.default_rng(seed)
    return [random_input(shape, np.dtype(dtype), random) for shape, dtype in types]


def random_input(shape: tuple[int, ...], dtype: np.dtype[Any], random: np.random.Generator) -> NDArray[Any]:
    """Return numbers of ``shape`` that are normal to compute with.

    They are in [0, 1) for floats, of the whole range for bytes, and 0 or 1, valid as any index, for wider integers.
    Raises :class:`~leti.core.errors.MeasurementFailed` for types that no network takes.
    """
    if dtype.kind == "f":
        values = np.asarray(random.random(shape)).astype(dtype)
    elif dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        values = np.asarray(random.integers(limits.min, limits.max, shape, endpoint=True)).astype(dtype)
    elif dtype.kind in "iub":
        values = np.asarray(random.integers(0, 1, shape, endpoint=True)).astype(dtype)
    else:
        raise MeasurementFailed(f"inputs of type {dtype} are not known", field="model", failure="unsupported")
    # An array whose buffer is not exactly this long would be read as garbage without a word.
    if values.nbytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an input of {values.nbytes} bytes does not fit shape {shape} of {dtype}")
    return values
