"""Networks without a spec, from model files and graphs: all that is stored of them is in their graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from leti.core.graph import Graph
from leti.core.wire import Network, NetworkSource
from leti.generator.precision import precision_of
from leti.service.store import KnownNetwork


def name_graph(graph: Graph, source: NetworkSource) -> KnownNetwork:
    """Return a checked graph's network: of no search space, in the precision that the graph has."""
    network = Network(
        fingerprint=graph.fingerprint(),
        space="",
        spec=None,
        zero="execute",
        isomorphism_class=graph.fingerprint(),
        degenerate=False,
        macs=graph.macs,
        params=graph.params,
        peak_memory_bytes=graph.peak_memory_bytes,
        precision=precision_of(graph),
        source=source,
    )
    return KnownNetwork(network, graph)


def name_form(graph: Graph, base: str, isomorphism_class: str, patch: dict[str, Any]) -> KnownNetwork:
    """Return the network that a patch makes of a ``base``, a fingerprint: it is of the base's class."""
    bare = name_graph(graph, "patch")
    return replace(bare, network=replace(bare.network, isomorphism_class=isomorphism_class, base=base, patch=patch))
