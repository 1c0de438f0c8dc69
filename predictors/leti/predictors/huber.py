"""Weights by which fits resist strays: Huber, "Robust Estimation of a Location Parameter" (1964), in turns."""

from __future__ import annotations

from typing import Final

from leti.core.extras import needs
from leti.predictors.batch import Vector

with needs("boosting"):
    import numpy as np

BEND: Final = 1.5
"""Residuals within this many deviations count in full, others the less the farther they lie."""

_DEVIATIONS: Final = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation."""


def spread_of(residuals: Vector, least: float) -> float:
    """Return the deviation of absolute residuals ``(n,)`` by their median, never below ``least``."""
    return max(_DEVIATIONS * float(np.median(residuals)), least)


def huber_weights(residuals: Vector, spread: float) -> Vector:
    """Return how much each of absolute residuals ``(n,)`` counts, 0 to 1."""
    weights: Vector = np.minimum(1.0, BEND * spread / np.maximum(residuals, 1e-12))
    return weights
