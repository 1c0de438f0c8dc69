"""Mixing: how much each of several predictors counts in a convex mix of their logarithmic latencies.

Stacking with weights that are not negative and add up to one (Breiman, "Stacked Regressions", 1996), fitted to
predictions of networks that no member had seen. The loss is Huber's, so that a few strays do not choose the members.
"""

from __future__ import annotations

from collections.abc import Sequence

from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector
from leti.predictors.conformal import FOLDS
from leti.predictors.huber import huber_weights, spread_of
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np
    from scipy.optimize import nnls

LEAST_WEIGHT = 0.03
"""A member that counts less is left out: it costs time at every prediction and hardly moves it."""

_ROUNDS = 10
_EVEN = 1e-4
"""How hard weights are drawn towards equal ones, beside the data: members that agree share what they weigh."""


def fit_weights(unseen_ms: Matrix, latencies_ms: Vector) -> Vector:
    """Return a weight a member ``(m,)`` for out-of-fold predictions ``(n, m)`` of latencies ``(n,)``, both in ms."""
    left = np.log(unseen_ms / latencies_ms[:, None])
    weights = _solve(left)
    kept = np.flatnonzero(weights >= LEAST_WEIGHT)  # the largest of m is 1 / m or more
    if not len(kept):
        kept = np.array([int(weights.argmax())])
    if len(kept) < len(weights):
        weights = np.zeros(len(weights))
        weights[kept] = _solve(left[:, kept])
    return weights


def mix(latencies_ms: Matrix, weights: Vector) -> Vector:
    """Return the weighted geometric mean ``(n,)`` of the members' latencies ``(n, m)``, all in ms."""
    mixed: Vector = np.exp(np.log(latencies_ms) @ weights)
    return mixed


def mix_unseen(unseen_ms: Matrix, latencies_ms: Vector, groups: Sequence[str], *, seed: int) -> Vector:
    """Return the mix ``(n,)`` of out-of-fold predictions ``(n, m)``, each by weights that had not seen its group."""
    mixed = np.empty(len(latencies_ms))
    for rest, fold in cross_splits(groups, FOLDS, seed=seed):
        mixed[fold] = mix(unseen_ms[fold], fit_weights(unseen_ms[rest], latencies_ms[rest]))
    return mixed


def _solve(left: Matrix) -> Vector:
    """Return weights that make the mixed logarithmic residuals ``(n, m) @ (m,)`` small."""
    n, members = left.shape
    if members == 1:
        return np.ones(1)
    typical = max(float(np.median(np.abs(left))), 1e-9)
    even = np.sqrt(_EVEN * n) * typical * np.eye(members)
    one = np.full((1, members), 1e3 * np.sqrt(n) * max(float(np.abs(left).max()), typical))  # weights add up to one
    count = np.ones(n)
    weights = np.full(members, 1 / members)
    for _ in range(_ROUNDS):
        rows = np.vstack([left * np.sqrt(count)[:, None], even, one])
        target = np.concatenate([np.zeros(n), even.sum(axis=1) / members, one[0, :1]])
        found, _ = nnls(rows, target)
        weights = found / found.sum()
        residual = np.abs(left @ weights)
        count = huber_weights(residual, spread_of(residual, 1e-9))
    return weights
