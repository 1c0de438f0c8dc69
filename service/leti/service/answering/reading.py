"""Reading: the networks of a request, in every form that they are sent in, named in a precision."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, final

from leti.core.codec import from_json, read_object
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, LetiError, NotFound
from leti.core.graph import Graph
from leti.core.queries import Patches, PredictionRequest
from leti.core.spec import NetworkSpec
from leti.core.wire import Network, NetworkInput, Zero
from leti.generator.compressing.pieces import Pieces
from leti.service.answering.bases import Bases
from leti.service.answering.graphs import in_precision, read_graph
from leti.service.catalogue import Lowered, check_count, decode_batch, read_batch
from leti.service.settings import GraphLimits
from leti.service.specless import name_form, name_graph
from leti.service.store import KnownNetwork, Store

FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@final
class Stored(NamedTuple):
    """A network that was not lowered here: one of the store's, or a graph, which has no spec."""

    fingerprint: str
    graph: Graph
    degenerate: bool
    kept: KnownNetwork | None

    def known(self) -> KnownNetwork:
        """Return the network with all that is stored of it, or is to be."""
        return self.kept or name_graph(self.graph, "graph")


@final
class Known:
    """A network of the store in its own precision: read only where it must be predicted, not where it is measured."""

    __slots__ = ("_made", "_make", "degenerate", "fingerprint")

    def __init__(self, network: Network, make: Callable[[Network], Lowered | Stored]) -> None:
        self.fingerprint: Final = network.fingerprint
        self.degenerate: Final = network.degenerate
        self._make = functools.partial(make, network)
        self._made: Lowered | Stored | None = None

    def read(self) -> Lowered | Stored:
        """Return the network itself, read once."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @property
    def graph(self) -> Graph:
        """The network's graph."""
        return self.read().graph

    def known(self) -> KnownNetwork:
        """Return the network with all that is stored of it."""
        return self.read().known()


Named = Lowered | Stored | Known
"""A network with its fingerprint, its graph, and whether it is degenerate."""


@final
@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a request in a precision: each named, or the error that says why it is not."""

    items: tuple[Named | LetiError, ...]
    fingerprints: tuple[str | None, ...]

    @classmethod
    def of(cls, items: Sequence[Named | LetiError]) -> Networks:
        """Return networks with their fingerprints."""
        return cls(tuple(items), tuple([None if isinstance(item, LetiError) else item.fingerprint for item in items]))

    def unique(self) -> dict[str, Named]:
        """Return the networks that were read by fingerprint, each once, in the order of the request."""
        return {item.fingerprint: item for item in self.items if not isinstance(item, LetiError)}


@final
class Reader:
    """Reads the networks of requests; those that a request names by fingerprint come from the store."""

    def __init__(self, store: Store, *, limit: int, graphs: GraphLimits) -> None:
        self._store = store
        self._limit = limit
        self._graphs = graphs
        self._bases = Bases()

    def read(self, request: PredictionRequest, precision: ModelPrecision) -> Networks:
        """Return the networks of a request, each named in a precision or the error that says where it is at fault.

        Raises :class:`InvalidInput` where there is none, :class:`~leti.core.errors.TooLarge` where there are too many,
        and :class:`~leti.core.errors.InvalidSpec` where there is no such space of encodings.
        """
        count = len(request)
        if not count:
            remedy = "give networks, encodings or patches"
            raise InvalidInput("must hold at least one network", field="networks", remedy=remedy)
        check_count(count, self._limit, "networks")
        items: list[Named | LetiError] = []
        if request.networks:
            items += self.named(request.networks, request.zero, precision)
        if request.encodings is not None and request.encodings.vectors:
            said = request.encodings
            items += decode_batch(
                said.space,
                said.vectors,
                said.config,
                request.zero,
                precision,
                limit=self._limit,
                where="encodings.vectors",
            )
        if request.patches is not None and request.patches.changes:
            items += self._patched(request.patches, request.zero, precision)
        return Networks.of(items)

    def base(self, base: NetworkInput, zero: Zero, where: str) -> Pieces:
        """Return a base of patches in float32: of a graph, its operators stay in their order.

        Raises :class:`InvalidInput` and :class:`NotFound`, naming ``where``.
        """
        if isinstance(base, dict) and "graph" in base:
            read_object(base, where, required=("graph",))
            graph = base["graph"]
            told = {**graph, "encoding": None} if isinstance(graph, dict) else graph  # a space's own has another order
            return self._bases.of(read_graph(told, zero, f"{where}.graph", self._graphs)[0])
        return self._bases.of(self.one(base, zero, "float32", where).graph)

    def _patched(self, patches: Patches, zero: Zero, precision: ModelPrecision) -> list[Named | LetiError]:
        """Return the network of each patch in a precision, unless the patch says one, or the error that it meets."""
        pieces = self.base(patches.base, zero, "patches.base")
        items: list[Named | LetiError] = []
        for i, patch in enumerate(patches.changes):
            where = f"patches.changes[{i}]"
            try:
                if not patch.precision and precision != "float32":
                    patch = replace(patch, precision=precision)
                graph = pieces.patched(patch, where)
                items.append(Stored(graph.fingerprint(), graph, False, None))
            except LetiError as error:
                items.append(error.with_traceback(None))
        return items

    def one(self, network: NetworkInput, zero: Zero, precision: ModelPrecision, where: str) -> Named:
        """Return one network named in a precision; raise the error that says what is at fault below ``where``."""
        (found,) = self.named((network,), zero, precision)
        if isinstance(found, LetiError):
            found.field = found.field.replace("networks[0]", where, 1)
            raise found
        return found

    def named(self, networks: Sequence[NetworkInput], zero: Zero, precision: ModelPrecision) -> list[Named | LetiError]:
        """Return each network named in a precision, or the error that says where it is at fault."""
        special = {i: value for i, value in enumerate(networks) if not _is_recipe(value)}
        if not special:
            return list(read_batch(networks, zero, precision, limit=self._limit))
        recipes = [i for i in range(len(networks)) if i not in special]
        found: dict[int, Named | LetiError] = {}
        if recipes:
            lowered = read_batch([networks[i] for i in recipes], zero, precision, limit=self._limit)
            found = dict(zip(recipes, map(_moved, lowered, range(len(recipes)), recipes), strict=True))
        found.update(self._special(special, zero, precision))
        return [found[i] for i in range(len(networks))]

    def _special(self, networks: dict[int, Any], zero: Zero, precision: ModelPrecision) -> dict[int, Named | LetiError]:
        """Return networks that are given as fingerprints or graphs, or are nothing at all."""
        found: dict[int, Named | LetiError] = {}
        wanted: dict[int, str] = {}
        graphs: dict[int, tuple[Graph, NetworkSpec | None]] = {}
        for i, value in networks.items():
            where = f"networks[{i}]"
            try:
                if isinstance(value, dict) and "graph" in value:
                    read_object(value, where, required=("graph",))
                    graphs[i] = read_graph(value["graph"], zero, f"{where}.graph", self._graphs)
                    wanted[i] = graphs[i][0].fingerprint()
                else:
                    wanted[i] = _fingerprint(value, where)
            except LetiError as error:
                found[i] = error.with_traceback(None)
        stored = self._store.networks.find(list(dict.fromkeys(wanted.values())))
        for i, fingerprint in wanted.items():
            where = f"networks[{i}]"
            try:
                if fingerprint in stored:
                    found[i] = self._known(stored[fingerprint], precision, where)
                elif i in graphs:
                    found[i] = self._graph(*graphs[i], zero, precision, where)
                else:
                    raise _unknown(fingerprint, where)
            except LetiError as error:
                found[i] = error.with_traceback(None)
        return found

    def _known(self, network: Network, precision: ModelPrecision, where: str) -> Named:
        """Return a network of the store in a precision; where that is another one, its fingerprint is another too."""
        if network.precision == precision:
            return Known(network, self._read)
        if network.spec:
            return self._lowered(network.spec, network.zero, precision, where)
        (graph,) = self._store.networks.graphs([network.fingerprint])
        graph = in_precision(graph, precision, where)
        form = None
        if network.base and network.patch is not None:  # of the same base in any precision
            form = name_form(graph, network.base, network.isomorphism_class, {**network.patch, "precision": precision})
        return Stored(graph.fingerprint(), graph, network.degenerate, form)

    def _read(self, network: Network) -> Lowered | Stored:
        """Return a network of the store: lowered again where it has a spec, which is faster to read."""
        if network.spec:
            (found,) = read_batch([network.spec], network.zero, network.precision, limit=1)
            if isinstance(found, Lowered) and found.fingerprint == network.fingerprint:
                return found
        (graph,) = self._store.networks.graphs([network.fingerprint])
        return Stored(network.fingerprint, graph, network.degenerate, KnownNetwork(network, graph))

    def _graph(
        self, graph: Graph, spec: NetworkSpec | None, zero: Zero, precision: ModelPrecision, where: str
    ) -> Named:
        if spec is not None:
            return self._lowered(spec.to_json(), zero, precision, where)
        graph = in_precision(graph, precision, where)
        return Stored(graph.fingerprint(), graph, False, None)

    def _lowered(self, spec: dict[str, Any], zero: Zero, precision: ModelPrecision, where: str) -> Named:
        (found,) = read_batch([spec], zero, precision, limit=1, where=where)
        if isinstance(found, LetiError):
            raise found
        return found


def _is_recipe(value: NetworkInput) -> bool:
    """Return whether a network is given as what it is made of: a spec, an architecture, a vector of choices."""
    if isinstance(value, str):
        return len(value) != 64 or FINGERPRINT.fullmatch(value) is None
    return "graph" not in value and "fingerprint" not in value


def _fingerprint(value: Any, where: str) -> str:
    if isinstance(value, dict):
        where = f"{where}.fingerprint"
        value = from_json(str, read_object(value, where, required=("fingerprint",))["fingerprint"], where)
    if not FINGERPRINT.fullmatch(value):
        raise InvalidInput("must be 64 hexadecimal digits", field=where)
    return str(value)


def _moved(item: Lowered | LetiError, read_as: int, index: int) -> Lowered | LetiError:
    """Return what was read among others; an error names its network by the place in the request."""
    if isinstance(item, LetiError):
        item.field = item.field.replace(f"networks[{read_as}]", f"networks[{index}]", 1)
    return item


def _unknown(fingerprint: str, where: str) -> NotFound:
    return NotFound(
        f"no network has the fingerprint {fingerprint!r}",
        field=where,
        remedy="POST /v1/networks makes it known, or send the network itself",
    )
