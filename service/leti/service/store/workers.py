"""Workers and agents: who is there, since when, and what each has in hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, delete, func, select, union

from leti.core.farm import AgentInfo
from leti.core.tasks import WorkerInfo
from leti.service.database import Database
from leti.service.store.times import utc
from leti.service.tables import jobs, leases, platforms, tasks, workers

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
    """Keeps workers by name from when they begin until they end in order; agents are known by their leases."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def seen(self, name: str, version: str, *, started_at: float | None = None) -> None:
        """Note that a worker is there, which has run since ``started_at``, or since now."""
        now = self._clock()
        row = {"name": name, "version": version, "seen_at": now}
        row["started_at"] = now if started_at is None else started_at
        with self._database.writing() as connection:
            self._database.upsert(connection, workers, [row])

    def ended(self, name: str) -> None:
        """Forget a worker that ends."""
        with self._database.writing() as connection:
            connection.execute(delete(workers).where(workers.c.name == name))

    def list(self) -> tuple[WorkerInfo, ...]:
        """Return every worker that has not ended in order, by name, with the tasks that it runs."""
        now = self._clock()
        running = select(tasks.c.worker, tasks.c.id).where(tasks.c.state == "running").order_by(tasks.c.id)
        with self._database.reading() as connection:
            found = connection.execute(select(workers).order_by(workers.c.name)).all()
            held = connection.execute(running).all()
        names = {row.name for row in found}
        owned: dict[str, list[int]] = {name: [] for name in names}
        for slot, task_id in held:
            owner = slot if slot in names else slot.rpartition("/")[0]  # one that does several tasks numbers them
            if owner in owned:
                owned[owner].append(task_id)
        return tuple(_worker(row, now, tuple(owned[row.name])) for row in found)

    def agents(self) -> tuple[AgentInfo, ...]:
        """Return the agents that hold a lease, and who held the last one of each platform, by name and platform."""
        now = self._clock()
        of_platform = select(leases.c.id).join(platforms, platforms.c.id == leases.c.platform_id)
        shown = union(  # each by an index of its own
            of_platform.where(leases.c.state == "active"), of_platform.where(leases.c.token == platforms.c.last_token)
        )
        query = (
            select(leases, platforms.c.device, platforms.c.last_heartbeat)
            .join(platforms, platforms.c.id == leases.c.platform_id)
            .where(leases.c.id.in_(shown))
            .order_by(leases.c.agent, leases.c.platform_id, leases.c.id)
        )
        lent = select(jobs.c.lease_id, func.count()).where(jobs.c.state == "leased", jobs.c.lease_id.in_(shown))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            counts = connection.execute(lent.group_by(jobs.c.lease_id)).all()
        waiting = {row[0]: row[1] for row in counts}
        newest = {(row.agent, row.platform_id): row for row in rows}  # of several leases, the last counts
        return tuple(_agent(row, now, waiting) for row in newest.values())


def read_workers(connection: Connection, now: float) -> tuple[WorkerSeen, ...]:
    """Return every worker that has not ended in order, by name."""
    rows = connection.execute(select(workers).order_by(workers.c.name))
    return tuple(WorkerSeen(row.name, row.version, max(now - row.seen_at, 0.0)) for row in rows)


def _worker(row: Row[Any], now: float, held: tuple[int, ...]) -> WorkerInfo:
    present = now - row.seen_at <= PRESENT_S
    return WorkerInfo(row.name, row.version, utc(row.started_at), utc(row.seen_at), present, held)


def _agent(row: Row[Any], now: float, waiting: Mapping[int, int]) -> AgentInfo:
    held = row.state == "active" and row.expires_at > now
    return AgentInfo(
        agent=row.agent,
        platform_id=row.platform_id,
        device=row.device,
        last_seen=None if row.last_heartbeat is None else utc(row.last_heartbeat),
        lease_id=row.id,
        since=utc(row.created_at),
        held=held,
        jobs=waiting.get(row.id, 0) if held else 0,
    )
