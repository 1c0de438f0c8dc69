"""The kinds of operator that random graphs are made of, and how each is placed on values of any shape.

What an operator needs besides stands around it: reshapes to its rank, comparisons that make its truth values, bounds
on what it would overflow on. Options number the forms of a kind: its axes, paddings, modes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from leti.core.graph import Attribute, TensorType
from leti.generator.spaces import random_nodes as windows
from leti.generator.spaces.random_elementwise import ELEMENTWISE, number, unary, with_number
from leti.generator.spaces.random_nodes import (
    LARGEST_PRODUCT,
    LARGEST_SIDE,
    Kind,
    Node,
    Place,
    at_most,
    bounded,
    divisible,
    even,
    pair,
    rows,
)

# --- products, norms, reductions -------------------------------------------------------------------------------------


def _fully_connected(node: Node) -> int:
    """Place a fully connected layer of the means, or of every pixel."""
    if node.option:
        return node.place("fully_connected", (node.value,), (*node.shape[:-1], node.channels))
    value = node.builder.fully_connected(node.builder.global_mean(node.value), node.channels)
    return node.reshape(value, (node.shape[0], 1, 1, node.channels))


def _matmul(node: Node) -> int:
    """Place the product of all pixels with all pixels, or of all channels with all channels."""
    left = at_most(node, node.value, LARGEST_PRODUCT)
    batch, height, width, channels = shape = node.builder.shape(left)
    other = windows.fit(node.builder, node.values[-1], shape)
    reads = (rows(node, left), rows(node, other))
    if node.option:
        product = node.place("matmul", reads, (batch, channels, channels), transpose_a=True)
        return node.reshape(product, (batch, 1, channels, channels))
    product = node.place("matmul", reads, (batch, height * width, height * width), transpose_b=True)
    return node.reshape(product, (batch, height, width, height * width))


def _embedding(node: Node) -> int:
    """Place a look-up by the number of the strongest channel."""
    *sizes, channels = node.shape
    indices = node.place("argmax", (node.value,), tuple(sizes), "int32", axis=3)
    return node.place("embedding", (indices,), (*sizes, node.channels), rows=channels)


def _constant(node: Node) -> int:
    """Place what is larger, the value or a constant; a sum with one would be the kind ``shift``."""
    constant = node.place("constant", (), (1, *node.shape[1:]))
    return node.place("maximum", (node.value, constant), node.shape)


def _norm(kind: str) -> Kind:
    """Return a norm, with and without what it may have besides."""
    forms: tuple[dict[str, Attribute], ...] = ({}, {"scale": False}, {"center": kind == "rms_norm"})
    return Kind(lambda node: node.unary(kind, node.value, epsilon=1e-3, **forms[node.option]), options=len(forms))


def _group_norm(node: Node) -> int:
    groups = math.gcd(node.shape[-1], (2, 4, 8)[node.option])
    return node.unary("group_norm", node.value, epsilon=1e-3, groups=groups)


_AXES: Final = ((1, 2), (1,), (2,), (3,))


def _reduction(kind: str) -> Place:
    def place(node: Node) -> int:
        axes = _AXES[node.option]
        shape = tuple(1 if i in axes else size for i, size in enumerate(node.shape))
        value = bounded(node, node.value) if kind in ("sum", "prod") else node.value
        return node.place(kind, (value,), shape, axes=axes, keep_dims=True)

    return place


def _position(kind: str) -> Place:
    def place(node: Node) -> int:
        axis = (3, 1, 2)[node.option]
        dropped = tuple(size for i, size in enumerate(node.shape) if i != axis)
        found = number(node, node.place(kind, (node.value,), dropped, "int32", axis=axis))
        return node.reshape(found, tuple(1 if i == axis else size for i, size in enumerate(node.shape)))

    return place


# --- where data goes -------------------------------------------------------------------------------------------------


def _concat(node: Node) -> int:
    left, right = pair(node)
    axis = (3, 1)[node.option]
    shape = tuple(size * 2 if i == axis else size for i, size in enumerate(node.shape))
    return node.place("concat", (left, right), shape, axis=axis)


def _stack(node: Node) -> int:
    left, right = pair(node)
    return windows.plane(node, node.place("stack", (left, right), (*node.shape[:3], 2, node.shape[3]), axis=3))


def _split(node: Node) -> int:
    """Place the two halves of the channels, or of the height, the other way round."""
    axis = (3, 1)[node.option]
    value = even(node, node.value) if node.option else divisible(node, node.value, 2)
    shape = node.builder.shape(value)
    half = TensorType(tuple(size // 2 if i == axis else size for i, size in enumerate(shape)))
    left, right = node.builder.place_many("split", (value,), (half, half), axis=axis)
    return node.place("concat", (right, left), shape, axis=axis)


def _unstack(node: Node) -> int:
    """Place the difference of the two halves of the channels."""
    value = windows.volume(node, node.value)
    *sizes, _, channels = node.builder.shape(value)
    half = TensorType((*sizes, channels))
    left, right = node.builder.place_many("unstack", (value,), (half, half), axis=3)
    return node.place("sub", (left, right), half.shape)


def _top_k(node: Node) -> int:
    """Place the larger half of a pixel's channels in order, or which ones they are."""
    shape = (*node.shape[:3], -(-node.shape[3] // 2))
    made = node.builder.place_many("top_k", (node.value,), (TensorType(shape), TensorType(shape, "int32")))
    return number(node, made[1]) if node.option else made[0]


def _slice(node: Node) -> int:
    """Place a slice: half of the channels, all but a border, or every other pixel."""
    batch, height, width, channels = node.shape
    if node.option == 0:
        return node.builder.first_channels(node.value, max(channels // 2, 1))
    if node.option == 1:
        down, right = min(1, height - 1), min(1, width - 1)
        shape, begin = (batch, height - down, width - right, channels), (0, down, right, 0)
        return node.place("slice", (node.value,), shape, begin=begin) if any(begin) else node.value
    shape = (batch, -(-height // 2), -(-width // 2), channels)
    return node.place("slice", (node.value,), shape, strides=(1, 2, 2, 1))


def _reshape(node: Node) -> int:
    """Place a reshape: all pixels in a column, or rows made channels."""
    batch, height, width, channels = node.shape
    if node.option:
        return node.reshape(node.value, (batch, width, height, channels))
    return node.reshape(node.value, (batch, height * width, 1, channels))


def _transpose(node: Node) -> int:
    perm = ((0, 2, 1, 3), (0, 1, 3, 2))[node.option]
    return node.place("transpose", (node.value,), tuple(node.shape[i] for i in perm), perm=perm)


def _broadcast_to(node: Node) -> int:
    batch, *_, channels = node.shape
    mean = node.place("mean", (node.value,), (batch, 1, 1, channels), axes=(1, 2), keep_dims=True)
    return node.place("broadcast_to", (mean,), node.shape)


def _tile(node: Node) -> int:
    """Place the value twice: in channels, or in both sides."""
    value = at_most(node, node.value, LARGEST_SIDE // 2) if node.option else node.value
    multiples = (1, 2, 2, 1) if node.option else (1, 1, 1, 2)
    shape = tuple(size * n for size, n in zip(node.builder.shape(value), multiples, strict=True))
    return node.place("tile", (value,), shape, multiples=multiples)


def _pad(node: Node) -> int:
    """Place padding by zeros, by a number, or by the value's own edges."""
    batch, height, width, channels = node.shape
    paddings = (0, 0, 1, 2, 2, 1, 0, 0) if node.option < 2 else (0, 0, 1, 1, 1, 1, 0, 0)
    forms: tuple[dict[str, Attribute], ...] = ({}, {"value": 1.0}, {"mode": "symmetric"})
    added = 3 if node.option < 2 else 2
    shape = (batch, height + added, width + added, channels)
    return node.place("pad", (node.value,), shape, paddings=paddings, **forms[node.option])


def _gather(node: Node) -> int:
    """Place the row of pixels in which the value's largest stands, for each image."""
    batch, height, width, channels = node.shape
    largest = node.place("reduce_max", (node.value,), (batch, height), axes=(2, 3))
    row = node.place("argmax", (largest,), (batch,), "int32", axis=1)
    found = node.place("gather", (node.value, row), (batch, batch, width, channels), axis=1)
    return node.reshape(found, (batch, batch, width, channels))


def _gather_nd(node: Node) -> int:
    """Place the images that a one or a zero names, of one image always the first."""
    batch, *sizes = node.shape
    zeros = node.place("cast", (node.unary("zero", node.value),), node.shape, "int32")
    first = node.place("reduce_max", (zeros,), (batch,), "int32", axes=(1, 2, 3))
    first = node.place("reshape", (first,), (batch, 1), "int32")
    return node.place("gather_nd", (node.value, first), (batch, *sizes))


def _one_hot(node: Node) -> int:
    indices = node.place("argmax", (node.value,), node.shape[:3], "int32", axis=3)
    return node.place("one_hot", (indices,), node.shape, axis=3)


def _cumsum(node: Node) -> int:
    forms: tuple[dict[str, Attribute], ...] = ({}, {"reverse": True}, {"exclusive": True})
    return node.unary("cumsum", bounded(node, node.value), axis=1 + node.option, **forms[node.option])


def _reverse(node: Node) -> int:
    return node.unary("reverse", node.value, axes=(1 + node.option,))


def _l2_normalize(node: Node) -> int:
    return node.unary("l2_normalize", node.value, axes=((3,), (1, 2))[node.option])


def _roll(node: Node) -> int:
    axes = ((1,), (3,), (1, 2))[node.option]
    return node.unary("roll", node.value, axes=axes, shifts=(1,) * len(axes))


def _depth_to_space(node: Node) -> int:
    value = divisible(node, at_most(node, node.value, LARGEST_SIDE // 2), 4)
    batch, height, width, channels = node.builder.shape(value)
    return node.place("depth_to_space", (value,), (batch, 2 * height, 2 * width, channels // 4), block=2)


def _space_to_depth(node: Node) -> int:
    value = even(node, node.value)
    batch, height, width, channels = node.builder.shape(value)
    return node.place("space_to_depth", (value,), (batch, height // 2, width // 2, 4 * channels), block=2)


def _apart(node: Node) -> tuple[int, tuple[int, ...]]:
    """Place the four images of every other pixel; return them and the borders that make the sides even."""
    batch, height, width, channels = node.shape
    borders = (0, height % 2, 0, width % 2)
    shape = (4 * batch, -(-height // 2), -(-width // 2), channels)
    return node.place("space_to_batch", (node.value,), shape, block=(2, 2), paddings=borders), borders


def _space_to_batch(node: Node) -> int:
    """Place the dilated convolution that the runtime makes of four small images."""
    value, borders = _apart(node)
    value = node.builder.depthwise_conv(value, 3)
    return node.place("batch_to_space", (value,), node.shape, block=(2, 2), crops=borders)


def _batch_to_space(node: Node) -> int:
    value, borders = _apart(node)
    value = node.builder.max_pool(value, 3)
    return node.place("batch_to_space", (value,), node.shape, block=(2, 2), crops=borders)


def _resize(node: Node) -> int:
    """Place a resize to twice or half the size."""
    value = at_most(node, node.value, LARGEST_SIDE // 2) if node.option < 2 else node.value
    batch, height, width, channels = node.builder.shape(value)
    larger = (batch, 2 * height, 2 * width, channels)
    smaller = (batch, -(-height // 2), -(-width // 2), channels)
    forms: tuple[tuple[tuple[int, ...], str, str], ...] = (
        (larger, "bilinear", "half_pixel"),
        (larger, "nearest", "asymmetric"),
        (smaller, "bilinear", "align_corners"),
        (smaller, "nearest", "half_pixel"),
    )
    shape, method, coordinates = forms[node.option]
    return node.place("resize", (value,), shape, method=method, coordinates=coordinates)


_CONV: Final = ("channels", "kernel", "stride")
_POOL: Final = ("kernel", "stride")

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "conv1d": Kind(windows.conv1d, _CONV, options=3),
        "conv2d": Kind(windows.conv2d, _CONV, options=4),
        "conv3d": Kind(windows.conv3d, _CONV, options=2),
        "depthwise_conv2d": Kind(windows.depthwise_conv2d, _POOL, options=4),
        "transpose_conv2d": Kind(windows.transpose_conv2d, _CONV, options=2),
        "fully_connected": Kind(_fully_connected, ("channels",), options=2),
        "matmul": Kind(_matmul, options=2, arity=2),
        "embedding": Kind(_embedding, ("channels",)),
        "constant": Kind(_constant),
        **{
            f"{name}_pool{rank}d": Kind(windows.pool(f"{name}_pool{rank}d"), _POOL, options=2)
            for name in ("avg", "max")
            for rank in (1, 2, 3)
        },
        **ELEMENTWISE,
        "softmax": with_number("softmax", "axis", 3, 1),
        "log_softmax": with_number("log_softmax", "axis", 3, 1),
        "local_response_norm": Kind(unary("local_response_norm", radius=2, alpha=1e-4, beta=0.75)),
        "l2_normalize": Kind(_l2_normalize, options=2),
        "batch_norm": _norm("batch_norm"),
        "layer_norm": _norm("layer_norm"),
        "instance_norm": _norm("instance_norm"),
        "rms_norm": _norm("rms_norm"),
        "group_norm": Kind(_group_norm, options=3),
        **{kind: Kind(_reduction(kind), options=4) for kind in ("mean", "sum", "prod", "reduce_max", "reduce_min")},
        **{kind: Kind(_position(kind), options=3) for kind in ("argmax", "argmin")},
        "concat": Kind(_concat, options=2, arity=2),
        "split": Kind(_split, options=2),
        "stack": Kind(_stack, arity=2),
        "unstack": Kind(_unstack),
        "slice": Kind(_slice, options=3),
        "reshape": Kind(_reshape, options=2),
        "transpose": Kind(_transpose, options=2),
        "broadcast_to": Kind(_broadcast_to),
        "tile": Kind(_tile, options=2),
        "pad": Kind(_pad, options=3),
        "gather": Kind(_gather),
        "gather_nd": Kind(_gather_nd),
        "top_k": Kind(_top_k, options=2),
        "one_hot": Kind(_one_hot),
        "cumsum": Kind(_cumsum, options=3),
        "reverse": Kind(_reverse, options=3),
        "roll": Kind(_roll, options=3),
        "depth_to_space": Kind(_depth_to_space),
        "space_to_depth": Kind(_space_to_depth),
        "space_to_batch": Kind(_space_to_batch),
        "batch_to_space": Kind(_batch_to_space),
        "resize": Kind(_resize, options=4),
    }
)
"""The kinds of node: all but ``quantize`` and ``dequantize``, since other precisions are made of whole graphs."""
