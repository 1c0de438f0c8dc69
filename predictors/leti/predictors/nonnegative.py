"""Non-negative least squares on relative error, drawn towards a prior, robust against strays.

No kernel takes less than no time, so the latencies that explain whole networks are sought among the non-negative. The
active set is found by block principal pivoting (Kim and Park, "Fast Nonnegative Matrix Factorization: An Active-Set-
Like Method and Comparisons", 2011), which on a well-conditioned system takes a few solutions of linear equations where
Lawson and Hanson's algorithm takes one a column. Strays lose weight by Huber's loss, reweighted iteratively (1964); new
weights of the rows seldom change which columns are positive, so each solution starts from the last one's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector
from leti.predictors.huber import huber_weights, spread_of

with needs("boosting"):
    import numpy as np
    from scipy.linalg.lapack import dposv
    from scipy.optimize import nnls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

ROUNDS: Final = 6
_LEAST_SPREAD: Final = 1e-3
_PIVOTS: Final = 40
_LEAST_PULL: Final = 1e-12
"""A column at zero is let go where its pull, of order one, is above what rounding makes of none."""


def fit_nonnegative(
    columns: Matrix, latencies_ms: Vector, prior: Vector, stiffness: Vector, *, rounds: int = ROUNDS
) -> Vector:
    """Return the weights ``(m,)``, none negative, with the least relative error of ``columns @ weights``.

    ``columns`` is ``(n, m)``, ``latencies_ms`` ``(n,)`` and positive. ``stiffness`` ``(m,)`` is what a weight's squared
    distance from ``prior`` ``(m,)`` costs, in squared relative errors of one network.
    """
    found: Vector = np.maximum(prior, 0.0)
    told = np.flatnonzero(columns.any(axis=0))  # of an empty column nothing is learnt, and its prior stays
    relative = columns[:, told] / latencies_ms[:, None]  # every sum should be 1
    x, weight = found[told], np.ones(len(columns))
    for _ in range(rounds):
        x = solve_nonnegative(relative, weight, prior[told], stiffness[told], x > 0)
        residual = np.abs(relative @ x - 1)
        weight = huber_weights(residual, spread_of(residual, _LEAST_SPREAD))
    found[told] = x
    return found


def solve_nonnegative(rows: Matrix, weight: Vector, prior: Vector, stiffness: Vector, positive: Mask) -> Vector:
    """Return ``x >= 0`` with the least ``weight @ (rows @ x - 1) ** 2 + stiffness @ (x - prior) ** 2``.

    ``rows`` is ``(n, m)`` and has no empty column; ``weight`` is ``(n,)``, the others ``(m,)``. The search starts from
    where the columns that are ``positive`` are; where it ends does not depend on that.
    """
    weighted = rows * weight[:, None]
    curvature: Vector = np.sum(weighted * rows, axis=0) + stiffness
    unit = 1 / np.sqrt(curvature)
    target = weighted.sum(axis=0) + stiffness * prior
    fewest, chances = len(unit) + 1, 3
    for _ in range(_PIVOTS):
        x: Vector = np.zeros(len(unit))
        if positive.any():
            held = np.flatnonzero(positive)
            gram = weighted[:, held].T @ rows[:, held]
            gram[np.diag_indices(len(held))] += stiffness[held]
            gram *= unit[held, None] * unit[held]
            _, solved, failed = dposv(gram, target[held] * unit[held])  # by Cholesky
            if failed:
                break
            x[held] = solved * unit[held]
        pull = (target - stiffness * x - (rows @ x) @ weighted) * unit
        wrong = (positive & (x < 0)) | (~positive & (pull > _LEAST_PULL))
        count = int(wrong.sum())
        if not count:
            return x
        if count < fewest:
            fewest, chances = count, 3
        elif chances:
            chances -= 1
        else:  # one at a time cannot go round in circles
            wrong[: np.flatnonzero(wrong)[-1]] = False
        positive = positive ^ wrong
    root, held_by = np.sqrt(weight), np.sqrt(stiffness)
    both = np.vstack([rows * root[:, None] * unit, np.diag(held_by * unit)])
    solution: Vector = nnls(both, np.concatenate([root, held_by * prior]))[0]
    return solution * unit
