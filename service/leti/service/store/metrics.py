"""What the whole farm looks like now, for gauges: read in one short transaction, however much is stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, and_, func, select

from leti.service.database import Database
from leti.service.store.devices import last_sign
from leti.service.store.platforms import reference_latency
from leti.service.store.truths import accepted
from leti.service.store.workers import WorkerSeen, read_workers
from leti.service.tables import devices, jobs, leases, measurements, platforms, predictions, predictors, tasks

JOB_STATES: Final = ("queued", "leased", "failed", "poison")
"""States of jobs that are counted: they are few, or wait. What is done is counted by nobody at every scrape."""

TASK_STATES: Final = ("queued", "running", "failed")

RECENT: Final = 2_000
"""Newest measurements, of all platforms, that predictions are scored against."""


@final
@dataclass(frozen=True, slots=True)
class PlatformState:
    """A platform's jobs by state, its leases in force, and the seconds since the oldest was made, 0 without one.

    ``overdue_s`` is for how long the longest of them has run out without being taken back.
    """

    platform_id: str
    jobs: Mapping[str, int]
    leases: int
    oldest_lease_s: float
    overdue_s: float


@final
@dataclass(frozen=True, slots=True)
class DeviceSilence:
    """For how many seconds nobody has spoken for a device, and whether it is quarantined."""

    device: str
    silent_s: float
    quarantined: bool


@final
@dataclass(frozen=True, slots=True)
class TaskCount:
    """How many tasks of a kind are in a state, and the seconds since the oldest of them was asked for."""

    kind: str
    state: str
    count: int
    oldest_s: float


@final
@dataclass(frozen=True, slots=True)
class Scored:
    """How far an active predictor's predictions were from what was measured afterwards, each as a share of it."""

    platform_id: str
    kind: str
    version: int
    errors: Sequence[float]


@final
@dataclass(frozen=True, slots=True)
class FarmState:
    """The farm at one moment."""

    platforms: Sequence[PlatformState]
    devices: Sequence[DeviceSilence]
    tasks: Sequence[TaskCount]
    workers: Sequence[WorkerSeen]
    scored: Sequence[Scored]


@final
class MetricStore:
    """Reads what gauges show. Its cost grows with platforms, devices and waiting jobs, not with what was measured."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def read(self) -> FarmState:
        """Return the farm's state now."""
        now = self._clock()
        with self._database.reading() as connection:
            return FarmState(
                _platforms(connection, now),
                _devices(connection, now),
                _tasks(connection, now),
                read_workers(connection, now),
                _scored(connection),
            )


def _platforms(connection: Connection, now: float) -> Sequence[PlatformState]:
    counts = [
        select(func.count())
        .where(jobs.c.platform_id == platforms.c.id, jobs.c.state == state)
        .scalar_subquery()
        .label(state)
        for state in JOB_STATES
    ]
    active = leases.c.platform_id == platforms.c.id, leases.c.state == "active"
    lent = [
        select(what).where(*active).scalar_subquery()
        for what in (func.count(), func.min(leases.c.created_at), func.min(leases.c.expires_at))
    ]
    rows = connection.execute(select(platforms.c.id, *lent, *counts).order_by(platforms.c.id))
    return [
        PlatformState(
            platform_id,
            dict(zip(JOB_STATES, found, strict=True)),
            count,
            0.0 if made is None else max(now - made, 0.0),
            0.0 if expires is None else max(now - expires, 0.0),
        )
        for platform_id, count, made, expires, *found in rows
    ]


def _devices(connection: Connection, now: float) -> Sequence[DeviceSilence]:
    rows = connection.execute(select(devices).order_by(devices.c.name))
    return [DeviceSilence(row.name, max(now - last_sign(row), 0.0), row.quarantined_at is not None) for row in rows]


def _tasks(connection: Connection, now: float) -> Sequence[TaskCount]:
    query = (
        select(tasks.c.kind, tasks.c.state, func.count(), func.min(tasks.c.created_at))
        .where(tasks.c.state.in_(TASK_STATES))
        .group_by(tasks.c.kind, tasks.c.state)
        .order_by(tasks.c.kind, tasks.c.state)
    )
    return [
        TaskCount(kind, state, count, max(now - made, 0.0)) for kind, state, count, made in connection.execute(query)
    ]


def _scored(connection: Connection) -> Sequence[Scored]:
    """Compare the newest measurements that count with what the active predictors had said of those networks before."""
    newest = connection.execute(select(func.max(measurements.c.id))).scalar()
    if newest is None:
        return []
    said_before = and_(
        predictions.c.predictor_id == predictors.c.id,
        predictions.c.fingerprint == measurements.c.fingerprint,
        predictions.c.created_at < measurements.c.created_at,
    )
    query = (
        select(
            predictors.c.platform_id,
            predictors.c.kind,
            predictors.c.version,
            measurements.c.ratio,
            func.min(predictions.c.latency_ms).label("latency_ms"),  # the same at every coverage
        )
        .join(platforms, accepted(platforms.c.id, platforms.c.reference))
        .join(predictors, and_(predictors.c.platform_id == platforms.c.id, predictors.c.active))
        .join(predictions, said_before)
        .where(measurements.c.id > newest - RECENT)
        .group_by(measurements.c.id, predictors.c.platform_id, predictors.c.kind, predictors.c.version)
        .group_by(measurements.c.ratio)
        .order_by(predictors.c.platform_id)
    )
    found: list[Scored] = []
    rows: list[Any] = list(connection.execute(query))
    for (platform_id, kind, version), group in itertools.groupby(rows, key=lambda row: (row[0], row[1], row[2])):
        reference = reference_latency(connection, platform_id)
        if reference is not None:
            errors = [abs(row.latency_ms / (row.ratio * reference.latency_ms) - 1) for row in group]
            found.append(Scored(platform_id, kind, version, errors))
    return found
