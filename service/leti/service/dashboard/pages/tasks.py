"""Tasks of workers: what waits, what runs and how far it is, what came of it."""

from __future__ import annotations

import json
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from leti.core.codec import from_json
from leti.core.errors import NotFound
from leti.core.tasks import Task, TaskState
from leti.core.training import EvaluationReport, TrainingReport
from leti.service.dashboard.figures.learning import learning_curve
from leti.service.dashboard.filters import ROWS, Before, Filled, Name, pager
from leti.service.dashboard.rendering import HOME, figure, page, seen
from leti.service.gate.access import GivenCaller
from leti.service.routes.parts import GivenParts, Parts, PathId
from leti.service.store.task_logs import MAX_LINES
from leti.service.tasks.kinds import KINDS

router = APIRouter(prefix=f"{HOME}/tasks")

LINES: Final = 200
"""Newest lines of a log that are shown at once."""

State = Annotated[TaskState | None, Filled, Query()]
STATES: Final[tuple[TaskState, ...]] = ("queued", "running", "done", "failed", "cancelled")


@router.get("")
def show(
    request: Request,
    parts: GivenParts,
    platform_id: Name = None,
    kind: Name = None,
    state: State = None,
    before: Before = 0,
) -> Response:
    """Return tasks, the newest first."""
    found = parts.store.tasks.page(
        platform_id=platform_id, kind=kind, state=state, cursor=before, limit=ROWS, newest_first=True
    )
    return page(
        request,
        "tasks.html",
        tasks=found.items,
        pager=pager(request, router.prefix, before, found.next),
        platforms=parts.store.platforms.list(),
        kinds=tuple(KINDS),
        states=STATES,
        chosen={"platform_id": platform_id, "kind": kind, "state": state},
        workers=[worker for worker in parts.store.workers.list() if worker.present],
    )


@router.get("/{task_id}")
def show_one(request: Request, task_id: PathId, parts: GivenParts, every_line: bool = False) -> Response:
    """Return a task with its log."""
    return _task(request, parts, task_id, "task.html", every_line=every_line)


@router.get("/{task_id}/live")
def show_live(request: Request, task_id: PathId, parts: GivenParts) -> Response:
    """Return what changes of a task while it runs."""
    return _task(request, parts, task_id, "task_live.html")


@router.get("/{task_id}/learning-curve")
def draw_curve(request: Request, task_id: PathId, parts: GivenParts) -> Response:
    """Return the learning curve that a training told."""
    report = _training(parts.store.tasks.get(task_id))
    if report is None or report.learning_curve is None:
        raise NotFound(f"task {task_id} told no learning curve", field="task_id", remedy="ask for one when training")
    return figure(request, learning_curve(report.learning_curve), name=f"learning-curve-{task_id}")


@router.post("/{task_id}/cancel")
def cancel(task_id: PathId, parts: GivenParts, caller: GivenCaller) -> Response:
    """End a task that waits or runs."""
    parts.store.tasks.cancel(task_id, by=caller.name)
    return seen(f"{HOME}/tasks/{task_id}")


def _task(request: Request, parts: Parts, task_id: int, template: str, *, every_line: bool = False) -> Response:
    task = parts.store.tasks.get(task_id)
    lines = parts.store.tasks.log(task_id, after=0, limit=MAX_LINES).items
    evaluated = task.kind == "evaluate" and task.report is not None
    return page(
        request,
        template,
        task=task,
        lines=lines if every_line else lines[-LINES:],
        all_lines=len(lines),
        training=_training(task),
        evaluation=from_json(EvaluationReport, task.report) if evaluated else None,
        asked=json.dumps(task.request, indent=1),
        report=json.dumps(task.report, indent=1) if task.report is not None else "",
    )


def _training(task: Task) -> TrainingReport | None:
    return from_json(TrainingReport, task.report) if task.kind == "train" and task.report is not None else None
