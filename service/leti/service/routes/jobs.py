"""Jobs: listed, retried and cancelled; and failures, counted."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query

from leti.core.farm import FailureCount, JobPage, JobsChanged, JobSelection, JobState
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import (
    CampaignFilter,
    Cursor,
    FingerprintFilter,
    FromWire,
    GivenParts,
    Limit,
    PlatformFilter,
)

router = APIRouter(tags=["jobs"])

Selection = Annotated[JobSelection, FromWire(), Body(openapi_examples=body_examples(JobSelection))]


@router.get("/jobs", responses=responses(404, answer=JobPage))
def list_jobs(
    parts: GivenParts,
    platform_id: PlatformFilter = None,
    campaign_id: CampaignFilter = None,
    state: Annotated[JobState | None, Query()] = None,
    fingerprint: FingerprintFilter = None,
    cursor: Cursor = 0,
    limit: Limit = 100,
) -> JobPage:
    """Return jobs in the order they were made, each with how it last failed and who holds it now."""
    return parts.store.jobs.page(
        platform_id=platform_id,
        campaign_id=campaign_id,
        state=state,
        fingerprint=fingerprint,
        cursor=cursor,
        limit=limit,
    )


@router.post("/jobs/retry", responses=posted(404, answer=JobsChanged))
def retry_jobs(selection: Selection, parts: GivenParts) -> JobsChanged:
    """Queue failed, poisonous and cancelled jobs again, as if they were new; what happened to them stays on record."""
    return parts.store.jobs.retry(selection)


@router.post("/jobs/cancel", responses=posted(404, answer=JobsChanged))
def cancel_jobs(selection: Selection, parts: GivenParts) -> JobsChanged:
    """Take jobs out of the queue, also those that are lent: what an agent still sends of them is late."""
    return parts.store.jobs.cancel(selection)


@router.get("/failures", responses=responses(404, answer=FailureCount, many=True))
def count_failures(
    by: Annotated[Literal["network", "device"], Query()],
    parts: GivenParts,
    platform_id: PlatformFilter = None,
    campaign_id: CampaignFilter = None,
    limit: Limit = 100,
) -> tuple[FailureCount, ...]:
    """Return how often each network, or each device, failed in which way, the most frequent first.

    A lease that ran out is a failure of kind `lost` of each job in it; what came late is not counted. A ranking has no
    further pages.
    """
    return parts.store.failures.counts(by, platform_id=platform_id, campaign_id=campaign_id, limit=limit)
