"""Analytical clipping for integer quantisation (ACIQ): the range of least error for values of a known distribution.

Few bits say a narrow range finely or a wide one coarsely. Where values are Laplace's or Gauss's, the error of both
kinds, of what is cut and of what is rounded, has a closed form, whose minimum is the clipping value ("Post-training
4-bit quantization of convolution networks for rapid-deployment", Banner et al., NeurIPS 2019).
"""

from __future__ import annotations

import functools
import math
from typing import Final, Literal

from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    from scipy.optimize import minimize_scalar
    from scipy.special import erfc

Distribution = Literal["laplace", "gauss"]

_WIDEST: Final = 100.0  # deviations: beyond what 16 bits ask for


def distribution_of(values: Array) -> tuple[Distribution, float, float]:
    """Return which distribution makes the values likelier, their centre and their scale.

    The scale is Laplace's ``b`` (mean distance from the median) or Gauss's standard deviation.
    """
    median, mean = float(np.median(values)), float(values.mean(dtype=np.float64))
    b, deviation = float(np.abs(values - median).mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if min(b, deviation) <= 0:
        return "gauss", mean, deviation
    laplace, gauss = -math.log(2 * b) - 1, -math.log(deviation * math.sqrt(2 * math.pi)) - 0.5
    return ("laplace", median, b) if laplace > gauss else ("gauss", mean, deviation)


def expected_error(distribution: Distribution, clip: float, bits: int) -> float:
    """Return the mean squared error of values of scale 1 around 0, cut at ``±clip``, of ``2**bits`` levels."""
    rounding = clip**2 / (3 * float(4**bits))
    if distribution == "laplace":
        return 2 * math.exp(-clip) + rounding
    tail = (1 + clip**2) * float(erfc(clip / math.sqrt(2))) / 2
    return 2 * (tail - clip * math.exp(-(clip**2) / 2) / math.sqrt(2 * math.pi)) + rounding


@functools.cache
def clipping_value(distribution: Distribution, bits: int, *, rectified: bool = False) -> float:
    """Return where values of scale 1 around 0 are best cut, for ``bits`` bits.

    Of ``rectified`` values (after a ReLU), only those above 0 are said, so that there is one bit more for them.
    """
    levels = bits + 1 if rectified else bits
    found = minimize_scalar(
        lambda clip: expected_error(distribution, clip, levels), bounds=(0, _WIDEST), method="bounded"
    )
    return float(found.x)


def aciq_range(values: Array, bits: int) -> tuple[float, float]:
    """Return the range of least expected error for values, no wider than what they span.

    Values none of which is below zero are taken as those of a ReLU: what they were before is mirrored.
    """
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high > 0:
        positive = values[values > 0]
        distribution, _, scale = distribution_of(np.concatenate([positive, -positive]))
        return 0.0, min(high, scale * clipping_value(distribution, bits, rectified=True))
    distribution, centre, scale = distribution_of(values)
    reach = scale * clipping_value(distribution, bits)
    return max(low, centre - reach), min(high, centre + reach)
