"""Networks like those that people have, in TensorFlow, for ``converter_reference.py`` to convert.

Every one is imported from the converter's own float32 file, weights and all, and written again in each precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

Build = Callable[[Any], Any]


class Layers:
    """Layers of seeded weights, as TensorFlow operations."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def weights(self, *shape: int) -> Any:
        fan = int(np.prod(shape[:-1])) if len(shape) > 1 else 100
        return tf.constant(self._rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan)))

    def conv(self, x: Any, out: int, size: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1) -> Any:
        kernel = self.weights(size, size, int(x.shape[-1]) // groups, out)
        return tf.nn.conv2d(x, kernel, stride, "SAME", dilations=dilation) + self.weights(out)

    def depthwise(self, x: Any, size: int = 3, stride: int = 1) -> Any:
        channels = int(x.shape[-1])
        kernel = self.weights(size, size, 1, channels)
        kernel = tf.reshape(kernel, (size, size, channels, 1))
        return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "SAME") + self.weights(channels)

    def dense(self, x: Any, out: int) -> Any:
        return tf.matmul(x, self.weights(int(x.shape[-1]), out)) + self.weights(out)

    def head(self, x: Any, out: int = 10) -> Any:
        return tf.nn.softmax(self.dense(tf.reduce_mean(x, (1, 2)), out))


def _hard_sigmoid(x: Any) -> Any:
    return tf.nn.relu6(x + 3.0) * (1 / 6)


def _hard_swish(x: Any) -> Any:
    return x * _hard_sigmoid(x)


def _excited(layers: Layers, x: Any, gate: Build) -> Any:
    small = layers.conv(tf.reduce_mean(x, (1, 2), keepdims=True), int(x.shape[-1]) // 4)
    return x * gate(layers.conv(tf.nn.relu(small), int(x.shape[-1])))


def mobilenet_v3(x: Any) -> Any:
    """Inverted residuals with squeeze-and-excitation and hard swish."""
    layers = Layers(1)
    x = _hard_swish(layers.conv(x, 16, 3, 2))
    for stride, out in ((1, 16), (2, 24), (1, 24)):
        wide = _hard_swish(layers.depthwise(_hard_swish(layers.conv(x, 48)), 5, stride))
        made = layers.conv(_excited(layers, wide, _hard_sigmoid), out)
        x = made + x if stride == 1 and x.shape[-1] == out else made
    return layers.head(x)


def efficientnet(x: Any) -> Any:
    """Inverted residuals with squeeze-and-excitation and silu."""
    layers = Layers(2)
    x = tf.nn.silu(layers.conv(x, 16, 3, 2))
    wide = tf.nn.silu(layers.depthwise(tf.nn.silu(layers.conv(x, 64)), 3))
    x = layers.conv(_excited(layers, wide, tf.sigmoid), 16) + x
    return layers.head(x)


def mobilenet_v2(x: Any) -> Any:
    """Inverted residuals with ReLU6; padding by itself before strides."""
    layers = Layers(3)
    x = tf.nn.relu6(layers.conv(x, 16, 3, 2))
    for _ in range(2):
        wide = tf.nn.relu6(layers.depthwise(tf.nn.relu6(layers.conv(x, 96)), 3))
        x = x + layers.conv(wide, 16)
    return layers.head(x)


def resnet(x: Any) -> Any:
    """A bottleneck with padding before its stride, and a shortcut."""
    layers = Layers(4)
    x = tf.nn.relu(layers.conv(x, 32, 3))
    padded = tf.pad(tf.nn.relu(layers.conv(x, 16)), ((0, 0), (1, 1), (1, 1), (0, 0)))
    inner = tf.nn.conv2d(padded, layers.weights(3, 3, 16, 16), 2, "VALID") + layers.weights(16)
    made = layers.conv(tf.nn.relu(inner), 64)
    return layers.head(tf.nn.relu(made + layers.conv(x, 64, 1, 2)))


def densenet(x: Any) -> Any:
    """Concatenations of concatenations, batch norms on their own, a pool between."""
    layers = Layers(5)
    x = layers.conv(x, 16, 3)
    for _ in range(3):
        normed = tf.nn.relu(x * layers.weights(int(x.shape[-1])) + layers.weights(int(x.shape[-1])))
        x = tf.concat((x, layers.conv(normed, 8, 3)), -1)
    return layers.head(tf.nn.avg_pool2d(layers.conv(x, 16), 2, 2, "VALID"))


def inception(x: Any) -> Any:
    """Branches of several kernels and pools, joined."""
    layers = Layers(6)
    x = tf.nn.relu(layers.conv(x, 16, 3))
    branches = [
        tf.nn.relu(layers.conv(x, 16)),
        tf.nn.relu(layers.conv(tf.nn.relu(layers.conv(x, 12)), 16, 5)),
        tf.nn.relu(layers.conv(tf.nn.max_pool2d(x, 3, 1, "SAME"), 16)),
        tf.nn.avg_pool2d(x, 3, 1, "SAME"),
    ]
    return layers.head(tf.concat(branches, -1))


def transformer(x: Any) -> Any:
    """Attention and a gelu layer over patches, with layer norms."""
    layers = Layers(7)
    x = tf.reshape(layers.conv(x, 48, 4, 4), (1, 64, 48))

    def norm(value: Any) -> Any:
        mean, variance = tf.nn.moments(value, (-1,), keepdims=True)
        inverse = tf.math.rsqrt(variance + 1e-3) * (1 + layers.weights(48))
        return value * inverse + (layers.weights(48) - mean * inverse)

    def dense(value: Any, out: int) -> Any:
        flat = tf.reshape(value, (64, int(value.shape[-1])))
        return tf.reshape(layers.dense(flat, out), (1, 64, out))

    normed = norm(x)
    query, key, value = (tf.transpose(tf.reshape(dense(normed, 48), (1, 64, 3, 16)), (0, 2, 1, 3)) for _ in range(3))
    scores = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * 0.25)
    mixed = tf.reshape(tf.transpose(tf.matmul(scores, value), (0, 2, 1, 3)), (1, 64, 48))
    x = x + dense(mixed, 48)
    x = x + dense(tf.nn.gelu(dense(norm(x), 96)), 48)
    return layers.dense(tf.reduce_mean(x, 1), 10)


def segmentation(x: Any) -> Any:
    """Dilated and grouped convolutions, transposed convolution, resizing."""
    layers = Layers(8)
    low = tf.nn.leaky_relu(layers.conv(tf.nn.relu(layers.conv(x, 24, 3, 2)), 24, 3, 1, 2), 0.1)
    low = tf.nn.relu(layers.conv(low, 24, 3, groups=3))
    up = tf.nn.conv2d_transpose(low, layers.weights(2, 2, 16, 24), (1, 32, 32, 16), 2, "SAME") + layers.weights(16)
    resized = tf.compat.v1.image.resize_bilinear(layers.conv(low, 16), (32, 32), half_pixel_centers=True)
    return tf.tanh(layers.conv(tf.nn.relu(up) + resized, 4))


def audio(x: Any) -> Any:
    """Convolutions and pools of one dimension."""
    layers = Layers(9)
    x = tf.reshape(x, (1, 256, 12))
    for _ in range(2):
        x = tf.nn.conv1d(x, layers.weights(9, int(x.shape[-1]), 24), 1, "SAME") + layers.weights(24)
        x = tf.nn.max_pool1d(tf.nn.relu(x), 2, 2, "VALID")
    return layers.dense(tf.reduce_max(x, 1), 10)


BLOCKS: Mapping[str, Build] = {
    build.__name__: build
    for build in (
        *(mobilenet_v3, efficientnet, mobilenet_v2, resnet, densenet, inception, transformer, segmentation, audio),
    )
}
"""Each takes an image of (1, 32, 32, 3)."""
