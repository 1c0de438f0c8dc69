"""Tasks on the wire: work that takes a worker longer than a request may take, with its progress, log and end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from leti.core.wire import Problem

TaskState = Literal["queued", "running", "done", "failed", "cancelled"]
"""``queued`` waits for a worker, ``running`` has one; the other three are ends."""

MAX_WAIT_S = 30.0
"""Seconds that a request for one task may wait for the task's end."""


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a task is: what it is at, and how many of its steps are done; ``total`` is 0 before it is known."""

    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """Work of a worker: what was asked for, how far it is, and its end, a ``report`` or a ``problem``.

    ``request`` and ``report`` are JSON of types that the ``kind`` of task has. ``attempts`` counts the workers that
    began it, ``deaths`` those that were lost at it. ``created_by`` is the name of the token that asked; it is empty
    where the service began by itself.
    """

    id: int
    kind: str
    platform_id: str | None
    state: TaskState
    request: dict[str, Any]
    created_at: str
    created_by: str
    progress: TaskProgress
    worker: str = ""
    attempts: int = 0
    deaths: int = 0
    started_at: str | None = None
    ended_at: str | None = None
    report: dict[str, Any] | None = None
    problem: Problem | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of tasks; ``next`` is the cursor of the page after it."""

    items: tuple[Task, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker: since when it runs, when it was last heard of, and the tasks that it has in hand, by their ids.

    One that ends in order is told of no more; one that fell silent is for a day, and is not ``present`` after 2 min.
    """

    name: str
    version: str
    started_at: str
    last_seen: str
    present: bool
    tasks: tuple[int, ...]


LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a task's log; ``number`` counts the lines of the task from 1."""

    number: int
    at: str
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of a task's log; ``next`` is what to ask ``after`` for more, ``None`` where there is none for now."""

    items: tuple[LogLine, ...]
    next: int | None
