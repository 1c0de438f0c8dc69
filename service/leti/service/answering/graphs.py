"""Graphs that a request holds: nothing that they say of shapes and costs is believed, kernels are found anew."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from leti.core.codec import LARGEST_INT, Json
from leti.core.errors import InvalidGraph, InvalidInput, LetiError, TooLarge
from leti.core.graph import Encoding, Graph, Op
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.cost import make_operator, make_unknown, weight_shapes
from leti.generator.fusion import fuse
from leti.generator.lowering import lower
from leti.generator.precision import precision_of, quantize
from leti.generator.spaces import get_space
from leti.service.settings import GraphLimits

if TYPE_CHECKING:
    from leti.core.device import ModelPrecision
    from leti.generator.importers.draft import Draft
    from leti.generator.weights import Array

_COSTS: Final = ("macs", "params", "traffic_bytes")


def read_graph(data: Json, zero: Zero, where: str, limits: GraphLimits) -> tuple[Graph, NetworkSpec | None]:
    """Return a checked graph with the kernels that it runs in, and the spec that it was lowered from where that shows.

    Every operator must be one of the table of costs with the costs that follow from its shapes, and make its outputs of
    its inputs. What the graph says of a search space it keeps only where that space, in its own config, lowers to this
    very graph. Raises :class:`~leti.core.errors.InvalidInput` naming the place below ``where``.
    """
    _check_size(data, where, limits)
    try:
        given = Graph.from_json(data, where)
    except InvalidInput as error:
        if not error.field.startswith(where):
            error.field = f"{where}.{error.field}"
        raise
    for i, op in enumerate(given.ops):
        _check_costs(op, f"{where}.ops[{i}]")
    _check_shapes(given, where)
    bare = fuse(dataclasses.replace(given, kernels=(), peak_memory_bytes=0, encoding=None))
    if bare.macs > LARGEST_INT:
        raise TooLarge(f"takes {bare.macs} multiplications", field=where, remedy=f"at most {LARGEST_INT}")
    return (bare, None) if given.encoding is None else _told(bare, given.encoding, zero)


def in_precision(graph: Graph, precision: ModelPrecision, where: str) -> Graph:
    """Return the graph in a precision; raise :class:`InvalidGraph` where it has another one already."""
    found = precision_of(graph)
    if found == precision:
        return graph
    if found != "float32":
        raise InvalidGraph(
            f"is {found}, and the platform's networks are {precision}", field=where, remedy="send the float32 graph"
        )
    return quantize(graph, precision)


def _check_size(data: Json, where: str, limits: GraphLimits) -> None:
    ops = data.get("ops") if isinstance(data, dict) else None
    if not isinstance(ops, list):
        return  # what is wrong with it, reading tells
    read = [op.get("inputs") for op in ops if isinstance(op, dict)]
    edges = sum(len(sources) for sources in read if isinstance(sources, list))
    for count, limit, what in ((len(ops), limits.operators, "operators"), (edges, limits.edges, "edges")):
        if count > limit:
            raise TooLarge(f"has {count} {what}", field=f"{where}.ops", remedy=f"at most {limit}", limit=limit)


def _check_costs(op: Op, place: str) -> None:
    try:
        if op.is_unknown:
            name = op.kind.partition(":")[2]
            expected = make_unknown(name, op.inputs, op.outputs, weight_shapes(op))
        else:
            expected = make_operator(op.kind, op.inputs, op.outputs, op.attributes)
    except InvalidGraph as error:
        error.field = f"{place}.{error.field}"
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # shapes of another rank, odd attributes
        raise InvalidGraph(f"{op.kind} cannot have these shapes and attributes", field=place) from error
    for name in _COSTS:
        if getattr(op, name) != getattr(expected, name):
            raise InvalidGraph(
                f"must be {getattr(expected, name)} by its shapes, not {getattr(op, name)}", field=f"{place}.{name}"
            )
    if op != expected:
        raise InvalidGraph(
            "says attributes of default value, or an operator in another way than LETI writes it", field=place
        )


def _check_shapes(graph: Graph, where: str) -> None:
    from leti.generator.importers.shapes import check_shapes

    draft = _drafted(graph)
    try:
        check_shapes(draft, draft.nodes)
    except InvalidGraph as error:
        error.field = f"{where}.ops[{error.field}]"
        raise


def _drafted(graph: Graph) -> Draft:
    """Return the graph as a draft, whose nodes have the numbers of the operators as names."""
    from leti.generator.importers.draft import Constant, Draft, Node

    def absent() -> Array:
        raise InvalidGraph("a graph has no weights", field="weights")

    draft = Draft()
    draft.types += graph.inputs
    for i, (op, sources) in enumerate(zip(graph.ops, graph.wiring, strict=True)):
        first = len(draft.types)
        draft.types += op.outputs
        made = tuple(range(first, len(draft.types)))
        dtype = str(op.get("weight_dtype", "")) or (op.outputs[0].dtype if op.outputs else "float32")
        weights = tuple(Constant(shape, dtype, absent) for shape in weight_shapes(op))
        draft.nodes.append(Node(op.kind, sources, made, dict(op.attributes), weights, str(i)))
    return draft


def _told(graph: Graph, encoding: Encoding, zero: Zero) -> tuple[Graph, NetworkSpec | None]:
    """Return the space's own graph and spec where its config is the space's and it is this graph, else the graph."""
    try:
        space = get_space(encoding.space)
        batch, height, width, channels = graph.inputs[0].shape
        config = dataclasses.replace(space.default_config, batch=batch, input_shape=(height, width, channels))
        spec = space.decode(encoding.choices, config)
        found = lower(spec, zero)
    except (LetiError, LookupError, ValueError, TypeError):
        return graph, None
    return (found, spec) if found.fingerprint() == graph.fingerprint() else (graph, None)
