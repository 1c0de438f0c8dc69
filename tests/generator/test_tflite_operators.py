"""Every kind of operator as a TFLite file, in every precision: run in LiteRT, compared with numpy, read back."""

from __future__ import annotations

import numpy as np
import pytest

from leti.core.device import ModelPrecision
from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.cost import OPERATORS, make_operator
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, quantize, quantized
from leti.generator.spaces import SPACES

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra `export` is not installed")

import evaluator
import operator_cases as cases

from leti.generator.export.tflite import export_tflite
from leti.generator.export.tflite.forms import FORMS
from leti.generator.importers import import_model
from leti.generator.weights import random_weights

PASSES_THROUGH = ("quantize", "dequantize")  # graphs of int8 from the start
CASES = [case for case in cases.CASES if case.kind not in PASSES_THROUGH]

BOUNDS: dict[ModelPrecision, float] = {"float32": 1e-4, "float16": 1e-3, "dynamic_range": 2e-2, "full_integer": 4e-2}
"""The largest difference, as a share of the largest value of the reference."""

COARSE = {"selu": 0.25, "mish": 0.35, "softplus": 0.35}
"""Full integers alone: int8 of ``exp`` over a wide range, as the converter writes it, leaves little of small values."""

SPELLED_OUT = {
    "transpose_conv2d cut": "a slice after the whole transposed convolution",
    "avg_pool2d counted": "a pool after zeros",
    "avg_pool2d padded": "a pool after zeros, and a scale for those that do not count",
    "max_pool2d padded": "a pool after the lowest number",
    "batch_norm": "a scale and a shift",
    "normalization": "a scale and a shift",
    "erf": "a polynomial",
    "elu of another slope": "an elu, a scale and a choice",
    "clip from below": "a maximum",
    "softmax over rows": "transposes around it",
    "argmin": "a reshape after it",
}
"""Cases that come back from a file as their parts, unless a pattern of the importer knows them."""

ROUNDED = {"clip", "pad by ones"}
"""Attributes that are int8 constants in a file of full integers, and come back as those numbers stand for."""


def run(file: bytes, inputs) -> list[np.ndarray]:
    model = interpreters.Interpreter(model_content=file, num_threads=1)
    model.allocate_tensors()
    for given, array in zip(model.get_input_details(), inputs, strict=True):
        model.set_tensor(given["index"], array)
    model.invoke()
    return [model.get_tensor(made["index"]) for made in model.get_output_details()]


def written(case, precision: ModelPrecision) -> tuple[Graph, bytes]:
    imported = case.imported()
    changed = quantized(imported.graph, precision)
    weights = changed.weights(imported.weights)
    return changed.graph, export_tflite(changed.graph, weights=weights, representative=[case.inputs])


def test_every_kind_has_a_form_and_a_case():
    assert set(FORMS) == set(OPERATORS)
    assert {case.kind for case in cases.CASES} == set(OPERATORS)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_computes_what_its_operator_means(case, precision):
    expected = evaluator.evaluate(case.draft, [a.astype(np.float64) for a in case.inputs])
    _, file = written(case, precision)
    bound = COARSE.get(case.kind, BOUNDS[precision]) if precision == "full_integer" else BOUNDS[precision]
    for made, meant in zip(run(file, case.inputs), expected, strict=True):
        assert made.shape == meant.shape
        if made.dtype == np.bool_ or (made.dtype.kind == "i" and precision == "full_integer"):
            assert np.mean(made != meant) <= (0.05 if precision == "full_integer" else 0)
        else:
            assert np.isfinite(made).all()
            assert np.abs(made - meant).max() <= bound * max(np.abs(meant).max(), 1e-6)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_a_file_is_read_back_as_the_graph_that_was_written(case, tmp_path):
    for precision in PRECISIONS if case.kind not in PASSES_THROUGH else ("float32",):
        graph, file = written(case, precision)
        path = tmp_path / f"{precision}.tflite"
        path.write_bytes(file)
        read = import_model(path).graph
        assert not read.unknown
        assert read.inputs == graph.inputs
        if case.name in SPELLED_OUT:
            assert read.macs == graph.macs
        elif precision == "full_integer" and case.name in ROUNDED:
            assert [op.kind for op in read.ops] == [op.kind for op in graph.ops]
        else:
            assert read == graph, (precision, read.ops, graph.ops)


@pytest.mark.parametrize("space", sorted(set(SPACES) - {"random"}))  # whose graphs no importer has simplified
def test_networks_of_the_spaces_come_back_in_every_precision(space, tmp_path):
    for spec in SPACES[space].sample(2, 1, NetworkConfig(modules_per_stack=1)):
        for precision in PRECISIONS:
            graph = quantize(lower(spec), precision)
            (tmp_path / "network.tflite").write_bytes(export_tflite(graph))
            assert import_model(tmp_path / "network.tflite").graph == graph, precision


@pytest.mark.parametrize("kind", PASSES_THROUGH)
def test_a_graph_may_pass_through_int8(kind):
    case = next(case for case in cases.CASES if case.kind == kind)
    imported = case.imported()
    (made,) = run(export_tflite(imported.graph, weights=imported.weights, representative=[case.inputs]), case.inputs)
    assert 0 < np.abs(made - case.inputs[0]).max() <= np.ptp(case.inputs[0]) / 255


@pytest.mark.parametrize(
    ("kind", "shapes", "attributes", "says"),
    [
        (
            "conv3d",
            ((1, 4, 4, 4, 4), (1, 4, 4, 4, 4)),
            {"kernel": (1, 1, 1), "strides": (1, 1, 1), "groups": 2},
            "groups",
        ),
        (
            "transpose_conv2d",
            ((1, 4, 4, 4), (1, 4, 4, 4)),
            {"kernel": (1, 1), "strides": (1, 1), "groups": 2},
            "groups",
        ),
        (
            "max_pool2d",
            ((1, 4, 4, 4), (1, 4, 4, 4)),
            {"kernel": (2, 2), "strides": (1, 1), "dilations": (2, 2)},
            "dilations",
        ),
        ("pad", ((1, 4), (1, 6)), {"paddings": (0, 0, 1, 1), "mode": "edge"}, "edge"),
        ("resize", ((1, 4, 4, 1), (1, 8, 8, 1)), {"method": "bicubic"}, "bicubic"),
    ],
)
def test_what_litert_cannot_do_is_refused_with_the_reason(kind, shapes, attributes, says):
    window = {"padding": "same"} if "kernel" in attributes else {}
    types = [TensorType(shape) for shape in shapes]
    op = make_operator(kind, (types[0],), (types[1],), tuple(sorted((attributes | window).items())))
    with pytest.raises(InvalidGraph, match=says) as caught:
        export_tflite(Graph((types[0],), (op,), ((0,),), (1,)))
    assert caught.value.field == f"ops[0].{kind}"


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_whole_numbers_are_squared_and_places_counted_in_any_width(dtype):
    numbers, best = TensorType((2, 5), dtype), TensorType((2, 2))
    image, places = TensorType((2, 5)), TensorType((2, 2), dtype)
    square = make_operator("square", (numbers,), (numbers,), ())
    top = make_operator("top_k", (image,), (best, places), ())
    graph = Graph((numbers, image), (square, top), ((0,), (1,)), (2, 3, 4))
    whole = np.array([[0, 1, 2, 3, -4], [5, -6, 7, 8, 9]], dtype)
    values = np.array([[0.5, 3, 1, 2, 0], [-1, -2, -3, -4, -0.5]], np.float32)
    made = run(export_tflite(graph), [whole, values])
    for got, expected in zip(made, [whole**2, [[3, 2], [-0.5, -1]], np.array([[1, 3], [4, 0]], dtype)], strict=True):
        np.testing.assert_array_equal(got, expected)
    assert made[0].dtype == made[2].dtype == dtype


@pytest.mark.parametrize("bad", [-np.inf, np.nan])
@pytest.mark.parametrize(("kind", "position"), [("shift", 0), ("fully_connected", 0), ("fully_connected", 1)])
def test_infinities_are_no_whole_numbers(kind, position, bad):
    image = TensorType((2, 64))
    graph = Graph((image,), (make_operator(kind, (image,), (image,), ()),), ((0,),), (1,))
    (weights,) = random_weights(graph, 0)
    weights[position].flat[3] = bad
    export_tflite(graph, weights=(weights,))
    for precision in ("dynamic_range", "full_integer"):
        made = quantized(graph, precision)
        if precision == "full_integer" or (kind, position) == ("fully_connected", 0):
            with pytest.raises((InvalidInput, InvalidGraph), match=r"infinities|not finite"):
                export_tflite(made.graph, weights=made.weights((weights,)))


def test_a_scale_that_nobody_knows_is_not_invented():
    image, whole = TensorType((1, 4), "uint8"), TensorType((1, 4), "int8")
    graph = Graph((image,), (make_operator("quantize", (image,), (whole,), ()),), ((0,),), (1,))
    with pytest.raises(InvalidGraph, match="scale of its uint8"):
        export_tflite(graph)


@pytest.mark.parametrize("kind", ["relu", "broadcast_to"])
def test_numbers_that_a_file_cannot_hold_are_refused(kind):
    image, made = TensorType((1, 4)), TensorType((2**40, 4))
    inputs = image if kind == "broadcast_to" else made
    graph = Graph((inputs,), (make_operator(kind, (inputs,), (made,), ()),), ((0,),), (1,))
    with pytest.raises(InvalidInput, match=r"dimension|32 bits"):
        export_tflite(graph)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_activations_that_litert_does_not_compute_with_are_refused(dtype):
    image, half = TensorType((1, 4)), TensorType((1, 4), dtype)
    ops = (make_operator("cast", (image,), (half,), ()), make_operator("relu", (half,), (half,), ()))
    with pytest.raises(InvalidGraph, match=f"makes {dtype}"):
        export_tflite(Graph((image,), ops, ((0,), (1,)), (2,)))
