"""Judging predictors on a split table: each kind is fitted once, and a stack is made of those that are fitted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from leti.core.errors import NotPredictable
from leti.core.extras import needs
from leti.core.prediction import Metrics, Predictions, Predictor, Progress

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

    from leti.predictors.evaluation import Sample, judge_fitted, metrics_of
    from leti.predictors.registry import MIX, create

MISS = 0.5
"""A network counts as at most this far off, in logarithms: a stray is a miss, not for how far it lies."""

STACKED_ALL = "stacked_all"
"""A stack of every kind that was fitted, the costly ones too: no kind of the registry, but what one could serve."""


@final
@dataclass(frozen=True, slots=True)
class Fitted:
    """A predictor, its metrics on the test part, and its error out of fold inside the training part where it has one.

    ``served`` are the metrics of what a service would answer: the measured latency where the training part holds the
    very graph, else the prediction. ``cv_mdape`` is a median absolute relative error.
    """

    predictor: Predictor
    metrics: Metrics
    served: Metrics
    cv_mdape: float | None


def fit_and_judge(
    kind: str,
    train: Sample,
    test: Sample,
    *,
    coverage: float,
    seed: int,
    fitted: Mapping[str, Fitted],
    progress: Progress | None = None,
) -> Fitted:
    """Fit a kind on one part and judge it on the other, in one batch; ``fitted`` are the kinds that are there already.

    A stack is made of those instead of fitting its members again, and its ``fit_s`` takes in the time that they took.
    """
    start = time.perf_counter()
    predictor, spent = _fit(kind, train, seed, fitted, progress)
    fit_s = time.perf_counter() - start + spent
    judged = judge_fitted(predictor, test, n_train=len(train), fit_s=fit_s, coverage=coverage)
    metrics = judged.metrics
    answers = _measured_first(train, test, judged.predictions)
    served = metrics_of(
        test.latencies_ms,
        answers,
        n_train=metrics.n_train,
        fit_s=metrics.fit_s,
        us_per_prediction=metrics.us_per_prediction,
    )
    return Fitted(predictor, metrics, served, unseen_mdape(predictor, train))


def _measured_first(train: Sample, test: Sample, predictions: Predictions) -> Predictions:
    """Return the median of what was measured for a graph where it was, with the relative interval of its prediction."""
    measured: dict[str, list[float]] = {}
    for graph, latency_ms in zip(train.graphs, train.latencies_ms, strict=True):
        measured.setdefault(graph.fingerprint(), []).append(latency_ms)
    known = np.array([float(np.median(measured.get(graph.fingerprint(), np.nan))) for graph in test.graphs])
    predicted = np.asarray(predictions.latency_ms)
    factor = np.where(np.isnan(known), 1.0, known / predicted)
    columns = (predictions.latency_ms, predictions.low_ms, predictions.high_ms)
    latency, low, high = (np.asarray(column) * factor for column in columns)
    return Predictions.of(
        latency.data, low.data, high.data, coverage=predictions.coverage, predictor=predictions.predictor
    )


def unseen_mdape(predictor: Predictor, train: Sample) -> float | None:
    """Return the error over the training networks, each predicted while its group was kept apart; None if not kept.

    Networks that a predictor merged for their fingerprint count once for each time that they were measured.
    """
    ratios = _unseen_ratios(predictor, train)
    return None if ratios is None else float(np.median(np.abs(ratios - 1)))


def lowering_error(kind: str, train: Sample, seed: int) -> float:
    """Return how far off a kind of this room is on training networks lowered in one way, out of fold.

    A mean over networks of ``|ln(predicted / measured)|``, none counted as more than :data:`MISS`. No median: another
    meaning of ``none`` changes some networks and leaves the others as they are, and a median sees the others.
    """
    ratios = _unseen_ratios(train.teach(create(kind), seed=seed), train)
    if ratios is None:
        raise NotPredictable(f"{kind} keeps no predictions out of fold", field="kind")
    return float(np.mean(np.minimum(np.abs(np.log(ratios)), MISS)))


def _unseen_ratios(predictor: Predictor, train: Sample) -> NDArray[np.float64] | None:
    """Return ``(n,)`` predicted to measured latencies out of fold, ``None`` from a kind that keeps none."""
    unseen, training = getattr(predictor, "unseen_ms", None), getattr(predictor, "training", None)
    if unseen is None or training is None:
        return None
    of = {graph.fingerprint(): ms for graph, ms in zip(training.graphs, unseen, strict=True)}
    predicted = np.array([of[graph.fingerprint()] for graph in train.graphs])
    ratios: NDArray[np.float64] = predicted / np.asarray(train.latencies_ms)
    return ratios


def last_stacks(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds in the order in which they are fitted: a stack comes after its members."""
    return (*(kind for kind in kinds if kind != MIX), *(kind for kind in kinds if kind == MIX))


def stackable(kinds: Sequence[str]) -> bool:
    """Return whether a stack of all these kinds is another than the stack that is built in."""
    if MIX not in kinds:
        return False
    from leti.predictors.stacking.predictor import installed_members

    return bool({*kinds} - {MIX, *installed_members()}) and len(kinds) > 2


def _fit(
    kind: str, train: Sample, seed: int, fitted: Mapping[str, Fitted], progress: Progress | None
) -> tuple[Predictor, float]:
    """Return a fitted predictor, and the seconds that its members took before."""
    if kind in (MIX, STACKED_ALL):
        from leti.predictors.calibrated import CalibratedPredictor
        from leti.predictors.stacking.predictor import StackedPredictor, installed_members

        there: dict[str, CalibratedPredictor[Any, Any]] = {
            name: each.predictor
            for name, each in fitted.items()
            if isinstance(each.predictor, CalibratedPredictor) and name != MIX
        }
        names = tuple(there) if kind == STACKED_ALL else installed_members()
        if there.keys() >= {*names}:
            stacked = StackedPredictor.of({name: there[name] for name in names}, seed=seed)
            return stacked, sum(fitted[name].metrics.fit_s for name in names)
    return train.teach(create(kind), seed=seed, progress=progress), 0.0
