"""How well medians, and their quotients, are known: intervals, whatever the values are distributed like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from leti.core.extras import needs

with needs("compression"):
    import numpy as np
    import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float64]"

COVERAGE: Final = 0.9
"""The share of intervals of medians that shall hold the median of what the values were drawn from."""

DRAWS: Final = 2000


def median_interval(values: Sequence[float], coverage: float = COVERAGE) -> tuple[float, float]:
    """Return the narrowest interval of two order statistics that holds the median with ``coverage`` or more.

    The k-th smallest and the k-th largest of n values enclose it but for twice the probability that a fair coin shows
    fewer than k heads in n throws (David and Nagaraja, *Order Statistics*, 7.1). Values must be at least one; the
    interval of too few, under 5 at 90 %, is all of their range, which holds the median less often than that.
    """
    ordered, count = sorted(values), len(values)
    inside, below = 0, 0  # the k so far, and the ways to throw fewer heads than that
    while 2 * inside < count:
        below += math.comb(count, inside)
        if 2 * below / 2**count > 1 - coverage:
            break
        inside += 1
    outermost = max(inside, 1) - 1
    return ordered[outermost], ordered[-1 - outermost]


def quotient_interval(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], coverage: float = COVERAGE
) -> tuple[float, float]:
    """Return the interval of the median, over ``pairs`` of samples, of the quotient of their medians.

    By the percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 13.3), :data:`DRAWS` draws of
    each sample from a fixed seed. There must be a pair, and a value in each sample.
    """
    drawn = np.random.default_rng(0)

    def medians(values: Sequence[float]) -> FloatArray:
        """Return the median of each draw: ``(draws,)``."""
        found: FloatArray = np.median(drawn.choice(np.asarray(values), (DRAWS, len(values))), axis=1)
        return found

    quotients = np.median([medians(above) / medians(below) for above, below in pairs], axis=0)
    low, high = np.quantile(quotients, ((1 - coverage) / 2, (1 + coverage) / 2))
    return float(low), float(high)
