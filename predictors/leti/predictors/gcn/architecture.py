"""Architecture: the sizes of a graph network and the shapes of its weights, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

Head = Literal["sum", "priced"]
"""``sum``: a line over the readout's sum of embeddings. ``priced``: the physical head of :class:`GraphNetwork`."""

MAX_CORRECTION = 4.0
"""A kernel's price lies within this many units of its base in logarithms: a factor of 55 either way."""


@final
@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a network: vocabularies, columns of nodes and of graphs, members, hidden units, layers, ways to gather.

    ``own`` gives a layer weights for the node itself and adds to its embedding instead of replacing it.
    """

    kinds: int
    families: int
    numbers: int
    whole: int
    members: int
    units: int
    layers: int
    ways: int
    own: bool
    head: Head

    @classmethod
    def of(
        cls,
        sizes: tuple[int, int, int, int],
        members: int,
        *,
        units: int,
        layers: int,
        ways: int,
        own: bool,
        head: Head,
    ) -> Architecture:
        """Return the architecture for an encoder's sizes: kinds, families, columns of nodes and of graphs."""
        return cls(*sizes, members, units, layers, ways, own, head)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every weight."""
        m, u = self.members, self.units
        shapes: dict[str, tuple[int, ...]] = {
            "kind": (self.kinds + 1, m * u),
            "family": (self.families + 1, m * u),
            "number": (self.numbers, m * u),
            "first": (m * u,),
        }
        for layer in range(self.layers):
            shapes[f"layer{layer}"] = (m, (self.ways + self.own) * u, u)
            shapes[f"bias{layer}"] = (m, u)
        if self.head == "sum":
            return {**shapes, "out": (m, u), "level": (m,)}
        return {
            **shapes,
            "out": (m, u),
            "kind_price": (self.kinds + 1, m),
            "family_price": (self.families + 1, m),
            "number_price": (self.numbers, m),
            "overhead": (m,),
            "surroundings": (m, u + self.whole, u),
            "surroundings_bias": (m, u),
            "surroundings_out": (m, u),
        }
