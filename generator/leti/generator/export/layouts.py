"""Where the axes of values lie in a file whose windows read channels first: what its exporters have in common.

A value lies in some *order*: axis ``k`` of the file's tensor is axis ``order[k]`` of the graph's. Windows read and make
channels first, other operators what they are given where they can. Another order is a node of its own, once a value,
where somebody asks for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, final

from leti.core.graph import Graph, Op, TensorType
from leti.generator.cost import Shape, same_padding
from leti.generator.orders import Order, channels_first, identity, permuted
from leti.generator.weights import Array

Layout = Literal["first", "last", "free"]
"""How an operator reads and makes tensors of three dimensions and more: "free" is whichever is there."""

Handle = TypeVar("Handle")
"""What stands for a value in a file: its name there, and what else the format wants to know of it."""


class Values(ABC, Generic[Handle]):
    """By which handle each value of the graph lies in which order of its axes.

    ``wanted`` says of each value whether those that read it want it channels first.
    """

    def __init__(self, wanted: Sequence[bool] = ()) -> None:
        self.types: list[TensorType] = []
        self.wanted = wanted
        self._handles: list[dict[Order, Handle]] = []
        self._known: dict[int, Array] = {}

    @abstractmethod
    def constant(self, array: Array) -> Handle:
        """Write a constant."""

    @abstractmethod
    def reshape(self, handle: Handle, shape: Shape) -> Handle:
        """Write a reshape."""

    @abstractmethod
    def transpose(self, handle: Handle, perm: Order) -> Handle:
        """Write a transposition."""

    def value(self, tensor_type: TensorType, handle: Handle, order: Order) -> None:
        """Note what the next value of the graph is in the file, and the order of its axes."""
        self.types.append(tensor_type)
        self._handles.append({order: handle})

    def known(self, tensor_type: TensorType, array: Array) -> None:
        """Note that the next value of the graph is a constant."""
        self._known[len(self.types)] = array.astype(tensor_type.dtype)
        self.types.append(tensor_type)
        self._handles.append({})

    def orders(self, value: int) -> tuple[Order, ...]:
        """Return the orders in which a value can be read without another node; of a constant, which has all, none."""
        return () if value in self._known else tuple(self._handles[value])

    def read(self, value: int, order: Order) -> Handle:
        """Return a value whose axes lie in an order, written now if it is not there yet."""
        handles, shape = self._handles[value], self.types[value].shape
        if order in handles:
            return handles[order]
        if value in self._known:
            handles[order] = self.constant(self._known[value].transpose(order))
            return handles[order]
        held, handle = next(iter(handles.items()))
        if _memory(shape, held) == _memory(shape, order):
            handles[order] = self.reshape(handle, permuted(shape, order))
        else:
            handles[order] = self.transpose(handle, tuple(held.index(axis) for axis in order))
        return handles[order]

    def in_memory(self, value: int, order: Order) -> Handle:
        """Return a value whose elements, if not its axes, lie as in an order."""
        shape = self.types[value].shape
        alike = [held for held in self.orders(value) if _memory(shape, held) == _memory(shape, order)]
        return self.read(value, alike[0] if alike else order)

    def order_read(self, op: Op, sources: Sequence[int], layout: Layout) -> Order:
        """Return the order in which an operator reads: if it may choose, the one in which most of what it reads lies.

        The operator is the one that makes the next value.
        """
        rank = len(op.inputs[0].shape)
        if layout == "first":
            return channels_first(rank)
        if layout == "last" or any(len(given.shape) != rank for given in op.inputs):
            return identity(rank)
        lies = Counter(order for source in sources for order in self.orders(source))
        wanted = channels_first(rank) if self.wanted[len(self.types)] else identity(rank)
        return max([wanted, *lies], key=lies.__getitem__)

    def order_returned(self, value: int) -> Order:
        """Return the order in which the network returns a value: channels first if it lies so."""
        rank = len(self.types[value].shape)
        return channels_first(rank) if channels_first(rank) in self.orders(value) else identity(rank)


def values_wanted(graph: Graph, layout_of: Callable[[str], Layout]) -> list[bool]:
    """Return whether each value is read channels first by a window, at once or past operators of either layout.

    ``layout_of`` gives the layout of each kind of operator.
    """
    wanted = [False] * (len(graph.inputs) + sum(len(op.outputs) for op in graph.ops))
    for op, sources, made in reversed(list(zip(graph.ops, graph.wiring, graph.first_values(), strict=True))):
        layout = layout_of(op.kind)
        if layout == "first" or (layout == "free" and any(wanted[made : made + len(op.outputs)])):
            for source, tensor_type in zip(sources, op.inputs, strict=True):
                wanted[source] |= len(tensor_type.shape) > 2
    return wanted


@dataclass(slots=True)
class Place(Generic[Handle]):
    """An operator in its place: its weights, what it reads, and the order of axes that was chosen for it.

    ``made_order`` is that of its outputs: the one in which it reads, unless its form says otherwise.
    """

    values: Values[Handle]
    op: Op
    sources: tuple[int, ...]
    weights: Sequence[Array]
    order: Order
    made_order: Order = field(init=False)

    def __post_init__(self) -> None:
        """Make outputs as inputs are read."""
        self.made_order = self.order

    @property
    def rank(self) -> int:
        """Number of dimensions of the first input."""
        return len(self.op.inputs[0].shape)

    @property
    def made(self) -> TensorType:
        """Type of the first output, as the graph has it."""
        return self.op.outputs[0]

    @property
    def dtype(self) -> str:
        """Data type of what the operator computes with."""
        return self.op.inputs[0].dtype if self.op.inputs else self.made.dtype

    def read(self, position: int = 0) -> Handle:
        """Return an input, its axes in the operator's order if it has as many."""
        rank = len(self.op.inputs[position].shape)
        return self.values.read(self.sources[position], self.order if rank == self.rank else identity(rank))

    def reads(self) -> list[Handle]:
        """Return all inputs."""
        return [self.read(i) for i in range(len(self.sources))]

    def axis(self, name: str = "axis") -> int:
        """Return an attribute that is an axis, as it is written."""
        return self.order.index(self.op.integer(name))

    def axes(self) -> tuple[int, ...]:
        """Return the attribute ``axes``, as they are written."""
        return tuple(sorted(self.order.index(axis) for axis in self.op.integers("axes")))

    def leave_out(self, axes: Sequence[int]) -> None:
        """Note that the operator's output has its axes but these."""
        kept = [axis for axis in self.order if axis not in axes]
        self.made_order = tuple(sorted(kept).index(axis) for axis in kept)


def reshaped(place: Place[Handle]) -> Handle:
    """Write a reshape in the order of the graph, or one that cuts or joins channels alone with the channels first."""
    values, (source,), given, made = place.values, place.sources, place.op.inputs[0].shape, place.made.shape
    wanted = values.wanted[len(values.types)]
    channels = _channels_apart(given, made)
    if channels is not None and (wanted or channels[0] in values.orders(source)):
        read, place.made_order = channels
        return values.reshape(values.read(source, read), permuted(made, place.made_order))
    handle = values.in_memory(source, identity(len(given)))
    place.made_order = channels_first(len(made)) if wanted and _is_alike(made) else identity(len(made))
    return values.reshape(handle, permuted(made, place.made_order))


def transposed(place: Place[Handle]) -> Handle:
    """Write a transposition of a value in the order in which it lies, which the output then lies in as well."""
    perm, (source,) = place.op.integers("perm"), place.sources
    order = next(iter(place.values.orders(source)), place.order)
    place.made_order = order
    return place.values.transpose(place.values.read(source, order), tuple(order.index(perm[axis]) for axis in order))


@final
@dataclass(frozen=True, slots=True)
class Window:
    """What slides over an image, a number for each of its dimensions; ``before`` and ``after`` are padding."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    before: Shape
    after: Shape

    @classmethod
    def of(cls, op: Op, sizes: Shape) -> Window:
        """Return the window of an operator over an image of these sizes."""
        kernel, strides = op.integers("kernel"), op.integers("strides")
        dilations = op.integers("dilations", (1,) * len(kernel))
        padding: Any = op["padding"]
        if padding == "same":
            padding = same_padding(sizes, kernel, strides, dilations)
        elif padding == "valid":
            padding = (0,) * (2 * len(kernel))
        return cls(kernel, strides, dilations, tuple(padding[::2]), tuple(padding[1::2]))


def _channels_apart(given: Shape, made: Shape) -> tuple[Order, Order] | None:
    """Return the orders that have the channels first of shapes that differ in how the channels are cut, if they do."""
    ranks = sorted((len(given), len(made)))
    kept = ranks[0] - 1
    if ranks[0] == ranks[1] or kept < 2 or given[:kept] != made[:kept]:
        return None
    read, write = ((0, *range(kept, rank), *range(1, kept)) for rank in (len(given), len(made)))
    return read, write


def _is_alike(shape: Shape) -> bool:
    """Return whether the elements of a tensor lie alike channels first and last."""
    return _memory(shape, channels_first(len(shape))) == _memory(shape, identity(len(shape)))


def _memory(shape: Shape, order: Order) -> Order:
    """Return the axes along which elements differ, in an order."""
    return tuple(axis for axis in order if shape[axis] > 1)
