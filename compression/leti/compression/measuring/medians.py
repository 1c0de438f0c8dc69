"""How well a median is known: the interval that order statistics give, whatever the values are distributed like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

COVERAGE: Final = 0.9
"""The share of intervals of medians that shall hold the median of what the values were drawn from."""


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
