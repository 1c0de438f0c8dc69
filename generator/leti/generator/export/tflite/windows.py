"""TFLite forms of what slides a window or a matrix over its input: convolutions, pools, fully connected layers.

LiteRT knows windows of two dimensions, padded as TensorFlow's ``SAME`` or not at all. Other padding is an operator of
its own before the window; one dimension is two, the first of size one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leti.core.extras import needs
from leti.generator.cost import same_padding
from leti.generator.export.tflite.site import Form, Shape, Site
from leti.generator.export.tflite.writer import options
from leti.generator.weights import Array

with needs("export"):
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class Window:
    """How a window slides: a number a spatial dimension, and what is padded before and after each of them."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    padding: str | Shape

    @classmethod
    def of(cls, site: Site) -> Window:
        """Return the window of an operator."""
        kernel = site.op.integers("kernel")
        padding = site.op["padding"]
        if not isinstance(padding, str | tuple):
            raise site.refuse(f"a padding of {padding!r}")
        dilations = site.op.integers("dilations", (1,) * len(kernel))
        return cls(kernel, site.op.integers("strides"), dilations, padding)

    def flat(self) -> Window:
        """Return the window of one dimension as one of two."""
        padding = self.padding if isinstance(self.padding, str) else (0, 0, *self.padding)
        return Window((1, *self.kernel), (1, *self.strides), (1, *self.dilations), padding)

    def missing(self, sizes: Sequence[int]) -> Shape:
        """Return what is padded before and after each dimension of these sizes."""
        if isinstance(self.padding, tuple):
            return self.padding
        if self.padding == "valid":
            return (0, 0) * len(self.kernel)
        return same_padding(sizes, self.kernel, self.strides, self.dilations)

    def padded(self, site: Site, value: int, fill: float | None = None) -> tuple[int, Window]:
        """Place the padding that LiteRT's windows don't do by themselves; return the value and the window left."""
        if isinstance(self.padding, str):
            return value, self
        pads = (0, 0, *self.padding, 0, 0)
        shape = tuple(
            size + before + after
            for size, before, after in zip(site.shape_of(value), pads[::2], pads[1::2], strict=True)
        )
        return pad(site, value, pads, shape, fill), replace(self, padding="valid")

    def options(self, table: str, **more: Any) -> Any:
        """Return the options of an operator of two dimensions."""
        padding = schema.Padding.SAME if self.padding == "same" else schema.Padding.VALID
        return options(table, padding=padding, strideH=self.strides[0], strideW=self.strides[1], **more)

    def dilation_options(self) -> dict[str, int]:
        """Return the fields of options that say how far apart a filter's elements lie."""
        return {"dilationHFactor": self.dilations[0], "dilationWFactor": self.dilations[1]}


def pad(site: Site, value: int, pads: Sequence[int], shape: Shape, fill: float | None) -> int:
    """Place a padding by ``fill``, zero unless it is said."""
    pairs = site.integers(np.asarray(pads).reshape(-1, 2))
    if fill is None:
        return site.emit("PAD", (value, pairs), shape, options=options("PadOptions"))
    return site.emit("PADV2", (value, pairs, site.number(fill)), shape, options=options("PadV2Options"))


Form2d = Callable[[Site, int, Window, Shape], int]
"""Places an operator of two dimensions: site, value, window and output shape, to the output."""


def _flattened(place: Form2d) -> Form:
    """Return the form of one dimension of a form of two."""

    def form(site: Site) -> int:
        batch, size, channels = site.op.inputs[0].shape
        shape = (site.shape[0], 1, *site.shape[1:])
        made = place(site, site.reshape(site.inputs[0], (batch, 1, size, channels)), Window.of(site).flat(), shape)
        return site.reshape(made, site.shape)

    return form


def _plain(place: Form2d) -> Form:
    return lambda site: place(site, site.inputs[0], Window.of(site), site.shape)


def _conv2d(site: Site, value: int, window: Window, shape: Shape) -> int:
    value, window = window.padded(site, value)
    filters = site.weight(0, (shape[-1], *window.kernel, site.values(0).shape[-1]))
    made = window.options("Conv2DOptions", **window.dilation_options())
    return site.emit("CONV_2D", (value, filters, site.bias(zeros=shape[-1])), shape, options=made)


def _depthwise(site: Site, value: int, window: Window, shape: Shape) -> int:
    value, window = window.padded(site, value)
    multiplier = shape[-1] // site.op.inputs[0].shape[-1]
    made = window.options("DepthwiseConv2DOptions", depthMultiplier=multiplier, **window.dilation_options())
    reads = (value, site.weight(0), site.bias(zeros=shape[-1]))
    return site.emit("DEPTHWISE_CONV_2D", reads, shape, options=made)


def _conv3d(site: Site) -> int:
    if site.op.get("groups", 1) != 1:
        raise site.refuse("LiteRT has no convolution of three dimensions in groups")
    value, window = Window.of(site).padded(site, site.inputs[0])
    made = options(
        "Conv3DOptions",
        padding=schema.Padding.SAME if window.padding == "same" else schema.Padding.VALID,
        **dict(zip(("strideD", "strideH", "strideW"), window.strides, strict=True)),
        **dict(zip(("dilationDFactor", "dilationHFactor", "dilationWFactor"), window.dilations, strict=True)),
    )
    return site.emit("CONV_3D", (value, site.weight(0, axes=(1, 2, 3, 4, 0)), site.bias()), options=made)


def _transpose_conv2d(site: Site) -> int:
    """Place a transposed convolution; padding of other sizes is cut off afterwards."""
    window = Window.of(site)
    if site.op.get("groups", 1) != 1 or window.dilations != (1, 1):
        raise site.refuse("LiteRT's transposed convolution has no groups and no dilations")
    shape, pads = site.shape, window.missing(site.shape[1:3])
    cut = isinstance(window.padding, tuple)
    full = (shape[0], shape[1] + pads[0] + pads[1], shape[2] + pads[2] + pads[3], shape[3]) if cut else shape
    if cut:
        window = replace(window, padding="valid")
    reads = [site.integers(full), site.weight(0), site.inputs[0]]
    if site.op.get("bias", True):
        reads.append(site.bias())
    made = site.emit("TRANSPOSE_CONV", reads, full, options=window.options("TransposeConvOptions"))
    if not cut:
        return made
    bounds = site.integers((0, pads[0], pads[2], 0)), site.integers(shape)
    return site.emit("SLICE", (made, *bounds), shape)


def _fully_connected(site: Site) -> int:
    bias = site.bias()
    made = options("FullyConnectedOptions", keepNumDims=site.rank > 2)
    return site.emit("FULLY_CONNECTED", (site.inputs[0], site.weight(0), bias), options=made)


def _matmul(site: Site) -> int:
    made = options(
        "BatchMatMulOptions",
        adjX=bool(site.op.get("transpose_a", False)),
        adjY=bool(site.op.get("transpose_b", False)),
    )
    return site.emit("BATCH_MATMUL", options=made)


# --- pools -----------------------------------------------------------------------------------------------------------


def _pool(site: Site, builtin: str, value: int, window: Window, shape: Shape) -> int:
    if any(dilation != 1 for dilation in window.dilations):
        raise site.refuse("LiteRT's pools have no dilations")
    made = window.options("Pool2DOptions", filterHeight=window.kernel[0], filterWidth=window.kernel[1])
    return site.emit(builtin, (value,), shape, options=made)


def _max_pool(site: Site, value: int, window: Window, shape: Shape) -> int:
    value, window = window.padded(site, value, LOWEST)
    return _pool(site, "MAX_POOL_2D", value, window, shape)


def _avg_pool(site: Site, value: int, window: Window, shape: Shape) -> int:
    """Place an average pool; LiteRT counts no padding, and where it must, zeros are padded before.

    Padding that LiteRT doesn't know and that isn't counted is padded with zeros as well, and the averages multiplied by
    what they were divided by too much.
    """
    sizes = site.shape_of(value)[1:3]
    counted, pads = bool(site.op.get("count_padding", False)), window.missing(sizes)
    if window.padding == "same" and (not counted or not any(pads)):
        return _pool(site, "AVERAGE_POOL_2D", value, window, shape)
    value, padded = replace(window, padding=pads if any(pads) else "valid").padded(site, value)
    made = _pool(site, "AVERAGE_POOL_2D", value, padded, shape)
    if counted or not any(pads):
        return made
    counts = [_counts(sizes[i], shape[1 + i], window, pads, i) for i in (0, 1)]
    ratio = np.float32(np.prod(window.kernel)) / np.multiply.outer(*counts)
    constant = site.constant(ratio.reshape(1, *shape[1:3], 1).astype(np.float32))
    return site.emit("MUL", (made, constant), shape, options=options("MulOptions"))


def _counts(size: int, outputs: int, window: Window, pads: Shape, axis: int) -> Array:
    """Return how many elements that are no padding each window reads along an axis."""
    starts = np.arange(outputs) * window.strides[axis] - pads[2 * axis]
    return np.minimum(starts + window.kernel[axis], size) - np.maximum(starts, 0)


def _pool3d(place: Form2d) -> Form:
    """Return the form of three dimensions of a pool: over height and width, then over depth; both separate."""

    def form(site: Site) -> int:
        window = Window.of(site)
        (batch, depth, height, width, channels), made = site.op.inputs[0].shape, site.shape
        pads = window.padding if isinstance(window.padding, tuple) else None
        plane = Window(
            window.kernel[1:], window.strides[1:], window.dilations[1:], pads[2:] if pads else window.padding
        )
        column = Window(
            (window.kernel[0], 1),
            (window.strides[0], 1),
            (window.dilations[0], 1),
            (*pads[:2], 0, 0) if pads else window.padding,
        )
        value = site.reshape(site.inputs[0], (batch * depth, height, width, channels))
        value = place(site, value, plane, (batch * depth, *made[2:4], channels))
        value = site.reshape(value, (batch, depth, made[2] * made[3], channels))
        value = place(site, value, column, (batch, made[1], made[2] * made[3], channels))
        return site.reshape(value, made)

    return form


WINDOW_FORMS: Mapping[str, Form] = {
    "conv1d": _flattened(_conv2d),
    "conv2d": _plain(_conv2d),
    "conv3d": _conv3d,
    "depthwise_conv2d": _plain(_depthwise),
    "transpose_conv2d": _transpose_conv2d,
    "fully_connected": _fully_connected,
    "matmul": _matmul,
    "avg_pool1d": _flattened(_avg_pool),
    "avg_pool2d": _plain(_avg_pool),
    "avg_pool3d": _pool3d(_avg_pool),
    "max_pool1d": _flattened(_max_pool),
    "max_pool2d": _plain(_max_pool),
    "max_pool3d": _pool3d(_max_pool),
}
