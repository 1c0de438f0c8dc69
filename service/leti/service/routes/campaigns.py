"""Campaigns: what is to be measured where."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from leti.core.farm import Campaign, CampaignRequest, FailedJob
from leti.service.routes.documentation import body_examples, example, posted, responses
from leti.service.routes.parts import FromWire, GivenParts, Limit, PathId

router = APIRouter(prefix="/campaigns", tags=["campaigns"])

_FOUND = {
    "description": "The same campaign was there already.",
    "model": Campaign,
    "content": {"application/json": {"example": example(Campaign)}},
}


@router.post(
    "",
    status_code=201,
    responses={**posted(404, 409, 501, answer=Campaign, status=201), 200: _FOUND},
)
def create_campaign(
    request: Annotated[CampaignRequest, FromWire(), Body(openapi_examples=body_examples(CampaignRequest))],
    parts: GivenParts,
    response: Response,
) -> Campaign:
    """Draw the samples, check that every network can be exported, and queue them to be measured.

    The same name with the same content finds the campaign that is there; with other content it is a conflict.
    """
    campaign, new = parts.planner.create(request)
    response.status_code = 201 if new else 200
    return campaign


@router.get("", responses=responses(answer=Campaign, many=True))
def list_campaigns(parts: GivenParts) -> tuple[Campaign, ...]:
    """Return every campaign with the state of its jobs, the oldest first."""
    return parts.store.campaigns.list()


@router.get("/{campaign_id}", responses=responses(404, answer=Campaign))
def read_campaign(campaign_id: PathId, parts: GivenParts) -> Campaign:
    """Return a campaign with the state of its jobs."""
    return parts.store.campaigns.get(campaign_id)


@router.get("/{campaign_id}/failures", responses=responses(404, answer=FailedJob, many=True))
def list_failures(campaign_id: PathId, parts: GivenParts, limit: Limit = 100) -> tuple[FailedJob, ...]:
    """Return the jobs of a campaign that ended without a measurement, and why, the oldest first."""
    return parts.store.campaigns.failures(campaign_id, limit)
