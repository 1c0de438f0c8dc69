"""Training: freeze a dataset, train every kind of predictor, judge them, choose which one serves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from leti.core.datasets import Part
from leti.core.errors import LetiError, TooFewMeasurements
from leti.core.prediction import Predictions
from leti.core.training import (
    HoldoutPoint,
    LearningCurve,
    PredictorInfo,
    PromotionReason,
    TrainingReport,
    TrainingRequest,
)
from leti.predictors import registry
from leti.service.predictor_files import PredictorFiles
from leti.service.reporter import Reporter, Silent
from leti.service.serving import LoadedPredictors
from leti.service.settings import Settings
from leti.service.sources import ADAPTED, Sources
from leti.service.store import Dataset, DatasetItem, Ending, NewPredictor, Serving, Store
from leti.service.training.plan import FEW, FOLDS, Plan, Plans, advice, is_enough

if TYPE_CHECKING:
    from leti.predictors.evaluation import Sample
    from leti.predictors.training import Training
    from leti.service.training.champion import Errors, Verdict

log = logging.getLogger(__name__)

COVERAGE: Final = 0.9
"""Coverage at which intervals are judged."""


@final
class Trainer:
    """Trains predictors on what the store holds."""

    def __init__(self, store: Store, loaded: LoadedPredictors, settings: Settings, files: PredictorFiles) -> None:
        sources = Sources(store, loaded)
        self._store = store
        self._loaded = loaded
        self._sources = sources
        self._plans = Plans(store, sources, settings)
        self._minimum = settings.min_networks
        self._files = files

    def train(
        self,
        request: TrainingRequest,
        reporter: Reporter | None = None,
        *,
        by: str = "",
        reason: PromotionReason = "trained",
    ) -> TrainingReport:
        """Train predictors of the kinds asked for on one frozen dataset, judge each, and keep them all.

        The dataset is frozen now, or is the one that is asked for.

        Which of them becomes active is decided inside the training part: of a first training the one with the lowest
        median error in grouped cross-validation, later as :mod:`leti.service.training.champion` says; the holdout only
        reports.
        Where few networks are measured, the active predictors of other platforms are adapted to them: that alone below
        what other kinds need, beside them up to a hundred. A learning curve is of the best kind that is neither adapted
        nor a mix of others. The task that ``reporter`` speaks for ends as the predictors are kept. Raises
        :class:`TooFewMeasurements`, :class:`NotFound` for the platform or the dataset, :class:`InvalidInput` for an
        unknown kind, :class:`Conflict` where there is nothing to adapt or the dataset is another platform's, and
        :class:`LeaseLost` where the task was lost meanwhile.
        """
        from leti.predictors.training import Training  # brings numpy

        told = reporter or Silent()
        told.at("freezing the dataset" if request.dataset_id is None else "reading the dataset")
        plan = self._plans.make(request)
        dataset = self._freeze(request, plan) if request.dataset_id is None else self._given(request.dataset_id, plan)
        log.info("dataset %d: %d networks train, %d are held out", dataset.id, len(dataset.train), len(dataset.test))
        train, test = self._profiled(dataset), self._sample(dataset, dataset.test)
        plan = self._plans.able(plan, (*train.graphs, *test.graphs))
        found = plan.sources
        training = Training(train, request.seed, found.predictors, self._sources.population(found))
        trained = self._train_all(plan, training, dataset, test, told)
        curve = self._curve(trained, train, request, told)
        told.at("keeping the predictors", len(plan.kinds), len(plan.kinds))
        verdict = self._decide(request, training, dataset, trained)
        serving = None
        if verdict is not None and verdict.kind is not None:
            serving = Serving(verdict.kind, reason, by, verdict.reason)
        remarks = (*plan.remarks, *training.remarks, *((verdict.reason,) if verdict and verdict.reason else ()))

        def report(infos: tuple[PredictorInfo, ...]) -> TrainingReport:
            return TrainingReport(
                dataset.id,
                dataset.platform_id,
                dataset.reference_version,
                infos,
                dataset.repeatability,
                curve,
                remarks,
            )

        told.flush()  # who sees that it has ended finds all that it told
        ending = None if told.hold is None else Ending(told.hold, report)
        return report(self._store.predictors.add(dataset, trained, serving, ending))

    def check(self, request: TrainingRequest) -> None:
        """Raise what :meth:`train` would raise at once, before anything is trained."""
        self._plans.check(request)

    def _freeze(self, request: TrainingRequest, plan: Plan) -> Dataset:
        from leti.predictors.splits import split_again  # brings numpy

        def split(groups: Sequence[str], before: Mapping[str, Part]) -> tuple[Sequence[int], Sequence[int]]:
            """Hold out the share that is asked for, less where it would leave too few to learn from."""
            share = request.holdout_share
            if plan.networks <= FEW:
                share = min(share, 1 - (FEW - 1) / len(groups))
            sides = {side: {group for group, known in before.items() if known == side} for side in ("train", "test")}
            train, test = split_again(
                groups, trained_on=sides["train"], held_out=sides["test"], holdout_share=share, seed=request.seed
            )
            if before:
                self._check_left(len(train), len(test), plan)
            return train, test

        try:
            return self._store.datasets.freeze(
                request.platform_id,
                minimum=plan.networks,
                holdout_share=request.holdout_share,
                seed=request.seed,
                split=split,
            )
        except TooFewMeasurements as error:
            error.remedy += advice(plan)
            raise

    def _given(self, dataset_id: int, plan: Plan) -> Dataset:
        """Return a dataset with the split that it has."""
        dataset = self._store.datasets.load(dataset_id)
        self._plans.check_given(dataset_id, len(dataset.train), plan)
        return dataset

    def _check_left(self, train: int, held_out: int, plan: Plan) -> None:
        """Raise where what earlier trainings held out, and stays so, leaves too few to learn from."""
        if not is_enough(train, self._minimum, plan):
            raise TooFewMeasurements(
                f"{held_out} of the {train + held_out} measured networks are held out for good, by the shares of "
                "earlier trainings; the others are too few to learn from",
                field="platform_id",
                remedy="measure more",
                train=train,
                held_out=held_out,
            )

    def _train_all(
        self, plan: Plan, training: Training, dataset: Dataset, test: Sample, told: Reporter
    ) -> list[NewPredictor]:
        trained = []
        for done, kind in enumerate(plan.kinds):
            told.at(f"training {kind}", done, len(plan.kinds))
            try:
                trained.append(self._train_one(kind, training, dataset, test))
            except LetiError as error:
                if kind != plan.beside:
                    raise
                log.warning("the kind that serves cannot be trained anew: %s", error)
        return trained

    def _train_one(self, kind: str, training: Training, dataset: Dataset, test: Sample) -> NewPredictor:
        error = training.fit(kind, folds=FOLDS)
        judged = training.judge(kind, test, coverage=COVERAGE)
        sha256 = self._files.save(judged.predictor)
        points = _points(dataset, test.latencies_ms, judged.predictions)
        log.info("%s: off by %.2g %% in cross-validation, %.2g s", kind, 100 * error, training.fit_s[kind])
        return NewPredictor(kind, sha256, judged.metrics, error, points)

    def _decide(
        self, request: TrainingRequest, training: Training, dataset: Dataset, trained: Sequence[NewPredictor]
    ) -> Verdict | None:
        """Return which predictor is to serve, without a look at the holdout; ``None`` where none is to be chosen."""
        if not request.activate:
            return None
        from leti.service.training.champion import Verdict, decide  # brings numpy

        champion = self._store.predictors.active(dataset.platform_id)
        if champion is None:
            best = min(trained, key=lambda new: new.cross_validation_mdape)
            return Verdict(best.kind, "")
        verdict = decide(
            {new.kind: training.errors[new.kind] for new in trained},
            training.sample.groups,
            champion.kind,
            known=self._store.datasets.classes(champion.dataset_id, "train"),
            own=self._errors_of(champion, training.sample),
        )
        log.info("%s", verdict.reason)
        return verdict

    def _errors_of(self, champion: PredictorInfo, sample: Sample) -> Errors | None:
        """Return the absolute relative errors ``(n,)`` of the predictor that serves, ``None`` where it cannot say."""
        import numpy as np

        try:
            predicted = self._loaded.get(champion.artifact_sha256).predict(sample.graphs, coverage=0.5)
        except LetiError as error:
            log.warning("the %s that serves cannot predict these networks: %s", champion.kind, error)
            return None
        found: Errors = np.abs(np.asarray(predicted.latency_ms) / np.asarray(sample.latencies_ms) - 1)
        return found

    def _curve(
        self, trained: Sequence[NewPredictor], train: Sample, request: TrainingRequest, told: Reporter
    ) -> LearningCurve | None:
        if not request.learning_curve:
            return None
        told.at("drawing the learning curve", len(trained), len(trained))
        drawn = [new for new in trained if new.kind != ADAPTED]
        if not drawn:
            return LearningCurve(
                ADAPTED, (), (), "no curve is drawn of a predictor that is adapted from other platforms"
            )
        from leti.predictors.learning import learning_curve  # brings numpy

        return learning_curve(_single(drawn), train, seed=request.seed, folds=FOLDS)

    def _sample(self, dataset: Dataset, items: Sequence[DatasetItem]) -> Sample:
        return sample_of(self._store, items, dataset.reference_latency_ms)

    def _profiled(self, dataset: Dataset) -> Sample:
        """Return the networks to learn from, with the times of their kernels where profiles tell them."""
        from leti.predictors.profiles.matching import kernel_times_ms

        sample = self._sample(dataset, dataset.train)
        runtime = self._store.platforms.platform(dataset.platform_id).runtime
        profiles = self._store.datasets.profiles(dataset.id, "train")
        times = tuple(
            kernel_times_ms(graph, profiles.get(item.fingerprint, ()), runtime=runtime)
            for graph, item in zip(sample.graphs, dataset.train, strict=True)
        )
        return replace(sample, operator_times=times if any(of_one is not None for of_one in times) else None)


def sample_of(store: Store, items: Sequence[DatasetItem], reference_latency_ms: float) -> Sample:
    """Return networks with their graphs, latencies and classes."""
    from leti.predictors.evaluation import Sample  # brings numpy

    return Sample(
        graphs=tuple(store.networks.graphs([item.fingerprint for item in items])),
        latencies_ms=tuple(item.truth.ratio * reference_latency_ms for item in items),
        groups=tuple(item.group for item in items),
    )


def _single(trained: Sequence[NewPredictor]) -> str:
    """Return the best kind that is no mix: a mix costs what its members do, and its curve is like theirs."""
    single = [new for new in trained if new.kind != registry.MIX]
    return min(single or trained, key=lambda new: new.cross_validation_mdape).kind


def _points(dataset: Dataset, measured_ms: Sequence[float], predicted: Predictions) -> tuple[HoldoutPoint, ...]:
    return tuple(
        HoldoutPoint(item.fingerprint, item.space, measured, answer.latency_ms, answer.low_ms, answer.high_ms)
        for item, measured, answer in zip(dataset.test, measured_ms, predicted, strict=True)
    )
