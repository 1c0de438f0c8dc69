"""Workers: which there are, and when each was last heard of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from sqlalchemy import Connection, delete, select

from leti.service.database import Database
from leti.service.tables import workers

PRESENT_S: Final = 120.0
"""Seconds of silence for which a worker is taken to be there; it gives a sign of life much more often."""


@final
@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker, its release of LETI, and for how many seconds nothing was heard of it."""

    name: str
    version: str
    silent_s: float

    @property
    def present(self) -> bool:
        """Whether it is there, by all that is known."""
        return self.silent_s <= PRESENT_S


@final
class WorkerStore:
    """Keeps workers by name from when they begin until they end in order."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def seen(self, name: str, version: str) -> None:
        """Note that a worker is there."""
        row = {"name": name, "version": version, "seen_at": self._clock()}
        with self._database.writing() as connection:
            self._database.upsert(connection, workers, [row])

    def ended(self, name: str) -> None:
        """Forget a worker that ends."""
        with self._database.writing() as connection:
            connection.execute(delete(workers).where(workers.c.name == name))


def read_workers(connection: Connection, now: float) -> tuple[WorkerSeen, ...]:
    """Return every worker that has not ended in order, by name."""
    rows = connection.execute(select(workers).order_by(workers.c.name))
    return tuple(WorkerSeen(row.name, row.version, max(now - row.seen_at, 0.0)) for row in rows)
