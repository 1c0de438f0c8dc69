"""TFLite's convolutions, pools and matrix products, as operators of the table of costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from leti.core.graph import TensorType
from leti.generator.cost import Shape, canonical_padding
from leti.generator.importers.draft import Constant, NoCounterpart, Operand, weight_dtype
from leti.generator.importers.tflite.file import not_loaded
from leti.generator.importers.tflite.site import Site

_SAME, _VALID = 0, 1
_SHUFFLED = 1


def conv(site: Site) -> Sequence[Operand]:
    """Place a ``CONV_2D``; filters lie as (out, height, width, in / groups)."""
    names = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
    padding, *steps, activation = site.options("Conv2DOptions", *names)
    filters = _filters(site, 1, 4)
    groups, rest = divmod(site.input().shape[-1] if site.input().shape else 0, filters.shape[-1])
    site.require(rest == 0 and groups > 0, f"has filters of {filters.shape} over {site.input().shape}")
    window = _window(site, filters.shape[1:3], steps[:2], steps[2:], padding)
    return _with_bias(site, "conv2d", filters, activation, groups=groups, **window)


def depthwise_conv(site: Site) -> Sequence[Operand]:
    """Place a ``DEPTHWISE_CONV_2D``; filters lie as (1, height, width, out)."""
    names = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
    padding, *steps, activation = site.options("DepthwiseConv2DOptions", *names)
    filters = _filters(site, 1, 4)
    window = _window(site, filters.shape[1:3], steps[:2], steps[2:], padding)
    site.require(filters.shape[-1] % site.input().shape[-1] == 0, f"has filters of {filters.shape}")
    return _with_bias(site, "depthwise_conv2d", filters, activation, **window)


def conv_3d(site: Site) -> Sequence[Operand]:
    """Place a ``CONV_3D``; the file's filters lie as (depth, height, width, in / groups, out)."""
    names = (f"{part}{axis}{end}" for part, end in (("Stride", ""), ("Dilation", "Factor")) for axis in "DHW")
    padding, activation, *steps = site.options("Conv3DOptions", "Padding", "FusedActivationFunction", *names)
    filters = _filters(site, 1, 5).transposed((4, 0, 1, 2, 3))
    groups, rest = divmod(site.input().shape[-1] if site.input().shape else 0, filters.shape[-1])
    site.require(rest == 0 and groups > 0, f"has filters of {filters.shape} over {site.input().shape}")
    window = _window(site, filters.shape[1:4], steps[:3], steps[3:], padding)
    return _with_bias(site, "conv3d", filters, activation, groups=groups, **window)


def transpose_conv(site: Site) -> Sequence[Operand]:
    """Place a ``TRANSPOSE_CONV``; the padding is that of the convolution that it transposes, from output to input."""
    names = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
    padding, *strides, activation = site.options("TransposeConvOptions", *names)
    filters = _filters(site, 1, 4)
    window = _window(site, filters.shape[1:3], strides, (1, 1), padding, read=site.output(), made=site.input(2))
    return _with_bias(site, "transpose_conv2d", filters, activation, data=2, bias=3, **window)


def pool(kind: str) -> Callable[[Site], Sequence[Operand]]:
    """Return the function that places a pool of two dimensions."""

    def place(site: Site) -> Sequence[Operand]:
        names = ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")
        padding, *steps, activation = site.options("Pool2DOptions", *names)
        site.require(min(steps[2:]) > 0, f"has a window of {steps[2:]}")
        window = _window(site, tuple(steps[2:]), steps[:2], (1, 1), padding)
        site.require(site.input().shape[-1] == site.output().shape[-1], "changes the channels")
        return site.activated(site.place(kind, (site.value(0),), **window), activation)

    return place


def fully_connected(site: Site) -> Sequence[Operand]:
    """Place a ``FULLY_CONNECTED``; its input is flattened to rows as long as the filters, unless the rank is kept."""
    activation, layout = site.options("FullyConnectedOptions", "FusedActivationFunction", "WeightsFormat")
    output, read = site.output(), site.input()
    if not isinstance(site.operand(1), Constant):
        return site.activated(_product(site), activation)
    filters = _filters(site, 1, 2)
    units, width = filters.shape
    if layout == _SHUFFLED:
        filters = Constant(filters.shape, filters.dtype, not_loaded("are shuffled for one kernel of the runtime"))
    rows, rest = divmod(read.elements, width)
    site.require(
        rest == 0 and output.elements == rows * units and output.shape != (), f"makes {output.shape} of {read.shape}"
    )
    weights = [filters, *site.biases(2)]
    flat, made = read, output
    value = site.value(0)
    if read.shape[-1:] != (width,) or output.shape[:-1] != read.shape[:-1]:
        flat, made = TensorType((rows, width), read.dtype), TensorType((rows, units), output.dtype)
        value = site.place("reshape", (value,), flat) if read != flat else value
    attributes: dict[str, Any] = {"bias": len(weights) == 2, "weight_dtype": weight_dtype(filters, output)}
    value = site.place("fully_connected", (value,), made, weights=weights, **attributes)
    return site.activated(site.place("reshape", (value,), output) if made != output else value, activation)


def batch_matmul(site: Site) -> Sequence[Operand]:
    """Place a ``BATCH_MATMUL``; by a constant matrix it is a fully connected layer without bias."""
    transpose_a, transpose_b = site.options("BatchMatMulOptions", "AdjX", "AdjY")
    right, output = site.operand(1), site.output()
    site.require(min(len(t.shape) for t in (site.input(0), site.input(1), output)) >= 2, "multiplies no matrices")
    if isinstance(right, Constant) and len(right.shape) == 2 and not transpose_a:
        filters = right if transpose_b else right.transposed((1, 0))
        site.require(filters.shape[::-1] == (site.input().shape[-1], output.shape[-1]), f"multiplies {right.shape}")
        dtype = weight_dtype(right, output)
        return (site.place("fully_connected", (site.value(0),), weights=(filters,), bias=False, weight_dtype=dtype),)
    return (_matmul(site, bool(transpose_a), bool(transpose_b)),)


def _product(site: Site) -> int:
    """Place a fully connected layer whose filters are made while the network runs."""
    output = site.output()
    if len(site.input(0).shape) < 2 or len(site.input(1).shape) != 2 or len(output.shape) < 2:
        raise NoCounterpart
    if site.input(0).shape[:-1] != output.shape[:-1]:
        raise NoCounterpart
    value = _matmul(site, False, True)
    return site.binary("add", value, site.operand(2), output) if site.has(2) else value


def _matmul(site: Site, transpose_a: bool, transpose_b: bool) -> int:
    (rows, inner), (depth, columns) = (
        site.input(i).shape[-2:][::-1] if transposed else site.input(i).shape[-2:]
        for i, transposed in enumerate((transpose_a, transpose_b))
    )
    output = site.output()
    site.require(inner == depth and output.shape[-2:] == (rows, columns), f"makes {output.shape}")
    return site.place("matmul", (site.value(0), site.value(1)), transpose_a=transpose_a, transpose_b=transpose_b)


def _filters(site: Site, i: int, rank: int) -> Constant:
    filters = site.constant(i)
    site.require(len(filters.shape) == rank and min(filters.shape) > 0, f"has filters of {filters.shape}")
    return filters


def _with_bias(
    site: Site,
    kind: str,
    filters: Constant,
    activation: int,
    data: int = 0,
    bias: int = 2,
    **attributes: Any,
) -> tuple[int, ...]:
    weights = [filters, *site.biases(bias)]
    dtype = weight_dtype(filters, site.output())
    value = site.place(
        kind, (site.value(data),), weights=weights, bias=len(weights) == 2, weight_dtype=dtype, **attributes
    )
    return site.activated(value, activation)


def _window(
    site: Site,
    kernel: Shape,
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: int,
    *,
    read: TensorType | None = None,
    made: TensorType | None = None,
) -> dict[str, Any]:
    """Return the attributes of a window, checked against what it reads and makes."""
    read, made = read or site.input(), made or site.output()
    rank = len(kernel) + 2
    site.require(len(read.shape) == len(made.shape) == rank, f"makes {made.shape} of {read.shape}")
    site.require(min(*strides, *dilations) > 0 and padding in (_SAME, _VALID), f"has strides of {tuple(strides)}")
    sizes = read.shape[1:-1]
    covered = [0 if padding == _SAME else (k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    expected = [-(-(size - c) // s) for size, c, s in zip(sizes, covered, strides, strict=True)]
    site.require(made.shape[:-1] == (read.shape[0], *expected), f"makes {made.shape} of {read.shape}")
    written: Any = "same"
    if padding == _VALID:
        written = canonical_padding(sizes, kernel, strides, dilations, (0, 0) * len(kernel))
    found: dict[str, Any] = {"kernel": kernel, "strides": tuple(strides), "padding": written}
    return found | ({"dilations": tuple(dilations)} if max(dilations) > 1 else {})
