"""ONNX export: Graph → model file.

Images are written channels first, as ONNX's windows read them, inputs and outputs of the network as well; what needs
the graph's own order, such as a flattening, reads them transposed. Padding is written in numbers. Operators that ONNX
does not have are spelled out with those that it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from leti.core.errors import InvalidGraph, TooLarge
from leti.core.extras import needs
from leti.core.graph import Graph, Op, TensorType
from leti.generator.export.layouts import Layout, values_wanted
from leti.generator.export.onnx.forms import FORMS, form_of
from leti.generator.export.onnx.site import Program, Site, element_of
from leti.generator.orders import Order, channels_first, identity, permuted
from leti.generator.weights import Array, Weights, check_weights, random_weights

with needs("import-onnx"):
    import onnx

MAX_PARAMS = 400_000_000
"""1.6 GB of weights: a protobuf is at most 2 GiB."""

_OPSETS = {"rms_norm": 23}  # the version of operators in which what is not of _OPSET came
_OPSET = 21
_IR_VERSIONS = {21: 10, 23: 11}  # of the file, that came with each version of operators


def export_onnx(graph: Graph, *, seed: int = 0, weights: Weights | None = None) -> bytes:
    """Return the model file of a graph in float32 or float16.

    ``weights`` holds a tuple of arrays for each operator of the graph, of the shapes that
    :func:`~leti.generator.cost.weight_shapes` gives; without them,
    :func:`~leti.generator.weights.random_weights` of ``seed``. An input of three dimensions or more that windows read
    is channels first in the file, ``(batch, channels, height, width)``, and so is such an output. Raises
    :class:`~leti.core.errors.InvalidInput` for weights that do not fit, :class:`InvalidGraph` for an operator that
    ONNX cannot say, :class:`TooLarge` for a graph of more than :data:`MAX_PARAMS` parameters.
    """
    if graph.params > MAX_PARAMS:
        raise TooLarge(f"has {graph.params} parameters", field="params", remedy=f"at most {MAX_PARAMS}")
    _check(graph)
    if weights is None:
        weights = random_weights(graph, seed)
    check_weights(graph, weights)
    program = Program(values_wanted(graph, _layout))
    inputs = []
    for number, (tensor_type, order) in enumerate(zip(graph.inputs, input_orders(graph), strict=True)):
        program.value(tensor_type, f"input{number}", order)
        inputs.append(_info(f"input{number}", tensor_type, order))
    for op, sources, arrays in zip(graph.ops, graph.wiring, weights, strict=True):
        _write(program, op, sources, arrays)
    outputs = [_output(program, number, value) for number, value in enumerate(graph.outputs)]
    return _model(graph, program, inputs, outputs)


def _check(graph: Graph) -> None:
    for i, op in enumerate(graph.ops):
        if op.kind != "constant":
            form_of(op)
        if op.get("weight_dtype", ""):
            raise InvalidGraph(f"quantised weights are not written, {op['weight_dtype']!r}", field=f"ops[{i}]")


def input_orders(graph: Graph) -> tuple[Order, ...]:
    """Return in which order of axes the file of a graph takes each input: channels first where windows read it."""
    ranks = [len(tensor_type.shape) for tensor_type in graph.inputs]
    wanted = values_wanted(graph, _layout)
    return tuple(channels_first(rank) if wanted[i] else identity(rank) for i, rank in enumerate(ranks))


def _layout(kind: str) -> Layout:
    return FORMS[kind].layout if kind in FORMS else "last"


def _write(program: Program, op: Op, sources: tuple[int, ...], arrays: Sequence[Array]) -> None:
    if op.kind == "constant":
        program.known(op.outputs[0], arrays[0])
        return
    form = form_of(op)
    site = Site(program, op, sources, arrays, program.order_read(op, sources, form.layout))
    made = form.write(site)
    for tensor_type, name in zip(op.outputs, (made,) if isinstance(made, str) else made, strict=True):
        rank = len(tensor_type.shape)
        program.value(tensor_type, name, site.made_order if len(site.made_order) == rank else identity(rank))


def _output(program: Program, number: int, value: int) -> onnx.ValueInfoProto:
    """Name an output; one that the graph returns twice, or reads, is two in the file."""
    tensor_type, order = program.types[value], program.order_returned(value)
    name = program.read(value, order)
    program.nodes.append(onnx.helper.make_node("Identity", [name], [f"output{number}"], name=f"Output{number}"))
    return _info(f"output{number}", tensor_type, order)


def _info(name: str, tensor_type: TensorType, order: Order) -> onnx.ValueInfoProto:
    shape = permuted(tensor_type.shape, order)
    return onnx.helper.make_tensor_value_info(name, element_of(tensor_type.dtype), shape)


def _model(
    graph: Graph, program: Program, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> bytes:
    opset = max([_OPSET, *(_OPSETS.get(op.kind, 0) for op in graph.ops)])
    made = onnx.helper.make_graph(program.nodes, "network", inputs, outputs, program.constants)
    model = onnx.helper.make_model(
        made,
        producer_name="leti",
        ir_version=_IR_VERSIONS[opset],
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    return bytes(model.SerializeToString())
