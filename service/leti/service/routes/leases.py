"""Leases and results: how agents get jobs and hand in what came of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from leti.core.errors import InvalidInput
from leti.core.farm import Failure, Heartbeat, Lease, LeaseRequest, Receipt, Result
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import MAX_ID, FromWire, GivenParts, PathId

router = APIRouter(tags=["leases and results"])

_NOTHING = {"description": "There is nothing to do on this platform now."}
_DONE = {"description": "Done."}


@router.post("/leases", response_model=Lease, responses={**posted(404, answer=Lease), 204: _NOTHING})
def claim_lease(
    request: Annotated[LeaseRequest, FromWire(), Body(openapi_examples=body_examples(LeaseRequest))],
    parts: GivenParts,
) -> Lease | Response:
    """Lend jobs of a platform to an agent, no two of one network; 204 where there are none.

    Leases that have run out are taken back first.
    """
    if not 1 <= len(request.agent.strip()) <= 200:
        raise InvalidInput("must be 1 to 200 characters", field="agent")
    most = parts.settings.max_lease_jobs
    if not 1 <= request.max_jobs <= most:
        raise InvalidInput(f"must be from 1 to {most}, not {request.max_jobs}", field="max_jobs")
    return parts.store.queue.claim(request) or Response(status_code=204)


@router.post("/leases/{lease_id}/heartbeat", status_code=204, responses={**responses(400, 404, 409, 413), 204: _DONE})
def renew_lease(
    lease_id: PathId,
    heartbeat: Annotated[Heartbeat, FromWire(), Body(openapi_examples=body_examples(Heartbeat))],
    parts: GivenParts,
) -> None:
    """Push a lease's expiry out; a lease that has run out cannot be had back."""
    parts.store.queue.heartbeat(lease_id, heartbeat.token)


@router.delete("/leases/{lease_id}", status_code=204, responses={**responses(404, 409), 204: _DONE})
def release_lease(lease_id: PathId, token: Annotated[int, Query(ge=1, le=MAX_ID)], parts: GivenParts) -> None:
    """Give a lease back: its unfinished jobs return to the queue."""
    parts.store.queue.release(lease_id, token)


@router.post("/results", responses=posted(404, 409, answer=Receipt))
def post_result(
    result: Annotated[Result, FromWire(), Body(openapi_examples=body_examples(Result, Failure))], parts: GivenParts
) -> Receipt:
    """Take the end of a job, a measurement or a failure; the same result sent twice is stored once.

    Under a lease that is lost, a measurement is kept as late and never counts.
    """
    if (result.measurement is None) == (result.failure is None):
        raise InvalidInput("give a measurement or a failure, and not both", field="measurement")
    return parts.store.queue.accept(result)
