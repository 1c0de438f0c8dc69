"""ONNX forms of what slides a window or a matrix over its input, and of what is done to each channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leti.core.extras import needs
from leti.generator.cost import Shape
from leti.generator.export.layouts import Window
from leti.generator.export.onnx.site import Form, Site, Write
from leti.generator.weights import Array, weight_names

with needs("import-onnx"):
    import numpy as np


def _window(site: Site, sizes: Shape) -> dict[str, Any]:
    window = Window.of(site.op, sizes)
    pads = [*window.before, *window.after]
    return {"kernel_shape": window.kernel, "strides": window.strides, "dilations": window.dilations, "pads": pads}


def _spatial(site: Site) -> Shape:
    return site.op.inputs[0].shape[1:-1]


def _channels_second(filters: Array) -> Array:
    """Return filters (out, …, in) as (out, in, …)."""
    return np.moveaxis(filters, -1, 1)


def _conv(site: Site) -> str:
    filters = site.constant(_channels_second(site.weights[0]))
    group = site.op.integer("groups", 1)
    return site.node("Conv", site.read(), filters, *site.bias(), group=group, **_window(site, _spatial(site)))


def _depthwise(site: Site) -> str:
    filters = site.constant(np.transpose(site.weights[0], (3, 0, 1, 2)))
    group = site.op.inputs[0].shape[-1]
    return site.node("Conv", site.read(), filters, *site.bias(), group=group, **_window(site, _spatial(site)))


def _transpose_conv(site: Site) -> str:
    """Write a transposed convolution; ``padding`` is that of the convolution that reads what this one makes."""
    groups, made, sizes = site.op.integer("groups", 1), site.made.shape[1:-1], _spatial(site)
    filters = np.moveaxis(site.weights[0], -1, 1)  # (out, in / groups, …), by groups (in, out / groups, …)
    parts = [np.swapaxes(part, 0, 1) for part in np.split(filters, groups)]
    window = _window(site, made)
    extra = []
    for i, size in enumerate(sizes):
        reach = (size - 1) * window["strides"][i] + (window["kernel_shape"][i] - 1) * window["dilations"][i] + 1
        after = reach - made[i] - window["pads"][i]
        extra.append(max(-after, 0))
        window["pads"][i + len(sizes)] = max(after, 0)
    kernel = site.constant(np.concatenate(parts))
    return site.node("ConvTranspose", site.read(), kernel, *site.bias(), group=groups, output_padding=extra, **window)


def _fully_connected(site: Site) -> str:
    if site.rank == 2:
        return site.node("Gemm", site.read(), site.constant(site.weights[0]), *site.bias(), transB=1)
    product = site.node("MatMul", site.read(), site.constant(site.weights[0].T))
    bias = site.bias()
    return site.node("Add", product, *bias) if bias else product


def _matmul(site: Site) -> str:
    reads = []
    for name, read, given in zip(("transpose_a", "transpose_b"), site.reads(), site.op.inputs, strict=True):
        rank = len(given.shape)
        turned = (*range(rank - 2), rank - 1, rank - 2)
        reads.append(site.node("Transpose", read, perm=turned) if site.op.get(name, False) else read)
    return site.node("MatMul", *reads)


def _pool(op_type: str) -> Write:
    def write(site: Site) -> str:
        window = _window(site, _spatial(site))
        if op_type == "AveragePool":
            window["count_include_pad"] = int(bool(site.op.get("count_padding", False)))
        return site.node(op_type, site.read(), **window)

    return write


# --- channels --------------------------------------------------------------------------------------------------------


def _named(site: Site) -> tuple[Array, Array, dict[str, Array]]:
    """Return scale and offset of a norm, one and zero where it has none, and all of its weights by their names."""
    named = dict(zip(weight_names(site.op), site.weights, strict=True))
    channels = site.op.inputs[0].shape[-1:]
    return named.get("scale", np.ones(channels)), named.get("center", np.zeros(channels)), named


def _batch_norm(site: Site) -> str:
    scale, center, named = _named(site)
    weights = [site.constant(array) for array in (scale, center, named["mean"], named["variance"])]
    return site.node("BatchNormalization", site.read(), *weights, epsilon=site.op.number("epsilon"))


def _norm(op_type: str, *attributes: str) -> Write:
    def write(site: Site) -> str:
        scale, center, _ = _named(site)
        more = {"num_groups": site.op.integer("groups")} if "groups" in attributes else {}
        reads = (site.constant(scale), site.constant(center))
        return site.node(op_type, site.read(), *reads, epsilon=site.op.number("epsilon"), **more)

    return write


def _layer_norm(site: Site) -> str:
    scale, center, named = _named(site)
    offset = (site.constant(center),) if "center" in named else ()
    return site.node(
        "LayerNormalization", site.read(), site.constant(scale), *offset, axis=-1, epsilon=site.op.number("epsilon")
    )


def _rms_norm(site: Site) -> str:
    scale, _, _ = _named(site)
    return site.node("RMSNormalization", site.read(), site.constant(scale), axis=-1, epsilon=site.op.number("epsilon"))


def _normalization(site: Site) -> str:
    mean, variance = site.weights[:2]
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # Keras's epsilon
    centred = site.node("Sub", site.read(), site.per_channel(mean))
    return site.node("Div", centred, site.per_channel(deviation))


def _local_response_norm(site: Site) -> str:
    size = 2 * site.op.integer("radius") + 1
    alpha, beta, bias = site.op.number("alpha"), site.op.number("beta"), site.op.number("bias", 1.0)
    return site.node("LRN", site.read(), size=size, alpha=alpha * size, beta=beta, bias=bias)


def _with_constant(op_type: str) -> Write:
    return lambda site: site.node(op_type, site.read(), site.per_channel(site.weights[0]))


def _zero(site: Site) -> str:
    return site.node("Mul", site.read(), site.number(0))


WINDOWS: Mapping[str, Form] = {
    **{kind: Form("first", _conv) for kind in ("conv1d", "conv2d", "conv3d")},
    "depthwise_conv2d": Form("first", _depthwise),
    "transpose_conv2d": Form("first", _transpose_conv),
    **{f"avg_pool{rank}d": Form("first", _pool("AveragePool")) for rank in (1, 2, 3)},
    **{f"max_pool{rank}d": Form("first", _pool("MaxPool")) for rank in (1, 2, 3)},
    "fully_connected": Form("last", _fully_connected),
    "matmul": Form("last", _matmul),
    "batch_norm": Form("first", _batch_norm),
    "instance_norm": Form("first", _norm("InstanceNormalization")),
    "group_norm": Form("first", _norm("GroupNormalization", "groups")),
    "layer_norm": Form("last", _layer_norm),
    "rms_norm": Form("last", _rms_norm),
    "normalization": Form("free", _normalization),
    "local_response_norm": Form("first", _local_response_norm),
    "scale": Form("free", _with_constant("Mul")),
    "shift": Form("free", _with_constant("Add")),
    "prelu": Form("free", _with_constant("PRelu")),
    "zero": Form("free", _zero),
}
"""How windows, products, norms and constants a channel are written."""
