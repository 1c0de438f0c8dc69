"""Leases and results: how agents get jobs and hand in what came of them."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic_core import to_json

from leti.core.errors import InvalidInput, LetiError, TooLarge
from leti.core.farm import (
    BatchReceipt,
    Failure,
    Heartbeat,
    Lease,
    LeaseRequest,
    Receipt,
    Result,
    ResultBatch,
    ResultOutcome,
)
from leti.service.gate.access import GivenCaller
from leti.service.problems import problem
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import MAX_ID, FromWire, GivenParts, PathId
from leti.service.store import Store

T = TypeVar("T")

MOST_RESULTS: Final = 256
"""Results in one batch."""

MOST_WAIT_S: Final = 60.0

LOOK_S: Final = (1.0, 2.0)
"""Between these many seconds, who waits looks for jobs that nobody rang for: another process's, or of a lost lease."""

AT_ONCE: Final = 4
"""Threads that lend jobs and take in batches, whatever waits: with more of them, who asks for predictions, or beats,
would have a smaller share of the one interpreter."""

_THREADS: Final = ThreadPoolExecutor(AT_ONCE, "leti-farm")

router = APIRouter(tags=["leases and results"])

_NOTHING = {"description": "There is nothing to do on this platform now."}
_DONE = {"description": "Done."}


async def _in_turn(call: Callable[[], T]) -> T:
    """Return what a call gives, made in one of a few threads."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, contextvars.copy_context().run, call)


@router.post("/leases", response_model=Lease, responses={**posted(404, answer=Lease), 204: _NOTHING})
async def claim_lease(
    request: Annotated[LeaseRequest, FromWire(), Body(openapi_examples=body_examples(LeaseRequest))],
    parts: GivenParts,
    caller: GivenCaller,
    connection: Request,
    wait_s: Annotated[float, Query(ge=0, le=MOST_WAIT_S, description="seconds to wait for jobs where none are")] = 0.0,
) -> Lease | Response:
    """Lend jobs of a platform to an agent, no two of one network; 204 where there are none, not even after `wait_s`.

    Leases that have run out are taken back first. Nothing is lent to an agent that hung up meanwhile, nor to one whose
    token does not hold the device.
    """
    if not 1 <= len(request.agent.strip()) <= 200:
        raise InvalidInput("must be 1 to 200 characters", field="agent")
    most = parts.settings.max_lease_jobs
    if not 1 <= request.max_jobs <= most:
        raise InvalidInput(f"must be from 1 to {most}, not {request.max_jobs}", field="max_jobs")
    claim = functools.partial(parts.store.queue.claim, request, caller.token_id, caller.holder)
    lease = await _in_turn(claim)
    if lease is None and wait_s > 0:
        # To ask is a sign of life: whoever waits is not to be taken for gone meanwhile.
        wait_s = min(wait_s, parts.settings.gone_after_s / 2)
        lease = await _await_jobs(parts.store, request.platform_id, claim, connection, wait_s)
    if lease is not None and await connection.is_disconnected():
        await run_in_threadpool(parts.store.queue.release, lease.id, lease.token)
        lease = None
    return lease or Response(status_code=204)


async def _await_jobs(
    store: Store, platform_id: str, claim: Callable[[], Lease | None], connection: Request, wait_s: float
) -> Lease | None:
    """Return a lease as soon as jobs are queued, ``None`` after ``wait_s``; no thread is held meanwhile."""
    deadline_s = time.monotonic() + wait_s
    with store.bell.listening(platform_id) as listener:
        while not store.bell.closed and not await connection.is_disconnected():
            if await run_in_threadpool(store.queue.has_work, platform_id):
                lease = await _in_turn(claim)
                if lease is not None:
                    return lease
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            await listener.wait(min(left_s, random.uniform(*LOOK_S)))  # noqa: S311 - so that not all look at once
    return None


@router.post("/leases/{lease_id}/heartbeat", status_code=204, responses={**posted(404, 409), 204: _DONE})
def renew_lease(
    lease_id: PathId,
    heartbeat: Annotated[Heartbeat, FromWire(), Body(openapi_examples=body_examples(Heartbeat))],
    parts: GivenParts,
    caller: GivenCaller,
) -> None:
    """Push a lease's expiry out; a lease that has run out cannot be had back."""
    parts.store.queue.heartbeat(lease_id, heartbeat.token, caller.holder)


@router.delete("/leases/{lease_id}", status_code=204, responses={**responses(404, 409), 204: _DONE})
def release_lease(
    lease_id: PathId, token: Annotated[int, Query(ge=1, le=MAX_ID)], parts: GivenParts, caller: GivenCaller
) -> None:
    """Give a lease back: its unfinished jobs return to the queue."""
    parts.store.queue.release(lease_id, token, caller.holder)


@router.post("/results", responses=posted(404, 409, answer=Receipt))
def post_result(
    result: Annotated[Result, FromWire(), Body(openapi_examples=body_examples(Result, Failure))],
    parts: GivenParts,
    caller: GivenCaller,
) -> Receipt:
    """Take the end of a job, a measurement or a failure; the same result sent twice is stored once.

    Under a lease that is lost, a measurement is kept as late and never counts.
    """
    _check(result)
    return parts.store.queue.accept(result, caller.holder)


@router.post("/results/batch", response_model=BatchReceipt, responses=posted(answer=BatchReceipt))
async def post_results(
    batch: Annotated[ResultBatch, FromWire(), Body(openapi_examples=body_examples(ResultBatch))],
    parts: GivenParts,
    caller: GivenCaller,
) -> Response:
    """Take up to 256 results at once, each as if it had been posted alone: a receipt, or a problem, for each.

    What is wrong with one keeps nothing of the others back; a body that cannot be read is refused as a whole.
    """
    count = len(batch.results)
    if not count:
        raise InvalidInput("holds no result", field="results")
    if count > MOST_RESULTS:
        raise TooLarge(f"holds {count} results", field="results", remedy=f"at most {MOST_RESULTS}", limit=MOST_RESULTS)
    for place, result in enumerate(batch.results):
        _check(result, f"results[{place}].")

    def take() -> bytes:
        outcomes = parts.store.queue.accept_all(batch.results, caller.holder)
        return to_json(BatchReceipt(tuple(itertools.starmap(_outcome, enumerate(outcomes)))))

    return Response(await _in_turn(take), media_type="application/json")


def _check(result: Result, where: str = "") -> None:
    if (result.measurement is None) == (result.failure is None):
        raise InvalidInput("give a measurement or a failure, and not both", field=f"{where}measurement")


def _outcome(index: int, outcome: Receipt | LetiError) -> ResultOutcome:
    if isinstance(outcome, LetiError):
        return ResultOutcome(index, problem=problem(outcome))
    return ResultOutcome(index, receipt=outcome)
