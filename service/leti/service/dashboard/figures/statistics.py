"""What figures say in numbers: how far two columns agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leti.core.extras import needs

Floats = NDArray[np.float64]


def pearson(x: Floats, y: Floats) -> float | None:
    """Return the linear correlation of two columns ``(n,)``; ``None`` where one of them is all the same."""
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return None
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: Floats, y: Floats) -> float | None:
    """Return the rank correlation of two columns ``(n,)``, ties at their mean rank; ``None`` where one has one value.

    SciPy's own takes a second to be loaded, for what NumPy says in three lines.
    """
    return pearson(ranks(x), ranks(y))


def kendall(x: Floats, y: Floats) -> float | None:
    """Return Kendall's tau-b of two columns ``(n,)``: of the pairs, by how much more are in the same order than not."""
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return None
    with needs("boosting"):
        from scipy import stats
    return float(stats.kendalltau(x, y).statistic)


def ranks(values: Floats) -> Floats:
    """Return the ranks of values ``(n,)`` from 1 on; equal ones share the mean of theirs."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    found: Floats = (np.cumsum(count) - (count - 1) / 2)[inverse]
    return found
