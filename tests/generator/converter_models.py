"""Small networks in TensorFlow and Keras, converted by TensorFlow: what the TFLite importer is checked against.

Imports tensorflow.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf
    from keras import layers
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

tf.get_logger().setLevel("ERROR")

_RNG = np.random.default_rng(0)
_IMAGE = (1, 8, 8, 4)
_MATRIX = (2, 6)
_WORDS = (1, 6, 8)

Case = tuple[Callable[[Any], Any], tuple[int, ...], str]
"""A function, and the kinds of operator that it becomes, separated by blanks, in any order."""


def _c(*shape: int) -> Any:
    return tf.constant(_RNG.standard_normal(shape, dtype=np.float32))


def _each(*functions: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: [function(x) for function in functions]


def _hold(bounds: list[list[int]], mode: str = "CONSTANT", value: float = 0.0) -> Callable[[Any], Any]:
    return lambda x: tf.pad(x, bounds, mode, constant_values=value)


_ONE = [[0, 0], [1, 1], [1, 1], [0, 0]]
_MATH = tf.math
_OLD = tf.compat.v1.image
_FILTER = _c(3, 3, 4, 6)

OPERATORS: dict[str, Case] = {
    "conv": (lambda x: tf.nn.relu6(tf.nn.conv2d(x, _FILTER, 2, "SAME") + _c(6)), _IMAGE, "conv2d relu6"),
    "dilated": (lambda x: tf.nn.conv2d(x, _FILTER, 1, "VALID", dilations=2), _IMAGE, "conv2d"),
    "grouped": (lambda x: tf.nn.conv2d(x, _c(3, 3, 2, 6), 1, "SAME"), _IMAGE, "conv2d"),
    "conv1d": (lambda x: tf.nn.conv1d(x, _c(3, 8, 5), 1, "SAME"), _WORDS, "conv1d"),
    "depthwise": (
        lambda x: tf.nn.relu(tf.nn.depthwise_conv2d(x, _c(3, 3, 4, 2), [1] * 4, "SAME")),
        _IMAGE,
        "depthwise_conv2d relu",
    ),
    "transposed": (
        lambda x: tf.nn.conv2d_transpose(x, _c(3, 3, 5, 4), (1, 16, 16, 5), 2, "SAME"),
        _IMAGE,
        "transpose_conv2d",
    ),
    "transposed valid": (
        lambda x: tf.nn.conv2d_transpose(x, _c(3, 3, 5, 4), (1, 17, 17, 5), 2, "VALID"),
        _IMAGE,
        "transpose_conv2d",
    ),
    "conv3d": (lambda x: tf.nn.conv3d(x, _c(2, 3, 3, 3, 5), [1, 1, 2, 2, 1], "SAME"), (1, 4, 8, 8, 3), "conv3d"),
    "dense": (lambda x: tf.nn.tanh(tf.matmul(x, _c(6, 5)) + _c(5)), _MATRIX, "fully_connected tanh"),
    "dense of words": (lambda x: tf.linalg.matmul(x, _c(8, 5)), _WORDS, "fully_connected"),
    "product": (lambda x: tf.matmul(x, x, transpose_b=True), _WORDS, "matmul"),
    "einsum": (lambda x: tf.einsum("btd,dhe->bthe", x, _c(8, 2, 4)), _WORDS, "fully_connected reshape"),
    "pools": (
        _each(lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID")),
        _IMAGE,
        "avg_pool2d max_pool2d",
    ),
    "activations": (
        _each(tf.nn.relu, tf.nn.relu6, tf.nn.elu, tf.nn.leaky_relu, tf.tanh, tf.sigmoid),
        _IMAGE,
        "relu relu6 elu leaky_relu tanh sigmoid",
    ),
    "relu_n1": (lambda x: tf.clip_by_value(x, -1.0, 1.0), _IMAGE, "relu_n1"),
    "hard_swish": (lambda x: x * tf.nn.relu6(x + 3) * (1 / 6), _IMAGE, "hard_swish"),
    "rounding": (
        _each(tf.abs, tf.negative, tf.floor, _MATH.ceil, tf.round, tf.sign, tf.square),
        _IMAGE,
        "abs neg floor ceil round sign square",
    ),
    "curves": (_each(tf.exp, tf.sin, tf.cos), _IMAGE, "exp sin cos"),
    "roots": (
        lambda x: [f(tf.abs(x) + 1) for f in (_MATH.log, tf.sqrt, _MATH.rsqrt)],
        _IMAGE,
        "abs shift log sqrt rsqrt",
    ),
    "arithmetic": (
        lambda x: [x - x * 2.5, x / (tf.abs(x) + 2), tf.maximum(x, x[:1]), _MATH.squared_difference(x, x[1:])],
        _MATRIX,
        "scale sub abs shift div slice maximum slice squared_difference",
    ),
    "powers": (
        lambda x: [tf.minimum(x, 0.5), tf.pow(tf.abs(x), 1.5), _MATH.floordiv(x, 2.5), _MATH.floormod(x, 2.5)],
        _MATRIX,
        "minimum constant abs power constant floor_div constant floor_mod",
    ),
    "constants": (
        lambda x: [x * _c(4), x + _c(8, 8, 4), x - 2.5, 3.0 - x, 1.0 / x, x + _c(1, 8, 1, 1)],
        _IMAGE,
        "scale shift shift constant sub reciprocal shift",
    ),
    "comparisons": (
        lambda x: [
            tf.cast(f(x, x[:1]), tf.float32)
            for f in (tf.equal, tf.not_equal, tf.less, tf.less_equal, tf.greater, tf.greater_equal)
        ],
        _MATRIX,
        "slice equal not_equal less less_equal greater greater_equal" + " cast" * 6,
    ),
    "logic": (
        lambda x: [tf.logical_and(x > 0, x < 1), tf.logical_or(x > 0, x < 1), tf.logical_not(tf.equal(x, 0))],
        _MATRIX,
        "greater constant less constant logical_and logical_or not_equal",
    ),
    "where": (lambda x: tf.where(x > 0, x, 0.1 * x), _MATRIX, "constant greater scale where"),
    "reductions": (
        lambda x: [
            tf.reduce_mean(x, [1, 2]),
            tf.reduce_sum(x, -1, keepdims=True),
            tf.reduce_prod(x, 1),
            tf.reduce_max(x, [1, 2]),
            tf.reduce_min(x, 3),
        ],
        _IMAGE,
        "mean sum prod reduce_max reduce_min",
    ),
    "positions": (_each(lambda x: tf.argmax(x, 1), lambda x: tf.argmin(x, -1)), _MATRIX, "argmax argmin"),
    "softmax": (_each(tf.nn.softmax, tf.nn.log_softmax), _MATRIX, "softmax log_softmax"),
    "lengths": (lambda x: tf.nn.l2_normalize(x, -1), _MATRIX, "l2_normalize"),
    "neighbours": (
        lambda x: tf.nn.local_response_normalization(x, 3, 2.0, 1e-4, 0.75),
        _IMAGE,
        "local_response_norm",
    ),
    "cumsum": (lambda x: tf.cumsum(x, 1, exclusive=True), _MATRIX, "cumsum"),
    "pads": (
        _each(_hold([[0, 0], [1, 2], [0, 1], [0, 0]]), _hold(_ONE, value=-5.0), _hold(_ONE, "REFLECT")),
        _IMAGE,
        "pad pad pad",
    ),
    "slices": (
        lambda x: [x[:, 1:5, ::2, :], x[:, 3], x[..., 1:], x[:, ::-1], tf.slice(x, [0, 1, 0, 0], [1, 3, 8, 2])],
        _IMAGE,
        "slice slice reshape slice slice slice",
    ),
    "joins": (
        lambda x: [tf.concat([x, tf.abs(x)], -1), tf.stack([x, x], 1), *tf.unstack(x, axis=3)[:2]],
        _IMAGE,
        "abs concat stack unstack",
    ),
    "splits": (lambda x: [*tf.split(x, 2, -1), *tf.split(x, [3, 5], 1)], _IMAGE, "split split"),
    "shapes": (
        lambda x: [tf.transpose(x, [0, 3, 1, 2]), tf.reshape(x, (8, 32)), tf.squeeze(x, 0), tf.expand_dims(x, 1)],
        _IMAGE,
        "transpose reshape reshape reshape",
    ),
    "gathers": (lambda x: tf.gather(x, [0, 2], axis=3), _IMAGE, "constant gather"),
    "embedding": (lambda x: tf.gather(_c(10, 7), tf.cast(x, tf.int32)), (3,), "cast embedding"),
    "rows": (lambda x: tf.gather_nd(x, [[1], [0]]), _MATRIX, "constant gather_nd"),
    "one_hot": (lambda x: tf.one_hot(tf.cast(x, tf.int32), 5), (3,), "cast one_hot"),
    "top_k": (lambda x: list(_MATH.top_k(x, 3)), _MATRIX, "top_k"),
    "repeats": (
        lambda x: [tf.tile(x, [2, 3]), tf.broadcast_to(x[:1], (4, 6)), tf.reverse(x, [1])],
        _MATRIX,
        "tile slice broadcast_to reverse",
    ),
    "blocks": (
        lambda x: [tf.nn.depth_to_space(x, 2), tf.nn.space_to_depth(x, 2), tf.space_to_batch(x, [2, 2], [[0, 0]] * 2)],
        _IMAGE,
        "depth_to_space space_to_depth space_to_batch",
    ),
    "batches": (lambda x: tf.batch_to_space(x, [2, 2], [[0, 0], [0, 1]]), (4, 4, 4, 3), "batch_to_space"),
    "resizes": (
        lambda x: [
            tf.image.resize(x, (16, 16)),
            tf.image.resize(x, (16, 16), "nearest"),
            _OLD.resize_bilinear(x, (15, 15), align_corners=True),
            _OLD.resize_nearest_neighbor(x, (24, 24)),
        ],
        _IMAGE,
        "resize resize resize resize",
    ),
    "sums": (lambda x: tf.add_n([x, tf.abs(x), tf.sin(x)]), _MATRIX, "abs sin add add"),
    "open batch": (
        lambda x: tf.matmul(tf.reshape(x, (tf.shape(x)[0], -1)), _c(64, 3)),
        (-1, 4, 4, 4),
        "reshape fully_connected",
    ),
}

UNKNOWN: dict[str, Case] = {
    "a loop": (
        lambda x: tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 1.5 + x), (tf.constant(0), x))[1],
        _MATRIX,
        "WHILE",
    ),
    "a branch": (
        lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2.1 + 1, lambda: tf.exp(x)),
        _MATRIX,
        "IF",
    ),
    "a custom operator": (
        lambda x: tf.raw_ops.Betainc(a=tf.abs(x), b=tf.abs(x), x=tf.sigmoid(x)),
        _MATRIX,
        "Betainc",
    ),
    "a builtin without a row": (lambda x: tf.reduce_any(x > 0, 1), _MATRIX, "REDUCE_ANY"),
}


def convert(function: Callable[[Any], Any], shape: tuple[int, ...]) -> bytes:
    """Return the file of a function of one float32 tensor; -1 leaves a dimension open."""
    spec = tf.TensorSpec([None if n < 0 else n for n in shape], tf.float32)
    return _converted(tf.function(function).get_concrete_function(spec))


def _converted(concrete: Any, precision: str = "float32", data: Callable[[], Iterator[Any]] | None = None) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        converter.allow_custom_ops = True
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "full_integer":
            converter.representative_dataset = data
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return bytes(converter.convert())


# --- networks --------------------------------------------------------------------------------------------------------


def mobile() -> Any:
    """Return a network like MobileNetV3: inverted residuals with squeeze and excitation."""
    image = keras.Input((24, 24, 3), batch_size=1)
    x = layers.Conv2D(16, 3, 2, "same", use_bias=False)(image)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    for width, kernel, stride, channels in ((32, 3, 1, 16), (48, 5, 2, 24), (64, 3, 1, 24)):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(x)))
        y = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
        z = layers.GlobalAveragePooling2D(keepdims=True)(y)
        z = layers.Conv2D(width // 4, 1, activation="relu")(z)
        y = layers.Multiply()([y, layers.Conv2D(width, 1, activation="hard_sigmoid")(z)])
        y = layers.BatchNormalization()(layers.Conv2D(channels, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if x.shape == y.shape else y
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


def plain() -> Any:
    """Return a network like VGG: convolutions, pools, dense layers; its batch is open."""
    image = x = keras.Input((16, 16, 3))
    for _ in range(2):
        x = layers.MaxPooling2D()(layers.Conv2D(64, 3, activation="relu", padding="same")(x))
    return keras.Model(image, layers.Dense(10)(layers.Dense(128, activation="relu")(layers.Flatten()(x))))


def branched() -> Any:
    """Return a network that pools and comes back: transposed and separable convolutions, PReLU."""
    image = keras.Input((16, 16, 3), batch_size=1)
    a = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    b = layers.AveragePooling2D(2)(a)
    b = layers.SeparableConv2D(16, 3, padding="same", activation="elu")(b)
    c, d = layers.Conv2DTranspose(8, 2, 2)(b), layers.UpSampling2D(2, interpolation="bilinear")(b)
    x = layers.ZeroPadding2D(1)(layers.Concatenate()([a, c, d]))
    x = layers.PReLU("uniform", shared_axes=[1, 2])(layers.Conv2D(8, 3, 2)(x))
    return keras.Model(image, layers.Conv2D(2, 1, activation="sigmoid")(x))


NETWORKS: dict[str, Callable[[], Any]] = {"mobile": mobile, "plain": plain, "branched": branched}


class Network:
    """A Keras network with weights that are not trivial, and its files in every precision."""

    def __init__(self, name: str) -> None:
        self.model = NETWORKS[name]()
        rng = np.random.default_rng(1)
        self.model.set_weights([_drawn(rng, array.shape) for array in self.model.get_weights()])
        (given,) = self.model.inputs
        self.shape = tuple(1 if n is None else n for n in given.shape)
        spec = tf.TensorSpec(given.shape, given.dtype)
        concrete = tf.function(lambda x: self.model(x, training=False)).get_concrete_function(spec)
        self._frozen = convert_variables_to_constants_v2(concrete)

    def file(self, precision: str) -> bytes:
        """Return the file of one of LETI's precisions."""

        def data() -> Iterator[list[np.ndarray]]:
            rng = np.random.default_rng(2)
            for _ in range(3):
                yield [rng.standard_normal(self.shape, dtype=np.float32)]

        return _converted(self._frozen, precision, data)

    def macs(self) -> int:
        """Return the multiply-accumulates, counted from Keras's layers."""
        return sum(_layer_macs(layer) for layer in self.model.layers)

    def folded_params(self) -> int:
        """Return the parameters once each batch norm is in the weights of the convolution before it, as a bias."""
        norms = [layer for layer in self.model.layers if isinstance(layer, layers.BatchNormalization)]
        return self.model.count_params() - sum(3 * int(layer.gamma.shape[0]) for layer in norms)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return weights that keep activations of one size; vectors, some of which are variances, are positive."""
    if len(shape) == 1:
        return rng.uniform(0.1, 0.6, shape).astype(np.float32)
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:-1])))


def _layer_macs(layer: Any) -> int:
    if isinstance(layer, layers.SeparableConv2D):
        pixels, across = np.prod(layer.output.shape[1:3]), layer.depthwise_kernel.shape
        return int(pixels * (np.prod(across) + np.prod(layer.pointwise_kernel.shape)))
    if isinstance(layer, layers.Conv2DTranspose):
        return int(np.prod(layer.input.shape[1:3]) * np.prod(layer.kernel.shape))
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        return int(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape))
    return int(np.prod(layer.kernel.shape)) if isinstance(layer, layers.Dense) else 0
