"""Holdouts: what was predicted of the networks that no training saw, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

from sqlalchemy import Column, Connection, select

from leti.core.wire import NetworkSource
from leti.service.database import Database
from leti.service.tables import dataset_items, holdout_points, networks

REMEMBERED: Final = 4
"""Datasets whose holdouts are kept in memory: they never change, and a page compares all predictors on them."""


@final
@dataclass(frozen=True, slots=True)
class HoldoutColumns:
    """The holdout of one predictor, the fastest network first; columns of one length, latencies in ms."""

    fingerprint: Sequence[str]
    space: Sequence[str]
    measured_ms: Sequence[float]
    latency_ms: Sequence[float]
    low_ms: Sequence[float]
    high_ms: Sequence[float]
    source: Sequence[NetworkSource]

    def rows(self) -> Iterator[tuple[str, str, float, float, float, float]]:
        """Return the columns network by network, sources left out."""
        columns = (self.fingerprint, self.space, self.measured_ms, self.latency_ms, self.low_ms, self.high_ms)
        return zip(*columns, strict=True)


@final
@dataclass(frozen=True, slots=True)
class SharedHoldout:
    """The networks that a dataset holds out, in one order: each one's class, and what predictors made of them.

    ``measured_ms`` and each column of ``latency_ms``, by the predictor's id, have as many entries as ``group``.
    """

    group: Sequence[str]
    measured_ms: Sequence[float]
    latency_ms: Mapping[int, Sequence[float]]


@final
class HoldoutStore:
    """Reads holdouts; they are written with their predictors, and never change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered = lru_cache(REMEMBERED)(self._shared)

    def columns(self, predictor_id: int) -> HoldoutColumns:
        """Return every network of a predictor's holdout; no network where there is no such predictor."""
        with self._database.reading() as connection:
            return read_columns(connection, predictor_id)

    def shared(self, dataset_id: int, predictor_ids: Sequence[int]) -> SharedHoldout:
        """Return what at least one predictor of a dataset made of the networks that it holds out."""
        return self._remembered(dataset_id, tuple(predictor_ids))

    def _shared(self, dataset_id: int, predictor_ids: tuple[int, ...]) -> SharedHoldout:
        item, point = dataset_items.c, holdout_points.c
        held_out = select(item.group).where(item.dataset_id == dataset_id, item.part == "test")
        with self._database.reading() as connection:

            def column(of: Column[float], key: int) -> Sequence[float]:
                query = select(of).where(point.predictor_id == key).order_by(point.fingerprint)
                return connection.execute(query).scalars().all()

            return SharedHoldout(
                connection.execute(held_out.order_by(item.fingerprint)).scalars().all(),
                column(point.measured_ms, predictor_ids[0]),
                {key: column(point.latency_ms, key) for key in predictor_ids},
            )


def read_columns(connection: Connection, predictor_id: int) -> HoldoutColumns:
    """Return the columns of a predictor's holdout."""
    point = holdout_points.c
    query = (
        select(
            point.fingerprint,
            networks.c.space,
            point.measured_ms,
            point.latency_ms,
            point.low_ms,
            point.high_ms,
            networks.c.source,
        )
        .join(networks, networks.c.fingerprint == point.fingerprint)
        .where(point.predictor_id == predictor_id)
        .order_by(point.measured_ms, point.fingerprint)
    )
    columns = tuple(zip(*connection.execute(query).all(), strict=True))
    return HoldoutColumns(*columns) if columns else HoldoutColumns((), (), (), (), (), (), ())
