"""Which measurements count, and what they say: of each network, and of a platform in sum.

Truths and totals are kept in the transaction that keeps a measurement; counting everything anew gives the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, not_, select

from leti.core.codec import from_json, to_json
from leti.core.measurement import Agreement, agreement_gained, truth
from leti.service.bulk import among
from leti.service.database import Database
from leti.service.tables import measurements, platform_totals, platforms, reference_latencies, truths


@final
@dataclass(frozen=True, slots=True)
class Counted:
    """A measurement that was just kept on time: its id, its network, and its ratio where it is accepted."""

    id: int
    fingerprint: str
    ratio: float | None


@final
@dataclass(frozen=True, slots=True)
class Totals:
    """A platform's sums: measurements on time (noisy ones too), networks measured, accepted measurements, agreement."""

    on_time: int = 0
    networks: int = 0
    measurements: int = 0
    agreement: Agreement = Agreement()


def accepted(platform_id: str | ColumnElement[str], reference: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition of a measurement that counts: on time, calm, and against the platform's reference."""
    return and_(
        measurements.c.platform_id == platform_id,
        measurements.c.reference == reference,
        not_(measurements.c.noisy),
        not_(measurements.c.late),
    )


@final
@dataclass(frozen=True, slots=True)
class Counting:
    """A platform whose measurements are counted: its id, and the reference that they are held against."""

    id: str
    reference: str


_RATIOS: Final = select(measurements.c.fingerprint, measurements.c.ratio)
_RATIOS_OF: Final = (
    _RATIOS.where(accepted(bindparam("platform_id"), bindparam("reference")))
    .where(among(measurements.c.fingerprint, "fingerprints"))
    # in the order of the index, lest SQLite read all measurements of the platform to have them in theirs
    .order_by(measurements.c.fingerprint, measurements.c.id)
)


def ratios_by_network(
    connection: Connection, platform_id: str, reference: str, fingerprints: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Return the ratios of accepted measurements in the order they came, by fingerprint; of all networks, or some."""
    if fingerprints is None:
        rows = connection.execute(_RATIOS.where(accepted(platform_id, reference)).order_by(measurements.c.id))
    else:
        wanted = {"platform_id": platform_id, "reference": reference, "fingerprints": fingerprints}
        rows = connection.execute(_RATIOS_OF, wanted)
    found: dict[str, list[float]] = {}
    for fingerprint, ratio in rows.all():
        found.setdefault(fingerprint, []).append(ratio)
    return found


_CURRENT: Final = (
    select(func.max(reference_latencies.c.version))
    .where(reference_latencies.c.platform_id == platforms.c.id, not_(reference_latencies.c.imported))
    .correlate(platforms)
    .scalar_subquery()
)
POOLED: Final = and_(reference_latencies.c.platform_id == platforms.c.id, reference_latencies.c.version == _CURRENT)
"""The condition of a platform's newest reference latency, where the two tables are joined."""

_SUMS: Final = (
    select(platform_totals, _CURRENT.label("version"))
    .select_from(platforms)
    .outerjoin(
        platform_totals,
        and_(
            platform_totals.c.platform_id == platforms.c.id,
            platform_totals.c.reference == bindparam("reference"),
        ),
    )
    .where(platforms.c.id == bindparam("wanted"))
)


def count_in(
    database: Database,
    connection: Connection,
    platform: Counting,
    before: dict[str, list[float]],
    new: Iterable[Counted],
    now: float,
) -> bool:
    """Take measurements that were just kept into their networks' truths, and into the platform's totals.

    ``before`` are the accepted ratios of these networks without the new ones, in the order they came. Return whether
    the platform has a reference latency of its own.
    """
    pooled, totals = _pooled_and_totals(connection, platform)
    on_time, networks, agreement = totals.on_time, totals.networks, totals.agreement
    gained: dict[str, list[float]] = {}
    newest: dict[str, int] = {}
    for one in new:
        on_time += 1
        if one.ratio is not None:
            gained.setdefault(one.fingerprint, []).append(one.ratio)
            newest[one.fingerprint] = one.id
    rows = []
    for fingerprint, ratios in gained.items():
        known = before.get(fingerprint, [])
        networks += not known
        agreement += agreement_gained(known, ratios)
        said = truth([*known, *ratios])
        key = {"platform_id": platform.id, "reference": platform.reference, "fingerprint": fingerprint}
        found = {"ratio": said.ratio, "count": said.count, "spread": said.spread}
        rows.append(key | found | {"newest": newest[fingerprint], "updated_at": now})
    database.upsert(connection, truths, rows)
    accepted_count = totals.measurements + sum(map(len, gained.values()))
    row = {
        "platform_id": platform.id,
        "reference": platform.reference,
        "on_time": on_time,
        "networks": networks,
        "measurements": accepted_count,
        "agreement": to_json(agreement),
    }
    database.upsert(connection, platform_totals, [row])
    return pooled


def find_totals(connection: Connection, platform: Counting) -> Totals:
    """Return a platform's sums, all 0 before its first measurement."""
    return _pooled_and_totals(connection, platform)[1]


def _pooled_and_totals(connection: Connection, platform: Counting) -> tuple[bool, Totals]:
    """Return whether a platform has a reference latency of its own, and its sums."""
    row = connection.execute(_SUMS, {"wanted": platform.id, "reference": platform.reference}).one()
    return row.version is not None, Totals() if row.on_time is None else read_totals(row)


def read_totals(row: Row[Any]) -> Totals:
    """Return the sums that a row of their table holds."""
    return Totals(row.on_time, row.networks, row.measurements, from_json(Agreement, row.agreement))
