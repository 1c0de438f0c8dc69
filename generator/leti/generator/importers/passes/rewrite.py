"""Rewrite: a draft made of another one, node by node; what every pass is written with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import final

from leti.core.graph import Attribute
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, Draft, Node

SMALL_ELEMENTS = 1024
"""Constants of at most so many elements may be read while a network is simplified; larger ones stay unloaded."""


@final
class Rewrite:
    """The new draft, and where the values of the old one are in it. The old one is never changed."""

    def __init__(self, old: Draft) -> None:
        self.old = old
        self.new = Draft()
        self.values: dict[int, int] = {value: self.new.input(old.types[value]) for value in old.inputs}
        self.makers: dict[int, Node] = {value: node for node in old.nodes for value in node.outputs}
        self.readers: dict[int, list[Node]] = defaultdict(list)
        for node in old.nodes:
            for value in node.inputs:
                self.readers[value].append(node)
        self._returned = frozenset(old.outputs)

    def keep(self, node: Node, inputs: Sequence[int] | None = None) -> None:
        """Place a node of the old draft as it is, or on other new values of the same types."""
        first = len(self.new.types)
        self.new.types.extend(self.old.types[value] for value in node.outputs)
        made = tuple(range(first, len(self.new.types)))
        self.values.update(zip(node.outputs, made, strict=True))
        read = tuple(self.values[value] for value in node.inputs) if inputs is None else tuple(inputs)
        self.new.nodes.append(Node(node.kind, read, made, node.attributes, node.weights, node.name))

    def replace(
        self,
        node: Node,
        kind: str,
        value: int,
        attributes: Mapping[str, Attribute] = MappingProxyType({}),
        weights: Sequence[Constant] = (),
    ) -> None:
        """Place an operator on a new value that makes what ``node`` makes."""
        self.values[node.outputs[0]] = self.new.place(
            kind, (value,), self.old.types[node.outputs[0]], weights=weights, name=node.name, **attributes
        )

    def reweigh(self, node: Node, weights: tuple[Constant, ...]) -> bool:
        """Give a node that was kept as it is other weights of the same shapes; return whether it was kept."""
        made = self.values[node.outputs[0]]
        place = next(i for i in range(len(self.new.nodes) - 1, -1, -1) if made in self.new.nodes[i].outputs)
        kept = self.new.nodes[place]
        if kept.kind == node.kind and kept.weights == node.weights:
            self.new.nodes[place] = replace(kept, weights=weights)
            return True
        return False

    def maker(self, value: int, *kinds: str) -> Node | None:
        """Return the old node that makes an old value, if it is of one of these kinds."""
        node = self.makers.get(value)
        return node if node is not None and node.kind in kinds else None

    def only_reader(self, value: int) -> Node | None:
        """Return the one old node that reads an old value, once, if nothing else does."""
        readers = self.readers[value]
        return readers[0] if len(readers) == 1 and value not in self._returned else None

    def is_returned(self, value: int) -> bool:
        """Return whether an old value is an output of the network."""
        return value in self._returned

    def shape(self, value: int) -> Shape:
        """Return the shape of an old value."""
        return self.old.types[value].shape

    def is_float(self, value: int) -> bool:
        """Return whether an old value holds floating-point numbers."""
        return "float" in self.old.types[value].dtype

    def finish(self) -> Draft:
        """Return the new draft."""
        self.new.outputs = [self.values[value] for value in self.old.outputs]
        return self.new


def scalar(constant: Constant) -> float | None:
    """Return the value of a constant of one element, and nothing of any other."""
    return float(constant.array().reshape(-1)[0]) if all(size == 1 for size in constant.shape) else None
