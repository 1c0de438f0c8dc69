"""Graphs in a precision: which operators take whole numbers, where conversions stand, what weights become."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.importers.draft import Constant, Draft
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, precision_of, quantize, quantized
from leti.generator.spaces import SPACES
from leti.generator.weights import random_weights

pytest.importorskip("numpy", reason="the extra `export` is not installed")
import numpy as np

IMAGE = TensorType((1, 8, 8, 16))
SMALL = NetworkConfig(modules_per_stack=1)


def chain(*kinds: str, **attributes) -> Graph:
    draft = Draft()
    value = draft.input(IMAGE)
    for kind in kinds:
        value = draft.place(kind, (value,), IMAGE, **attributes.get(kind, {}))
    draft.outputs = [value]
    return draft.finish().graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


@pytest.fixture(scope="module", params=sorted(SPACES))
def network(request) -> Graph:
    space = SPACES[request.param]
    return lower(space.sample(1, 3, SMALL)[0])


def test_float32_is_the_graph_itself(network):
    assert quantize(network, "float32") is network


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_is_in_the_graph(network, precision):
    graph = quantize(network, precision)
    assert precision_of(graph) == precision
    assert (graph == network) is (precision == "float32")
    assert (graph.macs, graph.params) == (network.macs, network.params)
    assert graph.inputs == network.inputs
    assert graph.encoding == network.encoding
    assert sorted(i for kernel in graph.kernels for i in kernel) == list(range(len(graph.ops)))


def test_smaller_numbers_are_fewer_bytes(network):
    weights = {precision: quantize(network, precision).weight_bytes for precision in PRECISIONS}
    assert weights["float16"] * 2 == pytest.approx(weights["float32"], rel=0.01)
    assert weights["full_integer"] <= weights["dynamic_range"] < weights["float32"]
    assert quantize(network, "full_integer").traffic_bytes < network.traffic_bytes / 2


def test_small_filters_stay_float_in_dynamic_range():
    draft = Draft()
    value = draft.input(IMAGE)
    for channels in (63, 64, 4):
        read = draft.types[value]
        made = TensorType((1, 8, 8, channels))
        filters = Constant.of(np.zeros((channels, 1, 1, read.shape[-1]), np.float32))
        value = draft.place(
            "conv2d", (value,), made, weights=[filters], bias=False, kernel=(1, 1), strides=(1, 1), padding="valid"
        )
    draft.outputs = [value]
    stored = [op.get("weight_dtype", "") for op in quantize(draft.finish().graph, "dynamic_range").ops]
    assert stored == ["", "int8", ""]  # of 1008, 4032 and 256 elements


def test_full_integers_begin_and_end_in_float():
    graph = quantize(chain("relu", "sigmoid"), "full_integer")
    assert kinds(graph) == ["quantize", "relu", "sigmoid", "dequantize"]
    assert {t.dtype for op in graph.ops[1:3] for t in op.outputs} == {"int8"}


def test_operators_that_are_kept_stay_float():
    graph = chain("relu", "abs", "relu6")
    mixed = quantize(graph, "full_integer", kept=(1,))
    assert kinds(mixed) == ["quantize", "relu", "dequantize", "abs", "quantize", "relu6", "dequantize"]
    assert quantize(graph, "full_integer", kept=(0, 1, 2)) == graph
    with pytest.raises(InvalidInput) as caught:
        quantize(graph, "full_integer", kept=(3,))
    assert caught.value.field == "kept"


def test_operators_without_integer_kernels_stay_float():
    graph = quantize(chain("relu", "sin", "cos", "relu"), "full_integer")
    assert kinds(graph) == ["quantize", "relu", "dequantize", "sin", "cos", "quantize", "relu", "dequantize"]
    assert kinds(quantize(chain("sin"), "full_integer")) == ["sin"]


def test_a_value_is_converted_once_for_all_that_read_it():
    draft = Draft()
    value = draft.input(IMAGE)
    left, right = (draft.place("relu", (draft.place("sin", (value,), IMAGE),), IMAGE) for _ in range(2))
    draft.outputs = [draft.place("add", (left, value), IMAGE), draft.place("mul", (right, value), IMAGE), value]
    graph = quantize(draft.finish().graph, "full_integer")
    assert kinds(graph).count("quantize") == 3  # the input, and what each sin makes
    assert graph.outputs[2] == 0


def test_what_is_joined_gets_a_scale_of_its_own():
    """A kernel fixes the scale of a sigmoid; a concatenation needs one for all that it reads."""
    draft = Draft()
    value = draft.input(IMAGE)
    gate = draft.place("reshape", (draft.place("sigmoid", (value,), IMAGE),), IMAGE)
    draft.outputs = [draft.place("concat", (gate, value), TensorType((1, 8, 8, 32)), axis=3)]
    graph = quantize(draft.finish().graph, "full_integer")
    assert kinds(graph) == ["quantize", "sigmoid", "reshape", "quantize", "concat", "dequantize"]
    assert graph.ops[3].inputs[0].dtype == graph.ops[3].outputs[0].dtype == "int8"


def test_indices_stay_whole_and_tables_become_int8():
    draft = Draft()
    value = draft.input(TensorType((2, 6), "int32"))
    table = Constant.of(np.zeros((64, 32), np.float32))
    draft.outputs = [draft.place("embedding", (value,), TensorType((2, 6, 32)), weights=[table], rows=64)]
    graph = draft.finish().graph
    for precision in ("dynamic_range", "full_integer"):
        made = quantize(graph, precision)
        assert kinds(made) == ["embedding", "dequantize"]
        assert made.ops[0].inputs[0].dtype == "int32"
    assert precision_of(quantize(graph, "dynamic_range")) == "dynamic_range"


def test_a_constant_is_stored_as_each_reader_wants_it():
    draft = Draft()
    value = draft.input(IMAGE)
    constant = draft.constant(Constant.of(np.ones(IMAGE.shape, np.float32)))
    powers = draft.place("power", (value, constant), IMAGE)
    draft.outputs = [draft.place("mul", (powers, constant), IMAGE)]
    imported = draft.finish(weights=True)
    changed = quantized(imported.graph, "full_integer")
    stored = [op.outputs[0].dtype for op in changed.graph.ops if op.kind == "constant"]
    assert sorted(stored) == ["float32", "int8"]
    weights = changed.weights(imported.weights)
    assert [len(arrays) for arrays in weights] == [int(op.kind == "constant") for op in changed.graph.ops]


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), precision=st.sampled_from(PRECISIONS))
def test_weights_follow_their_operators(seed, precision):
    graph = lower(SPACES["nasbench201"].sample(1, seed, SMALL)[0])
    weights = random_weights(graph, 0)
    changed = quantized(graph, precision)
    for op, origin, arrays in zip(changed.graph.ops, changed.origins, changed.weights(weights), strict=True):
        if origin < 0:
            assert op.kind in ("quantize", "dequantize")
            assert arrays == ()
        else:
            assert op.kind == graph.ops[origin].kind
            assert arrays == weights[origin]


def test_a_precision_is_given_once():
    graph = chain("relu")
    with pytest.raises(InvalidInput) as caught:
        quantize(graph, "int4")
    assert caught.value.field == "precision"
    with pytest.raises(InvalidGraph, match="full_integer already"):
        quantize(quantize(graph, "full_integer"), "float16")
