"""Predictions: the latency of networks, measured or predicted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from leti.core.queries import PredictionRequest, PredictionResponse
from leti.service.routes.documentation import body_examples, posted
from leti.service.routes.parts import FromWire, GivenParts

router = APIRouter(prefix="/predictions", tags=["predictions"])


@router.post("", responses=posted(404, answer=PredictionResponse))
def predict(
    request: Annotated[PredictionRequest, FromWire(), Body(openapi_examples=body_examples(PredictionRequest))],
    parts: GivenParts,
) -> PredictionResponse:
    """Return a latency for each network: measured where it is known, else predicted with an interval."""
    return parts.answerer.answer(request)
