"""Evaluation: how good a predictor is, on networks that it has never seen.

The holdout only reports. Which predictor is served is chosen inside the training part, by the error on networks whose
group was kept apart: :func:`held_out_error`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import Metrics, Predictions, Predictor, Progress
from leti.predictors.calibrated import CalibratedPredictor
from leti.predictors.registry import create
from leti.predictors.splits import cross_splits, split_again, split_by_group, split_randomly

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Judged",
    "Sample",
    "cross_validate",
    "held_out_error",
    "held_out_errors",
    "judge",
    "judge_fitted",
    "metrics_of",
    "split_again",
    "split_by_group",
    "split_randomly",
]


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """Networks with their measured latencies in ms, their groups and times of their kernels, all of one length."""

    graphs: tuple[Graph, ...]
    latencies_ms: tuple[float, ...]
    groups: tuple[str, ...]
    operator_times: tuple[Sequence[float] | None, ...] | None = None

    def __post_init__(self) -> None:
        """Raise :class:`~leti.core.errors.InvalidInput` where the lengths differ."""
        for name in ("latencies_ms", "groups"):
            if len(getattr(self, name)) != len(self.graphs):
                raise InvalidInput(f"has {len(getattr(self, name))} entries for {len(self.graphs)} graphs", field=name)
        times = self.operator_times
        if times is not None and len(times) != len(self.graphs):
            raise InvalidInput(f"has {len(times)} entries for {len(self.graphs)} graphs", field="operator_times")

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.graphs)

    def part(self, rows: Sequence[int]) -> Sample:
        """Return the networks with these numbers, as a split gives them."""
        columns = (self.graphs, self.latencies_ms, self.groups)
        graphs, latencies_ms, groups = (tuple(column[i] for i in rows) for column in columns)
        times = None if self.operator_times is None else tuple(self.operator_times[i] for i in rows)
        return Sample(graphs, latencies_ms, groups, times)  # type: ignore[arg-type]

    def teach(self, predictor: Predictor, *, seed: int, progress: Progress | None = None) -> Predictor:
        """Fit a predictor to these networks, and return it."""
        return predictor.fit(
            self.graphs,
            self.latencies_ms,
            operator_times=self.operator_times,
            groups=self.groups,
            seed=seed,
            progress=progress,
        )


@final
@dataclass(frozen=True, slots=True)
class Judged:
    """A predictor trained on one part, its metrics on the other, and its predictions there."""

    predictor: Predictor
    metrics: Metrics
    predictions: Predictions


def judge(
    kind: str,
    train: Sample,
    test: Sample,
    *,
    coverage: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judged:
    """Train a predictor of a kind on one part and report on the other, in one batch.

    ``fit_s`` takes in the calibration of the interval; ``us_per_prediction`` features, model and interval. Raises what
    :meth:`~leti.core.prediction.Predictor.fit` raises, and :class:`~leti.core.errors.InvalidInput` for an empty test.
    """
    if not len(test):
        raise InvalidInput("holds no network to judge on", field="test")
    predictor = create(kind)
    start = time.perf_counter()
    train.teach(predictor, seed=seed, progress=progress)
    fit_s = time.perf_counter() - start
    return judge_fitted(predictor, test, n_train=len(train), fit_s=fit_s, coverage=coverage)


def judge_fitted(predictor: Predictor, test: Sample, *, n_train: int, fit_s: float, coverage: float = 0.9) -> Judged:
    """Report on a predictor that was trained on ``n_train`` networks in ``fit_s``; see :func:`judge`."""
    if not len(test):
        raise InvalidInput("holds no network to judge on", field="test")
    start = time.perf_counter()
    predictions = predictor.predict(test.graphs, coverage=coverage)
    predicted_s = time.perf_counter() - start
    metrics = metrics_of(
        test.latencies_ms,
        predictions,
        n_train=n_train,
        fit_s=fit_s,
        us_per_prediction=predicted_s / len(test) * 1e6,
    )
    return Judged(predictor, metrics, predictions)


def held_out_errors(predictor: Predictor, sample: Sample, *, seed: int = 0, folds: int = 5) -> NDArray[np.float64]:
    """Return the absolute relative error ``(n,)`` of each network, predicted while its group was kept apart.

    ``predictor`` was fitted to ``sample`` with this seed. Where it has kept what it predicted out of fold for its own
    interval, that is what counts, and nothing is trained; otherwise see :func:`cross_validate`.
    """
    if (
        isinstance(predictor, CalibratedPredictor)
        and predictor.training is not None
        and predictor.unseen_ms is not None
        and len(predictor.unseen_ms) == len(sample)  # where a graph is given twice, it is less
    ):
        return np.abs(predictor.unseen_ms / predictor.training.latencies_ms - 1)
    return _cross_errors(predictor.kind, sample, seed, folds)


def held_out_error(predictor: Predictor, sample: Sample, *, seed: int = 0, folds: int = 5) -> float:
    """Return the median of :func:`held_out_errors`."""
    return float(np.median(held_out_errors(predictor, sample, seed=seed, folds=folds)))


def cross_validate(kind: str, sample: Sample, *, seed: int = 0, folds: int = 5) -> float:
    """Return the median absolute relative error over networks predicted while their group was kept apart."""
    return float(np.median(_cross_errors(kind, sample, seed, folds)))


def _cross_errors(kind: str, sample: Sample, seed: int, folds: int) -> NDArray[np.float64]:
    errors = np.empty(len(sample))
    for rest, fold in cross_splits(sample.groups, folds, seed=seed):
        predictor = sample.part(rest).teach(create(kind), seed=seed)
        test = sample.part(fold)
        predicted = np.asarray(predictor.predict(test.graphs, coverage=0.5).latency_ms)
        errors[fold] = np.abs(predicted / np.asarray(test.latencies_ms) - 1)
    return errors


def metrics_of(
    measured_ms: Sequence[float],
    predictions: Predictions,
    *,
    n_train: int,
    fit_s: float,
    us_per_prediction: float,
) -> Metrics:
    """Return metrics of predictions against measured latencies in ms, both of length n.

    A rank correlation is ``None`` also where the predictions are all the same. Raises
    :class:`~leti.core.errors.InvalidInput` for lengths that differ or are zero.
    """
    with needs("boosting"):
        from scipy import stats
    measured = np.asarray(measured_ms, dtype=np.float64)
    predicted = np.asarray(predictions.latency_ms)
    if len(measured) != len(predicted) or not len(measured):
        raise InvalidInput(f"has {len(measured)} entries for {len(predicted)} predictions", field="measured_ms")
    error = np.abs(predicted / measured - 1)
    inside = (np.asarray(predictions.low_ms) <= measured) & (measured <= np.asarray(predictions.high_ms))
    varied = np.ptp(measured) > 0
    ranked = bool(varied and np.ptp(predicted) > 0)
    return Metrics(
        n_train=n_train,
        n_test=len(measured),
        within_1=float(np.mean(error <= 0.01)),
        within_5=float(np.mean(error <= 0.05)),
        within_10=float(np.mean(error <= 0.1)),
        mdape=float(np.median(error)),
        mape=float(np.mean(error)),
        r2=_r2(measured, predicted) if varied else None,
        spearman=float(stats.spearmanr(measured, predicted).statistic) if ranked else None,
        kendall=float(stats.kendalltau(measured, predicted).statistic) if ranked else None,
        coverage=predictions.coverage,
        interval_coverage=float(np.mean(inside)),
        fit_s=fit_s,
        us_per_prediction=us_per_prediction,
    )


def _r2(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the coefficient of determination: the share of the variance that the predictions explain."""
    residual = np.sum((measured - predicted) ** 2)
    return float(1 - residual / np.sum((measured - measured.mean()) ** 2))
