"""A search space: chains of one to four convolutions, each with a ReLU and a 2×2 maximum pool behind it.

A whole network, layer by layer: of the config, ``stacks`` and ``modules_per_stack`` play no part.
"""

from __future__ import annotations

import functools
import itertools
import random
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.space import SearchSpace, check_count, check_layers

LAYERS: Final = {f"conv{k}x{k}_x{width}": (k, width) for k in (1, 3, 5) for width in (1, 2, 4)}
"""Kernel of each layer, and its channels as a multiple of ``stem_channels``."""

MOST_LAYERS: Final = 4


@functools.cache
def all_chains() -> tuple[tuple[str, ...], ...]:
    """Return the 7,380 chains, each as the names of its layers."""
    return tuple(chain for n in range(1, MOST_LAYERS + 1) for chain in itertools.product(LAYERS, repeat=n))


def spec_of(chain: tuple[str, ...], config: NetworkConfig) -> NetworkSpec:
    """Return the spec of a chain: every node reads the one before it."""
    layers = tuple(map(Layer, ("input", *chain, "output")))
    return NetworkSpec(ChainSpace.name, _adjacency(len(layers)), layers, config)


@final
class ChainSpace(SearchSpace):
    """Chains of convolutions; no two of them are isomorphic."""

    name = "chain"

    @override
    def check(self, spec: NetworkSpec) -> None:
        if spec.space != self.name:
            raise InvalidSpec(f"is {spec.space!r}, not {self.name!r}", field="space")
        if not 1 <= len(spec.layers) - 2 <= MOST_LAYERS:
            message = f"has {len(spec.layers) - 2} layers between input and output"
            raise InvalidSpec(message, field="layers", remedy=f"1 to {MOST_LAYERS}")
        if spec.adjacency != _adjacency(len(spec.layers)):
            raise InvalidSpec("is not that of a chain", field="adjacency", remedy="feed each node from the one before")
        check_layers(spec, LAYERS)

    @override
    def sample(self, count: int, seed: int, config: NetworkConfig) -> tuple[NetworkSpec, ...]:
        check_count(count, len(all_chains()), self.name)
        return tuple(spec_of(chain, config) for chain in random.Random(seed).sample(all_chains(), count))

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        return " ".join(layer.name for layer in spec.layers[1:-1])

    @override
    def is_degenerate(self, spec: NetworkSpec) -> bool:
        return False

    @override
    def encoding(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the number of each layer, from 1 on, and 0 where the chain has ended."""
        numbers = [1 + list(LAYERS).index(layer.name) for layer in spec.layers[1:-1]]
        return (*numbers, *(0,) * (MOST_LAYERS - len(numbers)))

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        value = 0
        for layer in spec.layers[1:-1]:
            kernel, width = LAYERS[layer.name]
            value = builder.relu(builder.conv(value, width * spec.config.stem_channels, kernel))
            value = builder.max_pool(value, 2, stride=2)
        return builder.fully_connected(builder.global_mean(value), spec.config.classes)


def _adjacency(nodes: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(j == i + 1) for j in range(nodes)) for i in range(nodes))
