"""Platforms: what is measured on, and the pooled latency of each one's reference network."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import Connection, Row, func, insert, select

from leti.core.codec import from_json, to_json
from leti.core.device import Platform
from leti.core.errors import NotFound
from leti.core.measurement import repeatability
from leti.core.wire import PlatformInfo
from leti.service.database import Database
from leti.service.store.devices import add_device
from leti.service.store.times import utc
from leti.service.store.truths import accepted, ratios_by_network
from leti.service.tables import measurements, platforms, reference_latencies

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

    def add(self, platform: Platform, reference: str) -> PlatformInfo:
        """Keep a platform and its device, measured against the network ``reference``; one that is there stays."""
        now = self._clock()
        row = {
            "id": platform.id,
            "device": platform.device.name,
            "platform": to_json(platform),
            "reference": reference,
            "last_token": 0,
            "created_at": now,
        }
        with self._database.writing() as connection:
            add_device(self._database, connection, platform.device, now)
            self._database.insert_new(connection, platforms, [row])
            return _info(connection, find_platform(connection, platform.id))

    def get(self, platform_id: str) -> PlatformInfo:
        """Return what is known of a platform; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return _info(connection, find_platform(connection, platform_id))

    def platform(self, platform_id: str) -> Platform:
        """Return what a platform is, without what is known of it; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return from_json(Platform, find_platform(connection, platform_id).platform)

    def list(self) -> tuple[PlatformInfo, ...]:
        """Return what is known of every platform, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(platforms).order_by(platforms.c.created_at, platforms.c.id)).all()
            return tuple(_info(connection, row) for row in rows)


def find_platform(connection: Connection, platform_id: str) -> Row[Any]:
    """Return a platform's row; raise :class:`NotFound`."""
    row = connection.execute(select(platforms).where(platforms.c.id == platform_id)).first()
    if row is None:
        raise NotFound(
            f"there is no platform {platform_id[:200]!r}",
            field="platform_id",
            remedy="GET /v1/platforms lists them; POST /v1/platforms adds one",
        )
    return row


def lock_platform(connection: Connection, platform_id: str) -> None:
    """Keep everybody else who calls this out until the transaction ends; a device is locked before its platforms."""
    connection.execute(select(platforms.c.id).where(platforms.c.id == platform_id).with_for_update(key_share=True))


def reference_latency(connection: Connection, platform_id: str) -> ReferenceLatency | None:
    """Return the newest reference latency of a platform, ``None`` before its first accepted measurement."""
    row = connection.execute(
        select(reference_latencies)
        .where(reference_latencies.c.platform_id == platform_id)
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
    values = {
        "platform_id": platform_id,
        "version": 1 if current is None else current.version + 1,
        "reference": reference,
        "latency_ms": statistics.median(found),
        "measurements": count,
        "created_at": now,
    }
    key = connection.execute(insert(reference_latencies).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 - a table with a key that the database numbers
    return ReferenceLatency(key[0], values["version"], values["latency_ms"], count)


def _info(connection: Connection, row: Row[Any]) -> PlatformInfo:
    pooled = reference_latency(connection, row.id)
    ratios = ratios_by_network(connection, row.id, row.reference)
    return PlatformInfo(
        id=row.id,
        platform=from_json(Platform, row.platform),
        reference=row.reference,
        reference_version=0 if pooled is None else pooled.version,
        reference_latency_ms=None if pooled is None else pooled.latency_ms,
        networks_measured=len(ratios),
        measurements=sum(map(len, ratios.values())),
        repeatability=repeatability(list(ratios.values())),
        last_heartbeat=None if row.last_heartbeat is None else utc(row.last_heartbeat),
    )
