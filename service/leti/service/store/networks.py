"""Networks: what is known of each computation, by its fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update

from leti.core.datasets import Part
from leti.core.device import ModelFormat
from leti.core.errors import NotFound
from leti.core.graph import Graph
from leti.core.wire import Network
from leti.service.database import Database, chunks
from leti.service.store.times import utc
from leti.service.tables import dataset_items, measurements, model_files, networks

DIGITS: Final = 64
"""Of a fingerprint."""

_OF_RECIPE: Final = ("space", "spec", "zero", "isomorphism_class", "degenerate", "graph", "source", "base", "patch")
"""What a spec or a patch says of a network; with a spec, its graph has the encoding of its space."""

_TOLD: Final[Mapping[str, tuple[str, ...]]] = {"spec": ("upload", "graph", "patch"), "patch": ("graph",)}
"""Recipes, and the sources of networks that take one where they are there without it."""

_NETWORK: Final = tuple(c for c in networks.c if c.name not in ("graph", "created_at"))


_LISTED: Final = ("fingerprint", "space", "precision", "source", "macs", "params", "peak_memory_bytes", "created_at")

_COUNTED: Final = select(
    measurements.c.fingerprint,
    func.count().label("measurements"),
    func.count(measurements.c.platform_id.distinct()).label("platforms"),
).group_by(measurements.c.fingerprint)

AT_ONCE: Final = 200
"""Networks in one transaction: graphs are packed in it, and others who write wait no longer than for these."""


@final
@dataclass(frozen=True, slots=True)
class KnownNetwork:
    """A network with the graph that it lowers to."""

    network: Network
    graph: Graph


@final
@dataclass(frozen=True, slots=True)
class ListedNetwork:
    """A network in short, and how many measurements it has on how many platforms."""

    fingerprint: str
    space: str
    precision: str
    source: str
    macs: int
    params: int
    peak_memory_bytes: int
    created_at: str
    measurements: int
    platforms: int


@final
class NetworkStore:
    """Keeps networks: the first spec that lowers to a graph is the graph's recipe, and stays it; else a patch is."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, known: Sequence[KnownNetwork]) -> None:
        """Keep networks; those that are there already stay as they are, unless they get a recipe that they had not.

        Many are kept in several transactions.
        """
        given = {item.network.fingerprint: item for item in known}
        with self._database.reading() as connection:
            there = {
                row.fingerprint: row.source
                for part in chunks(list(given))
                for row in connection.execute(
                    select(networks.c.fingerprint, networks.c.source).where(networks.c.fingerprint.in_(part))
                )
            }
        new = [item for item in given.values() if _is_news(item, there.get(item.network.fingerprint))]
        for start in range(0, len(new), AT_ONCE):
            with self._database.writing() as connection:
                keep(self._database, connection, new[start : start + AT_ONCE], self._clock())

    def get(self, fingerprint: str) -> Network:
        """Return a network; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            row = connection.execute(select(*_NETWORK).where(networks.c.fingerprint == fingerprint)).first()
        if row is None:
            raise unknown_network(fingerprint)
        return _network(row)

    def find(self, fingerprints: Sequence[str]) -> dict[str, Network]:
        """Return those networks that are known, by fingerprint."""
        query = select(*_NETWORK)
        with self._database.reading() as connection:
            return {
                row.fingerprint: _network(row)
                for part in chunks(fingerprints)
                for row in connection.execute(query.where(networks.c.fingerprint.in_(part)))
            }

    def newest(self, digits: str, space: str | None, after: str | None, limit: int) -> tuple[ListedNetwork, ...]:
        """Return networks, the newest first: those whose fingerprint begins with ``digits``, of one space or of all.

        ``after`` is the fingerprint of the last one of the page before; raises :class:`NotFound` for it.
        """
        query = select(*(networks.c[name] for name in _LISTED))
        if digits:
            query = query.where(begins(networks.c.fingerprint, digits))
        if space is not None:
            query = query.where(networks.c.space == space)
        with self._database.reading() as connection:
            if after is not None:
                at = connection.scalar(select(networks.c.created_at).where(networks.c.fingerprint == after))
                if at is None:
                    raise unknown_network(after)
                older = networks.c.created_at < at
                query = query.where(or_(older, and_(networks.c.created_at == at, networks.c.fingerprint > after)))
            query = query.order_by(networks.c.created_at.desc(), networks.c.fingerprint).limit(limit)
            rows = connection.execute(query).all()
            counted = {
                row.fingerprint: (row.measurements, row.platforms)
                for row in connection.execute(_COUNTED.where(measurements.c.fingerprint.in_([r[0] for r in rows])))
            }
        return tuple(_listed(row, *counted.get(row.fingerprint, (0, 0))) for row in rows)

    def sides(self, fingerprint: str, dataset_ids: Sequence[int]) -> dict[int, Part]:
        """Return the part of each of some datasets that holds a network, where one does."""
        columns = dataset_items.c.dataset_id, dataset_items.c.part
        query = select(*columns).where(dataset_items.c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(dataset_items.c.dataset_id.in_(dataset_ids))).all()
        return {row.dataset_id: row.part for row in rows}

    def graphs(self, fingerprints: Sequence[str]) -> list[Graph]:
        """Return the graphs of known networks, in order; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            found = {
                row.fingerprint: row.graph
                for part in chunks(fingerprints)
                for row in connection.execute(
                    select(networks.c.fingerprint, networks.c.graph).where(networks.c.fingerprint.in_(part))
                )
            }
        for fingerprint in fingerprints:
            if fingerprint not in found:
                raise unknown_network(fingerprint)
        return [Graph.from_json(found[fingerprint]) for fingerprint in fingerprints]

    def model_sha256(self, fingerprint: str, model_format: ModelFormat) -> str | None:
        """Return the SHA-256 of a network's model file, ``None`` until one was made; raise :class:`NotFound`."""
        written = model_files.c.fingerprint == networks.c.fingerprint, model_files.c.format == model_format
        with self._database.reading() as connection:
            row = connection.execute(
                select(model_files.c.sha256)
                .select_from(networks.outerjoin(model_files, and_(*written)))
                .where(networks.c.fingerprint == fingerprint)
            ).first()
        if row is None:
            raise unknown_network(fingerprint)
        return None if row.sha256 is None else str(row.sha256)

    def with_models(self, fingerprints: Sequence[str], model_format: ModelFormat) -> set[str]:
        """Return those networks that have a model file in a format, written or uploaded."""
        query = select(model_files.c.fingerprint).where(model_files.c.format == model_format)
        with self._database.reading() as connection:
            return {
                fingerprint
                for part in chunks(fingerprints)
                for fingerprint in connection.scalars(query.where(model_files.c.fingerprint.in_(part)))
            }

    def newest_models(self, most: int) -> list[tuple[str, str]]:
        """Return SHA-256 and format of the model files of the newest networks, up to ``most``."""
        query = select(model_files.c.sha256, model_files.c.format).join(networks).order_by(networks.c.created_at.desc())
        with self._database.reading() as connection:
            return [(row.sha256, row.format) for row in connection.execute(query.limit(most))]

    def set_model_sha256(self, fingerprint: str, model_format: ModelFormat, sha256: str) -> None:
        """Note which file is a network's model in a format."""
        row = {"fingerprint": fingerprint, "format": model_format, "sha256": sha256}
        noted = model_files.c.fingerprint == fingerprint, model_files.c.format == model_format
        with self._database.writing() as connection:
            self._database.insert_new(connection, model_files, [row])
            connection.execute(update(model_files).where(*noted).values(sha256=sha256))


def keep(database: Database, connection: Connection, known: Sequence[KnownNetwork], now: float) -> None:
    """Keep networks; one that is there without a recipe takes the one that it is given, see :data:`_TOLD`."""
    rows = {item.network.fingerprint: _values(item, now) for item in known}
    database.insert_new(connection, networks, list(rows.values()))
    for source, bare in _TOLD.items():
        for part in chunks([fingerprint for fingerprint, row in rows.items() if row["source"] == source]):
            waiting = select(networks.c.fingerprint).where(
                networks.c.fingerprint.in_(part), networks.c.source.in_(bare)
            )
            for fingerprint in connection.scalars(waiting).all():
                told = {name: rows[fingerprint][name] for name in _OF_RECIPE}
                connection.execute(update(networks).where(networks.c.fingerprint == fingerprint).values(**told))
                # What is known as a form of it is of the class that it now has.
                forms = update(networks).where(networks.c.base == fingerprint)
                connection.execute(forms.values(isomorphism_class=told["isomorphism_class"]))


def begins(column: ColumnElement[str], digits: str) -> ColumnElement[bool]:
    """Return the condition that a fingerprint is this one, or begins with these digits."""
    if len(digits) == DIGITS:
        return column == digits
    # The fingerprints are sought first: an index of theirs knows an order, and no pattern.
    between = and_(networks.c.fingerprint >= digits, networks.c.fingerprint < f"{digits}g")
    return column.in_(select(networks.c.fingerprint).where(between))


def _is_news(item: KnownNetwork, there: str | None) -> bool:
    return there is None or there in _TOLD.get(item.network.source, ())


def unknown_network(fingerprint: str) -> NotFound:
    """Return the error that says that a network is not known."""
    return NotFound(
        f"no network has the fingerprint {fingerprint[:80]!r}",
        field="fingerprint",
        remedy="post it to /v1/networks first",
    )


def _values(known: KnownNetwork, now: float) -> dict[str, Any]:
    network = known.network
    return {
        "fingerprint": network.fingerprint,
        "space": network.space,
        "spec": network.spec,
        "zero": network.zero,
        "isomorphism_class": network.isomorphism_class,
        "degenerate": network.degenerate,
        "macs": network.macs,
        "params": network.params,
        "peak_memory_bytes": network.peak_memory_bytes,
        "graph": known.graph.to_json(),
        "precision": network.precision,
        "source": network.source,
        "base": network.base,
        "patch": network.patch,
        "created_at": now,
    }


def _listed(row: Row[Any], count: int, platforms: int) -> ListedNetwork:
    said = {**row._asdict(), "created_at": utc(row.created_at)}
    return ListedNetwork(**said, measurements=count, platforms=platforms)


def _network(row: Row[Any]) -> Network:
    return Network(**row._asdict())
