"""Which measurements count, and what they say of each network."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, not_, select

from leti.service.database import chunks
from leti.service.tables import measurements


def accepted(platform_id: str, reference: str) -> ColumnElement[bool]:
    """Return the condition of a measurement that counts: on time, calm, and against the platform's reference."""
    return and_(
        measurements.c.platform_id == platform_id,
        measurements.c.reference == reference,
        not_(measurements.c.noisy),
        not_(measurements.c.late),
    )


def ratios_by_network(
    connection: Connection, platform_id: str, reference: str, fingerprints: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Return the ratios of accepted measurements in the order they came, by fingerprint; of all networks, or some."""
    query = select(measurements.c.fingerprint, measurements.c.ratio).where(accepted(platform_id, reference))
    query = query.order_by(measurements.c.id)
    parts = [query]
    if fingerprints is not None:
        parts = [query.where(measurements.c.fingerprint.in_(part)) for part in chunks(fingerprints)]
    found: dict[str, list[float]] = {}
    for part in parts:
        for fingerprint, ratio in connection.execute(part):
            found.setdefault(fingerprint, []).append(ratio)
    return found
