"""Uniform affine quantisation, the reference: what whole numbers stand for, and how their range is found.

A real number is ``(number - zero_point) * scale``, LiteRT's and ONNX Runtime's convention; elsewhere the zero point is
subtracted instead, and has the other sign. Formulas are those of "A White Paper on Neural Network Quantization" (Nagel
et al., 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final, get_args

from leti.compression.quantizing.clipping import aciq_range
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

RangeMethod = Literal["min_max", "percentile", "mse", "aciq"]
"""How the range of values is found: what they span, without rare ones, by least error, or by their distribution."""

MIN_BITS: Final = 2
MAX_BITS: Final = 16
LEAST_RANGE: Final = 1e-6
"""Range of values that are all zero: any scale says them, and this one divides by no zero."""

LEAST_SCALE: Final = float(np.finfo(np.float32).tiny)
"""The smallest scale: below it, float32 has few digits left, and then none."""

PERCENTILE: Final = 99.9
"""Share of the values, in per cent, that the range of ``percentile`` holds; what is beyond is cut on both sides."""

_CANDIDATES: Final = 100  # of shrunken ranges, among which the one of least error is looked for


@final
@dataclass(frozen=True, slots=True)
class Affine:
    """What whole numbers from ``low`` to ``high`` stand for, a scale for all or for each slice along ``axis``."""

    scales: Array
    zero_points: Array
    low: int
    high: int
    axis: int | None = None

    def quantized(self, values: Array) -> Array:
        """Return values as whole numbers (int32), rounded half to even; what is out of range becomes its end."""
        scales, zero_points = self._spread(values.ndim)
        numbers: Array = np.clip(np.rint(values / scales) + zero_points, self.low, self.high).astype(np.int32)
        return numbers

    def dequantized(self, numbers: Array) -> Array:
        """Return what whole numbers stand for, as float32."""
        scales, zero_points = self._spread(numbers.ndim)
        real: Array = ((numbers - zero_points) * scales).astype(np.float32)
        return real

    def rounded(self, values: Array) -> Array:
        """Return values as they are once quantised: "fake quantisation"."""
        return self.dequantized(self.quantized(values))

    def _spread(self, rank: int) -> tuple[Array, Array]:
        shape = [-1 if axis == self.axis else 1 for axis in range(rank)]
        if self.axis is None:
            return self.scales.reshape(()), self.zero_points.reshape(())
        return self.scales.reshape(shape), self.zero_points.reshape(shape)


def affine(
    low: Array | float, high: Array | float, *, bits: int = 8, symmetric: bool = False, axis: int | None = None
) -> Affine:
    """Return what signed numbers of ``bits`` stand for, so that they reach from ``low`` to ``high`` and zero is one.

    ``low`` and ``high`` are one number, or an array of one a slice along ``axis``. Symmetric numbers have the zero
    point 0 and leave out the least one (-127 to 127), as LiteRT asks of filters. Of eight bits, scales and zero points
    are those that the TFLite writer gives. Raises :class:`~leti.core.errors.InvalidInput` for bits out of 2 to 16 and
    for ranges that are not finite.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InvalidInput(f"is {bits}", field="bits", remedy=f"{MIN_BITS} to {MAX_BITS}")
    lows = np.minimum(np.atleast_1d(np.asarray(low, np.float64)), 0.0)
    highs = np.maximum(np.atleast_1d(np.asarray(high, np.float64)), 0.0)
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise InvalidInput("holds what is not finite", field="values")
    most = 2 ** (bits - 1) - 1
    if symmetric:
        reach = np.maximum(np.abs(lows), highs)
        scales = np.maximum(np.where(reach == 0, LEAST_RANGE, reach) / most, LEAST_SCALE)
        return Affine(scales.astype(np.float32), np.zeros(scales.shape, np.int64), -most, most, axis)
    spans = highs - lows
    scales = np.maximum(np.where(spans == 0, LEAST_RANGE, spans) / (2**bits - 1), LEAST_SCALE)
    zero_points = np.clip(np.rint(-most - 1 - lows / scales), -most - 1, most).astype(np.int64)
    return Affine(scales.astype(np.float32), zero_points, -most - 1, most, axis)


def fitted(
    values: Array, *, bits: int = 8, symmetric: bool = True, axis: int | None = None, method: RangeMethod = "min_max"
) -> Affine:
    """Return what whole numbers stand for, so that they hold ``values``, which are known in advance (weights).

    One range for all values, or one for each slice along ``axis``. Raises :class:`~leti.core.errors.InvalidInput` for
    a method that is none, and for values that are not finite.
    """
    if method not in get_args(RangeMethod):
        raise InvalidInput(f"is {method!r}", field="method", remedy=", ".join(get_args(RangeMethod)))
    if not np.isfinite(values).all():
        raise InvalidInput("holds what is not finite", field="values")
    rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    limits = np.asarray([RANGES[method](row, bits, symmetric) for row in rows], np.float64)
    return affine(limits[:, 0], limits[:, 1], bits=bits, symmetric=symmetric, axis=axis)


def averaged_min_max(batches: Iterable[Array]) -> tuple[float, float]:
    """Return the mean of the least values of batches and that of the greatest: a range that one outlier moves little.

    What activations are calibrated with in Distiller. Raises :class:`~leti.core.errors.InvalidInput` for no batches.
    """
    limits = np.asarray([(batch.min(), batch.max()) for batch in batches], np.float64)
    if not len(limits):
        raise InvalidInput("holds no batches", field="batches", remedy="give at least one")
    low, high = limits.mean(axis=0)
    return float(low), float(high)


def accumulator_bits(bits: int, channels: int, kernel: tuple[int, ...]) -> int:
    """Return the bits that hold every sum that a convolution makes of numbers of ``bits`` bits: 2n + log2(c k²).

    ``channels`` are those that each filter reads.
    """
    return 2 * bits + math.ceil(math.log2(channels * math.prod(kernel)))


def _min_max(values: Array, bits: int, symmetric: bool) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _percentile(values: Array, bits: int, symmetric: bool) -> tuple[float, float]:
    low, high = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
    return float(low), float(high)


def _least_error(values: Array, bits: int, symmetric: bool) -> tuple[float, float]:
    """Return the range of least squared error among those that min-max shrinks to, both ends by one share."""
    low, high = _min_max(values, bits, symmetric)
    ranges = [(share * low, share * high) for share in np.linspace(1 / _CANDIDATES, 1, _CANDIDATES)]
    errors = [
        np.square(affine(*limits, bits=bits, symmetric=symmetric).rounded(values) - values).mean() for limits in ranges
    ]
    return ranges[int(np.argmin(errors))]


def _aciq(values: Array, bits: int, symmetric: bool) -> tuple[float, float]:
    return aciq_range(values, bits)


RANGES: Final[Mapping[RangeMethod, Callable[[Array, int, bool], tuple[float, float]]]] = MappingProxyType(
    {"min_max": _min_max, "percentile": _percentile, "mse": _least_error, "aciq": _aciq}
)
"""Least and greatest number of a row of values that ``bits`` bits shall say, by method."""
