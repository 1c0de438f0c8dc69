"""Predictors: how they did, which one serves and which did before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, func, insert, not_, select, update

from leti.core.codec import from_json, to_json
from leti.core.errors import Conflict, InvalidInput, NotFound
from leti.core.prediction import Metrics
from leti.core.training import (
    HoldoutPoint,
    PredictorInfo,
    PredictorPage,
    Promotion,
    PromotionPage,
    PromotionReason,
    TrainingReport,
)
from leti.service.database import Database
from leti.service.store.datasets import Dataset
from leti.service.store.holdouts import read_columns
from leti.service.store.holds import Hold, end_well
from leti.service.store.paging import on_page
from leti.service.store.platforms import find_platform, lock_platform
from leti.service.store.times import utc
from leti.service.tables import holdout_points, predictors, promotions

RETIRED_AT_ONCE: Final = 200
"""Predictors that one transaction retires."""


@final
@dataclass(frozen=True, slots=True)
class NewPredictor:
    """A trained predictor, saved under its SHA-256, and how it did."""

    kind: str
    artifact_sha256: str
    metrics: Metrics
    cross_validation_mdape: float
    holdout: tuple[HoldoutPoint, ...]


@final
@dataclass(frozen=True, slots=True)
class Serving:
    """Which kind of a training's predictors is to serve, why, and who said so."""

    kind: str
    reason: PromotionReason
    by: str = ""
    remark: str = ""


@final
@dataclass(frozen=True, slots=True)
class Ending:
    """A task that ends with what it made: the worker's hold, and the report that the predictors make."""

    hold: Hold
    report: Callable[[tuple[PredictorInfo, ...]], TrainingReport]


@final
class PredictorStore:
    """Keeps predictors. One predictor a platform is active."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self, dataset: Dataset, new: Sequence[NewPredictor], serving: Serving | None, ending: Ending | None = None
    ) -> tuple[PredictorInfo, ...]:
        """Keep predictors of one training; the one that is ``serving``, where given, serves from now on.

        ``ending`` ends the task that trained them, in the same transaction: a worker that has lost its task leaves no
        predictor behind, and raises :class:`LeaseLost`.
        """
        now = self._clock()
        with self._database.writing() as connection:
            lock_platform(connection, dataset.platform_id)
            keys = {item.kind: _add(connection, dataset, item, now=now) for item in new}
            if serving is not None:
                _promote(connection, dataset.platform_id, keys[serving.kind], serving, now)
            rows = {
                row.id: row for row in connection.execute(select(predictors).where(predictors.c.id.in_(keys.values())))
            }
            infos = tuple(_info(rows[key]) for key in keys.values())
            if ending is not None:
                end_well(connection, ending.hold, ending.report(infos), now)
        return infos

    def list(self, platform_id: str | None) -> tuple[PredictorInfo, ...]:
        """Return the predictors of a platform, or of all, the oldest first, without those that were retired.

        Raises :class:`NotFound` for the platform.
        """
        query = select(predictors).where(predictors.c.retired_at.is_(None)).order_by(predictors.c.id)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
                query = query.where(predictors.c.platform_id == platform_id)
            return tuple(_info(row) for row in connection.execute(query))

    def page(
        self,
        *,
        platform_id: str | None,
        kind: str | None = None,
        cursor: int,
        limit: int,
        newest_first: bool = False,
    ) -> PredictorPage:
        """Return up to ``limit`` predictors after ``cursor``; raise :class:`NotFound` for the platform."""
        query = on_page(select(predictors), predictors.c.id, cursor=cursor, limit=limit, newest_first=newest_first)
        if kind is not None:
            query = query.where(predictors.c.kind == kind)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
                query = query.where(predictors.c.platform_id == platform_id)
            items = tuple(_info(row) for row in connection.execute(query))
        return PredictorPage(items[:limit], items[limit - 1].id if len(items) > limit else None)

    def get(self, predictor_id: int) -> PredictorInfo:
        """Return a predictor; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return _info(_find(connection, predictor_id))

    def actives(self) -> dict[str, PredictorInfo]:
        """Return the predictors that serve, by platform."""
        with self._database.reading() as connection:
            rows = connection.execute(select(predictors).where(predictors.c.active)).all()
        return {row.platform_id: _info(row) for row in rows}

    def active(self, platform_id: str) -> PredictorInfo | None:
        """Return the predictor that serves a platform, ``None`` where none does."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(predictors).where(predictors.c.platform_id == platform_id, predictors.c.active)
            ).first()
        return None if row is None else _info(row)

    def promote(self, predictor_id: int, *, by: str) -> PredictorInfo:
        """Make a predictor the one that serves its platform; one that serves already stays.

        Raises :class:`NotFound`, and :class:`Conflict` for one that was retired.
        """
        now = self._clock()
        with self._database.writing() as connection:
            platform_id = _find(connection, predictor_id).platform_id
            lock_platform(connection, platform_id)
            if not _find(connection, predictor_id).active:
                _promote(connection, platform_id, predictor_id, Serving("", "promoted", by), now)
            return _info(_find(connection, predictor_id))

    def roll_back(self, platform_id: str, *, by: str) -> PredictorInfo:
        """Make the predictor serve a platform that served before the one that does; return it.

        Rolling back again goes one further back. Raises :class:`NotFound` for the platform, :class:`Conflict` where
        none served before, or that one was retired.
        """
        now = self._clock()
        with self._database.writing() as connection:
            find_platform(connection, platform_id)
            lock_platform(connection, platform_id)
            before = _served_before(connection, platform_id)
            if before is None:
                raise Conflict(
                    f"no predictor served {platform_id} before the one that does",
                    field="platform_id",
                    remedy="promote one by its id: POST /v1/predictors/{predictor_id}/promote",
                )
            _promote(connection, platform_id, before, Serving("", "rolled-back", by), now)
            return _info(_find(connection, before))

    def retire(self, platform_id: str, *, keep: int) -> int:
        """Retire predictors of a platform, but the newest ``keep``, and the last ``keep`` that could be rolled back to.

        The one that serves is among those. Returns how many were retired; their files may go from now on.
        """
        now = self._clock()
        left = predictors.c.platform_id == platform_id, predictors.c.retired_at.is_(None)
        newest = select(predictors.c.id).where(*left).order_by(predictors.c.id.desc()).offset(keep)
        with self._database.writing() as connection:
            lock_platform(connection, platform_id)
            served = _served(connection, platform_id)[-keep - 1 :]
            over = connection.execute(newest.limit(RETIRED_AT_ONCE + len(served))).scalars().all()
            gone = [key for key in over if key not in served][:RETIRED_AT_ONCE]
            inactive = predictors.c.id.in_(gone), not_(predictors.c.active)
            return connection.execute(update(predictors).where(*inactive).values(retired_at=now)).rowcount

    def files_needed(self) -> frozenset[str]:
        """Return the SHA-256 of the files of every predictor that was not retired."""
        query = select(predictors.c.artifact_sha256).where(predictors.c.retired_at.is_(None))
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def promotions(
        self, platform_id: str, *, predictor_id: int | None = None, cursor: int, limit: int
    ) -> PromotionPage:
        """Return which predictors began to serve a platform, the newest first; raise :class:`NotFound`.

        Up to ``limit`` of them, those before ``cursor``, where 0 is now; with ``predictor_id`` those of one alone.
        """
        told = (
            select(promotions, predictors.c.kind, predictors.c.version)
            .join(predictors, predictors.c.id == promotions.c.predictor_id)
            .where(promotions.c.platform_id == platform_id)
        )
        query = on_page(told, promotions.c.id, cursor=cursor, limit=limit, newest_first=True)
        if predictor_id is not None:
            query = query.where(promotions.c.predictor_id == predictor_id)
        with self._database.reading() as connection:
            find_platform(connection, platform_id)
            items = tuple(map(_promotion, connection.execute(query)))
        return PromotionPage(items[:limit], items[limit - 1].id if len(items) > limit else None)

    def holdout(self, predictor_id: int) -> tuple[HoldoutPoint, ...]:
        """Return every network of a predictor's holdout, measured and predicted; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            _find(connection, predictor_id)
            columns = read_columns(connection, predictor_id)
        return tuple([HoldoutPoint(*row) for row in columns.rows()])

    def holdout_latencies(self, predictor_id: int) -> Sequence[tuple[float, float]]:
        """Return what was measured and what was predicted of each network of a predictor's holdout, in ms."""
        point = holdout_points.c
        query = select(point.measured_ms, point.latency_ms).where(point.predictor_id == predictor_id)
        with self._database.reading() as connection:
            return [(measured_ms, latency_ms) for measured_ms, latency_ms in connection.execute(query).all()]


def check_platform(info: PredictorInfo, platform_id: str) -> None:
    """Raise :class:`InvalidInput` for a predictor of another platform, :class:`Conflict` for one that was retired."""
    if info.platform_id != platform_id:
        raise InvalidInput(
            f"predictor {info.id} is for {info.platform_id}",
            field="predictor_id",
            remedy="name one of GET /v1/predictors?platform_id=…, or none for the active one",
        )
    if info.retired_at is not None:
        raise _retired(info.id)


def _retired(predictor_id: int) -> Conflict:
    return Conflict(
        f"predictor {predictor_id} was retired: its files are gone",
        field="predictor_id",
        remedy="name another, or train its dataset anew: POST /v1/predictors with dataset_id",
    )


def _add(connection: Connection, dataset: Dataset, new: NewPredictor, *, now: float) -> int:
    newest = connection.execute(
        select(func.max(predictors.c.version)).where(
            predictors.c.platform_id == dataset.platform_id, predictors.c.kind == new.kind
        )
    ).scalar()
    values = {
        "platform_id": dataset.platform_id,
        "dataset_id": dataset.id,
        "kind": new.kind,
        "version": (newest or 0) + 1,
        "active": False,
        "artifact_sha256": new.artifact_sha256,
        "metrics": to_json(new.metrics),
        "cross_validation_mdape": new.cross_validation_mdape,
        "created_at": now,
    }
    key = connection.execute(insert(predictors).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 - a table with a key that the database numbers
    points = [
        {
            "predictor_id": key[0],
            "fingerprint": point.fingerprint,
            "measured_ms": point.measured_ms,
            "latency_ms": point.latency_ms,
            "low_ms": point.low_ms,
            "high_ms": point.high_ms,
        }
        for point in new.holdout
    ]
    connection.execute(insert(holdout_points), points)
    return int(key[0])


def _promote(connection: Connection, platform_id: str, predictor_id: int, serving: Serving, now: float) -> None:
    """Let a predictor serve its platform, which is locked, and write down why; raise :class:`Conflict`."""
    if _find(connection, predictor_id).retired_at is not None:
        raise _retired(predictor_id)
    of_platform = predictors.c.platform_id == platform_id
    connection.execute(update(predictors).where(of_platform, predictors.c.active).values(active=False))
    connection.execute(update(predictors).where(predictors.c.id == predictor_id).values(active=True))
    values = {
        "platform_id": platform_id,
        "predictor_id": predictor_id,
        "created_at": now,
        "created_by": serving.by,
        "reason": serving.reason,
        "remark": serving.remark,
    }
    connection.execute(insert(promotions).values(**values))


def _served_before(connection: Connection, platform_id: str) -> int | None:
    """Return the predictor that served before the one that does."""
    served = _served(connection, platform_id)
    return served[-2] if len(served) > 1 else None


def _served(connection: Connection, platform_id: str) -> list[int]:
    """Return what rolling back would go through, the one that serves last: each takes away the last that is left."""
    query = select(promotions.c.predictor_id, promotions.c.reason).where(promotions.c.platform_id == platform_id)
    served: list[int] = []
    for predictor_id, reason in connection.execute(query.order_by(promotions.c.id)):
        if reason == "rolled-back":
            served.pop()
        else:
            served.append(predictor_id)
    return served


def _find(connection: Connection, predictor_id: int) -> Row[Any]:
    row = connection.execute(select(predictors).where(predictors.c.id == predictor_id)).first()
    if row is None:
        raise NotFound(
            f"there is no predictor {predictor_id}", field="predictor_id", remedy="GET /v1/predictors lists them"
        )
    return row


def _promotion(row: Row[Any]) -> Promotion:
    return Promotion(
        id=row.id,
        platform_id=row.platform_id,
        predictor_id=row.predictor_id,
        kind=row.kind,
        version=row.version,
        at=utc(row.created_at),
        by=row.created_by,
        reason=row.reason,
        remark=row.remark,
    )


def _info(row: Row[Any]) -> PredictorInfo:
    return PredictorInfo(
        id=row.id,
        kind=row.kind,
        platform_id=row.platform_id,
        dataset_id=row.dataset_id,
        version=row.version,
        active=row.active,
        artifact_sha256=row.artifact_sha256,
        metrics=from_json(Metrics, row.metrics),
        cross_validation_mdape=row.cross_validation_mdape,
        created_at=utc(row.created_at),
        retired_at=None if row.retired_at is None else utc(row.retired_at),
    )
