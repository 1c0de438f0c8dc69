"""Additive model: latency as a sum over kernels, by a ridge regression on relative error that resists strays.

Huber's loss by iteratively reweighted least squares (Huber, "Robust Estimation of a Location Parameter", 1964): a
network far off the sum (a cell that the runtime folded away, a disturbed measurement) loses weight instead of bending
the rest. The strength of the ridge, and whether the columns that say how kernels follow each other and what stands on
the critical path join the sum, are chosen by grouped cross-validation inside the data given.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.predictors.batch import Ints, Matrix, Vector
from leti.predictors.huber import huber_weights, spread_of
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np

STRENGTHS = (1e-2, 1e-4, 1e-6)
FLOOR = 0.1
"""No prediction falls below this share of the fastest measured network: a sum or a line may cross zero."""

CRITICAL_PATH = "critical path: "
"""How the names of columns begin that :mod:`leti.predictors.boosting.critical_path` makes."""

_ROUNDS = 6
_CONTEXT = ("path: ", "on path: ", "pair: ", "readers ")
_OPTIONAL = ((), (_CONTEXT,), ((CRITICAL_PATH,),), (_CONTEXT, (CRITICAL_PATH,)))
"""Which columns join the sum besides those that no prefix here fits: the candidates, the simplest first."""


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
        weights = np.zeros(rows.shape[1])  # of all columns: choosing some copies every row
        weights[self.columns] = self.weights
        latency: Vector = np.maximum(rows @ weights + self.intercept, self.floor_ms)
        return latency

    def to_parts(self) -> tuple[dict[str, float], dict[str, Vector]]:
        """Return numbers and arrays of float64 by name, to be saved."""
        numbers = {"intercept": self.intercept, "floor_ms": self.floor_ms}
        return numbers, {"columns": self.columns.astype(np.float64), "weights": self.weights}

    @classmethod
    def from_parts(cls, numbers: Mapping[str, Any], arrays: Mapping[str, Vector]) -> Additive:
        """Read what :meth:`to_parts` returned; raise :class:`~leti.core.errors.ArtifactError` where it is not that."""
        columns, weights = arrays["columns"], arrays["weights"]
        if columns.ndim != 1 or weights.shape != columns.shape:
            raise ArtifactError("do not fit together", field="weights")
        return cls(columns.astype(np.int64), weights, float(numbers["intercept"]), float(numbers["floor_ms"]))


@final
class Ridge(NamedTuple):
    """Weights ``(columns,)``, the intercept, and the mean relative error on the training data, strays cut."""

    weights: Vector
    intercept: float
    error: float


def fit_additive(
    names: Sequence[str], rows: Matrix, latencies_ms: Vector, groups: Sequence[str], *, seed: int
) -> Additive:
    """Fit to features ``(n, columns)`` with these names and latencies ``(n,)``; see the head of the file."""
    candidates = _candidates(names, rows)
    splits = cross_splits(groups, 3, seed=seed) if len(set(groups)) > 1 else []

    @functools.cache
    def error(candidate: int, strength: float) -> float:
        columns = candidates[candidate]
        total = 0.0
        for rest, fold in splits:
            fitted = _fit(columns, rows[rest], latencies_ms[rest], strength)
            off = np.abs(np.log(fitted.latencies_ms(rows[fold]) / latencies_ms[fold]))
            total += float(np.minimum(off, 0.5).sum())  # a stray counts as a miss, not for how far it lies
        return total

    middle = STRENGTHS[len(STRENGTHS) // 2]
    best = int(np.argmin([error(i, middle) for i in range(len(candidates))])) if len(candidates) > 1 else 0
    strength = STRENGTHS[int(np.argmin([error(best, strength) for strength in STRENGTHS]))]
    return _fit(candidates[best], rows, latencies_ms, strength)


def fit_ridge(rows: Matrix, latencies_ms: Vector, strength: float) -> Ridge:
    """Return the weights with which ``rows`` ``(n, columns)`` sum up to latencies ``(n,)``, in relative terms.

    ``strength`` holds the weights to zero, beside the data of a typical network; the intercept is free. With more
    columns than rows the same weights are found from the products of rows (the dual), as many equations as rows.
    """
    scale = np.sqrt(np.mean(rows**2, axis=0))
    scale[scale == 0] = 1.0
    relative = rows / scale / latencies_ms[:, None]  # the sum should be 1
    each = 1 / latencies_ms
    held = strength * len(rows) * float(np.median(each)) ** 2
    solve = _solve_dual if relative.shape[1] > len(rows) else _solve
    products = relative @ relative.T if solve is _solve_dual else np.empty((0, 0))
    weight = np.ones(len(rows))
    error = 0.0
    solution, intercept = np.zeros(relative.shape[1]), 0.0
    for _ in range(_ROUNDS):
        solution, intercept = solve(relative, each, weight, held, products)
        residual = np.abs(relative @ solution + each * intercept - 1)
        spread = spread_of(residual, 1e-6)
        weight = huber_weights(residual, spread)
        error = float(np.minimum(residual, 5 * spread).mean())
    return Ridge(solution / scale, intercept, error)


def _candidates(names: Sequence[str], rows: Matrix) -> list[Ints]:
    """Return the sets of columns to choose from, without repetition; columns that are all zero stand in none."""
    used = np.any(rows, axis=0).tolist()
    special = tuple(prefix for group in _OPTIONAL[-1] for prefix in group)
    found: list[Ints] = []
    for groups in _OPTIONAL:
        taken = tuple(prefix for group in groups for prefix in group)
        kept = [
            i for i, name in enumerate(names) if used[i] and (name.startswith(taken) or not name.startswith(special))
        ]
        if all(len(kept) != len(other) for other in found):
            found.append(np.array(kept, dtype=np.int64))
    return found


def _fit(columns: Ints, rows: Matrix, latencies_ms: Vector, strength: float) -> Additive:
    fitted = fit_ridge(rows[:, columns], latencies_ms, strength)
    return Additive(columns, fitted.weights, fitted.intercept, FLOOR * float(latencies_ms.min()))


def _solve(relative: Matrix, each: Vector, weight: Vector, held: float, products: Matrix) -> tuple[Vector, float]:
    design = np.column_stack([relative, each])
    weighted = design * weight[:, None]
    gram = weighted.T @ design
    ridge = np.full(len(gram), held)
    ridge[-1] = 0.0
    gram[np.diag_indices_from(gram)] += ridge
    solution = np.linalg.solve(gram, weighted.sum(axis=0))
    return solution[:-1], float(solution[-1])


def _solve_dual(relative: Matrix, each: Vector, weight: Vector, held: float, products: Matrix) -> tuple[Vector, float]:
    count = len(relative)
    system = np.zeros((count + 1, count + 1))
    system[:count, :count] = products / held
    system[np.arange(count), np.arange(count)] += 1 / weight
    system[:count, count] = system[count, :count] = each
    solution = np.linalg.solve(system, np.concatenate([np.ones(count), [0.0]]))
    return relative.T @ solution[:count] / held, float(solution[count])
