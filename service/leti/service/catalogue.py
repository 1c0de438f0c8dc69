"""The catalogue: networks as users give them become graphs with fingerprints.

A prediction needs a network's graph and its name, and no more: that is a :class:`Lowered` one. What is stored of a
network is found when it is stored (:meth:`Lowered.known`). Networks that were read before are remembered.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, final

from leti.core.codec import LARGEST_INT
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, LetiError, TooLarge
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import Network, NetworkInput, Zero
from leti.generator.lowering import lower, lower_choices
from leti.generator.precision import precision_of, quantize
from leti.generator.spaces import get_space, parse_choices, parse_network
from leti.generator.spaces.space import SearchSpace
from leti.service.store import KnownNetwork

REMEMBERED_BYTES: Final = 128 * 2**20
"""About what remembered networks may take: a search asks for many of them again and again."""

NETWORK_BYTES: Final = 10_240
"""About what a network takes whose graph is made of parts that stand in no other, as measured of NAS-Bench-201's; of
FBNet's, which share theirs, it is a sixth."""

OPERATOR_BYTES: Final = 256
"""About what an operator takes in a graph that is not made of parts: its place, its wiring, its kernel."""


@final
class _Reading:
    """How networks are read: one object for equal terms, so that a look-up need not compare them."""

    def __init__(self, space: SearchSpace, config: NetworkConfig, zero: Zero, precision: ModelPrecision) -> None:
        self.space = space
        self.config = config
        self.zero = zero
        self.precision = precision

    def lowered(self, choices: tuple[int, ...]) -> Lowered:
        graph, degenerate = lower_choices(self.space, choices, self.config, self.zero)
        graph = _checked(graph, self.precision)
        return Lowered(graph.fingerprint(), graph, degenerate, self, choices)

    def lowered_spec(self, spec: NetworkSpec) -> Lowered:
        graph = _checked(lower(spec, self.zero), self.precision)
        return Lowered(graph.fingerprint(), graph, self.space.is_degenerate(spec), self, spec)


_reading = functools.lru_cache(maxsize=1_024)(_Reading)


@final
class Lowered(NamedTuple):
    """A network as a prediction needs it; ``degenerate`` says that no input reaches the output of its cell.

    ``given`` is the network as it was read: a spec, or choices in the space of ``reading``.
    """

    fingerprint: str
    graph: Graph
    degenerate: bool
    reading: _Reading
    given: NetworkSpec | tuple[int, ...]

    @property
    def spec(self) -> NetworkSpec:
        """The network as a spec."""
        if isinstance(self.given, NetworkSpec):
            return self.given
        return self.reading.space.decode(self.given, self.reading.config)

    def known(self) -> KnownNetwork:
        """Return the network with all that is stored of it.

        Its class and whether it is degenerate are the spec's, whatever the precision.
        """
        spec, graph, precision = self.spec, self.graph, self.reading.precision
        network = Network(
            fingerprint=self.fingerprint,
            space=spec.space,
            spec=spec.to_json(),
            zero=self.reading.zero,
            isomorphism_class=self.reading.space.isomorphism_class(spec),
            degenerate=self.degenerate,
            macs=graph.macs,
            params=graph.params,
            peak_memory_bytes=graph.peak_memory_bytes,
            precision=precision if precision == "float32" else precision_of(graph),
        )
        return KnownNetwork(network, graph)


def read_networks(
    networks: Sequence[NetworkInput], zero: Zero, precision: ModelPrecision, *, limit: int
) -> list[KnownNetwork]:
    """Return networks lowered, stored in a precision and named; raise :class:`InvalidInput` naming the one at fault."""
    found = []
    for item in read_batch(networks, zero, precision, limit=limit):
        if isinstance(item, LetiError):
            raise item
        found.append(item.known())
    return found


def read_batch(
    networks: Sequence[NetworkInput],
    zero: Zero,
    precision: ModelPrecision,
    *,
    limit: int,
    config: NetworkConfig | None = None,
    where: str = "networks",
) -> list[Lowered | LetiError]:
    """Return each network lowered, stored in a precision and named, or the error that names its fault.

    Networks are architecture strings, which ``config`` goes with (``None``: the space's own), and specs as JSON. Raises
    :class:`InvalidInput` where there is none at all and :class:`TooLarge` where there are more than ``limit``.
    """
    _check_some(networks, limit, where)
    return [_caught(_read, value, f"{where}[{i}]", config, zero, precision) for i, value in enumerate(networks)]


def decode_batch(
    space: str,
    encodings: Sequence[Sequence[int]],
    config: NetworkConfig | None,
    zero: Zero,
    precision: ModelPrecision,
    *,
    limit: int,
    where: str = "encodings",
) -> list[Lowered | LetiError]:
    """Return the network of each vector of choices of a space as :func:`read_batch` does: the compact form.

    All are of one ``config``; ``None`` is the space's own. Raises what :func:`read_batch` raises, and
    :class:`~leti.core.errors.InvalidSpec` where there is no such space.
    """
    _check_some(encodings, limit, where)
    found = get_space(space)
    reading = _reading(found, config or found.default_config, zero, precision)
    vectors = list(map(tuple, encodings))
    known = _REMEMBERED.get_all([(reading, vector) for vector in vectors])
    return [
        item or _caught(_decode, reading, vector, f"{where}[{i}]")
        for i, (vector, item) in enumerate(zip(vectors, known, strict=True))
    ]


def read_again(like: Lowered, choices: tuple[int, ...]) -> Lowered:
    """Return the network of other choices, read as one was; raise :class:`InvalidInput` where they are none."""
    return _decoded(like.reading, choices, "choices")


def name_network(spec: NetworkSpec, zero: Zero, precision: ModelPrecision = "float32") -> KnownNetwork:
    """Return a checked spec's network with the graph that its file of this precision runs."""
    return _lower_spec(spec, zero, precision).known()


def check_count(count: int, limit: int, field: str) -> None:
    """Raise :class:`TooLarge` where there are more networks than one request may hold."""
    if count > limit:
        raise TooLarge(f"holds {count} networks", field=field, remedy=f"at most {limit} in one request", limit=limit)


def _check_some(networks: Sequence[object], limit: int, where: str) -> None:
    if not networks:
        raise InvalidInput("must hold at least one network", field=where)
    check_count(len(networks), limit, where)


def _caught(read: Callable[..., Lowered], *arguments: object) -> Lowered | LetiError:
    try:
        return read(*arguments)
    except LetiError as error:
        return error.with_traceback(None)  # which would hold all that the call had


def _read(
    value: NetworkInput, where: str, config: NetworkConfig | None, zero: Zero, precision: ModelPrecision
) -> Lowered:
    if isinstance(value, str):
        space, choices = parse_choices(value, where)
        reading = _reading(space, config or space.default_config, zero, precision)
        return _decoded(reading, choices, where)
    spec = parse_network(value, where)
    try:
        return _lower_spec(spec, zero, precision)
    except InvalidInput as error:
        raise _placed(error, where) from None


def _decoded(reading: _Reading, choices: tuple[int, ...], where: str) -> Lowered:
    """Return a network that may have been read before."""
    return _REMEMBERED.get((reading, choices)) or _decode(reading, choices, where)


def _decode(reading: _Reading, choices: tuple[int, ...], where: str) -> Lowered:
    try:
        found = reading.lowered(choices)
    except InvalidInput as error:
        raise _placed(error, where) from None
    _REMEMBERED.put((reading, choices), found)
    return found


def _lower_spec(spec: NetworkSpec, zero: Zero, precision: ModelPrecision) -> Lowered:
    reading = _reading(get_space(spec.space), spec.config, zero, precision)
    found = _REMEMBERED.get((reading, spec))
    if found is None:
        found = reading.lowered_spec(spec)
        _REMEMBERED.put((reading, spec), found)
    return found


def _placed(error: InvalidInput, where: str) -> InvalidInput:
    """Return an error whose field says in which network it is; one in a vector of choices says at which place."""
    if not error.field.startswith(where):
        place = error.field.removeprefix("choices")
        error.field = f"{where}{place}" if place.startswith("[") or not place else f"{where}.{place}"
    return error


def _checked(graph: Graph, precision: ModelPrecision) -> Graph:
    """Return the graph of a precision; raise :class:`TooLarge` where it counts further than whole numbers go."""
    if precision != "float32":
        graph = quantize(graph, precision)
    if graph.macs > LARGEST_INT:  # parameters and memory are fewer
        raise TooLarge(
            f"takes {graph.macs} multiplications", field="config", remedy=f"at most {LARGEST_INT}", limit=LARGEST_INT
        )
    return graph


@final
class _Remembered:
    """Networks that were read, the last used last; as many as fit into some bytes. Threads may share it."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._items: OrderedDict[Hashable, Lowered] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Lowered | None:
        with self._lock:
            return self._get(key)

    def get_all(self, keys: Sequence[Hashable]) -> list[Lowered | None]:
        with self._lock:
            return [self._get(key) for key in keys]

    def put(self, key: Hashable, item: Lowered) -> None:
        size = _bytes_of(item)
        with self._lock:
            if key in self._items or size > self._most_bytes:
                return
            self._items[key] = item
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._bytes -= _bytes_of(self._items.popitem(last=False)[1])

    def _get(self, key: Hashable) -> Lowered | None:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found


def _bytes_of(item: Lowered) -> int:
    return NETWORK_BYTES + (0 if item.graph.parts[0] else OPERATOR_BYTES * len(item.graph.ops))


_REMEMBERED: Final = _Remembered(REMEMBERED_BYTES)
