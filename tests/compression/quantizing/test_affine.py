"""Affine quantisation: what papers say of it, and what runtimes compute."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="the extra `compression` is not installed")
pytest.importorskip("litert_quantizer", reason="the extra `compression` is not installed")

import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from leti.compression.quantizing.affine import Affine, accumulator_bits, affine, averaged_min_max, fitted
from leti.compression.quantizing.backends import QuantizationRecipe, quantize_model
from leti.compression.quantizing.clipping import aciq_range, clipping_value, expected_error
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.export.tflite import precisions
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def test_the_sign_of_a_zero_point_is_that_of_the_convention():
    made = affine(-500, 2050)
    assert made.scales == pytest.approx(10)
    assert made.zero_points == [-78]  # 78 where it is subtracted: q = x / s - z
    np.testing.assert_array_equal(made.quantized(np.asarray([-500.0, 0.0, 2050.0, 9999.0])), [-128, -78, 127, 127])
    assert made.dequantized(np.asarray([-78]))[0] == 0


@pytest.mark.parametrize(
    ("bits", "channels", "kernel", "wanted"), [(8, 64, (3, 3), 26), (8, 1, (1, 1), 16), (4, 4, (2, 2), 12)]
)
def test_accumulators_hold_every_sum(bits, channels, kernel, wanted):
    assert accumulator_bits(bits, channels, kernel) == wanted


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20), st.integers(2, 8), st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_in_range_is_off_by_half_a_step(values, bits, symmetric):
    array = np.asarray(values, np.float32)
    made = fitted(array, bits=bits, symmetric=symmetric)
    assert np.abs(made.rounded(array) - array).max() <= made.scales[0] * (1 if made.zero_points[0] else 0.5001) + 1e-9
    assert made.rounded(np.zeros(1, np.float32))[0] == 0
    np.testing.assert_array_equal(made.rounded(made.rounded(array)), made.rounded(array))


@given(st.floats(-100, 100), st.floats(0.01, 100))
@settings(max_examples=50, deadline=None)
def test_scales_and_zero_points_are_those_of_the_writer(low, span):
    mine, its = affine(low, low + span), precisions.affine(low, low + span)
    assert mine.zero_points == its.zero_points
    assert mine.scales == its.scales
    filters = np.random.default_rng(int(span)).standard_normal((4, 3, 3, 2), dtype=np.float32)
    numbers, scale = precisions.symmetric(filters, 0)
    made = fitted(filters, axis=0)
    np.testing.assert_array_equal(made.scales, scale.scales)
    np.testing.assert_array_equal(made.quantized(filters), numbers)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_smallest_values_have_a_scale(symmetric):
    made = fitted(np.asarray([1e-45], np.float32), bits=2, symmetric=symmetric)
    assert made.scales[0] > 0
    assert made.rounded(np.asarray([1e-45], np.float32))[0] == 0


def test_bad_requests_name_their_field():
    for field, call in {
        "bits": lambda: affine(0, 1, bits=1),
        "values": lambda: affine(0, np.inf),
        "method": lambda: fitted(np.ones(3), method="best"),
        "batches": lambda: averaged_min_max([]),
    }.items():
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == field


def test_averaged_ranges_are_those_of_batches():
    assert averaged_min_max([np.asarray([-1.0, 1.0]), np.asarray([-3.0, 9.0])]) == (-2, 5)


# --- as runtimes compute ---------------------------------------------------------------------------------------------


def _layer() -> tuple[Imported, np.ndarray]:
    builder = GraphBuilder(TensorType((1, 32)))
    graph = builder.graph(builder.fully_connected(0, 16))
    drawn = np.random.default_rng(3).standard_normal((20, 32), dtype=np.float32)
    return Imported(graph, ("dense",), random_weights(graph, 0)), drawn


def _integer_layer(layer: Imported, given: np.ndarray, read: Affine, made: Affine, filters: Affine) -> np.ndarray:
    """Return what integer arithmetic makes of an input: products of whole numbers, summed, and scaled once."""
    weights, bias = layer.weights[0]
    scales = read.scales.astype(np.float64) * filters.scales
    sums = (read.quantized(given) - read.zero_points) @ filters.quantized(weights).T + np.rint(bias / scales)
    return np.clip(np.rint(sums * scales / made.scales) + made.zero_points, made.low, made.high)


@pytest.mark.parametrize("backend", ["litert", "leti"])
@pytest.mark.parametrize("resolver", [OpResolverType.BUILTIN_REF, OpResolverType.AUTO])
def test_the_reference_is_litert_within_one_step(backend, resolver):
    layer, drawn = _layer()
    file = quantize_model(layer, QuantizationRecipe("static"), backend=backend, samples=[(row[None],) for row in drawn])
    model = Interpreter(model_content=file.content, num_threads=1, experimental_op_resolver_type=resolver)
    model.allocate_tensors()
    details = {d["index"]: d for d in model.get_tensor_details()}
    dense = next(op for op in model._get_ops_details() if op["op_name"] == "FULLY_CONNECTED")
    read, made = (_said(details[i]) for i in (dense["inputs"][0], dense["outputs"][0]))
    filters = fitted(layer.weights[0][0], axis=0)
    np.testing.assert_allclose(
        details[dense["inputs"][1]]["quantization_parameters"]["scales"], filters.scales, rtol=1e-6
    )
    steps = []
    for row in drawn:
        model.set_tensor(model.get_input_details()[0]["index"], row[None])
        model.invoke()
        found = made.quantized(model.get_tensor(model.get_output_details()[0]["index"]))
        steps.append(np.abs(found - _integer_layer(layer, row[None], read, made, filters)).max())
    assert max(steps) <= 1


def _said(detail) -> Affine:
    said = detail["quantization_parameters"]
    return Affine(said["scales"], said["zero_points"].astype(np.int64), -128, 127)


def test_the_reference_is_onnx_runtime_within_one_step():
    layer, drawn = _layer()
    samples = [(row[None],) for row in drawn]
    file = quantize_model(layer, QuantizationRecipe("static"), backend="onnxruntime", samples=samples)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in onnx.load_from_string(file.content).graph.initializer}
    session = onnxruntime.InferenceSession(file.content, providers=["CPUExecutionProvider"])
    read, made = (
        Affine(constants[f"{name}_scale"].reshape(1), constants[f"{name}_zero_point"].reshape(1), -128, 127)
        for name in ("input0", "gemm1")
    )
    assert read.scales == pytest.approx(affine(drawn.min(), drawn.max()).scales)
    assert read.zero_points == affine(drawn.min(), drawn.max()).zero_points
    filters = fitted(layer.weights[0][0], axis=0)
    steps = []
    for row in drawn:
        found = made.quantized(session.run(None, {"input0": row[None]})[0])
        steps.append(np.abs(found - _integer_layer(layer, row[None], read, made, filters)).max())
    assert max(steps) <= 1


# --- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "bits", "published"),
    [
        ("laplace", 2, 2.83),
        ("laplace", 3, 3.89),
        ("laplace", 4, 5.03),
        ("gauss", 2, 1.71),
        ("gauss", 3, 2.15),
        ("gauss", 4, 2.55),
    ],
)
def test_clipping_values_are_the_published_ones(distribution, bits, published):
    assert clipping_value(distribution, bits) == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize("draw", ["laplace", "normal"])
@pytest.mark.parametrize("rectified", [False, True])
def test_clipping_loses_less_than_min_max_at_four_bits(draw, rectified):
    values = getattr(np.random.default_rng(0), draw)(size=20_000).astype(np.float32)
    values = np.maximum(values, 0) if rectified else values
    symmetric = not rectified

    def error(method):
        made = fitted(values, bits=4, symmetric=symmetric, method=method)
        return float(np.square(made.rounded(values) - values).mean())

    assert error("aciq") < 0.7 * error("min_max")
    assert error("mse") <= error("aciq") * 1.02
    if not rectified:
        distribution = "laplace" if draw == "laplace" else "gauss"
        assert error("aciq") == pytest.approx(expected_error(distribution, clipping_value(distribution, 4), 4), rel=0.3)


def test_clipping_is_no_wider_than_the_values():
    values = np.asarray([-1.0, 0.5, 1.0])
    assert aciq_range(values, 16) == (-1, 1)
    assert aciq_range(np.zeros(3), 4) == (0, 0)
