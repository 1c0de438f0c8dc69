"""A node of a random graph while it is placed, and its operators with windows: convolutions and pools of any rank.

Every node reads one or two values of the shape ``(batch, height, width, channels)`` and makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from leti.core.graph import Attribute
from leti.generator.builder import GraphBuilder
from leti.generator.cost import canonical_padding

MAX_OPTIONS: Final = 4
"""Forms that a kind has at most."""

LARGEST_SIDE: Final = 64
"""Pixels a side up to which a node enlarges what it reads; larger ones are pooled first."""

LARGEST_PRODUCT: Final = 16
"""Pixels a side up to which a node multiplies all with all."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is being placed: the values that it reads, one or two, and its attributes."""

    builder: GraphBuilder
    values: tuple[int, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    option: int = 0

    @property
    def value(self) -> int:
        """First of the values."""
        return self.values[0]

    @property
    def shape(self) -> Shape:
        """Shape of the first value."""
        return self.builder.shape(self.values[0])

    def place(
        self, kind: str, sources: Sequence[int], shape: Shape, dtype: str = "float32", /, **attributes: Attribute
    ) -> int:
        """Place an operator on given values."""
        return self.builder.place(kind, sources, shape, dtype, **attributes)

    def reshape(self, value: int, shape: Shape) -> int:
        """Place a reshape, unless the value has the shape already."""
        return value if self.builder.shape(value) == shape else self.place("reshape", (value,), shape)

    def unary(self, kind: str, value: int, **attributes: Attribute) -> int:
        """Place an operator that keeps its operand's shape."""
        return self.builder.unary(kind, value, **attributes)


Place = Callable[[Node], int]
"""Places a node's operators; returns the value that it makes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of operator is placed: on one or two values, with which attributes, in how many forms."""

    place: Place
    attributes: tuple[str, ...] = ()
    options: int = 1
    arity: int = 1


# --- shapes ----------------------------------------------------------------------------------------------------------


def fit(builder: GraphBuilder, value: int, shape: Shape) -> int:
    """Bring a value to a shape: resize its pixels, then a 1×1 convolution."""
    if builder.shape(value)[1:3] != shape[1:3]:
        resized = (*shape[:3], builder.channels(value))
        value = builder.place("resize", (value,), resized, method="bilinear")
    return value if builder.channels(value) == shape[3] else builder.conv(value, shape[3], 1)


def pair(node: Node) -> tuple[int, int]:
    """Return two values of the first one's shape; of a single one, the same twice."""
    return node.value, fit(node.builder, node.values[-1], node.shape)


def bounded(node: Node, value: int) -> int:
    """Return values from -1 to 1."""
    return node.unary("tanh", value)


def positive(node: Node, value: int) -> int:
    """Return values from 1/e to e."""
    return node.unary("exp", bounded(node, value))


def at_most(node: Node, value: int, side: int) -> int:
    """Pool until neither side is longer."""
    while max(node.builder.shape(value)[1:3]) > side:
        value = node.builder.max_pool(value, 2, stride=2)
    return value


def divisible(node: Node, value: int, divisor: int) -> int:
    """Bring the channels to a multiple of a divisor."""
    channels = node.builder.channels(value)
    return value if channels % divisor == 0 else node.builder.conv(value, channels + -channels % divisor, 1)


def even(node: Node, value: int) -> int:
    """Pad odd sides by a pixel."""
    batch, height, width, channels = node.builder.shape(value)
    down, right = height % 2, width % 2
    if not (down or right):
        return value
    shape = (batch, height + down, width + right, channels)
    return node.place("pad", (value,), shape, paddings=(0, 0, 0, down, 0, right, 0, 0))


# --- windows ---------------------------------------------------------------------------------------------------------


def _windowed(
    node: Node, kind: str, value: int, channels: int, *, valid: bool = False, dilation: int = 1, **more: Attribute
) -> int:
    """Place an operator with a window over all inner dimensions: padded, or only where it fits."""
    batch, *sizes, _ = node.builder.shape(value)
    rank = len(sizes)
    kernel, strides, dilations = [node.kernel] * rank, (node.stride,) * rank, (dilation,) * rank
    made, padding = tuple(-(-size // node.stride) for size in sizes), "same"
    if valid:
        kernel = [min(node.kernel, size) for size in sizes]
        made = tuple((size - width) // node.stride + 1 for size, width in zip(sizes, kernel, strict=True))
        padding = str(canonical_padding(sizes, kernel, strides, dilations, (0,) * (2 * rank)))
    shape = (batch, *made, channels)
    if dilation > 1:
        more = {**more, "dilations": dilations}
    return node.place(kind, (value,), shape, kernel=tuple(kernel), strides=strides, padding=padding, **more)


def conv1d(node: Node) -> int:
    """Place a convolution along all pixels in a row: padded, or unpadded."""
    value = rows(node, node.value)
    return columns(node, _form_of_conv(node, "conv1d", value, node.channels))


def conv2d(node: Node) -> int:
    """Place a convolution: padded, unpadded, dilated, or in two groups."""
    if node.option < 3:
        return _form_of_conv(node, "conv2d", node.value, node.channels)
    value = divisible(node, node.value, 2)
    return _windowed(node, "conv2d", value, node.channels + node.channels % 2, groups=2)


def conv3d(node: Node) -> int:
    """Place a convolution whose third dimension is two halves of the channels."""
    channels = max(node.channels // 2, 1)
    return plane(node, _form_of_conv(node, "conv3d", volume(node, node.value), channels))


def depthwise_conv2d(node: Node) -> int:
    """Place a convolution of each channel: padded, unpadded, dilated, or making two of each channel."""
    channels = node.shape[-1]
    if node.option < 3:
        return _form_of_conv(node, "depthwise_conv2d", node.value, channels)
    return _windowed(node, "depthwise_conv2d", node.value, 2 * channels)


def transpose_conv2d(node: Node) -> int:
    """Place a transposed convolution: padded, or unpadded."""
    value = at_most(node, node.value, LARGEST_SIDE // node.stride)
    batch, *sizes, _ = node.builder.shape(value)
    kernel = max(node.kernel, node.stride)
    valid = node.option == 1 and kernel > node.stride
    made = [(size - 1) * node.stride + kernel if valid else size * node.stride for size in sizes]
    shape = (batch, made[0], made[1], node.channels)
    window: dict[str, Attribute] = {"kernel": (kernel, kernel), "strides": (node.stride, node.stride)}
    return node.place("transpose_conv2d", (value,), shape, padding="valid" if valid else "same", **window)


def pool(kind: str) -> Place:
    """Return how a pool is placed: padded, or unpadded; of two pixels a side at least, for one would do nothing."""

    def place(node: Node) -> int:
        node = replace(node, kernel=max(node.kernel, 2))
        enter, leave = _RANKS[kind[-2:]]
        value = enter(node, node.value)
        channels = node.builder.channels(value)
        return leave(node, _windowed(node, kind, value, channels, valid=node.option == 1))

    return place


def rows(node: Node, value: int) -> int:
    """Lay all pixels in a row: ``(batch, height * width, channels)``."""
    batch, height, width, channels = node.builder.shape(value)
    return node.reshape(value, (batch, height * width, channels))


def columns(node: Node, value: int) -> int:
    """Make a row of pixels a column of them again: ``(batch, length, 1, channels)``."""
    batch, length, channels = node.builder.shape(value)
    return node.reshape(value, (batch, length, 1, channels))


def volume(node: Node, value: int) -> int:
    """Make halves of the channels a third dimension: ``(batch, height, width, 2, channels / 2)``."""
    value = divisible(node, value, 2)
    *sizes, channels = node.builder.shape(value)
    return node.reshape(value, (*sizes, 2, channels // 2))


def plane(node: Node, value: int) -> int:
    """Make the third dimension channels again."""
    *sizes, depth, channels = node.builder.shape(value)
    return node.reshape(value, (*sizes, depth * channels))


def _same(_node: Node, value: int) -> int:
    return value


_RANKS: Final[dict[str, tuple[Callable[[Node, int], int], Callable[[Node, int], int]]]] = {
    "1d": (rows, columns),
    "2d": (_same, _same),
    "3d": (volume, plane),
}


def _form_of_conv(node: Node, kind: str, value: int, channels: int) -> int:
    if node.option == 1:
        return _windowed(node, kind, value, channels, valid=True)
    if node.option == 2:
        return _windowed(replace(node, stride=1), kind, value, channels, dilation=2)
    return _windowed(node, kind, value, channels)
