"""What a request for latencies asks of the database, in one statement: it is asked thousands of times a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import ARRAY, ColumnElement, Select, String, and_, any_, bindparam, func, select

from leti.core.measurement import Truth
from leti.service.database import Database
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


_ONE: Final = _looking_for(truths.c.fingerprint == bindparam("fingerprint"))


def _many(database: Database) -> tuple[Select[Any], Callable[[Sequence[str]], Any]]:
    """Return the statement that looks for any number of networks, which are one parameter, and how that is written."""
    if database.is_sqlite:
        given = func.json_each(bindparam("fingerprints", type_=String)).table_valued("value")
        return _looking_for(truths.c.fingerprint.in_(select(given.c.value))), json.dumps
    given_array = bindparam("fingerprints", type_=ARRAY(String))
    return _looking_for(truths.c.fingerprint == any_(given_array)), list


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
        self._one = Prepared(database, _ONE)
        statement, self._written = _many(database)
        self._many = Prepared(database, statement)

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
        if len(fingerprints) == 1:
            return self._one(platform_id=platform_id, fingerprint=fingerprints[0])
        return self._many(platform_id=platform_id, fingerprints=self._written(fingerprints))
