"""The learning curve: how the error falls with the networks that are trained on, and how it would go on falling.

Errors are those of networks that were kept apart, in cross-validation inside the training part, after training on parts
of the rest; the frozen holdout is not looked at. The curve is continued by a power law, ``a + b n^-c`` with ``a`` and
``b`` not negative: errors of learned predictors follow one over a wide range of sample sizes (Hestness et al., "Deep
Learning Scaling is Predictable, Empirically", 2017; Viering and Loog, "The Shape of Learning Curves", 2021, who also
show where that fails). A law through so few points is uncertain, so it is fitted to many bootstrap samples of the
networks, and nothing is foretold unless nearly all of them agree that more networks help.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from leti.core.extras import needs
from leti.core.training import CurvePoint, LearningCurve
from leti.predictors.evaluation import Sample
from leti.predictors.registry import create
from leti.predictors.splits import cross_splits
from leti.predictors.training_data import MIN_NETWORKS

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

if TYPE_CHECKING:
    Errors = NDArray[np.float64]

SHARES: Final = (0.25, 0.5, 0.75, 1.0)
"""Shares of the networks that a fold leaves to train on."""

AHEAD: Final = (1.0, 1.5, 2.0, 4.0)
"""Where the continued curve is told, in multiples of the training part: all of it, then more than there is."""

FEWEST: Final = 2 * MIN_NETWORKS
"""Networks that a fold must leave to train on: from what predictors need to twice as many is a curve."""

COVERAGE: Final = 0.9
RESAMPLES: Final = 400
SURE: Final = 0.95
"""Share of the bootstrap samples in which the error must have fallen for anything to be foretold."""

_EXPONENTS: Final = np.linspace(0.1, 1.5, 29)


def learning_curve(kind: str, sample: Sample, *, seed: int = 0, folds: int = 5) -> LearningCurve:
    """Return the median absolute relative error of a kind by the number of networks trained on, and its continuation.

    Each fold's training parts are nested. Sizes below what predictors need are left out. Bounds are those of the
    central :data:`COVERAGE` of bootstrap samples of the isomorphism classes: they know how the error depends on which
    networks are predicted, not on which were trained on. Raises what
    :func:`~leti.predictors.evaluation.cross_validate` does.
    """
    counts, errors = _errors(kind, sample, seed, folds)
    resampled = _resampled(errors, sample.groups, seed)
    measured = tuple(
        _point(count, float(np.median(row)), column)
        for count, row, column in zip(counts, errors, resampled.T, strict=True)
    )
    reason = _why_not(counts, resampled)
    if reason:
        return LearningCurve(kind, measured, (), reason)
    sizes = np.asarray(counts, dtype=np.float64)
    ahead = np.asarray([factor * len(sample) for factor in AHEAD])
    laws = np.stack([_continued(sizes, row, ahead) for row in resampled])
    best = _continued(sizes, np.median(errors, axis=1), ahead)
    expected = tuple(_point(round(n), float(b), column) for n, b, column in zip(ahead, best, laws.T, strict=True))
    return LearningCurve(kind, measured, expected)


def _errors(kind: str, sample: Sample, seed: int, folds: int) -> tuple[list[int], Errors]:
    """Return the sizes trained on (means over the folds) and ``(sizes, n)`` absolute relative errors, out of fold."""
    splits = cross_splits(sample.groups, folds, seed=seed)
    smallest = min(len(rest) for rest, _ in splits)
    wanted = sorted({max(MIN_NETWORKS, round(share * smallest)) for share in SHARES})
    sizes = [size for size in wanted if size < smallest]
    if smallest < FEWEST:
        sizes = []  # so close to each other, they would tell nothing
    errors = np.empty((len(sizes) + 1, len(sample)))
    trained = np.zeros(len(sizes) + 1)
    for number, (rest, fold) in enumerate(splits):
        order = _in_any_order(rest, sample.groups, random.Random(f"{seed}-{number}"))  # noqa: S311 - reproducible
        test = sample.part(fold)
        for i, size in enumerate((*sizes, len(rest))):
            train = sample.part(sorted(_whole_groups(order, sample.groups, size)))
            predictor = train.teach(create(kind), seed=seed)
            predicted = np.asarray(predictor.predict(test.graphs, coverage=0.5).latency_ms)
            errors[i, fold] = np.abs(predicted / np.asarray(test.latencies_ms) - 1)
            trained[i] += len(train) / len(splits)
    return [round(count) for count in trained], errors


def _in_any_order(rows: Sequence[int], groups: Sequence[str], order: random.Random) -> list[int]:
    """Return rows with those of one group beside each other, the groups shuffled."""
    names = list(dict.fromkeys(groups[row] for row in rows))
    order.shuffle(names)
    place = {name: i for i, name in enumerate(names)}
    return sorted(rows, key=lambda row: place[groups[row]])


def _whole_groups(order: Sequence[int], groups: Sequence[str], size: int) -> Sequence[int]:
    """Return the first ``size`` rows, and what is left of the last one's group."""
    while size < len(order) and groups[order[size]] == groups[order[size - 1]]:
        size += 1
    return order[:size]


def _resampled(errors: Errors, groups: Sequence[str], seed: int) -> Errors:
    """Return ``(RESAMPLES, sizes)`` median errors over groups drawn with replacement, the same at every size."""
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(numbers == group) for group in range(numbers.max() + 1)]
    generator = np.random.default_rng(seed)
    medians = np.empty((RESAMPLES, len(errors)))
    for i in range(RESAMPLES):
        drawn = np.concatenate([members[group] for group in generator.integers(len(members), size=len(members))])
        medians[i] = np.median(errors[:, drawn], axis=1)
    return medians


def _why_not(counts: Sequence[int], resampled: Errors) -> str:
    """Return why the curve cannot be continued, empty where it can."""
    if len(counts) == 1:
        return f"{counts[0]} networks to train on are too few for a curve: it takes {FEWEST}"
    fell = float(np.mean(resampled[:, -1] < resampled[:, 0]))
    if fell < SURE:
        return (
            f"from {counts[0]} to {counts[-1]} networks the error fell in {fell:.0%} of the bootstrap samples only: "
            "that more networks help cannot be told from chance"
        )
    return ""


def _continued(sizes: Errors, errors: Errors, ahead: Errors) -> Errors:
    """Return the power law with the least squared error at ``sizes``, evaluated ``ahead``."""
    with needs("boosting"):
        from scipy.optimize import nnls
    scale = sizes[-1]  # keeps the two columns of like size
    best, least = np.full(len(ahead), errors[-1]), np.inf
    for c in _EXPONENTS:
        columns = np.stack([np.ones(len(sizes)), (sizes / scale) ** -c], axis=1)
        (a, b), residual = nnls(columns, errors)
        if residual < least:
            best, least = a + b * (ahead / scale) ** -c, residual
    return best


def _point(networks: int, mdape: float, resampled: Errors) -> CurvePoint:
    low, high = np.quantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return CurvePoint(networks, mdape, float(low), float(high))
