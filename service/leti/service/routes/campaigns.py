"""Campaigns: what is to be measured where."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from leti.core.farm import Campaign, CampaignPage, CampaignRequest, FailedJobPage
from leti.service.routes.documentation import body_examples, example, posted, responses
from leti.service.routes.parts import Cursor, FromWire, GivenParts, Limit, PathId, PlatformFilter

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


@router.get("", responses=responses(404, answer=CampaignPage))
def list_campaigns(
    parts: GivenParts, platform_id: PlatformFilter = None, cursor: Cursor = 0, limit: Limit = 100
) -> CampaignPage:
    """Return campaigns with the state of their jobs, the oldest first."""
    return parts.store.campaigns.page(platform_id=platform_id, cursor=cursor, limit=limit)


@router.get("/{campaign_id}", responses=responses(404, answer=Campaign))
def read_campaign(campaign_id: PathId, parts: GivenParts) -> Campaign:
    """Return a campaign with the state of its jobs."""
    return parts.store.campaigns.get(campaign_id)


@router.get("/{campaign_id}/failures", responses=responses(404, answer=FailedJobPage))
def list_failures(campaign_id: PathId, parts: GivenParts, cursor: Cursor = 0, limit: Limit = 100) -> FailedJobPage:
    """Return the jobs of a campaign that ended without a measurement, and why, the oldest first."""
    return parts.store.campaigns.failures(campaign_id, cursor=cursor, limit=limit)
