"""Predictors: trained, listed, judged, chosen."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from leti.core.training import HoldoutPoint, PredictorInfo, TrainingReport, TrainingRequest
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import FromWire, GivenParts, PathId, PlatformFilter

router = APIRouter(prefix="/predictors", tags=["predictors"])


@router.post("", status_code=201, responses=posted(404, 409, answer=TrainingReport, status=201))
def train_predictors(
    request: Annotated[TrainingRequest, FromWire(), Body(openapi_examples=body_examples(TrainingRequest))],
    parts: GivenParts,
) -> TrainingReport:
    """Train predictors on everything accepted of a platform and judge them on classes held out; takes a while."""
    return parts.trainer.train(request)


@router.get("", responses=responses(404, answer=PredictorInfo, many=True))
def list_predictors(parts: GivenParts, platform_id: PlatformFilter = None) -> tuple[PredictorInfo, ...]:
    """Return predictors, the oldest first."""
    return parts.store.predictors.list(platform_id)


@router.get("/{predictor_id}/holdout", responses=responses(404, answer=HoldoutPoint, many=True))
def read_holdout(predictor_id: PathId, parts: GivenParts) -> tuple[HoldoutPoint, ...]:
    """Return every network of a predictor's holdout, measured and predicted, the fastest first."""
    return parts.store.predictors.holdout(predictor_id)


@router.post("/{predictor_id}/activate", responses=responses(404, answer=PredictorInfo))
def activate_predictor(predictor_id: PathId, parts: GivenParts) -> PredictorInfo:
    """Make a predictor the one that its platform serves."""
    return parts.store.predictors.activate(predictor_id)
