"""Holds: which task is lent to a worker next, and what becomes of those whose worker has gone.

A worker holds a task by a fencing token that grows with every claim, and by a lease that its heartbeats renew.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import ColumnElement, Connection, Row, and_, not_, or_, select, update

from leti.core.codec import to_json
from leti.core.errors import LeaseLost, TaskFailed
from leti.core.tasks import TaskState
from leti.core.wire import Problem
from leti.service.problems import problem
from leti.service.store.leasing import Rules
from leti.service.store.platforms import lock_platform
from leti.service.store.task_logs import NewLine, write_lines
from leti.service.tables import tasks

QUEUED: Final[dict[str, Any]] = {"state": "queued", "worker": None, "expires_at": None}
"""What a task is that no worker holds."""


@final
@dataclass(frozen=True, slots=True)
class Hold:
    """What a worker shows to speak of a task."""

    task_id: int
    token: int


@final
@dataclass(frozen=True, slots=True)
class Claimed:
    """A task that a worker holds: of which kind, and what was asked for."""

    hold: Hold
    kind: str
    request: dict[str, Any]
    created_by: str


def choose_task(connection: Connection, kinds: Collection[str], alone: Collection[str]) -> Row[Any] | None:
    """Lock the task to lend. Claims of tasks that must be alone take turns at their platform."""
    other = tasks.alias()
    beside = (
        select(other.c.id)
        .where(other.c.state == "running", other.c.kind == tasks.c.kind, other.c.platform_id == tasks.c.platform_id)
        .exists()
    )
    able = or_(tasks.c.kind.not_in(alone), tasks.c.platform_id.is_(None), not_(beside))
    waiting = select(tasks).where(tasks.c.state == "queued", tasks.c.kind.in_(kinds), able).order_by(tasks.c.id)
    row = connection.execute(waiting.limit(1).with_for_update(skip_locked=True)).first()
    if row is None or row.platform_id is None or row.kind not in alone:
        return row
    lock_platform(connection, row.platform_id)
    still = connection.execute(select(tasks.c.id).where(tasks.c.id == row.id, not_(beside))).first()
    return None if still is None else row


def is_gone(now: float, lease_s: float) -> ColumnElement[bool]:
    """Return the condition of tasks whose worker fell silent.

    No hold may run out later than one that is renewed now: only a clock that has gone back makes such a one.
    """
    return and_(tasks.c.state == "running", or_(tasks.c.expires_at <= now, tasks.c.expires_at > now + lease_s))


def take_back(connection: Connection, now: float, rules: Rules) -> None:
    """Take back what workers held that fell silent."""
    running, latest = tasks.c.state == "running", now + rules.lease_s
    connection.execute(update(tasks).where(running, tasks.c.expires_at > latest).values(expires_at=latest))
    expired = select(tasks).where(running, tasks.c.expires_at <= now).order_by(tasks.c.id)
    for row in connection.execute(expired.with_for_update(skip_locked=True)).all():
        count_death(connection, row, f"worker {row.worker} fell silent", now, max_deaths=rules.max_deaths)


def count_death(connection: Connection, row: Row[Any], reason: str, now: float, *, max_deaths: int) -> None:
    """Queue a task again that outlived its worker; fail it where it has done so too often."""
    deaths = row.deaths + 1
    connection.execute(update(tasks).where(tasks.c.id == row.id).values(deaths=deaths, **QUEUED))
    write_lines(connection, row.id, [NewLine(now, "error", reason)])
    if deaths >= max_deaths:
        error = TaskFailed(
            f"outlived {deaths} workers, the last of which ended so: {reason}",
            remedy="see its log: GET /v1/tasks/{task_id}/logs",
            deaths=deaths,
        )
        fail_task(connection, row.id, problem(error), now)


def end_well(connection: Connection, hold: Hold, report: Any, now: float) -> None:
    """End a task well, in the transaction that keeps what it made; raise :class:`LeaseLost` where it is not held."""
    lock_held(connection, hold)
    end_task(connection, hold.task_id, "done", now, report=to_json(report))


def lock_held(connection: Connection, hold: Hold) -> None:
    """Lock a task for the worker that holds it; raise :class:`LeaseLost` where it does no more."""
    if connection.execute(select(tasks.c.id).where(held(hold)).with_for_update()).first() is None:
        raise lost(hold)


def lost(hold: Hold) -> LeaseLost:
    """Return the error that says that a task is held no more."""
    return LeaseLost(
        f"task {hold.task_id} was cancelled, or is held by another worker by now",
        field="task_id",
        remedy="claim another task",
    )


def held(hold: Hold) -> ColumnElement[bool]:
    """Return the condition of the task that is held so."""
    return and_(tasks.c.id == hold.task_id, tasks.c.token == hold.token, tasks.c.state == "running")


def fail_task(connection: Connection, task_id: int, said: Problem, now: float) -> None:
    """End a task with a problem, which its log has too."""
    end_task(connection, task_id, "failed", now, problem=to_json(said))
    write_lines(connection, task_id, [NewLine(now, "error", said.detail)])


def end_task(connection: Connection, task_id: int, state: TaskState, now: float, **values: Any) -> None:
    """Bring a task to an end, with other ``values``."""
    ended = {"state": state, "expires_at": None, "ended_at": now, **values}
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(**ended))
