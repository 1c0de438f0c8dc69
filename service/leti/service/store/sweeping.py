"""Sweeping: what has served its time goes, in transactions so short that nobody waits for them.

What was measured stays for good, and with it networks, jobs, leases and datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

from sqlalchemy import delete, func, select, update

from leti.service.database import Database
from leti.service.store.tasks import WAITING
from leti.service.tables import failures, platforms, predictions, task_logs, tasks, uploads, workers

DAY_S: Final = 86_400.0

FORGOTTEN_S: Final = DAY_S
"""Seconds of silence after which a worker that did not end in order is not spoken of any more."""

TASKS_AT_ONCE: Final = 50
UPLOADS_AT_ONCE: Final = 500
FAILURES_AT_ONCE: Final = 500
PREDICTIONS_AT_ONCE: Final = 2_000
"""Rows of one transaction; more predictions only where they were kept at the very same moment."""


@final
class Sweeper:
    """Deletes what is over its time or its number. Every method yields how much went with each transaction."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def tasks(self, *, days: float) -> Iterator[int]:
        """Delete tasks that ended before so many days, with their logs."""
        before = self._clock() - days * DAY_S
        over = select(tasks.c.id).where(tasks.c.ended_at < before).order_by(tasks.c.id).limit(TASKS_AT_ONCE)
        over = over.with_for_update(skip_locked=True)  # several workers may sweep
        while True:
            with self._database.writing() as connection:
                ids = connection.execute(over).scalars().all()
                connection.execute(update(uploads).where(uploads.c.task_id.in_(ids)).values(task_id=None))
                connection.execute(delete(task_logs).where(task_logs.c.task_id.in_(ids)))
                connection.execute(delete(tasks).where(tasks.c.id.in_(ids)))
            if not ids:
                return
            yield len(ids)

    def uploads(self, *, days: float) -> Iterator[int]:
        """Delete uploads of so many days ago that came to nothing, and of which no task is kept."""
        before = self._clock() - days * DAY_S
        nothing = uploads.c.state != "known", uploads.c.task_id.is_(None), uploads.c.created_at < before
        over = select(uploads.c.id).where(*nothing).order_by(uploads.c.id).limit(UPLOADS_AT_ONCE)
        while True:
            with self._database.writing() as connection:
                ids = connection.execute(over.with_for_update(skip_locked=True)).scalars().all()
                connection.execute(delete(uploads).where(uploads.c.id.in_(ids)))
            if not ids:
                return
            yield len(ids)

    def failures(self, *, days: float) -> Iterator[int]:
        """Delete failures of so many days ago, but the newest of each device: rows of failures are counted from it."""
        before = self._clock() - days * DAY_S
        newer = failures.alias()
        newest = select(func.max(newer.c.id)).where(newer.c.device == failures.c.device).scalar_subquery()
        last = 0
        while True:
            page = select(failures.c.id, failures.c.created_at, newest.label("newest")).where(failures.c.id > last)
            with self._database.writing() as connection:
                rows = connection.execute(page.order_by(failures.c.id).limit(FAILURES_AT_ONCE)).all()
                over = [row.id for row in rows if row.created_at < before and row.id != row.newest]
                gone = connection.execute(delete(failures).where(failures.c.id.in_(over))).rowcount if over else 0
            if gone:
                yield gone
            if not rows or rows[-1].created_at >= before:  # ids grow with time
                return
            last = rows[-1].id

    def platforms(self) -> Sequence[str]:
        """Return the id of every platform."""
        with self._database.reading() as connection:
            return connection.execute(select(platforms.c.id).order_by(platforms.c.id)).scalars().all()

    def uploads_awaited(self) -> frozenset[str]:
        """Return the SHA-256 of each uploaded file that a task is yet to read."""
        query = select(uploads.c.sha256).join(tasks, tasks.c.id == uploads.c.task_id).where(tasks.c.state.in_(WAITING))
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def imports_awaited(self, kind: str) -> frozenset[str]:
        """Return the SHA-256 of each file that a task of this kind, which imports, is yet to read."""
        query = select(tasks.c.request).where(tasks.c.kind == kind, tasks.c.state.in_(WAITING))
        with self._database.reading() as connection:
            return frozenset(request["sha256"] for request in connection.execute(query).scalars())

    def predictions(self, *, most: int) -> Iterator[int]:
        """Delete the oldest predictions that are kept to be scored, but for so many."""
        kept_at = predictions.c.created_at
        with self._database.reading() as connection:
            count: int = connection.execute(select(func.count()).select_from(predictions)).scalar_one()
        while count > most:
            last = min(PREDICTIONS_AT_ONCE, count - most) - 1
            with self._database.writing() as connection:
                until = connection.execute(select(kept_at).order_by(kept_at).offset(last).limit(1)).scalar()
                gone = 0 if until is None else connection.execute(delete(predictions).where(kept_at <= until)).rowcount
            if not gone:
                return
            count -= gone
            yield gone

    def workers(self) -> Iterator[int]:
        """Delete workers that fell silent long ago."""
        silent = workers.c.seen_at < self._clock() - FORGOTTEN_S
        with self._database.writing() as connection:
            gone = connection.execute(delete(workers).where(silent)).rowcount
        if gone:
            yield gone
