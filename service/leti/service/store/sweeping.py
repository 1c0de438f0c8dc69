"""Sweeping: what has served its time goes, in transactions so short that nobody waits for them.

What was measured, and why it failed, stays for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, final

from sqlalchemy import delete, func, select, update

from leti.service.database import Database
from leti.service.tables import predictions, task_logs, tasks, uploads, workers

DAY_S: Final = 86_400.0

FORGOTTEN_S: Final = DAY_S
"""Seconds of silence after which a worker that did not end in order is not spoken of any more."""

TASKS_AT_ONCE: Final = 50
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
