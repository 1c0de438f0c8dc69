"""Keras import: each layer of the table computes what Keras computes; structure, shapes, what has no counterpart."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from leti.core.errors import InvalidInput
from leti.generator.export.tflite import export_tflite
from leti.generator.importers import Imported, import_model

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")

from leti.generator.importers.keras.activations import ACTIVATIONS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")  # numpy's, of Keras's own arrays

layers, ops = keras.layers, keras.ops
IMAGE = (8, 10, 6)
SEQUENCE = (5, 6)


def chain(shape: tuple[int | None, ...], *steps: Any, dtype: str | None = None) -> Any:
    """Return a functional model of one input, layers or functions one after the other."""
    given = keras.Input(shape, dtype=dtype, name="given")
    value = given
    for step in steps:
        value = step(value)
    return keras.Model(given, value)


def join(shapes: Sequence[tuple[int, ...]], step: Callable[..., Any], dtype: str | None = None) -> Any:
    """Return a functional model of several inputs."""
    given = [keras.Input(shape) for shape in shapes]
    if dtype:
        given[-1] = keras.Input(shapes[-1], dtype=dtype)
    return keras.Model(given, step(given))


def on_image(*steps: Any) -> Callable[[], Any]:
    return lambda: chain(IMAGE, *(step() for step in steps))


def on_sequence(*steps: Any) -> Callable[[], Any]:
    return lambda: chain(SEQUENCE, *(step() for step in steps))


def computed(function: Callable[[Any], Any], dtype: str | None = None) -> Callable[[], Any]:
    return lambda: chain(IMAGE, function, dtype=dtype)


def _padded_attention(indices: Any) -> Any:
    """Attend from a sequence and to it, where its indices are not 0; Keras hands the masks on without a word."""
    found = layers.Embedding(20, 6, mask_zero=True)(indices)
    attended = layers.MultiHeadAttention(2, 3)(found, layers.Dense(6)(found), use_causal_mask=True)
    return layers.LayerNormalization()(layers.Add()([found, attended]))


LAYERS: dict[str, Callable[[], Any]] = {
    "conv2d same, stride 2": on_image(lambda: layers.Conv2D(4, 3, strides=2, padding="same")),
    "conv2d valid, no bias": on_image(lambda: layers.Conv2D(4, 3, use_bias=False)),
    "conv2d 1x1": on_image(lambda: layers.Conv2D(4, 1)),
    "conv2d dilated": on_image(lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same")),
    "conv2d groups": on_image(lambda: layers.Conv2D(4, 3, groups=2)),
    "conv2d a group a channel": on_image(lambda: layers.Conv2D(12, 3, groups=6, padding="same")),
    "conv2d relu": on_image(lambda: layers.Conv2D(4, (3, 1), activation="relu")),
    "conv1d causal": on_sequence(lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2)),
    "conv1d same": on_sequence(lambda: layers.Conv1D(3, 3, strides=2, padding="same")),
    "conv3d": lambda: chain((5, 6, 7, 2), layers.Conv3D(3, 2, padding="same")),
    "depthwise": on_image(lambda: layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same")),
    "depthwise 1d": on_sequence(lambda: layers.DepthwiseConv1D(3, depth_multiplier=2)),
    "separable": on_image(lambda: layers.SeparableConv2D(4, 3, strides=2, padding="same", activation="relu")),
    "separable dilated": on_image(lambda: layers.SeparableConv2D(4, 3, dilation_rate=2, use_bias=False)),
    "separable 1d": on_sequence(lambda: layers.SeparableConv1D(5, 3, padding="same")),
    "transposed conv same": on_image(lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same")),
    "transposed conv valid": on_image(lambda: layers.Conv2DTranspose(4, 3, strides=2, activation="gelu")),
    "transposed conv, small kernel": on_image(lambda: layers.Conv2DTranspose(4, 2, strides=3)),
    "dense": lambda: chain((6,), layers.Dense(4, activation="softmax")),
    "dense on a sequence": on_sequence(lambda: layers.Dense(4, activation="swish", use_bias=False)),
    "einsum, heads made": on_sequence(lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")),
    "einsum, heads summed": lambda: chain((5, 2, 3), layers.EinsumDense("abcd,cde->abe", (None, 7), bias_axes="e")),
    "einsum, ellipsis": on_sequence(lambda: layers.EinsumDense("...x,xy->...y", 4, bias_axes="y")),
    "einsum, middle": on_sequence(lambda: layers.EinsumDense("abc,bd->adc", (4, 6), bias_axes="d")),
    "attention heads": lambda: chain(SEQUENCE, lambda x: layers.MultiHeadAttention(2, 3, value_dim=4)(x, x)),
    "attention masked": lambda: join(
        [(5, 6), (7, 6), (5, 7)],
        lambda x: layers.MultiHeadAttention(2, 3, output_shape=9)(x[0], x[1], attention_mask=x[2]),
        dtype="bool",
    ),
    "attention scores": lambda: chain(
        SEQUENCE, lambda x: layers.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)
    ),
    "attention": lambda: join([(5, 6), (7, 6)], layers.Attention()),
    "embedding": lambda: chain((5,), layers.Embedding(20, 4), dtype="int32"),
    "embedding of floats": lambda: chain((5,), layers.Embedding(20, 4)),
    "batch norm": on_image(layers.BatchNormalization),
    "batch norm without scale": on_image(lambda: layers.BatchNormalization(scale=False)),
    "batch norm without offset": on_image(lambda: layers.BatchNormalization(center=False)),
    "batch norm of rows": on_image(lambda: layers.BatchNormalization(axis=1)),
    "normalization adapted": on_image(layers.Normalization),
    "normalization given": on_image(lambda: layers.Normalization(mean=list(range(6)), variance=[1, 2, 3, 4, 5, 6])),
    "normalization of one number": on_image(lambda: layers.Normalization(mean=2.0, variance=4.0)),
    "layer norm": on_image(layers.LayerNormalization),
    "layer norm of two": on_image(lambda: layers.LayerNormalization(axis=(2, 3))),
    "layer norm of rows": on_image(lambda: layers.LayerNormalization(axis=1)),
    "layer norm bare": on_image(lambda: layers.LayerNormalization(scale=False, center=False)),
    "group norm": on_image(lambda: layers.GroupNormalization(3)),
    "group norm of rows": on_image(lambda: layers.GroupNormalization(2, axis=1)),
    "unit norm": on_image(layers.UnitNormalization),
    "rms norm": on_image(layers.RMSNormalization),
    "rescaling": lambda: chain(IMAGE, layers.Rescaling(1 / 127.5, -1), dtype="uint8"),
    "resizing": on_image(lambda: layers.Resizing(16, 5)),
    "upsampling": on_image(lambda: layers.UpSampling2D(2)),
    "upsampling bilinear": on_image(lambda: layers.UpSampling2D((2, 3), interpolation="bilinear")),
    "upsampling 1d": on_sequence(lambda: layers.UpSampling1D(2)),
    "average pool": on_image(lambda: layers.AveragePooling2D(3, 2, padding="same")),
    "max pool": on_image(lambda: layers.MaxPooling2D((3, 2))),
    "max pool 1d": on_sequence(lambda: layers.MaxPooling1D(2)),
    "average pool 3d": lambda: chain((6, 6, 6, 2), layers.AveragePooling3D(2)),
    "global average pool": on_image(lambda: layers.GlobalAveragePooling2D(keepdims=True)),
    "global max pool 1d": on_sequence(layers.GlobalMaxPooling1D),
    "zero padding": on_image(lambda: layers.ZeroPadding2D(((1, 2), (3, 0)))),
    "zero padding 1d": on_sequence(lambda: layers.ZeroPadding1D(2)),
    "cropping": on_image(lambda: layers.Cropping2D(((1, 2), (3, 0)))),
    **{f"activation {name}": on_image(functools.partial(layers.Activation, name)) for name in ACTIVATIONS},
    "relu6": on_image(lambda: layers.ReLU(6)),
    "relu to 3, leaking": on_image(lambda: layers.ReLU(3, negative_slope=0.1)),
    "relu above a threshold": on_image(lambda: layers.ReLU(4, negative_slope=0.1, threshold=1.0)),
    "leaky relu": on_image(lambda: layers.LeakyReLU(0.2)),
    "prelu": on_image(layers.PReLU),
    "prelu a channel": on_image(lambda: layers.PReLU(shared_axes=(1, 2))),
    "elu": on_image(lambda: layers.ELU(0.5)),
    "softmax of rows": on_image(lambda: layers.Softmax(axis=1)),
    "softmax of two": on_image(lambda: layers.Softmax(axis=(1, 2))),
    **{
        f"merge {kind.__name__}": functools.partial(lambda kind: join([IMAGE, IMAGE, IMAGE], kind()), kind)
        for kind in (layers.Add, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum, layers.Concatenate)
    },
    "merge Subtract": lambda: join([IMAGE, IMAGE], layers.Subtract()),
    "merge of two ranks": lambda: join([(6,), SEQUENCE], layers.Add()),
    "dot, normalized": lambda: join([(5, 6), (7, 6)], layers.Dot((2, 2), normalize=True)),
    "dot of vectors": lambda: join([(6,), (6,)], layers.Dot(1)),
    "dot of first dimensions": lambda: join([(5, 6), (5, 7)], layers.Dot(1)),
    "reshape": on_image(lambda: layers.Reshape((-1, 6))),
    "flatten": on_image(layers.Flatten),
    "permute": on_image(lambda: layers.Permute((3, 1, 2))),
    "repeat vector": lambda: chain((6,), layers.RepeatVector(4)),
    "noise": on_image(lambda: layers.Dropout(0.5), layers.RandomFlip, lambda: layers.GaussianNoise(0.1), layers.ReLU),
    "time distributed": lambda: chain((3, *IMAGE), layers.TimeDistributed(layers.Conv2D(4, 3, activation="relu"))),
    "channels first": lambda: chain(
        (6, 8, 10),
        layers.Conv2D(4, 3, data_format="channels_first", activation="relu"),
        layers.BatchNormalization(axis=1),
        layers.DepthwiseConv2D(3, data_format="channels_first", padding="same"),
        layers.MaxPooling2D(data_format="channels_first"),
        layers.Flatten(data_format="channels_first"),
    ),
}
"""A model of each layer, in each way that it is used."""

OPERATIONS: dict[str, Callable[[], Any]] = {
    "arithmetic": computed(lambda x: ops.sigmoid(x * 2 + 1) / 3 - x),
    "number first": computed(lambda x: (1 - x) * (2 / (ops.abs(x) + 3))),
    "mean and power": computed(lambda x: ops.mean(x, axis=(1, 2), keepdims=True) ** 2),
    "max less sum": computed(lambda x: ops.max(x, axis=-1) - ops.sum(x, axis=-1)),
    "variance": computed(lambda x: ops.var(x, axis=-1) + ops.std(x, axis=-1)),
    "slices": computed(lambda x: ops.concatenate([x[:, 1:, ::2], x[:, :-1, :5]], axis=-1)),
    "slice, new dimension": computed(lambda x: x[:, None, 0, ..., -1]),
    "reshape of a transpose": computed(lambda x: ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, 6, 80))),
    "swap and move": computed(lambda x: ops.swapaxes(ops.moveaxis(x, 1, 3), 1, 2)),
    "split and stack": computed(lambda x: ops.stack(ops.split(x, 2, axis=-1), axis=1)),
    "pad": computed(lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)))),
    "clip": computed(lambda x: ops.clip(ops.abs(x), 0.1, 0.5)),
    "repeat and tile": computed(lambda x: ops.tile(ops.repeat(x, 2, axis=1), (1, 2, 1, 1))),
    "where": computed(lambda x: ops.where(x > 0, x, -1.0)),
    "take": computed(lambda x: ops.take(x, [0, 2], axis=-1)),
    "one hot": computed(lambda x: ops.one_hot(ops.argmax(x, axis=-1), 6)),
    "matmul": computed(lambda x: ops.matmul(x, ops.swapaxes(x, -1, -2))),
    "einsum": computed(lambda x: ops.einsum("abcd,abed->aceb", x, x)),
    "activations": computed(lambda x: ops.gelu(x) + ops.softmax(x) + keras.activations.relu(x, max_value=3)),
    "exp and log": computed(lambda x: ops.log(ops.exp(x)) + ops.sqrt(ops.square(x))),
    "constant a channel": computed(lambda x: x + np.arange(6, dtype="float32")),
    "cast": computed(lambda x: ops.cast(x, "float32") * 0.5, dtype="uint8"),
    "product attention": computed(lambda x: ops.dot_product_attention(x, x, x)),
    "causal attention": lambda: chain(SEQUENCE, lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)),
    "flip, roll, cumsum": computed(lambda x: ops.flip(ops.roll(x, 1, axis=1), axis=2) + ops.cumsum(x, axis=1)),
    "whole numbers compared with a float": computed(lambda x: ops.cast(x < 7.5, "float32"), "int32"),
    "whole numbers beside floats": lambda: join(
        [(4, 3), (4, 3)],
        lambda x: ops.concatenate(
            [layers.Add()(x), layers.Concatenate()(x), ops.cast(x[1] >= x[0], "float32")], axis=-1
        ),
        "int32",
    ),
    "dense of whole numbers": lambda: chain((6,), layers.Dense(3), dtype="int32"),
    "square of whole numbers": computed(ops.square, "int32"),
    "attention of embeddings that are padded": lambda: chain((9,), _padded_attention, dtype="int32"),
}
"""Models of operations on tensors; those that read constants have more params than ``count_params`` says."""


def randomise(model: Any, seed: int = 0) -> None:
    """Give every weight a value that shows: none is 0 or 1, variances are positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" in weight.dtype:
            positive = any(name in weight.name for name in ("variance", "gamma", "scale"))
            values = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.5, weight.shape)
            weight.assign(values.astype(np.float32))
    for layer in model.layers:
        if isinstance(layer, layers.Normalization) and layer.input_mean is None:
            layer.finalize_state()


def feeds(model: Any, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    indices = any(isinstance(layer, layers.Embedding) for layer in model.layers)
    for given in model.inputs:
        shape = (1, *given.shape[1:])
        if given.dtype == "bool":
            found.append(rng.random(shape) > 0.4)
        elif indices or "int" in given.dtype:
            found.append(rng.integers(0, 20, shape).astype(given.dtype))
        else:
            found.append(rng.standard_normal(shape).astype(given.dtype))
    return found


def run(imported: Imported, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what LiteRT makes of a graph with its weights."""
    data = export_tflite(imported.graph, weights=imported.weights)
    model = interpreter.Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    for given, value in zip(model.get_input_details(), values, strict=True):
        model.set_tensor(given["index"], value.astype(given["dtype"]))
    model.invoke()
    return [model.get_tensor(made["index"]) for made in model.get_output_details()]


def assert_computes(model: Any, imported: Imported) -> None:
    values = feeds(model)
    expected = [
        np.asarray(made)
        for made in keras.tree.flatten(model(keras.tree.pack_sequence_as(model.input, values), training=False))
    ]
    for made, wanted in zip(run(imported, values), expected, strict=True):
        assert made.shape == wanted.shape
        largest = max(float(np.abs(wanted).max()), 1e-6)
        np.testing.assert_allclose(made.astype(np.float32), wanted.astype(np.float32), atol=1e-4 * largest, rtol=0)


@pytest.mark.parametrize("name", [*LAYERS, *OPERATIONS])
def test_computes_what_keras_computes(name: str) -> None:
    model = (LAYERS | OPERATIONS)[name]()
    randomise(model)
    plain = import_model(model, weights=True, fold=False)
    assert plain.graph.unknown == ()
    if name in LAYERS:
        assert plain.graph.params == model.count_params()
    assert_computes(model, plain)
    assert_computes(model, import_model(model, weights=True))


# --- structure -------------------------------------------------------------------------------------------------------


def test_mixed_precision_casts_between_layers() -> None:
    model = chain(
        IMAGE, layers.Conv2D(4, 3, dtype="mixed_float16"), layers.Dense(3, activation="relu", dtype="float32")
    )
    graph = import_model(model, fold=False).graph
    assert [op.kind for op in graph.ops] == ["cast", "conv2d", "cast", "fully_connected", "relu"]
    assert (graph.ops[1].outputs[0].dtype, graph.ops[1]["weight_dtype"]) == ("float16", "float32")
    assert graph.params == model.count_params()


def test_nested_models_are_read_call_by_call() -> None:
    head = keras.Sequential([keras.Input((None, None, 6)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()], name="n")
    model = join([IMAGE, (9, 9, 6)], lambda x: layers.Add()([head(x[0]), head(x[1])]))
    randomise(model)
    imported = import_model(model, weights=True, fold=False)
    assert [op.kind for op in imported.graph.ops].count("conv2d") == 2
    assert {name.partition("/")[0] for name in imported.names} == {"n", model.layers[-1].name}
    # A shared layer reads its weights at each of its calls; count_params counts them once.
    assert imported.graph.params == 2 * model.count_params()
    assert_computes(model, imported)


def test_a_model_in_time_distributed_runs_on_every_step() -> None:
    inner = keras.Sequential([keras.Input(IMAGE), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)])
    model = chain((3, *IMAGE), layers.TimeDistributed(inner))
    randomise(model)
    imported = import_model(model, weights=True)
    assert imported.graph.params == model.count_params()
    assert_computes(model, imported)


def test_names_are_those_of_layers() -> None:
    model = chain(IMAGE, layers.Conv2D(4, 3, activation="relu", name="first"), layers.Flatten(name="second"))
    assert import_model(model, fold=False).names == ("first", "first", "second")


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: chain(SEQUENCE, layers.LSTM(4)), "LSTM"),
        (lambda: chain(SEQUENCE, layers.Bidirectional(layers.GRU(3, return_sequences=True))), "Bidirectional"),
        (lambda: chain(IMAGE, layers.Lambda(lambda x: x * 2)), "Lambda"),
        (lambda: custom(), "Doubled"),
        (
            lambda: chain((5,), layers.Embedding(9, 4, mask_zero=True), layers.GlobalAveragePooling1D()),
            "GlobalAveragePooling1D",
        ),
        (lambda: chain(IMAGE, lambda x: ops.median(x, axis=-1)), "Median"),
    ],
)
def test_what_has_no_counterpart_is_kept_with_its_weights(model: Callable[[], Any], kind: str) -> None:
    built = model()
    graph = import_model(built, fold=False).graph
    assert f"unknown:{kind}" in graph.unknown
    assert graph.params == built.count_params()
    assert graph.ops[-1].outputs[0].shape[1:] == tuple(built.outputs[0].shape[1:])


def custom() -> Any:
    class Doubled(layers.Dense):
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs) * 2

    return chain((6,), Doubled(3))


def test_quantised_layers_are_not_taken_for_float_ones() -> None:
    model = chain((6,), layers.Dense(3))
    model.layers[1].quantize("int8")
    assert import_model(model, fold=False).graph.unknown == ("unknown:Dense",)


def test_a_model_in_memory_is_left_as_it_was() -> None:
    model = chain((None, None, 3), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D())
    before = [len(layer._inbound_nodes) for layer in model.layers]
    import_model(model, input_shapes={"given": (1, 8, 8, 3)})
    assert [len(layer._inbound_nodes) for layer in model.layers] == before
    assert model.layers[1].output.shape == (None, None, None, 4)


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_open_dimensions_are_asked_for() -> None:
    model = chain((None, None, 3), layers.Conv2D(4, 3), lambda x: ops.mean(x, axis=1), layers.Dense(2))
    with pytest.raises(InvalidInput) as raised:
        import_model(model)
    assert "given" in str(raised.value)
    assert "--input-shape given=1,?,?,3" in raised.value.remedy
    for name in ("given", ""):
        graph = import_model(model, input_shapes={name: (2, 9, 7, 3)}).graph
        assert (graph.inputs[0].shape, graph.ops[-1].outputs[0].shape) == ((2, 9, 7, 3), (2, 5, 2))
    for shapes in ({"other": (1, 9, 7, 3)}, {"": (1, 9, 7, 4)}, {"": (1, 9, 7)}, {"": (1, 2, 2, 3)}):
        with pytest.raises(InvalidInput):
            import_model(model, input_shapes=shapes)


def test_batch_is_one_unless_said() -> None:
    model = chain(IMAGE, lambda x: ops.reshape(x, (-1, 2, 6)), layers.Dense(3))
    assert import_model(model).graph.ops[-1].outputs[0].shape == (40, 2, 3)
    assert import_model(model, input_shapes={"": (4, *IMAGE)}).graph.ops[-1].outputs[0].shape == (160, 2, 3)


def test_a_sequential_model_without_an_input_takes_the_shape_given() -> None:
    model = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)])
    with pytest.raises(InvalidInput, match="input_shapes"):
        import_model(model)
    assert import_model(model, input_shapes={"": (1, 8)}).graph.params == 8 * 4 + 4 + 4 * 2 + 2


def test_a_model_that_is_code_has_no_graph() -> None:
    class Coded(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(InvalidInput) as raised:
        import_model(Coded())
    assert "functional" in raised.value.remedy
