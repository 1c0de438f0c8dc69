"""Training: freeze a dataset, train every kind of predictor, judge them, choose which one serves."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from leti.core.errors import Conflict, InvalidInput, TooFewMeasurements
from leti.core.prediction import Predictions
from leti.core.training import HoldoutPoint, LearningCurve, TrainingReport, TrainingRequest
from leti.core.wire import MAX_SEED
from leti.predictors import registry
from leti.service.predictor_files import PredictorFiles
from leti.service.settings import Settings
from leti.service.sources import ADAPTED, Found, Sources
from leti.service.store import Dataset, DatasetItem, NewPredictor, Store

if TYPE_CHECKING:
    from leti.core.graph import Graph
    from leti.predictors.evaluation import Sample
    from leti.predictors.training import Training

COVERAGE = 0.9
"""Coverage at which intervals are judged."""

MAX_HOLDOUT = 0.9
FOLDS = 5
"""Folds of the cross-validation that chooses which predictor serves."""

FEW = 6
"""Fewest measured networks of a platform that is adapted to: five to learn from, and one to judge on."""

MANY = 100
"""Measured networks above which a platform is adapted to only by name: it can do without, and that takes long."""


@final
@dataclass(frozen=True, slots=True)
class _Plan:
    """The kinds to train, how many measured networks that needs, and what other platforms know."""

    kinds: Sequence[str]
    networks: int
    sources: Found


@final
class Trainer:
    """Trains predictors on what the store holds; one training a platform at a time."""

    def __init__(self, store: Store, sources: Sources, settings: Settings, files: PredictorFiles) -> None:
        self._store = store
        self._sources = sources
        self._settings = settings
        self._files = files
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def train(self, request: TrainingRequest) -> TrainingReport:
        """Train predictors of the kinds asked for on one frozen dataset, judge each, and keep them all.

        The lowest median error in grouped cross-validation inside the training part decides which becomes active; the
        holdout only reports. Where few networks are measured, the active predictors of other platforms are adapted to
        them: that alone below what other kinds need, beside them up to :data:`MANY`. A learning curve is of the best
        kind that is neither adapted nor a mix of others. Raises :class:`TooFewMeasurements`, :class:`NotFound` for the
        platform, :class:`InvalidInput` for an unknown kind, and :class:`Conflict` while the platform is being trained
        and where there is nothing to adapt.
        """
        asked = self._check(request)
        with self._alone(request.platform_id):
            from leti.predictors.training import Training  # brings numpy

            plan = self._plan(request, asked)
            dataset = self._freeze(request, plan)
            train, test = self._profiled(dataset, dataset.train), self._sample(dataset, dataset.test)
            plan = self._able(plan, (*train.graphs, *test.graphs), asked)
            found = plan.sources
            training = Training(train, request.seed, found.predictors, self._sources.population(found))
            trained = [self._train_one(kind, training, dataset, test) for kind in plan.kinds]
            best = min(trained, key=lambda new: new.cross_validation_mdape).kind
            infos = self._store.predictors.add(dataset, trained, best if request.activate else None)
            curve = self._curve(trained, train, request)
        return TrainingReport(
            dataset.id,
            dataset.platform_id,
            dataset.reference_version,
            infos,
            dataset.repeatability,
            curve,
            (*_remarks(plan), *training.remarks),
        )

    def _plan(self, request: TrainingRequest, asked: Sequence[str]) -> _Plan:
        """Return what to train: what is asked for, else what suits the number of measured networks."""
        platform = self._store.platforms.get(request.platform_id)
        measured, enough = (
            platform.networks_measured,
            networks_needed(self._settings.min_networks, request.holdout_share),
        )
        alone = asked or registry.default_kinds()
        few_enough = measured <= MANY and ADAPTED in registry.kinds(sources=True)
        if not (ADAPTED in asked or (not asked and few_enough)):
            return _Plan(alone, enough, Found())
        from leti.predictors.adaptation.predictor import MAX_SOURCES  # brings numpy

        found = self._sources.others(platform.id, platform.platform.model_precision, most=MAX_SOURCES)
        if asked and not found.predictors:
            raise _nothing_to_adapt(found)
        if asked or not found.predictors:
            return _Plan(alone, FEW if list(asked) == [ADAPTED] else enough, found)
        if measured < max(enough, FEW):
            return _Plan((ADAPTED,), FEW, found)
        return _Plan(registry.default_kinds(sources=True), enough, found)

    def _able(self, plan: _Plan, graphs: Sequence[Graph], asked: Sequence[str]) -> _Plan:
        """Leave out sources that cannot price the platform's networks, and adaptation where none is left."""
        if ADAPTED not in plan.kinds:
            return plan
        found = self._sources.able(plan.sources, graphs)
        if found.predictors:
            return _Plan(plan.kinds, plan.networks, found)
        others = [kind for kind in plan.kinds if kind != ADAPTED]
        if asked or not others:
            raise _nothing_to_adapt(found)
        return _Plan(others, plan.networks, found)

    def _freeze(self, request: TrainingRequest, plan: _Plan) -> Dataset:
        from leti.predictors.evaluation import split_by_group  # brings numpy

        def split(groups: Sequence[str]) -> tuple[Sequence[int], Sequence[int]]:
            """Hold out the share that is asked for, less where it would leave too few to learn from."""
            share = request.holdout_share
            if plan.networks <= FEW:
                share = min(share, 1 - (FEW - 1) / len(groups))
            return split_by_group(groups, holdout_share=share, seed=request.seed)

        try:
            return self._store.predictors.freeze(
                request.platform_id,
                minimum=plan.networks,
                holdout_share=request.holdout_share,
                seed=request.seed,
                split=split,
            )
        except TooFewMeasurements as error:
            if plan.networks > FEW:
                error.remedy += f"; {FEW} are enough to adapt an active predictor of another platform of this precision"
            raise

    def _curve(self, trained: Sequence[NewPredictor], train: Sample, request: TrainingRequest) -> LearningCurve | None:
        if not request.learning_curve:
            return None
        drawn = [new for new in trained if new.kind != ADAPTED]
        if not drawn:
            return LearningCurve(
                ADAPTED, (), (), "no curve is drawn of a predictor that is adapted from other platforms"
            )
        from leti.predictors.learning import learning_curve  # brings numpy

        return learning_curve(_single(drawn), train, seed=request.seed, folds=FOLDS)

    def _check(self, request: TrainingRequest) -> Sequence[str]:
        """Return the kinds that are asked for, the simplest first."""
        installed = registry.kinds(sources=True)
        for i, kind in enumerate(request.kinds):
            if kind not in installed or kind in request.kinds[:i]:
                raise InvalidInput(
                    f"{kind[:80]!r} is not a kind that can be trained here, or was named before",
                    field=f"kinds[{i}]",
                    remedy=f"some of {', '.join(installed)}",
                )
        if not 0 < request.holdout_share <= MAX_HOLDOUT:
            raise InvalidInput(
                f"must be above 0 and at most {MAX_HOLDOUT}, not {request.holdout_share}", field="holdout_share"
            )
        if not 0 <= request.seed <= MAX_SEED:
            raise InvalidInput(f"must be from 0 to {MAX_SEED}", field="seed")
        return [kind for kind in installed if kind in request.kinds]

    @contextmanager
    def _alone(self, platform_id: str) -> Iterator[None]:
        with self._lock:
            if platform_id in self._busy:
                raise Conflict(
                    f"predictors of {platform_id} are being trained", field="platform_id", remedy="wait until they are"
                )
            self._busy.add(platform_id)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(platform_id)

    def _sample(self, dataset: Dataset, items: Sequence[DatasetItem]) -> Sample:
        from leti.predictors.evaluation import Sample

        return Sample(
            graphs=tuple(self._store.networks.graphs([item.fingerprint for item in items])),
            latencies_ms=tuple(item.truth.ratio * dataset.reference_latency_ms for item in items),
            groups=tuple(item.group for item in items),
        )

    def _profiled(self, dataset: Dataset, items: Sequence[DatasetItem]) -> Sample:
        """Return networks to learn from, with the times of their kernels where profiles tell them."""
        from leti.predictors.profiles.matching import kernel_times_ms

        sample = self._sample(dataset, items)
        runtime = self._store.platforms.platform(dataset.platform_id).runtime
        profiles = self._store.measurements.operator_times(dataset.platform_id, [item.fingerprint for item in items])
        times = tuple(
            kernel_times_ms(graph, profiles.get(item.fingerprint, ()), runtime=runtime)
            for graph, item in zip(sample.graphs, items, strict=True)
        )
        return replace(sample, operator_times=times if any(of_one is not None for of_one in times) else None)

    def _train_one(self, kind: str, training: Training, dataset: Dataset, test: Sample) -> NewPredictor:
        error = training.fit(kind, folds=FOLDS)
        judged = training.judge(kind, test, coverage=COVERAGE)
        sha256 = self._files.save(judged.predictor)
        points = _points(dataset, test.latencies_ms, judged.predictions)
        return NewPredictor(kind, sha256, judged.metrics, error, points)


def networks_needed(minimum: int, holdout_share: float) -> int:
    """Return how many networks, each a class of its own, leave ``minimum`` to train on beside holdout and fold."""
    count = minimum
    while True:
        train = count - max(round(holdout_share * count), 1)
        if train - math.ceil(train / FOLDS) >= minimum:
            return count
        count += 1


def _nothing_to_adapt(found: Found) -> Conflict:
    return Conflict(
        "; ".join(("no other platform has a predictor that could be adapted", *found.remarks)),
        field="kinds",
        remedy="train one of another platform that measures models of the same precision",
    )


def _remarks(plan: _Plan) -> Sequence[str]:
    """Say what was adapted, and what could not be."""
    if ADAPTED not in plan.kinds:
        return ()
    named = ", ".join(f"the {info.kind} of {info.platform_id}" for info in plan.sources.infos)
    return (f"adapted: learnt from {named}", *plan.sources.remarks)


def _single(trained: Sequence[NewPredictor]) -> str:
    """Return the best kind that is no mix: a mix costs what its members do, and its curve is like theirs."""
    single = [new for new in trained if new.kind != registry.MIX]
    return min(single or trained, key=lambda new: new.cross_validation_mdape).kind


def _points(dataset: Dataset, measured_ms: Sequence[float], predicted: Predictions) -> tuple[HoldoutPoint, ...]:
    return tuple(
        HoldoutPoint(item.fingerprint, item.space, measured, answer.latency_ms, answer.low_ms, answer.high_ms)
        for item, measured, answer in zip(dataset.test, measured_ms, predicted, strict=True)
    )
