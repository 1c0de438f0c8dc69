"""Tasks of workers: listed, awaited, cancelled, and their logs; and evaluations, which are tasks."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import Field

from leti.core.errors import InvalidInput
from leti.core.tasks import MAX_WAIT_S, LogPage, Task, TaskPage, TaskState
from leti.core.training import EvaluationRequest
from leti.service.gate.access import GivenCaller
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import Cursor, FromWire, GivenParts, Limit, Parts, PathId, PlatformFilter
from leti.service.routes.waiting import until_ended
from leti.service.tasks.evaluating import chosen
from leti.service.tasks.kinds import KINDS

router = APIRouter(tags=["tasks"])

_Kind = Annotated[str, Field(json_schema_extra={"enum": [*KINDS]})]
Kind = Annotated[_Kind | None, Query(description="a kind of task")]


def queue_evaluation(parts: Parts, request: EvaluationRequest, *, by: str) -> Task:
    """Queue an evaluation; raise :class:`NotFound` where there is nothing to judge."""
    chosen(parts.store, request)
    return parts.store.tasks.add("evaluate", request.platform_id, request, by=by)


def accepted(task: Task, response: Response) -> Task:
    """Return a task that was queued, and say where it is."""
    response.headers["location"] = f"/v1/tasks/{task.id}"
    return task


def accepts(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a route that queues a task."""
    found = posted(*statuses, answer=Task, status=202)
    found[202]["headers"] = {"Location": {"description": "where the task is", "schema": {"type": "string"}}}
    return found


@router.get("/tasks", responses=responses(404, answer=TaskPage))
def list_tasks(
    parts: GivenParts,
    platform_id: PlatformFilter = None,
    kind: Kind = None,
    state: Annotated[TaskState | None, Query()] = None,
    cursor: Cursor = 0,
    limit: Limit = 100,
) -> TaskPage:
    """Return tasks in the order they were asked for."""
    if kind is not None and kind not in KINDS:
        raise InvalidInput(f"{kind!r} is no kind of task", field="kind", remedy=f"one of {', '.join(KINDS)}")
    return parts.store.tasks.page(platform_id=platform_id, kind=kind, state=state, cursor=cursor, limit=limit)


@router.get("/tasks/{task_id}", responses=responses(404, answer=Task))
async def read_task(
    task_id: PathId,
    parts: GivenParts,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="wait so long for its end")] = 0.0,
) -> Task:
    """Return a task: how far it is, and its report or problem; with `wait_s`, once it has ended or the time is up."""
    return await until_ended(functools.partial(parts.store.tasks.get, task_id), wait_s, parts.readiness)


@router.get("/tasks/{task_id}/logs", responses=responses(404, answer=LogPage))
def read_log(
    task_id: PathId,
    parts: GivenParts,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="number of the last line that is known")] = 0,
    limit: Limit = 100,
) -> LogPage:
    """Return lines of a task's log, the oldest first."""
    return parts.store.tasks.log(task_id, after=after, limit=limit)


@router.post("/tasks/{task_id}/cancel", responses=responses(404, 409, answer=Task))
def cancel_task(task_id: PathId, parts: GivenParts, caller: GivenCaller) -> Task:
    """End a task that waits or runs; one that was cancelled before is answered as it is."""
    return parts.store.tasks.cancel(task_id, by=caller.name)


@router.post("/evaluations", status_code=202, responses=accepts(404))
def evaluate_predictors(
    request: Annotated[EvaluationRequest, FromWire(), Body(openapi_examples=body_examples(EvaluationRequest))],
    parts: GivenParts,
    caller: GivenCaller,
    response: Response,
) -> Task:
    """Queue a task that judges predictors on what was measured since they were trained."""
    return accepted(queue_evaluation(parts, request, by=caller.name), response)
