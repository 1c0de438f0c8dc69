"""What a request for latencies asks of the database, in one statement: it is asked thousands of times a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final, final

from sqlalchemy import ColumnElement, Select, and_, bindparam, select

from leti.core.measurement import Truth
from leti.service.database import Database, chunks
from leti.service.prepared import Prepared
from leti.service.store.platforms import find_platform
from leti.service.store.truths import POOLED
from leti.service.tables import platforms, predictors, reference_latencies, truths

_ACTIVE: Final = (
    select(predictors.c.id)
    .where(predictors.c.platform_id == platforms.c.id, predictors.c.active)
    .correlate(platforms)
    .scalar_subquery()
)


def _looking_for(fingerprints: ColumnElement[bool]) -> Select[Any]:
    """Return the statement that looks for networks: a row for each that was measured, at least one for the platform."""
    found = and_(truths.c.platform_id == platforms.c.id, truths.c.reference == platforms.c.reference, fingerprints)
    return (
        select(
            truths.c.fingerprint,
            truths.c.ratio,
            truths.c.count,
            truths.c.spread,
            reference_latencies.c.latency_ms,
            _ACTIVE.label("predictor_id"),
        )
        .select_from(platforms)
        .outerjoin(reference_latencies, POOLED)
        .outerjoin(truths, found)
        .where(platforms.c.id == bindparam("platform_id"))
    )


def _few(count: int) -> Select[Any]:
    return _looking_for(truths.c.fingerprint.in_([bindparam(f"fingerprint_{i}") for i in range(count)]))


FEW: Final = (1, 8, 64)
"""Numbers of networks that there is a prepared statement for; for fewer, the last is looked for several times."""

_MANY: Final = _looking_for(truths.c.fingerprint.in_(bindparam("fingerprints", expanding=True)))
"""Made once: to put it together takes longer than to run it."""


@final
@dataclass(frozen=True, slots=True)
class Lookup:
    """What is known of networks on a platform: truths, the reference latency in ms, and the predictor that serves."""

    truths: dict[str, Truth]
    reference_ms: float
    predictor_id: int | None

    def of(self, fingerprints: Sequence[str]) -> Lookup:
        """Return what is known of some of the networks that were looked up."""
        known = {name: self.truths[name] for name in fingerprints if name in self.truths}
        return Lookup(known, self.reference_ms, self.predictor_id)


@final
class LookupStore:
    """Looks networks up on a platform."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._few = {count: Prepared(database, _few(count)) for count in FEW}

    def find(self, platform_id: str, fingerprints: Sequence[str]) -> Lookup:
        """Return what is known of those networks that were measured, and who predicts the others.

        Raises :class:`NotFound` for the platform.
        """
        rows = self._rows(platform_id, fingerprints)
        if not rows:
            with self._database.reading() as connection:
                find_platform(connection, platform_id)
            return Lookup({}, 0.0, None)
        reference_ms, predictor_id = rows[0][4:]
        known = {row[0]: Truth(*row[1:4]) for row in rows if row[0] is not None}
        return Lookup({} if reference_ms is None else known, reference_ms or 0.0, predictor_id)

    def _rows(self, platform_id: str, fingerprints: Sequence[str]) -> Sequence[Any]:
        for count, prepared in self._few.items():
            if 0 < len(fingerprints) <= count:
                padded = [*fingerprints, *repeat(fingerprints[-1], count - len(fingerprints))]
                sought = {f"fingerprint_{i}": fingerprint for i, fingerprint in enumerate(padded)}
                return prepared(platform_id=platform_id, **sought)
        found: list[Any] = []
        with self._database.reading() as connection:
            for part in chunks(fingerprints):
                found += connection.execute(_MANY, {"platform_id": platform_id, "fingerprints": part})
        return found
