"""PyTorch forms of what slides a window or a matrix over its input, and of what is done to each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.export.layouts import Window
from leti.generator.export.torch.program import Argument, Form, Site, Tensor, Write
from leti.generator.weights import Array, weight_names

with needs("export"):
    import numpy as np

_MOMENTUM: Final = 0.1  # of running statistics: PyTorch's, of no effect where nothing is trained


def _window(site: Site) -> Window:
    return Window.of(site.op, site.op.inputs[0].shape[1:-1])


# --- convolutions ----------------------------------------------------------------------------------------------------


def _convolution(site: Site, target: str, filters: Array, groups: int) -> Tensor:
    """Write a convolution; padding that is not alike before and after is an operator of its own."""
    window, read, padding = _window(site), site.read(), _window(site).before
    if window.before != window.after:
        read, padding = site.padded(read, window.before, window.after), (0,) * len(window.kernel)
    return site.node(
        target,
        input=read,
        weight=site.parameter(filters, "weight"),
        bias=site.bias(),
        stride=window.strides,
        padding=padding,
        dilation=window.dilations,
        groups=groups,
    )


def _conv(site: Site) -> Tensor:
    filters = np.moveaxis(site.weights[0], -1, 1)  # (out, …, in / groups) → (out, in / groups, …)
    return _convolution(site, site.op.kind, filters, site.op.integer("groups", 1))


def _depthwise(site: Site) -> Tensor:
    filters = np.transpose(site.weights[0], (3, 0, 1, 2))
    return _convolution(site, "conv2d", filters, site.op.inputs[0].shape[-1])


def _transpose_conv(site: Site) -> Tensor:
    """Write a transposed convolution, which makes all that the filters reach, less what ``padding`` says.

    ``padding`` is that of the convolution that reads what this one makes. PyTorch takes as much away before as after,
    and can add after; what is more on one side is cut off, or padded.
    """
    groups, sizes = site.op.integer("groups", 1), site.op.inputs[0].shape[1:-1]
    window = Window.of(site.op, site.made.shape[1:-1])
    parts = [np.swapaxes(part, 0, 1) for part in np.split(np.moveaxis(site.weights[0], -1, 1), groups)]
    spans = [
        (size - 1) * stride + (width - 1) * dilation + 1
        for size, stride, width, dilation in zip(sizes, window.strides, window.kernel, window.dilations, strict=True)
    ]
    wanted = site.made.shape[1:-1]
    after = [span - made - before for span, made, before in zip(spans, wanted, window.before, strict=True)]
    steps = [max(pair) for pair in zip(window.strides, window.dilations, strict=True)]
    # With the padding p, what is made is span - 2p + extra, and begins at element p.
    padding = [before if 0 <= before - rest < step else min(before, max(rest, 0))
               for before, rest, step in zip(window.before, after, steps, strict=True)]  # fmt: skip
    extra = [
        max(before - rest, 0) if before == p and before - rest < step else 0
        for before, rest, p, step in zip(window.before, after, padding, steps, strict=True)
    ]
    made = [span - 2 * p + e for span, p, e in zip(spans, padding, extra, strict=True)]
    whole = TensorType((*site.written().shape[:2], *made), site.made.dtype)
    tensor = site.node(
        "conv_transpose2d.input",
        whole,
        input=site.read(),
        weight=site.parameter(np.concatenate(parts), "weight"),
        bias=site.bias(),
        stride=window.strides,
        padding=padding,
        output_padding=extra,
        groups=groups,
        dilation=window.dilations,
    )
    starts = [before - p for before, p in zip(window.before, padding, strict=True)]
    missing = [max(start + size - have, 0) for start, size, have in zip(starts, wanted, made, strict=True)]
    return _cut(site, site.padded(tensor, [0] * len(missing), missing), starts, wanted)


def _cut(site: Site, tensor: Tensor, starts: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Write slices of the dimensions of an image that are larger than these sizes."""
    for i, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        shape = list(tensor.type.shape)
        if shape[2 + i] != size:
            shape[2 + i] = size
            made = TensorType(tuple(shape), tensor.type.dtype)
            tensor = site.node("slice.Tensor", made, self=tensor, dim=2 + i, start=start, end=start + size, step=1)
    return tensor


# --- products --------------------------------------------------------------------------------------------------------


def _fully_connected(site: Site) -> Tensor:
    weight = site.parameter(site.weights[0], "weight")
    return site.node("linear", input=site.read(), weight=weight, bias=site.bias())


def _matmul(site: Site) -> Tensor:
    reads = []
    for name, read in zip(("transpose_a", "transpose_b"), site.reads(), strict=True):
        if site.op.get(name, False):
            *batch, rows, columns = read.type.shape
            made = TensorType((*batch, columns, rows), read.type.dtype)
            read = site.node("transpose.int", made, self=read, dim0=-2, dim1=-1)
        reads.append(read)
    return site.node("matmul", self=reads[0], other=reads[1])


# --- pools -----------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Pooling:
    """How PyTorch is told of a pool's windows: ``skipped`` of them, on each axis, are made before the first wanted."""

    padding: Shape
    rounds_up: bool = False
    skipped: Shape = ()


def _max_pool(site: Site) -> Tensor:
    """Write a pool; padding that PyTorch's cannot have is an operator of its own, as in PyTorch's ports of networks."""
    window = _window(site)
    pooling = _pooling(window, site, _ROUNDED)
    if pooling is not None:
        return _pool(site, site.read(), window, pooling, dilation=window.dilations)
    read = site.padded(site.read(), window.before, window.after, float("-inf"))
    return _pool(site, read, window, _Pooling((0,) * len(window.kernel)), dilation=window.dilations)


def _avg_pool(site: Site) -> Tensor:
    """Write a pool; where PyTorch would count other elements of the padding, it is padded and put right afterwards."""
    window = _window(site)
    if any(dilation != 1 for dilation in window.dilations):
        raise site.refuse("it has no average pool of dilated windows")
    counts = bool(site.op.get("count_padding", False))
    pooling = _pooling(window, site, (*_ROUNDED, _EARLIER))
    if pooling is not None and (not counts or (window.before == window.after == pooling.padding)):
        return _pool(site, site.read(), window, pooling, count_include_pad=counts)
    read = site.padded(site.read(), window.before, window.after)
    made = _pool(site, read, window, _Pooling((0,) * len(window.kernel)), count_include_pad=False)
    if counts:
        return made
    return site.node("mul.Tensor", self=made, other=site.buffer(_shares(window, site), "shares"))


def _pool(site: Site, read: Tensor, window: Window, pooling: _Pooling, **said: Argument) -> Tensor:
    skipped, wanted = pooling.skipped or (0,) * len(window.kernel), site.written().shape
    shape = (*wanted[:2], *(skip + size for skip, size in zip(skipped, wanted[2:], strict=True)))
    made = site.node(
        site.op.kind,
        TensorType(shape, site.made.dtype),
        self=read,
        kernel_size=window.kernel,
        stride=window.strides,
        padding=pooling.padding,
        ceil_mode=pooling.rounds_up,
        **said,
    )
    return _cut(site, made, skipped, wanted[2:])


_ROUNDED: Final = ((0, False), (0, True))
_EARLIER: Final = (1, False)


def _pooling(window: Window, site: Site, ways: Sequence[tuple[int, bool]]) -> _Pooling | None:
    """Return how PyTorch, which pads before as after, comes by the windows that are wanted; ``None`` if it cannot.

    A way is how many windows earlier to begin, so that the padding after reaches far enough, and whether the number of
    windows is rounded up.
    """
    sizes, wanted = site.op.inputs[0].shape[1:-1], site.made.shape[1:-1]
    for skip, up in ways:
        skipped = tuple(skip * (after > before) for before, after in zip(window.before, window.after, strict=True))
        padding = tuple(b + s * n for b, s, n in zip(window.before, window.strides, skipped, strict=True))
        if any(2 * before > width for before, width in zip(padding, window.kernel, strict=True)):
            continue
        rows = zip(sizes, window.kernel, window.strides, window.dilations, padding, strict=True)
        made = tuple(_pooled(*row, up=up) for row in rows)
        if made == tuple(n + size for n, size in zip(skipped, wanted, strict=True)):
            return _Pooling(padding, up, skipped)
    return None


def _pooled(size: int, width: int, stride: int, dilation: int, before: int, *, up: bool) -> int:
    """Return how many windows PyTorch's pools have; one that begins in the padding after the image is left out."""
    room = size + 2 * before - (width - 1) * dilation - 1
    count = (-(-room // stride) if up else room // stride) + 1
    return count - 1 if up and (count - 1) * stride >= size + before else count


def _shares(window: Window, site: Site) -> Array:
    """Return, for each window, its elements over those of them that lie in the image, as (1, …)."""
    shares = np.ones((), np.float64)
    sizes, counts = site.op.inputs[0].shape[1:-1], site.made.shape[1:-1]
    for size, count, width, stride, before in zip(
        sizes, counts, window.kernel, window.strides, window.before, strict=True
    ):
        first = np.arange(count) * stride - before
        inside = np.minimum(first + width, size) - np.maximum(first, 0)
        shares = np.multiply.outer(shares, width / np.maximum(inside, 1))
    return np.asarray(shares[None])


# --- channels --------------------------------------------------------------------------------------------------------


def _named(site: Site) -> dict[str, Argument]:
    """Return the weights of a norm as its arguments: parameters that are there or not, and buffers of statistics."""
    arrays = dict(zip(weight_names(site.op), site.weights, strict=True))
    named: dict[str, Argument] = {}
    for argument, name in (("weight", "scale"), ("bias", "center")):
        named[argument] = site.parameter(arrays[name], argument) if name in arrays else None
    for argument, name in (("running_mean", "mean"), ("running_var", "variance")):
        if name in arrays:
            named[argument] = site.buffer(arrays[name], argument)
    return named


def _epsilon(site: Site) -> float:
    return site.op.number("epsilon")


def _batch_norm(site: Site) -> Tensor:
    said: dict[str, Argument] = {"training": False, "momentum": _MOMENTUM, "eps": _epsilon(site)}
    return site.node("batch_norm", input=site.read(), **_named(site), **said, cudnn_enabled=True)


def _instance_norm(site: Site) -> Tensor:
    said: dict[str, Argument] = {"running_mean": None, "running_var": None, "use_input_stats": True}
    more: dict[str, Argument] = {"momentum": _MOMENTUM, "eps": _epsilon(site), "cudnn_enabled": True}
    return site.node("instance_norm", input=site.read(), **_named(site), **said, **more)


def _group_norm(site: Site) -> Tensor:
    groups = site.op.integer("groups")
    return site.node("group_norm", input=site.read(), num_groups=groups, **_named(site), eps=_epsilon(site))


def _layer_norm(site: Site) -> Tensor:
    shape = site.op.inputs[0].shape[-1:]
    return site.node("layer_norm", input=site.read(), normalized_shape=shape, **_named(site), eps=_epsilon(site))


def _rms_norm(site: Site) -> Tensor:
    shape, named = site.op.inputs[0].shape[-1:], _named(site)
    made = site.node("rms_norm", input=site.read(), normalized_shape=shape, weight=named["weight"], eps=_epsilon(site))
    return made if named["bias"] is None else site.node("add.Tensor", self=made, other=named["bias"])


def _normalization(site: Site) -> Tensor:
    mean, variance = site.weights[:2]
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # Keras's epsilon
    centred = site.node("sub.Tensor", self=site.read(), other=site.per_channel(mean))
    return site.node("div.Tensor", self=centred, other=site.per_channel(deviation))


def _local_response_norm(site: Site) -> Tensor:
    """Write what ``torch.nn.functional.local_response_norm`` does: the channels' squares pooled along the channels."""
    radius, read = site.op.integer("radius"), site.read()
    size, (batch, channels, *image), dtype = 2 * radius + 1, read.type.shape, read.type.dtype
    if len(image) != 2:
        raise site.refuse("it normalises images of two dimensions alone")
    wide = TensorType((batch, 1, channels, *image), dtype)
    squares = site.node("unsqueeze", wide, self=site.node("mul.Tensor", self=read, other=read), dim=1)
    window: dict[str, Argument] = {"kernel_size": (size, 1, 1), "stride": (1, 1, 1), "padding": (radius, 0, 0)}
    pooled = site.node("avg_pool3d", wide, self=squares, **window, ceil_mode=False, count_include_pad=True)
    sums = site.node(
        "mul.Tensor", self=site.node("squeeze.dim", self=pooled, dim=1), other=site.op.number("alpha") * size
    )
    based = site.node("add.Tensor", self=sums, other=site.op.number("bias", 1.0))
    power = site.node("pow.Tensor_Scalar", self=based, exponent=site.op.number("beta"))
    return site.node("div.Tensor", self=read, other=power)


def _with_constant(target: str) -> Write:
    return lambda site: site.node(target, self=site.read(), other=site.per_channel(site.weights[0]))


def _prelu(site: Site) -> Tensor:
    (slope,), read = site.weights, site.read()
    if slope.size == 1 or slope.shape == site.op.inputs[0].shape[-1:]:
        return site.node("prelu", self=read, weight=site.parameter(slope.reshape(-1), "weight"))
    falling = site.node("mul.Tensor", self=read, other=site.per_channel(slope))
    positive = site.node("gt.Scalar", TensorType(read.type.shape, "bool"), self=read, other=0)
    return site.node("where.self", condition=positive, self=read, other=falling)


WINDOWS: Mapping[str, Form] = {
    **{kind: Form("first", _conv) for kind in ("conv1d", "conv2d", "conv3d")},
    "depthwise_conv2d": Form("first", _depthwise),
    "transpose_conv2d": Form("first", _transpose_conv),
    **{f"avg_pool{rank}d": Form("first", _avg_pool) for rank in (1, 2, 3)},
    **{f"max_pool{rank}d": Form("first", _max_pool) for rank in (1, 2, 3)},
    "fully_connected": Form("last", _fully_connected),
    "matmul": Form("last", _matmul),
    "batch_norm": Form("first", _batch_norm),
    "instance_norm": Form("first", _instance_norm),
    "group_norm": Form("first", _group_norm),
    "layer_norm": Form("last", _layer_norm),
    "rms_norm": Form("last", _rms_norm),
    "normalization": Form("free", _normalization),
    "local_response_norm": Form("first", _local_response_norm),
    "scale": Form("free", _with_constant("mul.Tensor")),
    "shift": Form("free", _with_constant("add.Tensor")),
    "prelu": Form("first", _prelu),
}
"""How windows, products, norms and constants a channel are written."""
