"""Measurements: what was found, sample by sample, and what it says of each network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import Connection, Row, select

from leti.core.codec import from_json
from leti.core.errors import NotFound
from leti.core.farm import MeasurementPage, MeasurementRow
from leti.core.measurement import Measurement, OperatorTime
from leti.service.database import Database, chunks
from leti.service.store.networks import begins
from leti.service.store.paging import on_page
from leti.service.store.platforms import ReferenceLatency, find_platform, reference_latency
from leti.service.store.times import utc
from leti.service.tables import campaigns, measurements

_ROW = tuple(c for c in measurements.c if c.name != "measurement")


@final
@dataclass(frozen=True, slots=True)
class OfCampaign:
    """A measurement in short, and the campaign that asked for it."""

    row: MeasurementRow
    campaign_id: int
    campaign: str


@final
class MeasurementStore:
    """Reads measurements; the queue writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, measurement_id: int) -> Measurement:
        """Return a measurement with every sample; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(measurements.c.measurement).where(measurements.c.id == measurement_id)
            ).scalar()
        if found is None:
            raise NotFound(
                f"there is no measurement {measurement_id}",
                field="measurement_id",
                remedy="GET /v1/measurements lists them",
            )
        return from_json(Measurement, found)

    def page(
        self,
        *,
        platform_id: str | None,
        campaign_id: int | None,
        fingerprint: str | None,
        cursor: int,
        limit: int,
        newest_first: bool = False,
    ) -> MeasurementPage:
        """Return up to ``limit`` measurements after ``cursor``; raise :class:`NotFound` for the platform."""
        wanted = {"platform_id": platform_id, "campaign_id": campaign_id}
        query = on_page(select(*_ROW), measurements.c.id, cursor=cursor, limit=limit, newest_first=newest_first)
        for name, value in wanted.items():
            if value is not None:
                query = query.where(measurements.c[name] == value)
        if fingerprint is not None:
            query = query.where(begins(measurements.c.fingerprint, fingerprint))
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
            rows = connection.execute(query).all()
            pooled = {id: reference_latency(connection, id) for id in {row.platform_id for row in rows}}
        items = tuple(_row(row, pooled[row.platform_id]) for row in rows[:limit])
        return MeasurementPage(items, items[-1].id if len(rows) > limit else None)

    def of_network(self, fingerprint: str, most: int) -> tuple[OfCampaign, ...]:
        """Return the newest measurements of a network, noisy and late ones too, on all platforms."""
        query = select(*_ROW, campaigns.c.name).join(campaigns, campaigns.c.id == measurements.c.campaign_id)
        query = query.where(measurements.c.fingerprint == fingerprint).order_by(measurements.c.id.desc()).limit(most)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            pooled = {id: reference_latency(connection, id) for id in {row.platform_id for row in rows}}
        return tuple(OfCampaign(_row(row, pooled[row.platform_id]), row.campaign_id, row.name) for row in rows)

    def operator_times(self, platform_id: str, fingerprints: Sequence[str]) -> dict[str, tuple[OperatorTime, ...]]:
        """Return what a runtime's profile said of those networks that were profiled, of each the first that came."""
        with self._database.reading() as connection:
            return {
                fingerprint: times
                for part in chunks(fingerprints)
                for fingerprint, times in read_profiles(connection, platform_id, part).items()
            }


def read_profiles(
    connection: Connection, platform_id: str, fingerprints: Sequence[str]
) -> dict[str, tuple[OperatorTime, ...]]:
    """Return what a runtime's profile said of some networks, of each the first that came; no more than a chunk."""
    query = select(measurements.c.fingerprint, measurements.c.measurement).where(
        measurements.c.platform_id == platform_id,
        measurements.c.repeat == 0,
        measurements.c.fingerprint.in_(fingerprints),
    )
    found: dict[str, tuple[OperatorTime, ...]] = {}
    for fingerprint, measurement in connection.execute(query.order_by(measurements.c.id)):
        times = measurement.get("operator_times")
        if times and fingerprint not in found:
            found[fingerprint] = from_json(tuple[OperatorTime, ...], times)
    return found


def _row(row: Row[*tuple[Any, ...]], pooled: ReferenceLatency | None) -> MeasurementRow:
    reference_ms = row.reference_ms if pooled is None else pooled.latency_ms
    return MeasurementRow(
        id=row.id,
        fingerprint=row.fingerprint,
        platform_id=row.platform_id,
        job_id=row.job_id,
        repeat=row.repeat,
        ratio=row.ratio,
        latency_ms=row.ratio * reference_ms,
        median_ms=row.median_ms,
        min_ms=row.min_ms,
        noisy=row.noisy,
        late=row.late,
        created_at=utc(row.created_at),
        lease_id=row.lease_id,
    )
