"""The catalogue: networks as users give them become graphs with fingerprints."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from leti.core.codec import LARGEST_INT
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, TooLarge
from leti.core.spec import NetworkSpec
from leti.core.wire import Network, NetworkInput, Zero
from leti.generator.lowering import lower
from leti.generator.precision import precision_of, quantize
from leti.generator.spaces import get_space, parse_network
from leti.service.store import KnownNetwork

REMEMBERED = 8_192
"""Networks whose lowering is kept in memory: a search asks for many of them again and again."""


def read_networks(
    networks: Sequence[NetworkInput], zero: Zero, precision: ModelPrecision, *, limit: int
) -> list[KnownNetwork]:
    """Return networks lowered, stored in a precision and named; raise :class:`InvalidInput` naming the one at fault."""
    if not networks:
        raise InvalidInput("must hold at least one network", field="networks")
    check_count(len(networks), limit, "networks")
    return [_read(value, zero, precision, f"networks[{i}]") for i, value in enumerate(networks)]


def check_count(count: int, limit: int, field: str) -> None:
    """Raise :class:`TooLarge` where there are more networks than one request may hold."""
    if count > limit:
        raise TooLarge(f"holds {count} networks", field=field, remedy=f"at most {limit} in one request", limit=limit)


def _read(value: NetworkInput, zero: Zero, precision: ModelPrecision, where: str) -> KnownNetwork:
    spec = parse_network(value, where=where)
    try:
        return name_network(spec, zero, precision)
    except InvalidInput as error:
        if not error.field.startswith(where):
            error.field = f"{where}.{error.field}" if error.field else where
        raise


@functools.lru_cache(maxsize=REMEMBERED)
def name_network(spec: NetworkSpec, zero: Zero, precision: ModelPrecision = "float32") -> KnownNetwork:
    """Return a checked spec's network with the graph that its file of this precision runs.

    Its class and whether it is degenerate are the spec's, whatever the precision.
    """
    graph = lower(spec, zero)
    if precision != "float32":
        graph = quantize(graph, precision)
    if graph.macs > LARGEST_INT:  # parameters and memory are fewer
        raise TooLarge(
            f"takes {graph.macs} multiplications", field="config", remedy=f"at most {LARGEST_INT}", limit=LARGEST_INT
        )
    space = get_space(spec.space)
    network = Network(
        fingerprint=graph.fingerprint(),
        space=spec.space,
        spec=spec.to_json(),
        zero=zero,
        isomorphism_class=space.isomorphism_class(spec),
        degenerate=space.is_degenerate(spec),
        macs=graph.macs,
        params=graph.params,
        peak_memory_bytes=graph.peak_memory_bytes,
        precision=precision if precision == "float32" else precision_of(graph),
    )
    return KnownNetwork(network, graph)
