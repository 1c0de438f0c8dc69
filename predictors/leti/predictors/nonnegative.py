"""Non-negative least squares on relative error, drawn towards a prior, robust against strays.

No kernel takes less than no time, so the latencies that explain whole networks are sought among the non-negative. The
active set is found by block principal pivoting (Kim and Park, "Fast Nonnegative Matrix Factorization: An Active-Set-
Like Method and Comparisons", 2011), which on a well-conditioned system takes a few solutions of linear equations where
Lawson and Hanson's algorithm takes one a column. Strays lose weight by Huber's loss, reweighted iteratively (1964).
"""

from __future__ import annotations

from typing import Final

from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector
from leti.predictors.huber import huber_weights, spread_of

with needs("boosting"):
    import numpy as np
    from scipy.optimize import nnls

ROUNDS: Final = 6
_LEAST_SPREAD: Final = 1e-3
_PIVOTS: Final = 40


def fit_nonnegative(
    columns: Matrix, latencies_ms: Vector, prior: Vector, stiffness: Vector, *, rounds: int = ROUNDS
) -> Vector:
    """Return the weights ``(m,)``, none negative, with the least relative error of ``columns @ weights``.

    ``columns`` is ``(n, m)``, ``latencies_ms`` ``(n,)`` and positive. ``stiffness`` ``(m,)`` is what a weight's squared
    distance from ``prior`` ``(m,)`` costs, in squared relative errors of one network.
    """
    relative = columns / latencies_ms[:, None]  # every sum should be 1
    weight = np.ones(len(columns))
    drawn = np.diag(stiffness)
    found = prior
    for _ in range(rounds):
        weighted = relative * weight[:, None]
        found = solve_nonnegative(weighted.T @ relative + drawn, weighted.sum(axis=0) + stiffness * prior)
        residual = np.abs(relative @ found - 1)
        weight = huber_weights(residual, spread_of(residual, _LEAST_SPREAD))
    return found


def solve_nonnegative(gram: Matrix, target: Vector) -> Vector:
    """Return ``x >= 0`` with the least ``x @ gram @ x / 2 - target @ x``; ``gram`` ``(m, m)`` is positive definite."""
    scale = 1 / np.sqrt(np.diag(gram))
    gram, target = gram * scale[:, None] * scale[None, :], target * scale
    positive = np.ones(len(target), dtype=bool)
    fewest, chances = len(target) + 1, 3
    for _ in range(_PIVOTS):
        x = np.zeros(len(target))
        if positive.any():
            held = np.flatnonzero(positive)
            try:
                x[held] = np.linalg.solve(gram[held[:, None], held], target[held])
            except np.linalg.LinAlgError:
                break
        wrong = (positive & (x < 0)) | (~positive & (gram @ x - target < -1e-10))
        count = int(wrong.sum())
        if not count:
            return x * scale
        if count < fewest:
            fewest, chances = count, 3
        elif chances:
            chances -= 1
        else:  # one at a time cannot go round in circles
            wrong[: np.flatnonzero(wrong)[-1]] = False
        positive ^= wrong
    lower = np.linalg.cholesky(gram + 1e-9 * np.eye(len(target)))
    solution: Vector = nnls(lower.T, np.linalg.solve(lower, target))[0]
    return solution * scale
