"""Predictors and predictions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from leti.core.wire import (
    HoldoutPoint,
    PredictionRequest,
    PredictionResponse,
    PredictorInfo,
    TrainingReport,
    TrainingRequest,
)
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import FromWire, GivenParts, PathId, PlatformFilter

router = APIRouter()


@router.post(
    "/predictors", status_code=201, tags=["predictors"], responses=posted(404, 409, answer=TrainingReport, status=201)
)
def train_predictors(
    request: Annotated[TrainingRequest, FromWire(), Body(openapi_examples=body_examples(TrainingRequest))],
    parts: GivenParts,
) -> TrainingReport:
    """Train predictors on everything accepted of a platform and judge them on classes held out; takes a while."""
    return parts.trainer.train(request)


@router.get("/predictors", tags=["predictors"], responses=responses(404, answer=PredictorInfo, many=True))
def list_predictors(parts: GivenParts, platform_id: PlatformFilter = None) -> tuple[PredictorInfo, ...]:
    """Return predictors, the oldest first."""
    return parts.store.predictors.list(platform_id)


@router.get(
    "/predictors/{predictor_id}/holdout", tags=["predictors"], responses=responses(404, answer=HoldoutPoint, many=True)
)
def read_holdout(predictor_id: PathId, parts: GivenParts) -> tuple[HoldoutPoint, ...]:
    """Return every network of a predictor's holdout, measured and predicted, the fastest first."""
    return parts.store.predictors.holdout(predictor_id)


@router.post("/predictors/{predictor_id}/activate", tags=["predictors"], responses=responses(404, answer=PredictorInfo))
def activate_predictor(predictor_id: PathId, parts: GivenParts) -> PredictorInfo:
    """Make a predictor the one that its platform serves."""
    return parts.store.predictors.activate(predictor_id)


@router.post("/predictions", tags=["predictions"], responses=posted(404, answer=PredictionResponse))
def predict(
    request: Annotated[PredictionRequest, FromWire(), Body(openapi_examples=body_examples(PredictionRequest))],
    parts: GivenParts,
) -> PredictionResponse:
    """Return a latency for each network: measured where it is known, else predicted with an interval."""
    return parts.answerer.answer(request)
