"""Additive model: latency as a sum over kernels, by a ridge regression on relative error that resists strays.

Huber's loss by iteratively reweighted least squares (Huber, "Robust Estimation of a Location Parameter", 1964): a
network far off the sum (a cell that the runtime folded away, a disturbed measurement) loses weight instead of bending
the rest. The strength of the ridge, and whether the columns that say how kernels follow each other join the sum, are
chosen by grouped cross-validation inside the data given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import final

from leti.core.extras import needs
from leti.predictors.batch import Ints, Matrix, Vector
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np

STRENGTHS = (1e-2, 1e-4, 1e-6)
FLOOR = 0.1
"""No prediction falls below this share of the fastest measured network: a sum or a line may cross zero."""

_HUBER = 1.5
_ROUNDS = 6
_CONTEXT = ("path: ", "on path: ", "pair: ", "readers ")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Additive:
    """``intercept + rows[:, columns] @ weights`` in ms, never below ``floor_ms``."""

    columns: Ints
    weights: Vector
    intercept: float
    floor_ms: float

    def latencies_ms(self, rows: Matrix) -> Vector:
        """Return latencies ``(n,)`` for features ``(n, columns)``."""
        latency: Vector = np.maximum(rows[:, self.columns] @ self.weights + self.intercept, self.floor_ms)
        return latency


def fit_additive(
    names: Sequence[str], rows: Matrix, latencies_ms: Vector, groups: Sequence[str], *, seed: int
) -> Additive:
    """Fit to features ``(n, columns)`` with these names and latencies ``(n,)``; see the head of the file."""
    sums = np.array([i for i, name in enumerate(names) if not name.startswith(_CONTEXT)], dtype=np.int64)
    every = np.arange(len(names), dtype=np.int64)
    candidates = list(product((sums, every) if len(sums) < len(every) else (every,), STRENGTHS))
    splits = cross_splits(groups, 3, seed=seed) if len(set(groups)) > 1 else []
    errors = np.zeros(len(candidates))
    for rest, fold in splits:
        for i, (columns, strength) in enumerate(candidates):
            fitted = _fit(columns, rows[rest], latencies_ms[rest], strength)
            off = np.abs(np.log(fitted.latencies_ms(rows[fold]) / latencies_ms[fold]))
            errors[i] += np.minimum(off, 0.5).sum()  # a stray counts as a miss, not for how far it lies
    columns, strength = candidates[int(errors.argmin())]
    return _fit(columns, rows, latencies_ms, strength)


def _fit(columns: Ints, rows: Matrix, latencies_ms: Vector, strength: float) -> Additive:
    chosen = rows[:, columns]
    scale = np.sqrt(np.mean(chosen**2, axis=0))
    scale[scale == 0] = 1.0
    relative = np.column_stack([chosen / scale, np.ones(len(rows))]) / latencies_ms[:, None]  # the sum should be 1
    ridge = strength * len(rows) * np.median(1 / latencies_ms) ** 2 * np.ones(relative.shape[1])
    ridge[-1] = 0.0  # the intercept is free
    weight = np.ones(len(rows))
    for _ in range(_ROUNDS):
        weighted = relative * weight[:, None]
        gram = weighted.T @ relative
        gram[np.diag_indices_from(gram)] += ridge
        solution = np.linalg.solve(gram, weighted.sum(axis=0))
        residual = np.abs(relative @ solution - 1)
        spread = max(1.4826 * float(np.median(residual)), 1e-6)
        weight = np.minimum(1.0, _HUBER * spread / np.maximum(residual, 1e-12))
    return Additive(columns, solution[:-1] / scale, float(solution[-1]), FLOOR * float(latencies_ms.min()))
