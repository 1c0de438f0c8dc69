"""Relayout: the draft that a change of layouts makes of another, and in what order it holds each value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import final

from leti.core.graph import Attribute, TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, Draft, Node
from leti.generator.orders import (
    Order,
    channels_last,
    identity,
    inverse,
    is_free,
    permuted,
    widened,
)


@final
class Relayout:
    """The new draft, and in what order it holds each value of the old one.

    ``shuffled`` are flattened images that only fully connected layers read: for these, the old shape of the image and
    the order in which it was flattened. The layers' weights take up the difference.
    """

    def __init__(
        self,
        old: Draft,
        wanted: Sequence[Order | None],
        unanimous: AbstractSet[int],
        only_dense: AbstractSet[int],
        *,
        borders: bool,
    ) -> None:
        self.old, self.new = old, Draft()
        self.wanted, self.only_dense = wanted, only_dense
        self.shuffled: dict[int, tuple[Shape, Order]] = {}
        self._borders = borders
        self._transposed = {value for node in old.nodes if node.kind == "transpose" for value in node.outputs}
        self._held: dict[int, tuple[int, Order]] = {}
        self._constants: dict[int, Node] = {}
        self._made: dict[tuple[int, Shape, Order], int] = {}
        for value in old.inputs:
            order = identity(len(self.shape(value)))
            if borders and self.wanted[value] == channels_last(len(order)) and value in unanimous:
                order = channels_last(len(order))
            base = self.new.input(TensorType(permuted(self.shape(value), order), old.types[value].dtype))
            self._held[value] = base, order

    def shape(self, value: int) -> Shape:
        """Return the shape of an old value."""
        return self.old.types[value].shape

    def order(self, value: int) -> Order:
        """Return the order in which an old value is held; a constant is held in any."""
        return identity(len(self.shape(value))) if value in self._constants else self._held[value][1]

    def is_constant(self, value: int) -> bool:
        """Return whether an old value is a constant, which is had in any order for nothing."""
        return value in self._constants

    def hold(self, value: int, base: int, order: Order) -> None:
        """Say that a new value holds an old one, its axes in this order."""
        self._held[value] = base, order

    def constant(self, value: int) -> Node:
        """Return the node of an old value that is a constant."""
        return self._constants[value]

    def hold_constant(self, node: Node) -> None:
        """Keep a constant until somebody reads it."""
        self._constants[node.outputs[0]] = node

    def move(self, value: int, perm: Sequence[int]) -> Order:
        """Return the order in which the transpose of an old value is held if nothing is moved."""
        axes = inverse(perm)
        return tuple(axes[axis] for axis in self.order(value))

    def read(self, value: int, order: Order) -> int:
        """Return the new value that holds an old one in an order, made if need be.

        ``order`` may be of more axes than the value has; it is then read as broadcasting does, with ones in front.
        """
        missing = len(order) - len(self.shape(value))
        if value in self._constants:
            return self._constant(value, order, missing)
        base, held = self._held[value]
        if missing:
            held = widened(held, len(order))
        perm = tuple(held.index(axis) for axis in order)
        return self._permuted(base, perm, missing)

    def cost(self, value: int, order: Order) -> int:
        """Return how many elements must be moved to have an old value in an order.

        None where it is a transpose's result in the order that most of its readers ask for: one of them needs it, and
        it is made at once rather than for each operator further down.
        """
        if value in self._constants or (value in self._transposed and order == self.wanted[value]):
            return 0
        held = widened(self._held[value][1], len(order))
        perm = tuple(held.index(axis) for axis in order)
        shape = (1,) * (len(order) - len(self.shape(value))) + self.new.types[self._held[value][0]].shape
        known = (self._held[value][0], shape, perm) in self._made
        return 0 if known or is_free(shape, perm) else math.prod(shape)

    def choose(self, node: Node, allowed: Callable[[Order], bool] = lambda order: True) -> Order:
        """Return the order to run a node in whose inputs and output have the same axes: the one that moves least."""
        output = node.outputs[0]
        rank, wanted = len(self.shape(output)), self.wanted[output]
        held = [self.order(value) for value in node.inputs if value not in self._constants]
        candidates = [order for order in (wanted, *held, identity(rank)) if order is not None]
        candidates = [order for order in dict.fromkeys(candidates) if len(order) == rank and allowed(order)]
        return min(candidates, key=lambda order: self._cost_of(node, order, wanted))

    def place(
        self,
        node: Node,
        inputs: Sequence[int],
        orders: Sequence[Order],
        changes: Mapping[str, Attribute] | None = None,
        *,
        weights: Sequence[Constant] | None = None,
    ) -> None:
        """Place a node on new values; its outputs are held in these orders. ``changes`` replace attributes."""
        types = [
            TensorType(permuted(self.shape(value), order), self.old.types[value].dtype)
            for value, order in zip(node.outputs, orders, strict=True)
        ]
        made = self.new.place_many(
            node.kind,
            inputs,
            types,
            weights=node.weights if weights is None else weights,
            name=node.name,
            **{**node.attributes, **(changes or {})},
        )
        for value, base, order in zip(node.outputs, made, orders, strict=True):
            self.hold(value, base, order)

    def reshape(self, base: int, shape: Shape, name: str = "") -> int:
        """Return a new value in another shape; itself if it has it."""
        kept = self.new.types[base]
        return (
            base
            if kept.shape == shape
            else self.new.place("reshape", (base,), TensorType(shape, kept.dtype), name=name)
        )

    def finish(self) -> Draft:
        """Return the new draft."""
        self.new.outputs = [self._returned(value) for value in self.old.outputs]
        return self.new

    def _returned(self, value: int) -> int:
        rank = len(self.shape(value))
        order = self.order(value)
        at_border = self._borders and rank > 2 and order == channels_last(rank)
        return self.read(value, order if at_border else identity(rank))

    def _cost_of(self, node: Node, order: Order, wanted: Order | None) -> int:
        moved = sum(self.cost(value, order) for value in node.inputs)
        shape = permuted(self.shape(node.outputs[0]), order)
        if wanted is None or is_free(shape, tuple(order.index(axis) for axis in wanted)):
            return moved
        return moved + math.prod(shape)

    def _constant(self, value: int, order: Order, missing: int) -> int:
        node = self._constants[value]
        weight = node.weights[0]
        shape = (1,) * missing + weight.shape
        key = (-1 - value, shape, order)
        if key not in self._made:
            if order != identity(len(order)):
                weight = weight.reshaped(shape).transposed(order)
                while missing and weight.shape[:1] == (1,):
                    weight, missing = weight.reshaped(weight.shape[1:]), missing - 1
            output = TensorType(weight.shape, self.old.types[value].dtype)
            self._made[key] = self.new.place(
                "constant", (), output, weights=(weight,), name=node.name, **node.attributes
            )
        return self._made[key]

    def _permuted(self, base: int, perm: Order, missing: int) -> int:
        if perm == identity(len(perm)):
            return base
        kept = self.new.types[base]
        shape = (1,) * missing + kept.shape
        key = (base, shape, perm)
        if key not in self._made:
            if is_free(shape, perm):
                self._made[key] = self.reshape(base, permuted(shape, perm))
            else:
                output = TensorType(permuted(shape, perm), kept.dtype)
                self._made[key] = self.new.place("transpose", (self.reshape(base, shape),), output, perm=perm)
        return self._made[key]
