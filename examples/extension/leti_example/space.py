"""A search space: chains of one to four convolutions, each with a ReLU and a 2×2 maximum pool behind it.

A whole network, layer by layer: of the config, ``stacks`` and ``modules_per_stack`` play no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.space import (
    SearchSpace,
    chain,
    check_chain,
    check_choices,
    check_layers,
    check_space,
)

LAYERS: Final = {f"conv{k}x{k}_x{width}": (k, width) for k in (1, 3, 5) for width in (1, 2, 4)}
"""Kernel of each layer, and its channels as a multiple of ``stem_channels``."""

MOST_LAYERS: Final = 4


@final
class ChainSpace(SearchSpace):
    """Chains of convolutions; no two of them are isomorphic."""

    name = "chain"
    positions = (1 + len(LAYERS),) * MOST_LAYERS

    @override
    def size(self) -> int:
        return sum(len(LAYERS) ** n for n in range(1, MOST_LAYERS + 1))

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, self.name)
        if not 1 <= len(spec.layers) - 2 <= MOST_LAYERS:
            message = f"has {len(spec.layers) - 2} layers between input and output"
            raise InvalidSpec(message, field="layers", remedy=f"1 to {MOST_LAYERS}")
        check_chain(spec)
        check_layers(spec, LAYERS)

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the number of each layer, from 1 on, and 0 where the chain has ended."""
        numbers = [1 + list(LAYERS).index(layer.name) for layer in spec.layers[1:-1]]
        return (*numbers, *(0,) * (MOST_LAYERS - len(numbers)))

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        """Return the chain of the layers that a vector names; zeros among them are passed over."""
        names = [list(LAYERS)[choice - 1] for choice in check_choices(choices, self.positions) if choice]
        if not names:
            raise InvalidSpec("name no layer", field="choices")
        layers = tuple(map(Layer, ("input", *names, "output")))
        return NetworkSpec(self.name, chain(len(layers)), layers, config)

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        value = 0
        for layer in spec.layers[1:-1]:
            kernel, width = LAYERS[layer.name]
            value = builder.relu(builder.conv(value, width * spec.config.stem_channels, kernel))
            value = builder.max_pool(value, 2, stride=2)
        return builder.fully_connected(builder.global_mean(value), spec.config.classes)
