"""Predictors: the datasets they were trained on, how they did, which one serves, and what it answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import Connection, Row, func, insert, select, update

from leti.core.codec import from_json, to_json
from leti.core.errors import NotFound, TooFewMeasurements
from leti.core.measurement import Repeatability, Truth, repeatability, truth
from leti.core.prediction import Metrics, Prediction
from leti.core.training import HoldoutPoint, PredictorInfo
from leti.service.database import Database, chunks
from leti.service.store.platforms import find_platform, lock_platform, pool_reference
from leti.service.store.times import utc
from leti.service.store.truths import ratios_by_network
from leti.service.tables import (
    dataset_items,
    datasets,
    holdout_points,
    networks,
    predictions,
    predictors,
)

Split = Callable[[Sequence[str]], tuple[Sequence[int], Sequence[int]]]
"""Takes a group a network; returns the numbers of those that train, and of those held out."""


@final
@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One network of a dataset, its truth at the time, and the class that it must not be parted from."""

    fingerprint: str
    space: str
    group: str
    truth: Truth


@final
@dataclass(frozen=True, slots=True)
class Dataset:
    """A frozen set of truths with its split; a latency is the ratio times ``reference_latency_ms``."""

    id: int
    platform_id: str
    reference_version: int
    reference_latency_ms: float
    train: tuple[DatasetItem, ...]
    test: tuple[DatasetItem, ...]
    repeatability: Repeatability | None


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
class PredictorStore:
    """Keeps datasets, predictors and predictions. One predictor a platform is active."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def freeze(self, platform_id: str, *, minimum: int, holdout_share: float, seed: int, split: Split) -> Dataset:
        """Freeze all accepted measurements of a platform into a dataset, one truth a network, split by class.

        Raises :class:`NotFound` for the platform, :class:`TooFewMeasurements` below ``minimum`` networks, and what
        ``split`` raises.
        """
        now = self._clock()
        with self._database.writing() as connection:
            platform = find_platform(connection, platform_id)
            ratios = ratios_by_network(connection, platform_id, platform.reference)
            pooled = pool_reference(connection, platform_id, platform.reference, now)
            if len(ratios) < minimum or pooled is None:
                raise TooFewMeasurements(
                    f"{len(ratios)} networks are measured on {platform_id}; training needs {minimum}",
                    field="platform_id",
                    remedy=f"measure {minimum - len(ratios)} more: POST /v1/campaigns, and run an agent",
                    measured=len(ratios),
                    needed=minimum,
                )
            items = _items(connection, ratios)
            parts = dict(zip(("train", "test"), split([item.group for item in items]), strict=True))
            values = {
                "platform_id": platform_id,
                "reference_latency_id": pooled.id,
                "holdout_share": holdout_share,
                "seed": seed,
                "created_at": now,
            }
            key = connection.execute(insert(datasets).values(**values)).inserted_primary_key
            assert key is not None  # noqa: S101 - a table with a key that the database numbers
            rows = [_item_values(key[0], part, items[i]) for part, chosen in parts.items() for i in chosen]
            connection.execute(insert(dataset_items), rows)
        train, test = (tuple(items[i] for i in parts[part]) for part in ("train", "test"))
        agreement = repeatability(list(ratios.values()))
        return Dataset(key[0], platform_id, pooled.version, pooled.latency_ms, train, test, agreement)

    def trained_on(self, dataset_id: int, *, limit: int) -> tuple[str, ...]:
        """Return fingerprints of the training part of a dataset, in their order."""
        item = dataset_items.c
        query = select(item.fingerprint).where(item.dataset_id == dataset_id, item.part == "train")
        with self._database.reading() as connection:
            return tuple(connection.execute(query.order_by(item.fingerprint).limit(limit)).scalars())

    def add(self, dataset: Dataset, new: Sequence[NewPredictor], active: str | None) -> tuple[PredictorInfo, ...]:
        """Keep predictors of one training; the one of kind ``active``, where given, serves from now on."""
        now = self._clock()
        with self._database.writing() as connection:
            lock_platform(connection, dataset.platform_id)
            if active is not None:
                _deactivate(connection, dataset.platform_id)
            keys = [_add(connection, dataset, item, active=item.kind == active, now=now) for item in new]
            rows = {row.id: row for row in connection.execute(select(predictors).where(predictors.c.id.in_(keys)))}
        return tuple(_info(rows[key]) for key in keys)

    def list(self, platform_id: str | None) -> tuple[PredictorInfo, ...]:
        """Return the predictors of a platform, or of all, the oldest first; raise :class:`NotFound`."""
        query = select(predictors).order_by(predictors.c.id)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
                query = query.where(predictors.c.platform_id == platform_id)
            return tuple(_info(row) for row in connection.execute(query))

    def get(self, predictor_id: int) -> PredictorInfo:
        """Return a predictor; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return _info(_find(connection, predictor_id))

    def active(self, platform_id: str) -> PredictorInfo | None:
        """Return the predictor that serves a platform, ``None`` where none does."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(predictors).where(predictors.c.platform_id == platform_id, predictors.c.active)
            ).first()
        return None if row is None else _info(row)

    def activate(self, predictor_id: int) -> PredictorInfo:
        """Make a predictor the one that serves its platform; raise :class:`NotFound`."""
        with self._database.writing() as connection:
            platform_id = _find(connection, predictor_id).platform_id
            lock_platform(connection, platform_id)
            _deactivate(connection, platform_id)
            connection.execute(update(predictors).where(predictors.c.id == predictor_id).values(active=True))
            return _info(_find(connection, predictor_id))

    def holdout(self, predictor_id: int) -> tuple[HoldoutPoint, ...]:
        """Return every network of a predictor's holdout, measured and predicted; raise :class:`NotFound`."""
        point = holdout_points.c
        query = (
            select(
                point.fingerprint, networks.c.space, point.measured_ms, point.latency_ms, point.low_ms, point.high_ms
            )
            .join(networks, networks.c.fingerprint == point.fingerprint)
            .where(point.predictor_id == predictor_id)
            .order_by(point.measured_ms, point.fingerprint)
        )
        with self._database.reading() as connection:
            _find(connection, predictor_id)
            return tuple(HoldoutPoint(*row) for row in connection.execute(query))

    def keep(self, predictor_id: int, answers: Mapping[str, Prediction]) -> None:
        """Keep predictions by fingerprint, to be scored when the networks are measured; the first answer stays."""
        now = self._clock()
        rows = [
            {
                "predictor_id": predictor_id,
                "fingerprint": fingerprint,
                "coverage": answer.coverage,
                "latency_ms": answer.latency_ms,
                "low_ms": answer.low_ms,
                "high_ms": answer.high_ms,
                "created_at": now,
            }
            for fingerprint, answer in answers.items()
        ]
        with self._database.writing() as connection:
            self._database.insert_new(connection, predictions, rows)


def _items(connection: Connection, ratios: Mapping[str, Sequence[float]]) -> Sequence[DatasetItem]:
    """Return the items of a dataset, sorted by fingerprint so that a seed splits them alike everywhere."""
    fingerprints = sorted(ratios)
    known = {
        row.fingerprint: row
        for part in chunks(fingerprints)
        for row in connection.execute(
            select(networks.c.fingerprint, networks.c.space, networks.c.isomorphism_class).where(
                networks.c.fingerprint.in_(part)
            )
        )
    }
    return [
        DatasetItem(
            fingerprint,
            known[fingerprint].space,
            f"{known[fingerprint].space}:{known[fingerprint].isomorphism_class}",
            truth(ratios[fingerprint]),
        )
        for fingerprint in fingerprints
    ]


def _item_values(dataset_id: int, part: str, item: DatasetItem) -> dict[str, Any]:
    return {
        "dataset_id": dataset_id,
        "fingerprint": item.fingerprint,
        "part": part,
        "ratio": item.truth.ratio,
        "count": item.truth.count,
        "spread": item.truth.spread,
        "group": item.group,
    }


def _add(connection: Connection, dataset: Dataset, new: NewPredictor, *, active: bool, now: float) -> int:
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
        "active": active,
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


def _deactivate(connection: Connection, platform_id: str) -> None:
    connection.execute(update(predictors).where(predictors.c.platform_id == platform_id).values(active=False))


def _find(connection: Connection, predictor_id: int) -> Row[Any]:
    row = connection.execute(select(predictors).where(predictors.c.id == predictor_id)).first()
    if row is None:
        raise NotFound(
            f"there is no predictor {predictor_id}", field="predictor_id", remedy="GET /v1/predictors lists them"
        )
    return row


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
    )
