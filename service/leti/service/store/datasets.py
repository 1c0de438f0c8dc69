"""Datasets: what was measured on a platform, frozen with its split, so that it can be had again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from sqlalchemy import Connection, Row, Select, case, func, insert, select

from leti.core.errors import NotFound, TooFewMeasurements
from leti.core.measurement import Repeatability, Truth, repeatability, truth
from leti.core.training import DatasetInfo, DatasetPage
from leti.service.database import Database, chunks
from leti.service.store.platforms import find_platform, pool_reference, reference_latency
from leti.service.store.times import utc
from leti.service.store.truths import ratios_by_network
from leti.service.tables import dataset_items, datasets, networks, reference_latencies

Part = Literal["train", "test"]

Split = Callable[[Sequence[str], Mapping[str, Part]], tuple[Sequence[int], Sequence[int]]]
"""Takes a class a network, and the sides on which classes were before; returns the numbers of those that train, and of
those held out."""


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
class Measured:
    """What is known of a platform: a truth a network; a latency is the ratio times ``reference_latency_ms``."""

    platform_id: str
    reference_version: int
    reference_latency_ms: float
    items: tuple[DatasetItem, ...]
    repeatability: Repeatability | None


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
class DatasetStore:
    """Freezes what is measured into datasets, and tells of those that there are."""

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
                raise too_few(platform_id, len(ratios), minimum)
            items = _items(connection, ratios)
            sides = split([item.group for item in items], _parts(connection, platform_id))
            parts: dict[Part, Sequence[int]] = dict(zip(("train", "test"), sides, strict=True))
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

    def measured(self, platform_id: str) -> Measured:
        """Return what a dataset would hold now; raise :class:`NotFound`, :class:`TooFewMeasurements` where nothing."""
        with self._database.reading() as connection:
            platform = find_platform(connection, platform_id)
            ratios = ratios_by_network(connection, platform_id, platform.reference)
            pooled = reference_latency(connection, platform_id)
            if not ratios or pooled is None:
                raise too_few(platform_id, 0, 1)
            items = _items(connection, ratios)
        agreement = repeatability(list(ratios.values()))
        return Measured(platform_id, pooled.version, pooled.latency_ms, tuple(items), agreement)

    def classes(self, dataset_id: int, part: Part | None = None) -> frozenset[str]:
        """Return the classes of the networks of a dataset, or of one part of it."""
        item = dataset_items.c
        query = select(item.group).distinct().where(item.dataset_id == dataset_id)
        with self._database.reading() as connection:
            return frozenset(connection.execute(query if part is None else query.where(item.part == part)).scalars())

    def trained_on(self, dataset_id: int, *, limit: int) -> tuple[str, ...]:
        """Return fingerprints of the training part of a dataset, in their order."""
        item = dataset_items.c
        query = select(item.fingerprint).where(item.dataset_id == dataset_id, item.part == "train")
        with self._database.reading() as connection:
            return tuple(connection.execute(query.order_by(item.fingerprint).limit(limit)).scalars())

    def get(self, dataset_id: int) -> DatasetInfo:
        """Return what is known of a dataset; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            row = connection.execute(_described().where(datasets.c.id == dataset_id)).first()
        if row is None:
            raise NotFound(
                f"there is no dataset {dataset_id}", field="dataset_id", remedy="GET /v1/datasets lists them"
            )
        return _info(row)

    def newest(self, platform_id: str) -> DatasetInfo | None:
        """Return the newest dataset of a platform, ``None`` where it has none."""
        query = _described().where(datasets.c.platform_id == platform_id).order_by(datasets.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _info(row)

    def page(self, *, platform_id: str | None, cursor: int, limit: int) -> DatasetPage:
        """Return up to ``limit`` datasets with ids above ``cursor``; raise :class:`NotFound` for the platform."""
        query = _described().where(datasets.c.id > cursor).order_by(datasets.c.id).limit(limit + 1)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
                query = query.where(datasets.c.platform_id == platform_id)
            rows = connection.execute(query).all()
        items = tuple(_info(row) for row in rows[:limit])
        return DatasetPage(items, items[-1].id if len(rows) > limit else None)


def too_few(platform_id: str, measured: int, needed: int) -> TooFewMeasurements:
    """Return the error that says how many networks more must be measured on a platform."""
    return TooFewMeasurements(
        f"{measured} networks are measured on {platform_id}; training needs {needed}",
        field="platform_id",
        remedy=f"measure {needed - measured} more: POST /v1/campaigns, and run an agent",
        measured=measured,
        needed=needed,
    )


def _parts(connection: Connection, platform_id: str) -> dict[str, Part]:
    """Return on which side each class was in earlier datasets of a platform; what was ever held out is held out."""
    item = dataset_items.c
    held = func.max(case((item.part == "test", 1), else_=0))
    query = (
        select(item.group, held)
        .join(datasets, datasets.c.id == item.dataset_id)
        .where(datasets.c.platform_id == platform_id)
        .group_by(item.group)
    )
    return {group: "test" if out else "train" for group, out in connection.execute(query)}


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


def _item_values(dataset_id: int, part: Part, item: DatasetItem) -> dict[str, Any]:
    return {
        "dataset_id": dataset_id,
        "fingerprint": item.fingerprint,
        "part": part,
        "ratio": item.truth.ratio,
        "count": item.truth.count,
        "spread": item.truth.spread,
        "group": item.group,
    }


def _described() -> Select[Any]:
    """Return the query of datasets with their reference latency and the sizes of their parts."""
    item = dataset_items.c

    def size(part: Part) -> Any:
        count = select(func.count()).where(item.dataset_id == datasets.c.id, item.part == part)
        return count.correlate(datasets).scalar_subquery().label(part)

    return select(
        datasets, reference_latencies.c.version, reference_latencies.c.latency_ms, size("train"), size("test")
    ).join(reference_latencies, reference_latencies.c.id == datasets.c.reference_latency_id)


def _info(row: Row[Any]) -> DatasetInfo:
    return DatasetInfo(
        id=row.id,
        platform_id=row.platform_id,
        reference_version=row.version,
        reference_latency_ms=row.latency_ms,
        networks_train=row.train,
        networks_holdout=row.test,
        holdout_share=row.holdout_share,
        seed=row.seed,
        created_at=utc(row.created_at),
    )
