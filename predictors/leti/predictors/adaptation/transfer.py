"""Transfer: latencies on a new platform from those on others, learnt from a handful of measurements.

``mix`` takes the new platform for a non-negative sum of others (the transfer that nn-Meter's and HELP's authors
compare with; Lee et al., "HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via Meta-Learning", 2021).
``residual`` adds to that mix what a ridge regression finds in the logarithm of what it leaves. ``bayes`` is a Gaussian
process with linear kernels (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006): the common part
of the sources, their differences, the parts of a network and its positions each have a prior variance, about which so
few measurements say little. So none is chosen: predictions are averaged over a grid of them, weighted by their evidence
(Hoeting et al., "Bayesian Model Averaging: A Tutorial", 1999), and over the hypotheses that all measurements are sound
and that any one is a stray. Removing one costs no new solution (Dubrule, "Cross Validation of Kriging in a Unique
Neighborhood", 1983).

All three end as weights on columns: predicting costs a product of matrices beside the sources' own predictions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from leti.core.extras import needs
from leti.predictors.adaptation.features import SourceScale
from leti.predictors.batch import Matrix, Vector
from leti.predictors.nonnegative import fit_nonnegative

with needs("boosting"):
    import numpy as np

FLOOR: Final = 0.2
"""No prediction is less than this share of what the sources alone would say."""

_STRAY: Final = 0.3
"""Prior odds that one given measurement is a stray, to all being sound."""

_NO_STRAY: Final = 1e-3
_FEWEST_FOR_STRAYS: Final = 8
"""With fewer measurements the odds are :data:`_NO_STRAY`: four points fit nearly anything, and the fifth looks odd."""

_PULL: Final = 0.02
"""What a weight of the mix costs that is off its prior, all of it, in squared relative errors of one network."""

GRID: Final = tuple(
    itertools.product(
        (0.01, 0.03, 0.1, 0.3), (0.0, 0.01, 0.03, 0.1, 0.3, 1.0), (0.0, 0.003, 0.03), (0.01, 0.03, 0.1, 0.3)
    )
)
"""Prior variances of the sources' differences, of parts, of positions, and of the noise; the common part's is 1."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What is known of n networks: source latencies in ms ``(n, m)``, parts ``(n, p)``, positions ``(n, q)``."""

    source_ms: Matrix
    parts: Matrix
    positions: Matrix

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.source_ms)

    def part(self, rows: Vector | list[int]) -> Columns:
        """Return the networks with these numbers."""
        return Columns(self.source_ms[rows], self.parts[rows], self.positions[rows])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """Weights: ``anchor`` ``(m,)`` says what the sources alone would, the others what is added to it.

    ``sources`` ``(m,)``, ``parts`` ``(p,)`` and ``positions`` ``(q,)`` are in ms for one of a column. Where
    ``is_factor``, parts, positions and intercept are the logarithm of a factor instead.
    """

    anchor: Vector
    sources: Vector
    parts: Vector
    positions: Vector
    intercept: float
    is_factor: bool = False

    def latencies_ms(self, columns: Columns) -> Vector:
        """Return positive latencies ``(n,)``."""
        mixed = columns.source_ms @ self.sources
        rest = columns.parts @ self.parts + columns.positions @ self.positions + self.intercept
        found = mixed * np.exp(np.clip(rest, -2.0, 2.0)) if self.is_factor else mixed + rest
        latency: Vector = np.maximum(found, FLOOR * (columns.source_ms @ self.anchor))
        return latency


Method = Callable[[Columns, Vector, SourceScale], Formula]
"""Learns a formula from measured networks, their latencies ``(n,)`` in ms, and the scale of the sources."""


def anchor_of(columns: Columns, latencies_ms: Vector) -> Vector:
    """Return weights ``(m,)`` that make of every source as good a stand-in as its level allows, and take the mean."""
    levels = np.median(latencies_ms[:, None] / columns.source_ms, axis=0)
    anchor: Vector = levels / len(levels)
    return anchor


def fit_mix(columns: Columns, latencies_ms: Vector, scale: SourceScale) -> Formula:
    """Return a non-negative mix of the sources, drawn towards all of them counting the same."""
    anchor = anchor_of(columns, latencies_ms)
    weights = fit_nonnegative(columns.source_ms, latencies_ms, anchor, _PULL / anchor**2 / len(anchor))
    weights = weights if weights.any() else anchor
    nothing = np.zeros(columns.parts.shape[1]), np.zeros(columns.positions.shape[1])
    return Formula(anchor, weights, *nothing, 0.0)


def fit_residual(columns: Columns, latencies_ms: Vector, scale: SourceScale) -> Formula:
    """Return a mix, times a factor whose logarithm is a ridge regression on parts and positions."""
    mixed = fit_mix(columns, latencies_ms, scale)
    left = np.log(latencies_ms / mixed.latencies_ms(columns))
    design = np.hstack([columns.parts, columns.positions])
    centre = design.mean(axis=0)
    gram = (design - centre) @ (design - centre).T
    best, chosen = math.inf, np.zeros(len(left))
    for strength in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0):
        inverse = np.linalg.inv(gram + strength * np.eye(len(left)))
        dual = inverse @ (left - left.mean())
        error = float(np.mean((dual / np.diag(inverse)) ** 2))
        if error < best:
            best, chosen = error, dual
    weights = (design - centre).T @ chosen
    split = columns.parts.shape[1]
    intercept = float(left.mean() - centre @ weights)
    return Formula(mixed.anchor, mixed.sources, weights[:split], weights[split:], intercept, is_factor=True)


def fit_bayes(columns: Columns, latencies_ms: Vector, scale: SourceScale) -> Formula:
    """Return the mean of Gaussian processes with linear kernels over a grid of priors and of strays."""
    level = float(np.mean(latencies_ms))
    anchor = anchor_of(columns, latencies_ms)
    common, differences = columns.source_ms @ scale.common, columns.source_ms @ scale.differences
    blocks = (common[:, None], differences, columns.parts, columns.positions)
    centred = [block - block.mean(axis=0) for block in blocks]  # any constant is the intercept's
    duals, intercepts = _averaged(centred, latencies_ms / level)
    weights = [level * block.T @ dual for block, dual in zip(centred, duals, strict=True)]
    sources = scale.common * weights[0][0] + scale.differences @ weights[1]
    intercept = level * intercepts - sum(
        float(block.mean(axis=0) @ weight) for block, weight in zip(blocks, weights, strict=True)
    )
    return Formula(anchor, sources, weights[2], weights[3], intercept)


METHODS: Final[Mapping[str, Method]] = MappingProxyType({"mix": fit_mix, "residual": fit_residual, "bayes": fit_bayes})
"""Ways to adapt by name, the simplest first."""

PRIOR: Final[Mapping[str, float]] = MappingProxyType({"mix": 1.3, "residual": 1.4, "bayes": 1.0})
"""What the error of each is multiplied by before they are compared: leaving one out of so few is itself uncertain."""


def _averaged(blocks: list[Matrix], target: Vector) -> tuple[list[Vector], float]:
    """Return dual weights of each block, ``(n,)`` each, and the intercept, averaged over priors and strays.

    ``blocks`` are ``(n, columns)``, ``target`` is ``(n,)``.
    """
    n = len(target)
    grid = np.array(GRID)
    variances = np.column_stack([np.ones(len(grid)), grid[:, :3]])
    kernels = np.stack([block @ block.T for block in blocks])
    covariance = np.tensordot(variances, kernels, axes=1) + grid[:, 3, None, None] * np.eye(n)
    inverse = np.linalg.inv(covariance)
    sums = inverse.sum(axis=2)
    total = sums.sum(axis=1)
    projected = inverse - sums[:, :, None] * sums[:, None, :] / total[:, None, None]  # the intercept projected out
    dual = projected @ target
    intercept = sums @ target / total
    own = np.diagonal(projected, axis1=1, axis2=2)
    spare = np.diagonal(inverse, axis1=1, axis2=2)
    misfit = np.maximum(dual @ target, 1e-12)
    log_det = 2 * np.log(np.diagonal(np.linalg.cholesky(covariance), axis1=1, axis2=2)).sum(axis=1)
    evidence = [_evidence(n, log_det, total, misfit)]
    without = np.maximum(misfit[:, None] - dual**2 / own, 1e-12)
    left = _evidence(
        n - 1, log_det[:, None] + np.log(spare), np.maximum(total[:, None] - sums**2 / spare, 1e-12), without
    )
    spread = np.array([np.delete(target, i).std() for i in range(n)])
    evidence.append(
        (
            left + math.log(_STRAY if n >= _FEWEST_FOR_STRAYS else _NO_STRAY) - np.log(6 * np.maximum(spread, 1e-9))
        ).ravel()
    )
    weight = np.concatenate(evidence)
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    sound, stray = weight[: len(grid)], weight[len(grid) :].reshape(len(grid), n)
    # Leaving i out takes the i-th column of the inverse from the solution, as much as makes its weight zero.
    taken = stray * dual / own
    mean = (sound + stray.sum(axis=1))[:, None] * dual - np.einsum("gij,gj->gi", projected, taken)
    level = float((sound + stray.sum(axis=1)) @ intercept - np.sum(taken * sums / total[:, None]))
    return [variances[:, block] @ mean for block in range(len(blocks))], level


def _evidence(n: int, log_det: Vector, total: Vector, misfit: Vector) -> Vector:
    """Return the logarithm of the evidence, level and variance integrated out (flat and Jeffreys priors)."""
    free = (n - 1) / 2
    found: Vector = -0.5 * (log_det + np.log(total)) - free * np.log(math.pi * misfit) + math.lgamma(free)
    return found
