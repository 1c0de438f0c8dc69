"""What post-training quantisation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final, get_args

from leti.core.errors import InvalidInput
from leti.core.graph import Graph
from leti.generator.weights import Array

Method = Literal["dynamic", "static", "float16", "weight_only"]
"""Ranges of activations found as the network runs, or before; weights in half precision; weights alone in few bits."""

Samples = tuple[tuple[Array, ...], ...]
"""An array for each input of the graph, a sample."""

DYNAMIC_BITS = (4, 8)


@final
@dataclass(frozen=True, slots=True)
class QuantizationRecipe:
    """How a network is quantised.

    ``weight_bits`` are 8, or 4 for weights alone and dynamic ranges; of float16 they are 16. ``per_channel`` gives each
    output channel of a filter its scale. ``symmetric_activations`` have the zero point 0. The operators ``kept`` stay
    float32, by their numbers in the graph: mixed precision. So does what runs in one kernel with them.
    """

    method: Method
    weight_bits: int = 8
    per_channel: bool = True
    symmetric_activations: bool = False
    kept: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check what can be checked without a network."""
        if self.method not in get_args(Method):
            raise InvalidInput(f"is {self.method!r}", field="method", remedy=", ".join(get_args(Method)))
        if self.method == "float16":
            object.__setattr__(self, "weight_bits", 16)
        elif self.weight_bits not in ((8,) if self.method == "static" else DYNAMIC_BITS):
            raise InvalidInput(f"is {self.weight_bits}", field="weight_bits", remedy="8, or 4 without static ranges")

    def check(self, graph: Graph) -> None:
        """Raise :class:`~leti.core.errors.InvalidInput` where operators to be kept are not those of a graph."""
        if not set(self.kept) <= set(range(len(graph.ops))):
            raise InvalidInput(f"are {self.kept}", field="recipe.kept", remedy=f"numbers under {len(graph.ops)}")

    def kept_in(self, graph: Graph) -> tuple[int, ...]:
        """Return the operators that stay float32, with those that run in one kernel with them."""
        fused = {i for kernel in graph.kernels if not set(kernel).isdisjoint(self.kept) for i in kernel}
        return tuple(sorted({*self.kept, *fused}))

    def refuse_unless(self, holds: bool, name: str, why: str) -> None:
        """Raise :class:`~leti.core.errors.InvalidInput` naming a field that a back end cannot follow."""
        if not holds:
            raise InvalidInput(f"cannot be {getattr(self, name)!r} here: {why}", field=f"recipe.{name}")
