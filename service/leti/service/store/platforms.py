"""Platforms: what is measured on, and the pooled latency of each one's reference network."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, insert, not_, select, update

from leti.core.codec import from_json, to_json
from leti.core.device import Platform
from leti.core.errors import NotFound
from leti.core.wire import PlatformInfo
from leti.service.database import Database
from leti.service.store.devices import add_device, lock_device, take_hold
from leti.service.store.times import utc
from leti.service.store.truths import POOLED, Totals, accepted, read_totals
from leti.service.tables import measurements, platform_totals, platforms, reference_latencies

GROWTH = 2
"""A training pools the reference anew where there are this many times the measurements of the last pooling."""


@final
@dataclass(frozen=True, slots=True)
class ReferenceLatency:
    """A platform's reference latency in ms, in its newest version."""

    id: int
    version: int
    latency_ms: float
    measurements: int


@final
class PlatformStore:
    """Keeps platforms by the id that they say of themselves."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, platform: Platform, reference: str, holder: str | None = None) -> PlatformInfo:
        """Keep a platform and its device, measured against the network ``reference``; one that is there stays.

        ``holder`` is the agent's token that is to hold the device, ``None`` where whose it is does not matter. Raises
        :class:`NotPermitted` where another one holds it.
        """
        with self._database.writing() as connection:
            now = self._clock()
            add_platform(self._database, connection, platform, reference, now)
            take_hold(connection, lock_device(connection, platform.device.name), holder, now)
            return _infos(connection, platforms.c.id == platform.id)[0]

    def get(self, platform_id: str) -> PlatformInfo:
        """Return what is known of a platform; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            find_platform(connection, platform_id)
            return _infos(connection, platforms.c.id == platform_id)[0]

    def platform(self, platform_id: str) -> Platform:
        """Return what a platform is, without what is known of it; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return from_json(Platform, find_platform(connection, platform_id).platform)

    def list(self) -> tuple[PlatformInfo, ...]:
        """Return what is known of every platform, the oldest first."""
        with self._database.reading() as connection:
            return _infos(connection)


def add_platform(database: Database, connection: Connection, platform: Platform, reference: str, now: float) -> None:
    """Keep a platform and its device, measured against the network ``reference``; one that is there stays."""
    row = {
        "id": platform.id,
        "device": platform.device.name,
        "platform": to_json(platform),
        "reference": reference,
        "last_token": 0,
        "created_at": now,
    }
    add_device(database, connection, platform.device, now)
    database.insert_new(connection, platforms, [row])


_NAMED: Final = select(platforms).where(platforms.c.id == bindparam("wanted"))


def find_platform(connection: Connection, platform_id: str) -> Row[Any]:
    """Return a platform's row; raise :class:`NotFound`."""
    row = connection.execute(_NAMED, {"wanted": platform_id}).first()
    if row is None:
        raise NotFound(
            f"there is no platform {platform_id[:200]!r}",
            field="platform_id",
            remedy="GET /v1/platforms lists them; POST /v1/platforms adds one",
        )
    return row


def note_heartbeat(connection: Connection, platform_id: str, now: float) -> None:
    """Note that somebody spoke for a platform of a locked device."""
    connection.execute(update(platforms).where(platforms.c.id == platform_id).values(last_heartbeat=now))


def lock_platform(connection: Connection, platform_id: str) -> None:
    """Keep everybody else who calls this out until the transaction ends; a device is locked before its platforms."""
    connection.execute(select(platforms.c.id).where(platforms.c.id == platform_id).with_for_update(key_share=True))


def reference_latency(connection: Connection, platform_id: str) -> ReferenceLatency | None:
    """Return the newest reference latency of a platform, ``None`` before its first accepted measurement.

    Those that came with imported datasets do not count.
    """
    row = connection.execute(
        select(reference_latencies)
        .where(reference_latencies.c.platform_id == platform_id, not_(reference_latencies.c.imported))
        .order_by(reference_latencies.c.version.desc())
        .limit(1)
    ).first()
    return None if row is None else ReferenceLatency(row.id, row.version, row.latency_ms, row.measurements)


def pool_reference(connection: Connection, platform_id: str, reference: str, now: float) -> ReferenceLatency | None:
    """Return the reference latency, pooled anew where measurements have grown by :data:`GROWTH` since.

    It is the median of what the accepted measurements found for the reference; ``None`` where there are none. The
    platform stays locked until the transaction ends, so that each version is pooled once.
    """
    lock_platform(connection, platform_id)
    current = reference_latency(connection, platform_id)
    condition = accepted(platform_id, reference)
    count = connection.execute(select(func.count()).select_from(measurements).where(condition)).scalar_one()
    if not count or (current is not None and count < GROWTH * current.measurements):
        return current
    found = connection.execute(select(measurements.c.reference_ms).where(condition)).scalars().all()
    latency_ms = statistics.median(found)
    return add_reference_latency(connection, platform_id, reference, latency_ms, count, now=now)


def add_reference_latency(
    connection: Connection,
    platform_id: str,
    reference: str,
    latency_ms: float,
    measurements: int,
    *,
    now: float,
    imported: bool = False,
) -> ReferenceLatency:
    """Keep a reference latency as the next version of a locked platform; an ``imported`` one is not its own."""
    of_platform = reference_latencies.c.platform_id == platform_id
    last = connection.execute(select(func.max(reference_latencies.c.version)).where(of_platform)).scalar() or 0
    values = {
        "platform_id": platform_id,
        "version": last + 1,
        "reference": reference,
        "latency_ms": latency_ms,
        "measurements": measurements,
        "created_at": now,
        "imported": imported,
    }
    key = connection.execute(insert(reference_latencies).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 - a table with a key that the database numbers
    return ReferenceLatency(key[0], last + 1, latency_ms, measurements)


def _infos(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[PlatformInfo, ...]:
    total = platform_totals.c
    of_platform = and_(total.platform_id == platforms.c.id, total.reference == platforms.c.reference)
    query = (
        select(
            *(platforms.c[name] for name in ("id", "platform", "reference", "last_heartbeat")),
            *(total[name] for name in ("on_time", "networks", "measurements", "agreement")),
            *(reference_latencies.c[name] for name in ("version", "latency_ms")),
        )
        .outerjoin(platform_totals, of_platform)
        .outerjoin(reference_latencies, POOLED)
        .where(*conditions)
        .order_by(platforms.c.created_at, platforms.c.id)
    )
    return tuple(_info(row) for row in connection.execute(query))


def _info(row: Row[Any]) -> PlatformInfo:
    totals = Totals() if row.networks is None else read_totals(row)
    return PlatformInfo(
        id=row.id,
        platform=from_json(Platform, row.platform),
        reference=row.reference,
        reference_version=row.version or 0,
        reference_latency_ms=row.latency_ms,
        networks_measured=totals.networks,
        measurements=totals.measurements,
        repeatability=totals.agreement.shares(),
        last_heartbeat=None if row.last_heartbeat is None else utc(row.last_heartbeat),
    )
