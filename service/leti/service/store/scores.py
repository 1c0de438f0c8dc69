"""Scores: predictions that were kept beside what was measured later, and the reference network over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, Select, and_, func, select, union_all

from leti.service.database import Database
from leti.service.store.platforms import find_platform, reference_latency
from leti.service.store.truths import accepted
from leti.service.tables import measurements, networks, predictions, truths

EXAMINED: Final = 10_000
"""Newest measured networks of a platform among which those are sought that were predicted before."""

AT_ONCE: Final = 2_000
"""Networks whose predictions are looked up by one query."""

DAY_S: Final = 86_400.0

BLOCKS: Final = 20
BLOCK: Final = 50
"""Of the measurements of a platform's reference, so many blocks of so many are read, evenly spaced."""


@final
@dataclass(frozen=True, slots=True)
class Scored:
    """A kept prediction and the truth that came after it; latencies in ms, times in seconds since the epoch."""

    fingerprint: str
    coverage: float
    latency_ms: float
    low_ms: float
    high_ms: float
    measured_ms: float
    predicted_at: float
    measured_at: float


@final
@dataclass(frozen=True, slots=True)
class MeasuredSpec:
    """A measured network by its spec."""

    spec: dict[str, Any]
    latency_ms: float


@final
@dataclass(frozen=True, slots=True)
class ReferenceTimes:
    """The pooled reference latency in its newest version, and what single measurements found, ``(at, ms)`` each."""

    version: int
    pooled_ms: float | None
    found: tuple[tuple[float, float], ...]


@final
class ScoreStore:
    """Reads predictions beside truths; nothing is written here."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def scored(self, platform_id: str, predictor_id: int, *, days: float, last: int) -> tuple[tuple[Scored, ...], int]:
        """Return a predictor's kept predictions whose networks were measured later, the newest measured first.

        Of the :data:`EXAMINED` networks of the platform that were measured last, in the last ``days``, so many are
        looked at that ``last`` of them were predicted, or a few more; the second value says how many were looked at. A
        network has a row for each coverage that it was asked with. Raises :class:`NotFound` for the platform.
        """
        since = self._clock() - days * DAY_S
        kept = predictions.c
        found: dict[str, list[Scored]] = {}
        examined = 0
        with self._database.reading() as connection:
            newest = _newest(connection, platform_id, since)
            pooled = reference_latency(connection, platform_id)
            count = connection.execute(select(func.count()).select_from(newest.subquery())).scalar_one()
            reference_ms = 0.0 if pooled is None else pooled.latency_ms
            for first in range(0, count if reference_ms else 0, AT_ONCE):
                examined = min(first + AT_ONCE, count)
                part = newest.limit(examined - first).offset(first).subquery()
                before = and_(kept.fingerprint == part.c.fingerprint, kept.created_at <= part.c.updated_at)
                query = select(predictions, part.c.ratio, part.c.updated_at).join(part, before)
                query = query.where(kept.predictor_id == predictor_id).order_by(kept.fingerprint, kept.coverage)
                of_part: dict[str, list[Scored]] = {}
                for row in connection.execute(query).all():
                    of_part.setdefault(row.fingerprint, []).append(_scored(row, reference_ms))
                found |= (
                    of_part  # a network at the seam, measured at the same moment as others, counts once all the same
                )
                if len(found) >= last:
                    break
        rows = [row for of_network in found.values() for row in of_network]
        return tuple(sorted(rows, key=lambda row: -row.measured_at)), examined

    def measured(self, platform_id: str, space: str, zero: str, *, limit: int) -> tuple[MeasuredSpec, ...]:
        """Return networks of a space that are measured on a platform, without degenerate ones, the newest first.

        They are sought among the :data:`EXAMINED` networks of the platform that were measured last.
        """
        with self._database.reading() as connection:
            newest = _newest(connection, platform_id, 0.0).subquery()
            pooled = reference_latency(connection, platform_id)
            query: Select[Any] = (
                select(networks.c.spec, newest.c.ratio)
                .select_from(newest)
                .join(networks, networks.c.fingerprint == newest.c.fingerprint)
                .where(networks.c.space == space, networks.c.zero == zero, ~networks.c.degenerate)
                .order_by(newest.c.updated_at.desc(), newest.c.fingerprint)
                .limit(limit)
            )
            rows = connection.execute(query).all() if pooled is not None else []
        reference_ms = 0.0 if pooled is None else pooled.latency_ms
        return tuple(MeasuredSpec(row.spec, row.ratio * reference_ms) for row in rows)

    def reference_times(self, platform_id: str) -> ReferenceTimes:
        """Return what accepted measurements found for the reference of a platform, the oldest first.

        Of many measurements, :data:`BLOCKS` blocks of :data:`BLOCK` are read, evenly spaced by number, and the newest
        ones. Raises :class:`NotFound` for the platform.
        """
        columns = measurements.c
        with self._database.reading() as connection:
            platform = find_platform(connection, platform_id)
            pooled = reference_latency(connection, platform_id)
            here = columns.platform_id == platform_id
            first, last = connection.execute(select(func.min(columns.id), func.max(columns.id)).where(here)).one()
            query = select(columns.id, columns.created_at, columns.reference_ms).limit(BLOCK)
            query = query.where(accepted(platform_id, platform.reference))
            found: dict[int, tuple[float, float]] = {}
            if first is not None:
                step = max((last - first + 1) / BLOCKS, 1.0)
                starts = sorted({first + int(step * block) for block in range(BLOCKS)})
                blocks = [query.where(columns.id >= start).order_by(columns.id) for start in starts]
                blocks.append(query.order_by(columns.id.desc()))
                every = union_all(*(block.subquery().select() for block in blocks))
                found = {row.id: (row.created_at, row.reference_ms) for row in connection.execute(every).all()}
        version, pooled_ms = (0, None) if pooled is None else (pooled.version, pooled.latency_ms)
        return ReferenceTimes(version, pooled_ms, tuple(found[number] for number in sorted(found)))


def _newest(connection: Connection, platform_id: str, since: float) -> Select[Any]:
    """Return the query of the networks of a platform that were measured last."""
    platform = find_platform(connection, platform_id)
    column = truths.c
    return (
        select(column.fingerprint, column.ratio, column.updated_at)
        .where(column.platform_id == platform_id, column.reference == platform.reference, column.updated_at >= since)
        .order_by(column.updated_at.desc())
        .limit(EXAMINED)
    )


def _scored(kept: Row[Any], reference_ms: float) -> Scored:
    return Scored(
        kept.fingerprint,
        kept.coverage,
        kept.latency_ms,
        kept.low_ms,
        kept.high_ms,
        kept.ratio * reference_ms,
        kept.created_at,
        kept.updated_at,
    )
