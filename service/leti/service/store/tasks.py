"""Tasks: queued by the web process or a worker, held by one worker at a time, ended once.

What a worker that has gone held is taken back by whoever next claims; a task that has outlived ``max_deaths`` workers
fails. See :mod:`leti.service.store.holds`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, final

from sqlalchemy import Connection, Row, insert, select, update

from leti.core.codec import from_json, to_json
from leti.core.errors import Conflict, LetiError, NotFound, TooManyRequests
from leti.core.tasks import LogPage, Task, TaskPage, TaskProgress, TaskState
from leti.core.wire import Problem
from leti.service.database import Database
from leti.service.problems import problem
from leti.service.store.holds import (
    QUEUED,
    Claimed,
    Hold,
    choose_task,
    count_death,
    end_task,
    end_well,
    fail_task,
    held,
    is_gone,
    lock_held,
    lost,
    take_back,
)
from leti.service.store.leasing import Rules
from leti.service.store.paging import on_page
from leti.service.store.platforms import find_platform, lock_platform
from leti.service.store.task_logs import NewLine, read_lines, write_lines
from leti.service.store.times import utc
from leti.service.tables import tasks

FULL_S: Final = 60
"""Seconds after which somebody may ask again for whom there was no room."""

WAITING: Final = ("queued", "running")


@final
class TaskStore:
    """Keeps tasks and their logs."""

    def __init__(self, database: Database, clock: Callable[[], float], rules: Rules, *, most_waiting: int) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules
        self._most_waiting = most_waiting

    # --- users -------------------------------------------------------------------------------------------------------

    def add(self, kind: str, platform_id: str | None, request: Any, *, by: str) -> Task:
        """Queue a task; ``request`` is a value of core.

        Raises :class:`NotFound` for the platform, and :class:`TooManyRequests` where too many of its kind wait for it.
        """
        with self._database.writing() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
            self._check_room(connection, kind, platform_id)
            return self._add(connection, kind, platform_id, request, by)

    def add_if_none_waits(self, kind: str, platform_id: str, request: Any, *, by: str) -> Task | None:
        """Queue a task unless one of its kind waits or runs for its platform; raise :class:`NotFound`."""
        waiting = select(tasks.c.id).where(
            tasks.c.kind == kind, tasks.c.platform_id == platform_id, tasks.c.state.in_(WAITING)
        )
        with self._database.writing() as connection:
            find_platform(connection, platform_id)
            lock_platform(connection, platform_id)
            if connection.execute(waiting.limit(1)).first() is not None:
                return None
            return self._add(connection, kind, platform_id, request, by)

    def get(self, task_id: int) -> Task:
        """Return a task; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return _task(_find(connection, task_id))

    def page(
        self,
        *,
        platform_id: str | None,
        kind: str | None,
        state: TaskState | None,
        cursor: int,
        limit: int,
        newest_first: bool = False,
    ) -> TaskPage:
        """Return up to ``limit`` tasks after ``cursor``; raise :class:`NotFound` for the platform."""
        wanted = {"platform_id": platform_id, "kind": kind, "state": state}
        conditions = [tasks.c[name] == value for name, value in wanted.items() if value is not None]
        chosen = select(tasks).where(*conditions)
        query = on_page(chosen, tasks.c.id, cursor=cursor, limit=limit, newest_first=newest_first)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
            rows = connection.execute(query).all()
        items = tuple(_task(row) for row in rows[:limit])
        return TaskPage(items, items[-1].id if len(rows) > limit else None)

    def failed_since(self, at: float) -> tuple[Task, ...]:
        """Return the tasks that have failed since ``at``, the last one last."""
        query = select(tasks).where(tasks.c.state == "failed", tasks.c.ended_at >= at).order_by(tasks.c.ended_at)
        with self._database.reading() as connection:
            return tuple(_task(row) for row in connection.execute(query))

    def newest(self, kind: str, platform_id: str, *, by: str) -> Task | None:
        """Return the newest task of a kind that somebody queued for a platform."""
        query = select(tasks).where(tasks.c.platform_id == platform_id, tasks.c.kind == kind, tasks.c.created_by == by)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(tasks.c.id.desc()).limit(1)).first()
        return None if row is None else _task(row)

    def log(self, task_id: int, *, after: int, limit: int) -> LogPage:
        """Return up to ``limit`` lines of a task's log with numbers above ``after``; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            _find(connection, task_id)
            return read_lines(connection, task_id, after=after, limit=limit)

    def cancel(self, task_id: int, *, by: str) -> Task:
        """End a task that waits or runs; its worker hears of it at its next heartbeat. One that was cancelled stays so.

        Raises :class:`NotFound`, and :class:`Conflict` for a task that has ended otherwise.
        """
        now = self._clock()
        with self._database.writing() as connection:
            row = _find(connection, task_id, lock=True)
            if row.state in WAITING:
                end_task(connection, task_id, "cancelled", now)
                write_lines(connection, task_id, [NewLine(now, "warning", f"cancelled by {by}" if by else "cancelled")])
            elif row.state != "cancelled":
                raise Conflict(
                    f"task {task_id} has ended: it is {row.state}", field="task_id", remedy="nothing is left to cancel"
                )
            return _task(_find(connection, task_id))

    # --- workers -----------------------------------------------------------------------------------------------------

    def claim(self, worker: str, kinds: Collection[str], *, alone: Collection[str] = ()) -> Claimed | None:
        """Lend the oldest task of the given kinds that can begin; ``None`` where there is none.

        A task of a kind in ``alone`` waits while another of its kind runs for its platform.
        """
        now = self._clock()
        self._take_back(now)
        with self._database.writing() as connection:
            row = choose_task(connection, kinds, alone)
            if row is None:
                return None
            values = {
                "state": "running",
                "worker": worker,
                "token": row.token + 1,
                "expires_at": now + self._rules.lease_s,
                "started_at": now,
                "stage": "",
                "steps_done": 0,
                "steps_total": 0,
            }
            connection.execute(update(tasks).where(tasks.c.id == row.id).values(**values))
            write_lines(connection, row.id, [NewLine(now, "info", f"begun by {worker}")])
        return Claimed(Hold(row.id, row.token + 1), row.kind, row.request, row.created_by)

    def renew(self, hold: Hold) -> bool:
        """Renew a worker's hold; return whether it still has it: the task may be cancelled, or another's by now."""
        expires_at = self._clock() + self._rules.lease_s
        with self._database.writing() as connection:
            renewed = connection.execute(update(tasks).where(held(hold)).values(expires_at=expires_at)).rowcount
        return renewed == 1

    def report(self, hold: Hold, progress: TaskProgress, lines: Sequence[NewLine] = ()) -> None:
        """Keep how far a task is, and lines of its log; raise :class:`LeaseLost` where it is held no more.

        One that ended well under this hold takes its last lines all the same.
        """
        values = {"stage": progress.stage, "steps_done": progress.done, "steps_total": progress.total}
        with self._database.writing() as connection:
            row = _find(connection, hold.task_id, lock=True)
            if row.token != hold.token or row.state not in ("running", "done"):
                raise lost(hold)
            connection.execute(update(tasks).where(tasks.c.id == hold.task_id).values(**values))
            write_lines(connection, hold.task_id, lines)

    def finish(self, hold: Hold, report: Any) -> None:
        """End a task well, with a value of core; raise :class:`LeaseLost` where it is held no more.

        Of a task that ended well under this hold already, the first report stays.
        """
        with self._database.writing() as connection:
            row = _find(connection, hold.task_id)
            if row.token != hold.token or row.state != "done":
                end_well(connection, hold, report, self._clock())

    def fail(self, hold: Hold, error: LetiError) -> None:
        """End a task with an error; raise :class:`LeaseLost` where it is held no more."""
        with self._database.writing() as connection:
            lock_held(connection, hold)
            fail_task(connection, hold.task_id, problem(error), self._clock())

    def give_back(self, hold: Hold, reason: str) -> None:
        """Queue a task again that a worker cannot go on with, through no fault of the task; what is lost stays lost."""
        now = self._clock()
        with self._database.writing() as connection:
            if connection.execute(update(tasks).where(held(hold)).values(**QUEUED)).rowcount:
                write_lines(connection, hold.task_id, [NewLine(now, "warning", f"given back: {reason}")])

    def died(self, hold: Hold, reason: str) -> None:
        """Queue a task again whose process has died; fail it where it has done so too often. What is lost stays so."""
        with self._database.writing() as connection:
            row = connection.execute(select(tasks).where(held(hold)).with_for_update()).first()
            if row is not None:
                count_death(connection, row, reason, self._clock(), max_deaths=self._rules.max_deaths)

    def _take_back(self, now: float) -> None:
        """Take back what is held no more, before anything else is locked."""
        with self._database.reading() as connection:
            gone = select(tasks.c.id).where(is_gone(now, self._rules.lease_s)).limit(1)
            if connection.execute(gone).first() is None:
                return
        with self._database.writing() as connection:
            take_back(connection, now, self._rules)

    def _check_room(self, connection: Connection, kind: str, platform_id: str | None) -> None:
        of_platform = tasks.c.platform_id.is_(None) if platform_id is None else tasks.c.platform_id == platform_id
        same = tasks.c.kind == kind, tasks.c.state == "queued", of_platform
        last = select(tasks.c.id).where(*same).order_by(tasks.c.id).offset(self._most_waiting - 1).limit(1)
        if connection.execute(last).first() is not None:
            raise TooManyRequests(
                f"{self._most_waiting} tasks of the kind {kind} wait{f' for {platform_id}' if platform_id else ''}",
                field="(body)",
                remedy="wait for them, or cancel some: GET /v1/tasks?state=queued; more workers do them sooner",
                retry_after_s=FULL_S,
            )

    def _add(self, connection: Connection, kind: str, platform_id: str | None, request: Any, by: str) -> Task:
        values = {
            "kind": kind,
            "platform_id": platform_id,
            "request": to_json(request),
            "state": "queued",
            "created_at": self._clock(),
            "created_by": by,
            "token": 0,
            "deaths": 0,
            "stage": "",
            "steps_done": 0,
            "steps_total": 0,
        }
        key = connection.execute(insert(tasks).values(**values)).inserted_primary_key
        assert key is not None  # noqa: S101 - a table with a key that the database numbers
        return _task(_find(connection, key[0]))


def _find(connection: Connection, task_id: int, *, lock: bool = False) -> Row[Any]:
    query = select(tasks).where(tasks.c.id == task_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"there is no task {task_id}", field="task_id", remedy="GET /v1/tasks lists them")
    return row


def _task(row: Row[Any]) -> Task:
    return Task(
        id=row.id,
        kind=row.kind,
        platform_id=row.platform_id,
        state=row.state,
        request=row.request,
        created_at=utc(row.created_at),
        created_by=row.created_by,
        progress=TaskProgress(row.stage, row.steps_done, row.steps_total),
        worker=row.worker or "",
        attempts=row.token,
        deaths=row.deaths,
        started_at=None if row.started_at is None else utc(row.started_at),
        ended_at=None if row.ended_at is None else utc(row.ended_at),
        report=row.report,
        problem=None if row.problem is None else from_json(Problem, row.problem),
    )
