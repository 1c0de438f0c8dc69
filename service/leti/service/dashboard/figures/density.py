"""Many points in few: where they lie close, one stands for those around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

CELLS: Final = 60
"""Cells along each axis."""


@final
@dataclass(frozen=True, slots=True)
class Thinned:
    """Points that stand for all: their indices, and how many each stands for, in the same order; shapes ``(n,)``."""

    index: NDArray[np.int64]
    count: NDArray[np.int64]


def thin(
    x: NDArray[np.float64], y: NDArray[np.float64], *, cells: int = CELLS, log: bool = False, keep: int = 0
) -> Thinned:
    """Return one point for each cell of a grid over all points, the one nearest to the mean of its cell.

    ``x`` and ``y`` have the shape ``(points,)``, finite, and above 0 with ``log``, which spaces the grid by factors.
    The first ``keep`` points stand for themselves, whatever lies beside them: outliers, say.
    """
    if log:
        x, y = np.log(x), np.log(y)
    found, rest = np.arange(min(keep, len(x))), slice(min(keep, len(x)), None)
    if not len(x[rest]):
        return Thinned(found, np.ones(len(found), np.int64))
    cell = _cells(x, cells)[rest] * cells + _cells(y, cells)[rest]
    _, inverse, count = np.unique(cell, return_inverse=True, return_counts=True)
    mean_x = np.bincount(inverse, x[rest]) / count
    mean_y = np.bincount(inverse, y[rest]) / count
    scale_x, scale_y = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    away = ((x[rest] - mean_x[inverse]) / scale_x) ** 2 + ((y[rest] - mean_y[inverse]) / scale_y) ** 2
    order = np.lexsort((away, inverse))
    first = order[np.searchsorted(inverse[order], np.arange(len(count)))]
    return Thinned(np.concatenate([found, first + len(found)]), np.concatenate([np.ones(len(found), np.int64), count]))


def _cells(values: NDArray[np.float64], cells: int) -> NDArray[np.int64]:
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(len(values), np.int64)
    found: NDArray[np.int64] = np.minimum((values - low) / (high - low) * cells, cells - 1).astype(np.int64)
    return found
