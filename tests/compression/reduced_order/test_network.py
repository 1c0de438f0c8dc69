"""Reduced-order networks: exact where the data has few dimensions, never off by more than they say, and smaller."""

import dataclasses
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.reduced_order import reduce_order, reduce_order_to
from leti.compression.reduced_order.running import pooled_elements
from leti.compression.reduced_order.stages import divide, reduced_macs
from leti.compression.training.executing import outputs
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.cost import make_operator, weight_shapes
from leti.generator.export.onnx import export_onnx
from leti.generator.export.tflite import export_tflite
from leti.generator.importers.draft import Constant, Draft, Imported
from leti.generator.weights import Array, random_weights


def place(draft: Draft, kind: str, *read: int, shape: tuple[int, ...], **attributes: object) -> int:
    """Place an operator with weights of zeros."""
    types = tuple(draft.types[value] for value in read)
    op = make_operator(kind, types, (TensorType(shape),), tuple(sorted(attributes.items())))
    weights = [Constant.of(np.zeros(each, np.float32)) for each in weight_shapes(op)]
    return draft.place(kind, read, TensorType(shape), weights=weights, name=kind, **attributes)  # type: ignore[arg-type]


def window(draft: Draft, kind: str, value: int, channels: int, kernel: int, stride: int, **more: object) -> int:
    """Place a convolution or pool, padded to ``ceil(size / stride)``."""
    _, height, width, _ = draft.types[value].shape
    shape = (1, -(-height // stride), -(-width // stride), channels)
    asked = {"kernel": (kernel, kernel), "strides": (stride, stride), "padding": "same", **more}
    return place(draft, kind, value, shape=shape, **asked)


def unary(draft: Draft, kind: str, value: int, **attributes: object) -> int:
    """Place a function of single elements."""
    return place(draft, kind, value, shape=draft.types[value].shape, **attributes)


def flat(draft: Draft, value: int) -> int:
    """Flatten a value."""
    return place(draft, "reshape", value, shape=(1, draft.types[value].elements))


def mlp(draft: Draft, value: int, widths: tuple[int, ...] = (30, 24, 20, 5)) -> int:
    """Place dense layers with functions between them."""
    for i, width in enumerate(widths):
        value = place(draft, "fully_connected", value, shape=(1, width))
        if i < len(widths) - 1:
            value = unary(draft, ("relu", "tanh", "relu")[i % 3], value)
    return value


def perceptron(draft: Draft) -> int:
    return mlp(draft, flat(draft, draft.input(TensorType((1, 8, 8, 1)))))


def convolutional(draft: Draft) -> int:
    value = draft.input(TensorType((1, 8, 8, 1)))
    value = unary(draft, "relu", window(draft, "conv2d", value, 8, 3, 1))
    value = window(draft, "max_pool2d", unary(draft, "relu", window(draft, "conv2d", value, 8, 3, 1)), 8, 2, 2)
    value = unary(draft, "batch_norm", window(draft, "depthwise_conv2d", value, 8, 3, 1), epsilon=1e-3)
    value = unary(draft, "relu6", window(draft, "max_pool2d", value, 8, 3, 2))
    value = unary(draft, "leaky_relu", window(draft, "conv2d", value, 12, 3, 1), alpha=0.1)
    return unary(draft, "softmax", mlp(draft, flat(draft, value), (16, 5)), axis=1)


def residual(draft: Draft) -> int:
    value = draft.input(TensorType((1, 8, 8, 1)))
    value = unary(draft, "relu", window(draft, "conv2d", value, 6, 3, 1))
    for channels, stride in ((6, 1), (6, 1), (8, 2), (8, 1)):
        inner = unary(draft, "relu", window(draft, "conv2d", value, channels, 3, stride))
        inner = window(draft, "conv2d", inner, channels, 3, 1)
        skip = value if stride == 1 else window(draft, "conv2d", value, channels, 1, stride, bias=False)
        value = unary(draft, "relu", place(draft, "add", inner, skip, shape=draft.types[inner].shape))
    value = place(draft, "mean", value, shape=(1, 8), axes=(1, 2))
    return place(draft, "fully_connected", value, shape=(1, 5))


def branched(draft: Draft) -> int:
    value = unary(draft, "relu", window(draft, "conv2d", draft.input(TensorType((1, 8, 8, 1))), 6, 3, 2))
    left = unary(draft, "silu", window(draft, "conv2d", value, 4, 1, 1))
    right = unary(draft, "sigmoid", window(draft, "conv2d", value, 4, 3, 1))
    joined = place(
        draft, "concat", left, right, window(draft, "avg_pool2d", value, 6, 3, 1), shape=(1, 4, 4, 14), axis=3
    )
    value = unary(draft, "relu", unary(draft, "tanh", window(draft, "max_pool2d", joined, 14, 2, 2)))
    return mlp(draft, flat(draft, value), (12, 5))


NETWORKS = (perceptron, convolutional, residual, branched)


def made(network: Callable[[Draft], int], seed: int = 0) -> Imported:
    """Return a network with random weights."""
    draft = Draft()
    draft.outputs.append(network(draft))
    imported = draft.finish(weights=True)
    return dataclasses.replace(imported, weights=random_weights(imported.graph, seed))


def images(samples: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((samples, 8, 8, 1)).astype(np.float32)


def beginnings(network: Callable[[Draft], int]) -> list[int]:
    return [i for i, op in enumerate(made(network).graph.ops) if op.macs or op.kind == "relu"][:-1]


@pytest.mark.parametrize(
    ("network", "first"), [(network, first) for network in NETWORKS for first in beginnings(network)]
)
def test_what_spans_no_more_than_the_rank_is_computed_exactly(network: Callable[[Draft], int], first: int) -> None:
    whole, few = made(network), images(3)  # and up to three stages share a space
    reduced = reduce_order(whole, few, rank=9, rows=11, first=first)
    (expected,), (found,) = outputs(whole, (few,)), outputs(reduced.imported, (few,))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    assert reduced.deviation.output_error < 1e-3
    macs, layers = reduced_macs(whole.graph, divide(whole.graph, first), 11), reduced.deviation.layers
    assert reduced.imported.graph.macs <= macs
    assert reduced.imported.graph.macs == macs or any(layer.rows < min(11, layer.size) for layer in layers)
    assert all(layer.rows <= 11 and layer.rank <= 9 for layer in layers)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("sketch", ["truncated", "randomised", "frequent_directions"])
def test_no_error_is_over_its_bound(network: Callable[[Draft], int], sketch: str) -> None:
    whole, many = made(network, 1), images(100, 1)
    deviation = reduce_order(whole, many, rank=6, rows=8, first=1, sketch=sketch).deviation  # type: ignore[arg-type]
    for layer in deviation.layers:
        assert layer.tail <= layer.projection_error + 1e-9  # nothing in the space is nearer than the projection
        assert layer.projection_error <= layer.projection_bound + 1e-9
    assert 0 < deviation.output_error <= deviation.output_bound


def test_all_rows_of_all_elements_change_nothing() -> None:
    whole = made(perceptron)
    reduced = reduce_order(whole, images(100), rank=30, rows=30, first=1)
    unseen = images(20, 7)
    (expected,), (found,) = outputs(whole, (unseen,)), outputs(reduced.imported, (unseen,))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_reduced_network_is_written_like_any_other(network: Callable[[Draft], int]) -> None:
    reduced = reduce_order(made(network), images(50), rank=6, rows=8, first=3).imported
    image = images(1, 3)
    (expected,) = outputs(reduced, (image,))
    session = onnxruntime.InferenceSession(export_onnx(reduced.graph, weights=reduced.weights))
    name = session.get_inputs()[0].name
    given = image.reshape(session.get_inputs()[0].shape)  # of one channel, all layouts are one
    np.testing.assert_allclose(session.run(None, {name: given})[0], expected, rtol=1e-3, atol=1e-4)
    interpreter = Interpreter(model_content=export_tflite(reduced.graph, weights=reduced.weights), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    np.testing.assert_allclose(
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), expected, rtol=1e-3, atol=1e-4
    )


def test_skips_cost_nothing_as_blocks_select_the_same_elements() -> None:
    whole = made(residual)
    division = divide(whole.graph, 0)
    assert division.groups == (0, 1, 0, 3, 0, 5, 6, 7, 6)
    reduced = reduce_order(whole, images(30), rank=6, rows=8, first=0).imported
    assert sum(op.kind == "add" for op in reduced.graph.ops) == 4
    dense = [op for op in reduced.graph.ops if op.kind == "fully_connected"]
    assert len(dense) == 11  # one a convolution, the one of the wide skip too, and the last


def test_without_a_beginning_it_begins_where_least_is_left() -> None:
    whole = made(convolutional)
    found = reduce_order(whole, images(50), rank=4, rows=4)
    every = [reduced_macs(whole.graph, divide(whole.graph, first), 4) for first in beginnings(convolutional)]
    assert found.imported.graph.macs == min(every)
    assert reduce_order_to(whole, images(50), 9000).imported.graph.macs <= 9000 < whole.graph.macs


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [(6, 2, 2, "valid"), (7, 3, 2, "same")])
def test_a_pool_reads_the_elements_under_its_windows(size: int, kernel: int, stride: int, padding: str) -> None:
    made_size = (size - kernel) // stride + 1 if padding == "valid" else -(-size // stride)
    attributes = (("kernel", (kernel, kernel)), ("padding", padding), ("strides", (stride, stride)))
    types = TensorType((1, size, size, 2)), TensorType((1, made_size, made_size, 2))
    op = make_operator("max_pool2d", types[:1], types[1:], attributes)
    numbers = np.arange(size * size * 2).reshape(size, size, 2)
    every = pooled_elements(op, np.arange(made_size * made_size * 2))
    padded = int(padding == "same")
    for element, (row, column, channel) in enumerate(np.ndindex(made_size, made_size, 2)):
        top, left = row * stride - padded, column * stride - padded
        under = numbers[max(top, 0) : top + kernel, max(left, 0) : left + kernel, channel]
        assert set(every[element]) == set(under.reshape(-1))


def test_what_cannot_be_reduced_is_refused_by_name() -> None:
    def gated(draft: Draft) -> int:
        value = window(draft, "conv2d", draft.input(TensorType((1, 8, 8, 1))), 4, 3, 1)
        value = place(draft, "mul", value, unary(draft, "sigmoid", value), shape=(1, 8, 8, 4))
        return window(draft, "conv2d", value, 4, 3, 1)

    with pytest.raises(InvalidInput, match="'mul' is neither affine") as caught:
        reduce_order(made(gated), images(5), rank=2, first=0)
    assert caught.value.field == "graph.ops[2]"
    whole = made(perceptron)
    with pytest.raises(InvalidInput, match="shape"):
        reduce_order(whole, images(5)[:, :4], rank=2)
    with pytest.raises(InvalidInput, match="rows"):
        reduce_order(whole, images(5), rank=5, rows=3)
    with pytest.raises(InvalidInput, match="no layer is cheaper"):
        reduce_order(whole, images(5), rank=100)
    with pytest.raises(InvalidInput, match="no reduced network has at most 10"):
        reduce_order_to(whole, images(5), 10)
    with pytest.raises(InvalidInput, match="nothing to reduce"):
        reduce_order(whole, images(5), rank=2, first=len(whole.graph.ops) - 1)
