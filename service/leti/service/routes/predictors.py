"""Predictors: trained by tasks, listed, judged, promoted and rolled back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic_core import to_json

from leti.core.tasks import Task
from leti.core.training import HoldoutPoint, PredictorInfo, PredictorPage, PromotionPage, TrainingRequest
from leti.service.gate.access import GivenCaller
from leti.service.routes.documentation import body_examples, responses
from leti.service.routes.parts import Cursor, FromWire, GivenParts, Limit, Parts, PathId, PlatformFilter, PlatformId
from leti.service.routes.tasks import accepted, accepts

router = APIRouter(tags=["predictors"])


def queue_training(parts: Parts, request: TrainingRequest, *, by: str) -> Task:
    """Queue a training; raise what it would raise at once."""
    parts.trainer.check(request)
    return parts.store.tasks.add("train", request.platform_id, request, by=by)


@router.post("/predictors", status_code=202, responses=accepts(404, 409))
def train_predictors(
    request: Annotated[TrainingRequest, FromWire(), Body(openapi_examples=body_examples(TrainingRequest))],
    parts: GivenParts,
    caller: GivenCaller,
    response: Response,
) -> Task:
    """Queue a task that trains predictors on everything accepted of a platform and judges them on classes held out."""
    return accepted(queue_training(parts, request, by=caller.name), response)


@router.get("/predictors", responses=responses(404, answer=PredictorPage))
def list_predictors(
    parts: GivenParts, platform_id: PlatformFilter = None, cursor: Cursor = 0, limit: Limit = 100
) -> PredictorPage:
    """Return predictors, the oldest first."""
    return parts.store.predictors.page(platform_id=platform_id, cursor=cursor, limit=limit)


@router.get("/predictors/{predictor_id}", responses=responses(404, answer=PredictorInfo))
def read_predictor(predictor_id: PathId, parts: GivenParts) -> PredictorInfo:
    """Return a predictor: its version, its dataset, and how it did."""
    return parts.store.predictors.get(predictor_id)


@router.get(
    "/predictors/{predictor_id}/holdout",
    response_model=tuple[HoldoutPoint, ...],
    responses=responses(404, answer=HoldoutPoint, many=True),
)
def read_holdout(predictor_id: PathId, parts: GivenParts) -> Response:
    """Return every network of a predictor's holdout, measured and predicted, the fastest first.

    The list is whole: it was frozen with the predictor's dataset, and never grows.
    """
    points = parts.store.predictors.holdout(predictor_id)
    return Response(to_json(points), media_type="application/json")  # to check ten thousand anew takes 100 ms


@router.post("/predictors/{predictor_id}/promote", responses=responses(404, answer=PredictorInfo))
def promote_predictor(predictor_id: PathId, parts: GivenParts, caller: GivenCaller) -> PredictorInfo:
    """Make a predictor the one that its platform serves."""
    return parts.store.predictors.promote(predictor_id, by=caller.name)


@router.post("/platforms/{platform_id}/rollback", responses=responses(404, 409, answer=PredictorInfo))
def roll_back_predictor(platform_id: PlatformId, parts: GivenParts, caller: GivenCaller) -> PredictorInfo:
    """Make the predictor serve again that served before the one that does; again, and it goes one further back."""
    return parts.store.predictors.roll_back(platform_id, by=caller.name)


@router.get("/platforms/{platform_id}/promotions", responses=responses(404, answer=PromotionPage))
def list_promotions(
    platform_id: PlatformId, parts: GivenParts, cursor: Cursor = 0, limit: Limit = 100
) -> PromotionPage:
    """Return which predictors began to serve a platform, when and why, the newest first."""
    return parts.store.predictors.promotions(platform_id, cursor=cursor, limit=limit)
