"""Datasets: what was measured on a platform, frozen with its split, so that it can be had again.

A dataset holds all that a training needs, so that nothing measured later changes what is trained on it: truths, the
platform's repeatability, operator times. One that was imported holds the same; nothing of it counts as measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import Connection, Row, Select, case, func, select

from leti.core.codec import from_json, to_json
from leti.core.datasets import DatasetInfo, DatasetOrigin, DatasetPage, DatasetRow, Part
from leti.core.device import Platform
from leti.core.errors import NotFound, TooFewMeasurements
from leti.core.measurement import OperatorTime, Repeatability, repeatability, truth
from leti.service.database import Database, chunks
from leti.service.store.dataset_items import (
    DatasetItem,
    Profiles,
    add_dataset,
    read_items,
    read_operator_times,
    read_rows,
)
from leti.service.store.measurements import read_profiles
from leti.service.store.paging import on_page
from leti.service.store.platforms import (
    ReferenceLatency,
    add_platform,
    add_reference_latency,
    find_platform,
    lock_platform,
    pool_reference,
    reference_latency,
)
from leti.service.store.times import utc
from leti.service.store.truths import ratios_by_network
from leti.service.tables import dataset_items, datasets, networks, reference_latencies, truths

Split = Callable[[Sequence[str], Mapping[str, Part]], tuple[Sequence[int], Sequence[int]]]
"""Takes a class a network, and the sides on which classes were before; returns the numbers of those that train, and of
those held out."""


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
@dataclass(frozen=True, slots=True)
class Imported:
    """A dataset that was read from a file and checked; its networks are kept already.

    ``reference`` is the fingerprint of the network that its ratios are to.
    """

    platform: Platform
    reference: str
    reference_latency_ms: float
    holdout_share: float
    seed: int
    repeatability: Repeatability | None
    parts: Mapping[Part, Sequence[DatasetItem]]
    profiles: Profiles
    origin: DatasetOrigin


@final
class DatasetStore:
    """Freezes what is measured into datasets, keeps those that are imported, and tells of those that there are."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def freeze(self, platform_id: str, *, minimum: int, holdout_share: float, seed: int, split: Split) -> Dataset:
        """Freeze all accepted measurements of a platform into a dataset, one truth a network, split by class.

        Raises :class:`NotFound` for the platform, :class:`TooFewMeasurements` below ``minimum`` networks, and what
        ``split`` raises.
        """
        now = self._clock()
        profiles = self._profiles(platform_id)  # read apart: it takes long, and others wait for who writes
        with self._database.writing() as connection:
            platform = find_platform(connection, platform_id)
            ratios = ratios_by_network(connection, platform_id, platform.reference)
            pooled = pool_reference(connection, platform_id, platform.reference, now)
            if len(ratios) < minimum or pooled is None:
                raise too_few(platform_id, len(ratios), minimum)
            items = _items(connection, ratios)
            sides = split([item.group for item in items], _parts(connection, platform_id))
            train, test = (tuple(items[i] for i in chosen) for chosen in sides)
            agreement = repeatability(list(ratios.values()))
            values = {
                "platform_id": platform_id,
                "reference_latency_id": pooled.id,
                "holdout_share": holdout_share,
                "seed": seed,
                "created_at": now,
                "repeatability": to_json(agreement),
            }
            key = add_dataset(connection, values, {"train": train, "test": test}, profiles)
        return Dataset(key, platform_id, pooled.version, pooled.latency_ms, train, test, agreement)

    def keep(self, imported: Imported) -> DatasetInfo:
        """Keep a dataset that was imported, with its platform; the same file is the same dataset."""
        now = self._clock()
        platform_id = imported.platform.id
        with self._database.writing() as connection:
            add_platform(self._database, connection, imported.platform, imported.reference, now)
            lock_platform(connection, platform_id)
            found = _of_file(connection, imported.origin.sha256)
            if found is not None:
                return found
            values = {
                "platform_id": platform_id,
                "reference_latency_id": _brought(connection, imported, now).id,
                "holdout_share": imported.holdout_share,
                "seed": imported.seed,
                "created_at": now,
                "repeatability": to_json(imported.repeatability),
                "origin": to_json(imported.origin),
                "file_sha256": imported.origin.sha256,
            }
            key = add_dataset(connection, values, imported.parts, imported.profiles)
            return _info(connection.execute(_described().where(datasets.c.id == key)).one())

    def of_file(self, sha256: str) -> DatasetInfo | None:
        """Return the dataset that a file brought, ``None`` where it was never imported."""
        with self._database.reading() as connection:
            return _of_file(connection, sha256)

    def load(self, dataset_id: int) -> Dataset:
        """Return a dataset as it was frozen or imported; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            info = _info(_find(connection, dataset_id))
            parts = read_items(connection, dataset_id)
        return Dataset(
            dataset_id,
            info.platform_id,
            info.reference_version,
            info.reference_latency_ms,
            parts["train"],
            parts["test"],
            info.repeatability,
        )

    def profiles(self, dataset_id: int, part: Part) -> Profiles:
        """Return the operator times that a part of a dataset was frozen or imported with."""
        with self._database.reading() as connection:
            return read_operator_times(connection, dataset_id, part)

    def rows(self, dataset_id: int, *, after: str, limit: int) -> tuple[DatasetRow, ...]:
        """Return up to ``limit`` networks of a dataset with fingerprints above ``after``; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            reference_ms = _find(connection, dataset_id).latency_ms
            return read_rows(connection, dataset_id, reference_ms, after=after, limit=limit)

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
            return _info(_find(connection, dataset_id))

    def reference(self, dataset_id: int) -> str:
        """Return the fingerprint of the network that the ratios of a dataset are to; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return str(_find(connection, dataset_id).reference)

    def newest(self, platform_id: str) -> DatasetInfo | None:
        """Return the newest dataset of a platform, ``None`` where it has none."""
        query = _described().where(datasets.c.platform_id == platform_id).order_by(datasets.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _info(row)

    def page(self, *, platform_id: str | None, cursor: int, limit: int, newest_first: bool = False) -> DatasetPage:
        """Return up to ``limit`` datasets after ``cursor``; raise :class:`NotFound` for the platform."""
        query = on_page(_described(), datasets.c.id, cursor=cursor, limit=limit, newest_first=newest_first)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
                query = query.where(datasets.c.platform_id == platform_id)
            rows = connection.execute(query).all()
        items = tuple(_info(row) for row in rows[:limit])
        return DatasetPage(items, items[-1].id if len(rows) > limit else None)

    def _profiles(self, platform_id: str) -> Profiles:
        with self._database.reading() as connection:
            platform = find_platform(connection, platform_id)
            measured = select(truths.c.fingerprint).where(
                truths.c.platform_id == platform_id, truths.c.reference == platform.reference
            )
            found: dict[str, tuple[OperatorTime, ...]] = {}
            for part in chunks(connection.scalars(measured).all()):
                found |= read_profiles(connection, platform_id, part)
        return found


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
    base = networks.alias("base")  # the class of a compressed network is its base's
    query = select(
        networks.c.fingerprint,
        networks.c.space,
        networks.c.isomorphism_class,
        func.coalesce(base.c.space, networks.c.space).label("class_space"),
    ).outerjoin(base, base.c.fingerprint == networks.c.base)
    known = {
        row.fingerprint: row
        for part in chunks(fingerprints)
        for row in connection.execute(query.where(networks.c.fingerprint.in_(part)))
    }
    return [
        DatasetItem(
            fingerprint,
            known[fingerprint].space,
            f"{known[fingerprint].class_space}:{known[fingerprint].isomorphism_class}",
            truth(ratios[fingerprint]),
        )
        for fingerprint in fingerprints
    ]


def _brought(connection: Connection, imported: Imported, now: float) -> ReferenceLatency:
    """Keep the reference latency that a dataset brings."""
    latency_ms = imported.reference_latency_ms
    return add_reference_latency(
        connection, imported.platform.id, imported.reference, latency_ms, 0, now=now, imported=True
    )


def _of_file(connection: Connection, sha256: str) -> DatasetInfo | None:
    row = connection.execute(_described().where(datasets.c.file_sha256 == sha256)).first()
    return None if row is None else _info(row)


def _find(connection: Connection, dataset_id: int) -> Row[Any]:
    row = connection.execute(_described().where(datasets.c.id == dataset_id)).first()
    if row is None:
        raise NotFound(f"there is no dataset {dataset_id}", field="dataset_id", remedy="GET /v1/datasets lists them")
    return row


def _described() -> Select[Any]:
    """Return the query of datasets with their reference latency and the sizes of their parts."""
    item = dataset_items.c

    def size(part: Part) -> Any:
        count = select(func.count()).where(item.dataset_id == datasets.c.id, item.part == part)
        return count.correlate(datasets).scalar_subquery().label(part)

    return select(
        datasets,
        reference_latencies.c.reference,
        reference_latencies.c.version,
        reference_latencies.c.latency_ms,
        size("train"),
        size("test"),
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
        repeatability=None if row.repeatability is None else from_json(Repeatability, row.repeatability),
        origin=None if row.origin is None else from_json(DatasetOrigin, row.origin),
    )
