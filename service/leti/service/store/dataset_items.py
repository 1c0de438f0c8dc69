"""The networks of datasets: written as one is frozen or imported, read to be trained on and to be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, insert, select

from leti.core.codec import from_json, to_json
from leti.core.datasets import DatasetRow, Part
from leti.core.measurement import OperatorTime, Truth
from leti.service.database import chunks
from leti.service.tables import dataset_items, datasets, networks

Profiles = Mapping[str, tuple[OperatorTime, ...]]
"""Operator times of those networks that were profiled, by fingerprint."""

_ITEM: Final = tuple(column for column in dataset_items.c if column.name != "operator_times")
_NETWORK: Final = tuple(networks.c[name] for name in ("space", "spec", "zero", "precision"))


@final
@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One network of a dataset, its truth at the time, and the class that it must not be parted from."""

    fingerprint: str
    space: str
    group: str
    truth: Truth


def add_dataset(
    connection: Connection, values: Mapping[str, Any], parts: Mapping[Part, Sequence[DatasetItem]], profiles: Profiles
) -> int:
    """Write a dataset with its items; return its number."""
    key = connection.execute(insert(datasets).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 - a table with a key that the database numbers
    for part, items in parts.items():
        for some in chunks(items):  # profiles take much: not those of all networks are written out at once
            connection.execute(insert(dataset_items), [_values(key[0], part, item, profiles) for item in some])
    return int(key[0])


def _values(dataset_id: int, part: Part, item: DatasetItem, profiles: Profiles) -> dict[str, Any]:
    return {
        "dataset_id": dataset_id,
        "fingerprint": item.fingerprint,
        "part": part,
        "ratio": item.truth.ratio,
        "count": item.truth.count,
        "spread": item.truth.spread,
        "group": item.group,
        "operator_times": to_json(profiles.get(item.fingerprint)),
    }


def read_items(connection: Connection, dataset_id: int) -> dict[Part, tuple[DatasetItem, ...]]:
    """Return the networks of each part of a dataset, by fingerprint: in the order in which they were frozen."""
    query = (
        select(*_ITEM, networks.c.space)
        .join(networks, networks.c.fingerprint == dataset_items.c.fingerprint)
        .where(dataset_items.c.dataset_id == dataset_id)
    )
    found: dict[Part, list[DatasetItem]] = {"train": [], "test": []}
    for row in connection.execute(query).mappings():
        truth = Truth(row["ratio"], row["count"], row["spread"])
        found[row["part"]].append(DatasetItem(row["fingerprint"], row["space"], row["group"], truth))
    return {part: tuple(sorted(items, key=lambda item: item.fingerprint)) for part, items in found.items()}


def read_operator_times(connection: Connection, dataset_id: int, part: Part) -> Profiles:
    """Return the operator times of those networks of a part that were profiled."""
    item = dataset_items.c
    query = select(item.fingerprint, item.operator_times).where(
        item.dataset_id == dataset_id, item.part == part, item.operator_times.is_not(None)
    )
    return {fingerprint: from_json(tuple[OperatorTime, ...], times) for fingerprint, times in connection.execute(query)}


def read_rows(
    connection: Connection, dataset_id: int, reference_ms: float, *, after: str, limit: int
) -> tuple[DatasetRow, ...]:
    """Return up to ``limit`` networks of a dataset with fingerprints above ``after``, in their order."""
    query = (
        select(dataset_items, *_NETWORK)
        .join(networks, networks.c.fingerprint == dataset_items.c.fingerprint)
        .where(dataset_items.c.dataset_id == dataset_id, dataset_items.c.fingerprint > after)
        .order_by(dataset_items.c.fingerprint)
        .limit(limit)
    )
    found = connection.execute(query).all()
    bare = [row.fingerprint for row in found if row.spec is None]
    graphs = {
        fingerprint: graph
        for part in chunks(bare)
        for fingerprint, graph in connection.execute(
            select(networks.c.fingerprint, networks.c.graph).where(networks.c.fingerprint.in_(part))
        )
    }
    return tuple(_row(row, reference_ms, graphs.get(row.fingerprint)) for row in found)


def _row(row: Row[Any], reference_ms: float, graph: Any) -> DatasetRow:
    return DatasetRow(
        fingerprint=row.fingerprint,
        space=row.space,
        spec=row.spec,
        zero=row.zero,
        precision=row.precision,
        graph=graph,
        part=row.part,
        group=row.group,
        ratio=row.ratio,
        count=row._mapping["count"],  # a tuple's own `count` is another
        spread=row.spread,
        latency_ms=row.ratio * reference_ms,
        operator_times=from_json(tuple[OperatorTime, ...], row.operator_times or ()),
    )
