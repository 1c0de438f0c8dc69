"""Truths as columns: what is known of all networks of a platform at once, for figures over tens of thousands.

Latencies are in ms, the truth's ratio times the platform's newest pooled reference latency; a platform without one has
no networks here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Select, and_, func, not_, select

from leti.service.database import Database
from leti.service.store.platforms import find_platform, reference_latency
from leti.service.store.truths import Counting, find_totals, ratios_by_network
from leti.service.tables import accuracies, measurements, networks, reference_latencies, truths

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Texts = NDArray[np.object_]

NEWEST: Final = 200_000
"""Measurements of a platform that are looked at over time: the newest ones."""

KEPT: Final = 4
"""Platforms whose columns are kept, those asked for last: some 10 MB each of 50,000 networks."""


@final
@dataclass(frozen=True, slots=True)
class TruthColumns:
    """Networks that are measured on a platform, by fingerprint; each column has the shape ``(networks,)``."""

    fingerprint: Texts
    space: Texts
    latency_ms: Floats
    macs: Integers
    params: Integers
    peak_memory_bytes: Integers
    count: Integers
    spread: Floats


@final
@dataclass(frozen=True, slots=True)
class AccuracyColumns:
    """Networks that are measured on a platform and have an accuracy on a task; columns ``(networks,)``."""

    fingerprint: Texts
    space: Texts
    latency_ms: Floats
    accuracy: Floats


@final
@dataclass(frozen=True, slots=True)
class RunColumns:
    """Networks that were measured more than once: the first two accepted measurements; columns ``(networks,)``."""

    fingerprint: Texts
    first_ms: Floats
    second_ms: Floats


@final
@dataclass(frozen=True, slots=True)
class CommonColumns:
    """Networks that are measured on two platforms; columns ``(networks,)``."""

    fingerprint: Texts
    space: Texts
    here_ms: Floats
    there_ms: Floats


@final
@dataclass(frozen=True, slots=True)
class PooledVersion:
    """A version of a platform's pooled reference latency, and when it was pooled, in seconds since the epoch."""

    version: int
    latency_ms: float
    at: float


@final
@dataclass(frozen=True, slots=True)
class TimeColumns:
    """A platform's newest measurements against its reference, as they came; columns ``(measurements,)``.

    ``at`` is in seconds since the epoch, ``reference_ms`` what the measurement found for the reference. ``versions``
    are those of the pooled reference latency, the oldest first.
    """

    at: Floats
    reference_ms: Floats
    noisy: NDArray[np.bool_]
    late: NDArray[np.bool_]
    versions: tuple[PooledVersion, ...]


@final
class TruthColumnStore:
    """Reads columns; each method raises :class:`NotFound` for the platform."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, tuple[object, TruthColumns]] = {}
        self._turns = threading.Lock()

    def all(self, platform_id: str) -> TruthColumns:
        """Return every network that is measured on a platform, with its costs.

        They are kept until a measurement or a new reference latency changes them: several figures of a page ask for
        them at the same time, and the first one reads for all.
        """
        with self._turns, self._database.reading() as connection:
            platform = Counting(platform_id, find_platform(connection, platform_id).reference)
            pooled = reference_latency(connection, platform_id)
            state = platform, pooled, find_totals(connection, platform)
            kept = self._kept.pop(platform_id, None)
            found = kept[1] if kept is not None and kept[0] == state else _read_all(connection, platform_id)
            self._kept[platform_id] = state, found
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return found

    def common(self, platform_id: str, other_id: str) -> CommonColumns:
        """Return the networks that are measured on both of two platforms."""
        here, there = self.all(platform_id), self.all(other_id)
        rows = {fingerprint: row for row, fingerprint in enumerate(there.fingerprint)}
        pairs = [(row, rows[one]) for row, one in enumerate(here.fingerprint) if one in rows]
        first, second = np.array(pairs, np.int64).reshape(-1, 2).T
        return CommonColumns(
            here.fingerprint[first], here.space[first], here.latency_ms[first], there.latency_ms[second]
        )

    def accuracies(self, platform_id: str, task: str) -> AccuracyColumns:
        """Return the networks that are measured on a platform and have an accuracy on a task."""
        of_task = and_(accuracies.c.fingerprint == truths.c.fingerprint, accuracies.c.task == task)
        query = (
            select(truths.c.fingerprint, networks.c.space, truths.c.ratio, accuracies.c.accuracy)
            .join(accuracies, of_task)
            .join(networks, networks.c.fingerprint == truths.c.fingerprint)
        )
        with self._database.reading() as connection:
            rows, reference_ms = _of_platform(connection, platform_id, query)
        fingerprint, space, ratio, accuracy = _columns(rows, 4)
        return AccuracyColumns(_texts(fingerprint), _texts(space), _floats(ratio) * reference_ms, _floats(accuracy))

    def runs(self, platform_id: str) -> RunColumns:
        """Return the first two accepted measurements of each network that has as many."""
        with self._database.reading() as connection:
            reference = find_platform(connection, platform_id).reference
            pooled = reference_latency(connection, platform_id)
            found = {} if pooled is None else ratios_by_network(connection, platform_id, reference)
        reference_ms = 0.0 if pooled is None else pooled.latency_ms
        rows = [(fingerprint, *ratios[:2]) for fingerprint, ratios in found.items() if len(ratios) > 1]
        fingerprint, first, second = _columns(rows, 3)
        return RunColumns(_texts(fingerprint), _floats(first) * reference_ms, _floats(second) * reference_ms)

    def shared(self, platform_id: str, other_id: str) -> int:
        """Return how many networks are measured on both of two platforms."""
        other = truths.alias()
        with self._database.reading() as connection:
            ids = (platform_id, other_id)
            first, second = (find_platform(connection, one).reference for one in ids)
            both = and_(other.c.platform_id == other_id, other.c.reference == second)
            query = (
                select(func.count())
                .select_from(truths)
                .join(other, and_(both, other.c.fingerprint == truths.c.fingerprint))
                .where(truths.c.platform_id == platform_id, truths.c.reference == first)
            )
            return connection.execute(query).scalar_one()

    def times(self, platform_id: str) -> TimeColumns:
        """Return when the newest measurements of a platform came, and what each found for the reference."""
        found, pooled = measurements.c, reference_latencies.c
        with self._database.reading() as connection:
            reference = find_platform(connection, platform_id).reference
            query = select(found.created_at, found.reference_ms, found.noisy, found.late)
            query = query.where(found.platform_id == platform_id, found.reference == reference)
            rows = connection.execute(query.order_by(found.id.desc()).limit(NEWEST)).all()
            versions = connection.execute(
                select(pooled.version, pooled.latency_ms, pooled.created_at)
                .where(pooled.platform_id == platform_id, pooled.reference == reference, not_(pooled.imported))
                .order_by(pooled.version)
            ).all()
        at, reference_ms, noisy, late = _columns(rows[::-1], 4)
        return TimeColumns(
            _floats(at),
            _floats(reference_ms),
            np.array(noisy, np.bool_),
            np.array(late, np.bool_),
            tuple(PooledVersion(*row) for row in versions),
        )


def _read_all(connection: Connection, platform_id: str) -> TruthColumns:
    known, of = truths.c, networks.c
    query = select(
        known.fingerprint,
        of.space,
        known.ratio,
        *(of.macs, of.params, of.peak_memory_bytes),
        *(known.count, known.spread),
    ).join(networks, of.fingerprint == known.fingerprint)
    rows, reference_ms = _of_platform(connection, platform_id, query)
    fingerprint, space, ratio, macs, params, memory, count, spread = _columns(rows, 8)
    return TruthColumns(
        _texts(fingerprint),
        _texts(space),
        _floats(ratio) * reference_ms,
        _integers(macs),
        _integers(params),
        _integers(memory),
        _integers(count),
        _floats(spread),
    )


def _of_platform(connection: Connection, platform_id: str, query: Select[Any]) -> tuple[Sequence[Row[Any]], float]:
    """Return what a query of truths finds for a platform, in the order of fingerprints, and its reference latency."""
    reference = find_platform(connection, platform_id).reference
    pooled = reference_latency(connection, platform_id)
    if pooled is None:
        return (), 0.0
    query = query.where(truths.c.platform_id == platform_id, truths.c.reference == reference)
    return connection.execute(query.order_by(truths.c.fingerprint)).all(), pooled.latency_ms


def _columns(rows: Sequence[Any], count: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * count


def _texts(values: Sequence[str]) -> Texts:
    return np.array(values, np.object_)


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)


def _integers(values: Sequence[int]) -> Integers:
    return np.array(values, np.int64)
