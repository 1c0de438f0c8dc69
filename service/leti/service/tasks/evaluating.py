"""Tasks that judge predictors on what was measured since they were trained."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from leti.core.errors import LetiError, NotFound
from leti.core.training import Evaluation, EvaluationReport, EvaluationRequest, PredictorInfo
from leti.service.artifacts import ArtifactStore
from leti.service.predictor_files import PredictorFiles
from leti.service.reporter import Reporter
from leti.service.serving import LoadedPredictors
from leti.service.store import Measured, Store
from leti.service.tasks.work import Work

if TYPE_CHECKING:
    from leti.core.prediction import Metrics

log = logging.getLogger(__name__)


def run(work: Work, request: EvaluationRequest, reporter: Reporter) -> EvaluationReport:
    """Judge predictors on networks that are new to them.

    One that cannot be judged is told beside the others. Raises :class:`NotFound` for the platform and where it has no
    predictor, and :class:`TooFewMeasurements` where nothing is measured.
    """
    infos = chosen(work.store, request)
    loaded = LoadedPredictors(PredictorFiles(ArtifactStore.open(work.settings)))
    measured = work.store.datasets.measured(request.platform_id)
    evaluations = []
    for done, info in enumerate(infos):
        reporter.at(f"judging {info.kind} {info.version}", done, len(infos))
        try:
            metrics, reason = _judge(work.store, loaded, info, measured)
        except LetiError as error:
            metrics, reason = None, error.message
        log.info("%s %d: %s", info.kind, info.version, reason or "judged")
        evaluations.append(Evaluation(info, metrics, reason))
    reporter.at("judged", len(infos), len(infos))
    return EvaluationReport(request.platform_id, measured.reference_version, tuple(evaluations), measured.repeatability)


def chosen(store: Store, request: EvaluationRequest) -> tuple[PredictorInfo, ...]:
    """Return the predictors that a request names; raise :class:`NotFound` where there are none."""
    infos = tuple(info for info in store.predictors.list(request.platform_id) if info.active or request.every)
    if not infos:
        raise NotFound(
            f"{request.platform_id} has no {'' if request.every else 'active '}predictor",
            field="platform_id",
            remedy="train one: POST /v1/predictors, or leti train",
        )
    return infos


def _judge(
    store: Store, loaded: LoadedPredictors, info: PredictorInfo, measured: Measured
) -> tuple[Metrics | None, str]:
    from leti.predictors.evaluation import judge_fitted  # brings numpy
    from leti.service.training import COVERAGE, sample_of

    known = store.datasets.classes(info.dataset_id)
    new = [item for item in measured.items if item.group not in known]
    if not new:
        return None, "no network was measured since that is new to it"
    sample = sample_of(store, new, measured.reference_latency_ms)
    trained = info.metrics
    judged = judge_fitted(
        loaded.get(info.artifact_sha256), sample, n_train=trained.n_train, fit_s=trained.fit_s, coverage=COVERAGE
    )
    return judged.metrics, ""
