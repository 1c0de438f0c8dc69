"""Drift: how predictions fared against what was measured later."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from leti.core.searching import Drift
from leti.service.routes.documentation import responses
from leti.service.routes.parts import MAX_ID, GivenParts, PlatformId

router = APIRouter(tags=["search"])


@router.get("/platforms/{platform_id}/drift", responses=responses(404, 501, answer=Drift))
def read_drift(
    platform_id: PlatformId,
    parts: GivenParts,
    predictor_id: Annotated[int | None, Query(ge=1, le=MAX_ID, description="the active one by default")] = None,
    days: Annotated[float, Query(gt=0, le=36_500, description="score what was measured in the last days")] = 90.0,
    last: Annotated[int, Query(ge=1, le=10_000, description="score the networks measured last, so many")] = 1_000,
    worst: Annotated[int, Query(ge=0, le=100, description="list so many of the largest errors")] = 10,
) -> Drift:
    """Return how a predictor's kept predictions fared against what was measured later, and whether it got worse.

    The verdict compares errors with those on the predictor's holdout by a test that is named in it.
    """
    return parts.searching.scorer.drift(platform_id, predictor_id, days=days, last=last, worst=worst)
