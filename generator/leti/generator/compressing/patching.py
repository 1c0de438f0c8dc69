"""Patching: a base graph and a patch become the graph of the compressed network.

Widths first, then operators are taken apart, then the precision: see :class:`~leti.core.patches.Patch`. No weights are
touched; who changes those takes the graph from here, so that what is predicted is what is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from leti.core.device import ModelPrecision
from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.graph import Attribute, Graph, Op, TensorType
from leti.core.patches import Patch
from leti.generator.compressing.factors import Factor, factors
from leti.generator.compressing.groups import Axis, Channels, axis_size, find_channels
from leti.generator.cost import make_operator
from leti.generator.fusion import fuse
from leti.generator.precision import quantized

Role = Literal["same", "first", "core", "column", "row", "last", "conversion"]
"""What an operator is to the one of the base that it came from; ``"conversion"`` between precisions came from none."""


@dataclass(frozen=True, slots=True)
class Patched:
    """The graph of a compressed network; ``origins[i]`` is the base operator that operator ``i`` came from, and its
    role there. The number is -1 where the role is ``"conversion"``.
    """

    graph: Graph
    origins: tuple[tuple[int, Role], ...]


def patched(graph: Graph, patch: Patch, where: str = "patch") -> Patched:
    """Return the graph that a patch makes of a base graph, with LiteRT's kernels and the peak memory that follows.

    Raises :class:`~leti.core.errors.InvalidInput` where the patch does not fit, naming the place below ``where``, such
    as ``patch.widths[3]``. For many patches of one base see :class:`Patching`.
    """
    return Patching(graph).patched(patch, where)


@final
class Patching:
    """A base graph whose channel groups are found once, for any number of patches."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.channels: Channels = find_channels(graph)
        self._group_of = {member: group.number for group in self.channels.groups for member in group.members}

    def patched(self, patch: Patch, where: str = "patch") -> Patched:
        """Return the graph that a patch makes; see :func:`patched`."""
        graph = self.graph
        every: tuple[tuple[int, Role], ...] = tuple([(i, "same") for i in range(len(graph.ops))])
        narrowed = self._narrowed(self.widths(patch.widths, where))
        found = Patched(narrowed, every) if not patch.ranks else _taken_apart(narrowed, patch.ranks, where)
        if found.graph is not graph:
            found = Patched(fuse(found.graph), found.origins)
        return _in_precision(found, patch.precision, where) if patch.precision else found

    def widths(self, asked: Mapping[int, int], where: str = "patch") -> tuple[int, ...]:
        """Return the channels that each group keeps; raise :class:`~leti.core.errors.InvalidInput` where it cannot."""
        groups = self.channels.groups
        widths = [group.channels for group in groups]
        chosen: dict[int, int] = {}
        for operator, width in asked.items():
            place = f"{where}.widths[{operator}]"
            _check_operator(operator, self.graph, place)
            if operator not in self._group_of:
                raise InvalidInput(
                    f"{self.graph.ops[operator].kind} makes no channels of one group",
                    field=place,
                    remedy="name the operators that make them",
                )
            group = groups[self._group_of[operator]]
            _check_size(width, group.channels, "channels", place)
            if group.fixed and width != group.channels:
                raise InvalidInput(f"the {group.channels} channels have to stay: {group.fixed}", field=place)
            if chosen.setdefault(group.number, width) != width:
                raise InvalidInput(
                    f"keeps {width} channels, where another operator of the same group keeps {chosen[group.number]}",
                    field=place,
                    remedy="name one operator of a group, or give one width",
                )
            widths[group.number] = width
        return tuple(widths)

    def _narrowed(self, widths: Sequence[int]) -> Graph:
        graph, channels = self.graph, self.channels
        if all(width == group.channels for width, group in zip(widths, channels.groups, strict=True)):
            return graph
        types: list[TensorType] = list(graph.inputs)
        ops: list[Op] = []
        for op, sources in zip(graph.ops, graph.wiring, strict=True):
            inputs = tuple([types[source] for source in sources])
            axes = channels.axes[len(types) : len(types) + len(op.outputs)]
            outputs = tuple([resized(t, axis, widths) for t, axis in zip(op.outputs, axes, strict=True)])
            types += outputs
            ops.append(narrowed(op, inputs, outputs))
        return Graph(graph.inputs, tuple(ops), graph.wiring, graph.outputs)


def narrowed(op: Op, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...]) -> Op:
    """Return an operator that reads and makes other channels."""
    if inputs == op.inputs and outputs == op.outputs:
        return op
    return make_operator(op.kind, inputs, outputs, _attributes(op, inputs))


def resized(tensor_type: TensorType, axis: Axis, widths: Sequence[int]) -> TensorType:
    """Return a type whose last dimension, which consists of ``axis``, has ``widths[g]`` channels of group ``g``."""
    size = axis_size(axis, widths)
    if not axis or tensor_type.shape[-1] == size:
        return tensor_type
    return TensorType((*tensor_type.shape[:-1], size), tensor_type.dtype)


def _attributes(op: Op, inputs: Sequence[TensorType]) -> tuple[tuple[str, Attribute], ...]:
    """Return the attributes of an operator on other channels: a constant of one value a channel shrinks with them."""
    constant = op.integers("constant", ()) if op.inputs else ()
    if not constant or constant[-1] != op.inputs[0].shape[-1] or constant == (1,):
        return op.attributes
    changed = (*constant[:-1], inputs[0].shape[-1])
    return tuple([(name, changed if name == "constant" else value) for name, value in op.attributes])


def _taken_apart(graph: Graph, ranks: Mapping[int, tuple[int, ...]], where: str) -> Patched:
    """Return the graph in which operators of low rank stand as their factors, one after the other."""
    for operator in ranks:
        _check_operator(operator, graph, f"{where}.ranks[{operator}]")
    ops: list[Op] = []
    wiring: list[tuple[int, ...]] = []
    origins: list[tuple[int, Role]] = []
    values = list(range(len(graph.inputs)))
    made = len(values)
    for number, (op, sources) in enumerate(zip(graph.ops, graph.wiring, strict=True)):
        placed: tuple[Factor, ...] = (("same", op),)
        if number in ranks:
            placed = factors(op, ranks[number], f"{where}.ranks[{number}]")
        read = tuple([values[source] for source in sources])
        for role, factor in placed:
            ops.append(factor)
            wiring.append(read)
            origins.append((number, role))
            read = (made,)
            made += len(factor.outputs)
        values += range(made - len(op.outputs), made)
    outputs = tuple([values[output] for output in graph.outputs])
    return Patched(Graph(graph.inputs, tuple(ops), tuple(wiring), outputs), tuple(origins))


def _in_precision(found: Patched, precision: ModelPrecision, where: str) -> Patched:
    try:
        made = quantized(found.graph, precision)
    except (InvalidInput, InvalidGraph) as error:
        raise InvalidInput(error.message, field=f"{where}.precision", remedy=error.remedy) from error
    conversion: tuple[int, Role] = (-1, "conversion")
    return Patched(made.graph, tuple([found.origins[i] if i >= 0 else conversion for i in made.origins]))


def _check_operator(operator: int, graph: Graph, place: str) -> None:
    if not 0 <= operator < len(graph.ops):
        raise InvalidInput(f"there is no operator {operator}: the base has {len(graph.ops)}", field=place)


def _check_size(size: int, most: int, what: str, place: str) -> None:
    if not 1 <= size <= most:
        raise InvalidInput(f"must be 1 to {most} {what}, not {size}", field=place)
