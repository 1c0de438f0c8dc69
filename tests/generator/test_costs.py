"""What operators cost, and which of them run as one kernel."""

from __future__ import annotations

import pytest

from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.graph import Graph, Op, TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.cost import OPERATORS, constant_attribute, make_operator, peak_memory_bytes, weight_shapes
from leti.generator.fusion import find_kernels, fuse

IMAGE = TensorType((2, 8, 6, 3))  # 2·8·6·3 = 288 elements, 1152 bytes


def build() -> GraphBuilder:
    return GraphBuilder(IMAGE)


def kinds(graph: Graph) -> list[tuple[str, ...]]:
    return [tuple(graph.ops[i].kind for i in kernel) for kernel in graph.kernels]


def test_a_convolution_costs_what_its_loops_do():
    builder = build()
    (op,) = builder.graph(builder.conv(0, 5, 3, stride=2)).ops
    assert op.outputs == (TensorType((2, 4, 3, 5)),)
    assert weight_shapes(op) == ((5, 3, 3, 3), (5,))
    assert op.macs == (2 * 4 * 3 * 5) * (3 * 3 * 3)
    assert op.params == 5 * 27 + 5
    assert op.traffic_bytes == 4 * (288 + 2 * 4 * 3 * 5 + op.params)
    assert (op["kernel"], op["strides"], op["padding"]) == ((3, 3), (2, 2), "same")


def test_a_fully_connected_layer_costs_its_matrix():
    builder = build()
    mean, dense = builder.graph(builder.fully_connected(builder.global_mean(0), 7)).ops
    assert mean.outputs == (TensorType((2, 3)),)
    assert (mean.macs, mean.params, mean.traffic_bytes) == (0, 0, 4 * (288 + 6))
    assert (dense.macs, dense.params) == (2 * 3 * 7, 3 * 7 + 7)


def test_what_has_no_weights_costs_traffic():
    builder = build()
    (op,) = builder.graph(builder.add((0, 0))).ops
    assert (op.macs, op.params, op.traffic_bytes) == (0, 0, 3 * 1152)


def test_an_operator_without_a_row_in_the_table_is_refused():
    with pytest.raises(InvalidGraph, match="'fft'") as caught:
        make_operator("fft", (IMAGE,), (IMAGE,), ())
    assert "conv2d" in caught.value.remedy
    assert "fft" not in OPERATORS


def test_peak_memory_counts_what_is_alive_at_once():
    builder = build()
    wide = builder.conv(0, 30, 3)  # 11520 bytes
    narrow = builder.conv(wide, 3, 3)  # 1152 bytes
    graph = builder.graph(builder.add((narrow, 0)))
    assert graph.peak_memory_bytes == 1152 + 11520 + 1152  # the input is still to be read by the addition


def test_peak_memory_forgets_what_was_read_last():
    builder = build()
    graph = builder.graph(builder.conv(builder.conv(builder.conv(0, 30, 3), 3, 3), 3, 3))
    assert graph.peak_memory_bytes == 11520 + 1152


def test_peak_memory_does_not_store_what_passes_inside_a_kernel():
    builder = build()
    conv = builder.conv(0, 30, 3)
    graph = builder.graph(builder.relu(conv))
    assert graph.kernels == ((0, 1),)
    assert graph.peak_memory_bytes == 1152 + 11520
    apart = peak_memory_bytes(graph.inputs, graph.ops, graph.wiring, graph.outputs, ((0,), (1,)))
    assert apart == 11520 + 11520


def test_peak_memory_of_a_chain_is_that_of_its_largest_pair():
    op = Op.of("relu", (IMAGE,), (IMAGE,))
    assert peak_memory_bytes((IMAGE,), [op] * 3, [(0,), (1,), (2,)], (3,), ((0,), (1,), (2,))) == 2 * 1152


def test_a_relu_goes_into_the_kernel_before_it():
    builder = build()
    graph = builder.graph(builder.relu(builder.conv(0, 4, 3)))
    assert kinds(graph) == [("conv2d", "relu")]


def test_a_relu_stands_alone_where_something_else_reads_what_it_reads():
    builder = build()
    conv = builder.conv(0, 4, 3)
    assert kinds(builder.graph(builder.add((conv, builder.relu(conv))))) == [("conv2d",), ("relu",), ("add",)]


def test_a_relu_of_the_input_or_of_a_concatenation_stands_alone():
    builder = build()
    relu = builder.relu(0)
    graph = builder.graph(builder.relu(builder.concat((relu, builder.max_pool(relu, 3)))))
    assert kinds(graph) == [("relu",), ("max_pool2d",), ("concat",), ("relu",)]


def test_runtimes_fuse_differently():
    builder = build()
    left, right = builder.conv(0, 3, 3), builder.conv(0, 3, 1)
    graph = builder.graph(builder.relu(builder.add((left, right))))
    assert kinds(graph) == [("conv2d",), ("conv2d",), ("add",), ("relu",)]  # XNNPACK's additions end in no clamp
    fused = fuse(graph, "onnxruntime")
    assert sorted(kinds(fused)) == [("conv2d",), ("conv2d", "add", "relu")]
    assert fused == graph
    assert len(fused.kernels) == 2 < len(graph.kernels)
    with pytest.raises(InvalidInput, match="'tensorrt'"):
        fuse(graph, "tensorrt")  # type: ignore[arg-type]


def test_a_constant_runs_with_its_reader():
    constant, image = make_operator("constant", (), (IMAGE,), ()), (IMAGE, IMAGE)
    ops = [constant, make_operator("relu", (IMAGE,), (IMAGE,), ()), make_operator("sub", image, (IMAGE,), ())]
    assert find_kernels(ops, [(), (0,), (1, 2)], (3,)) == ((1,), (0, 2))
    assert peak_memory_bytes((IMAGE,), ops, [(), (0,), (1, 2)], (3,), ((1,), (0, 2))) == 2 * 1152


def test_what_the_graph_returns_keeps_its_value():
    conv, relu = Op.of("conv2d", (IMAGE,), (IMAGE,)), Op.of("relu", (IMAGE,), (IMAGE,))
    assert find_kernels([conv, relu], [(0,), (1,)], (2,)) == ((0, 1),)
    assert find_kernels([conv, relu], [(0,), (1,)], (1, 2)) == ((0,), (1,))


def test_parameter_free_operators_are_placed_once_and_those_with_weights_each_time():
    builder = build()
    assert builder.max_pool(0, 3) == builder.max_pool(0, 3)
    assert builder.add((0, builder.relu(0))) == builder.add((builder.relu(0), 0))
    assert builder.max_pool(0, 3) != builder.max_pool(0, 2)
    assert builder.conv(0, 3, 3) != builder.conv(0, 3, 3)
    assert builder.batch_norm(0) != builder.batch_norm(0)


def test_what_does_not_reach_the_output_is_dropped():
    builder = build()
    builder.conv(builder.relu(0), 64, 3)
    graph = builder.graph(builder.max_pool(0, 3))
    assert [op.kind for op in graph.ops] == ["max_pool2d"]


def test_a_batch_norm_folds_into_a_convolution_that_nothing_else_reads():
    builder = build()
    assert [op.kind for op in builder.graph(builder.batch_norm(builder.conv(0, 4, 3))).ops] == ["conv2d"]
    builder = build()
    conv = builder.conv(0, 4, 3)
    kept = builder.graph(builder.add((conv, builder.batch_norm(conv))))
    assert [op.kind for op in kept.ops] == ["conv2d", "scale", "shift", "add"]


def test_the_graph_may_be_its_input():
    graph = build().graph(0)
    assert (graph.ops, graph.outputs, graph.peak_memory_bytes) == ((), (0,), 1152)


@pytest.mark.parametrize("channels", [1, 6])
def test_a_constant_of_one_value_a_channel_is_written_in_one_way(channels):
    image = TensorType((1, 4, 4, channels))
    plain = make_operator("scale", (image,), (image,), ())
    assert make_operator("scale", (image,), (image,), (("constant", (channels,)),)) is plain
    assert constant_attribute((1, 1, 1, channels), channels) == constant_attribute((channels,), channels) == ()
    assert constant_attribute((), 6) == constant_attribute((1, 1), 6) == (1,)
    assert constant_attribute((), 1) == ()
