"""The PyTorch importer's table, one row an ATen operator: windows and norms; the rest is joined in.

PyTorch puts channels second. An operator whose channels matter is placed between two transpositions, which the passes
cancel; everything else is placed as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape, canonical_padding
from leti.generator.importers.draft import Constant, NoCounterpart
from leti.generator.importers.torch.call import Call, Placed
from leti.generator.importers.torch.elementwise import ELEMENTWISE
from leti.generator.importers.torch.products import PRODUCTS
from leti.generator.importers.torch.tensors import TENSORS
from leti.generator.weights import Array

with needs("import-torch"):
    import numpy as np

Handler = Callable[[Call], Placed]

# --- windows ---------------------------------------------------------------------------------------------------------


def _conv(call: Call) -> Placed:
    filters = call.constant("weight")
    rank = len(filters.shape) - 2
    batched = len(call.output.shape) == rank + 2
    groups = call.integer("groups", 1)
    if rank not in (1, 2, 3) or not batched:
        raise NoCounterpart
    if call.flag("transposed"):
        return _transposed_conv(call)
    kernel, channels = filters.shape[2:], call.shape()[1]
    if groups < 1 or filters.shape[1] * groups != channels:
        raise ArtifactError(f"has filters of {filters.shape} for {channels} channels", field=call.node.layer)
    window = _window(call, kernel, call.integers("stride", (1,), rank), _padding(call, kernel))
    bias = [call.constant("bias")] if call.has("bias") else []
    attributes: dict[str, Any] = {"bias": bool(bias), "weight_dtype": call.weight_dtype(filters)}
    if rank == 2 and groups == channels > 1:
        kind, filters = "depthwise_conv2d", filters.transposed((1, 2, 3, 0))
    else:
        kind, filters = f"conv{rank}d", filters.transposed((0, *range(2, rank + 2), 1))
        attributes["groups"] = groups
    return call.place_channels_last(kind, call.value(), weights=(filters, *bias), **window, **attributes)


def _padding(call: Call, kernel: Shape) -> Shape:
    """Return the elements before and after each dimension, flat, as numbers or the words "same" and "valid" say."""
    if not isinstance(call.node.arguments.get("padding"), str):
        return tuple(pad for pad in call.integers("padding", (0,), len(kernel)) for _ in range(2))
    if call.text("padding", "") == "valid":
        return (0,) * (2 * len(kernel))
    reach = [d * (k - 1) for d, k in zip(call.integers("dilation", (1,), len(kernel)), kernel, strict=True)]
    return tuple(pad for total in reach for pad in (total // 2, total - total // 2))


def _window(call: Call, kernel: Shape, strides: Shape, pads: Shape) -> dict[str, Any]:
    sizes, made = call.shape()[2:], call.output.shape[2:]
    dilations = call.integers("dilation", (1,), len(kernel))
    if not len(sizes) == len(made) == len(kernel) == len(strides) == len(dilations) == len(pads) // 2:
        raise ArtifactError(f"has a window of other than {len(sizes)} dimensions", field=call.node.layer)
    flat: list[int] = []
    for i, size in enumerate(sizes):
        reach = (made[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size
        flat += (pads[2 * i], max(pads[2 * i + 1], reach - pads[2 * i]))  # more where the size is rounded up
    padding = canonical_padding(sizes, kernel, strides, dilations, flat)
    return {"kernel": kernel, "strides": strides, "padding": padding, "dilations": dilations}


def _transposed_conv(call: Call) -> Placed:
    filters, groups, made = call.constant("weight"), call.integer("groups", 1), call.output.shape
    if len(made) != 4 or len(filters.shape) != 4:
        raise NoCounterpart
    if groups < 1 or filters.shape[0] % groups or filters.shape[1] * groups != made[1]:
        raise ArtifactError(f"has filters of {filters.shape} in {groups} groups", field=call.node.layer)
    sizes, kernel, inner = call.shape()[2:], filters.shape[2:], filters.shape[0] // groups
    strides, dilations = call.integers("stride", (1,), 2), call.integers("dilation", (1,), 2)
    before = call.integers("padding", (0,), 2)
    flat: list[int] = []
    for i in range(2):
        total = (sizes[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - made[2 + i]
        flat += (before[i], total - before[i])
    if min(flat) < 0:
        raise NoCounterpart

    def regroup(array: Array) -> Array:  # (in, out / groups, …) → (out, …, in / groups)
        split = array.reshape(groups, inner, *array.shape[1:]).transpose(0, 2, 3, 4, 1)
        return split.reshape(-1, *split.shape[2:])

    bias = [call.constant("bias")] if call.has("bias") else []
    return call.place_channels_last(
        "transpose_conv2d",
        call.value(),
        weights=(filters.map(regroup, (made[1], *kernel, inner)), *bias),
        kernel=kernel,
        strides=strides,
        padding=canonical_padding(made[2:], kernel, strides, dilations, flat),
        dilations=dilations,
        groups=groups,
        bias=bool(bias),
        weight_dtype=call.weight_dtype(filters),
    )


def _pool(kind: str, rank: int) -> Handler:
    def placed(call: Call) -> Placed:
        kernel = call.integers("kernel_size", rank=rank)
        strides = call.integers("stride", kernel, rank)
        pads = tuple(pad for pad in call.integers("padding", (0,), rank) for _ in range(2))
        if len(call.output.shape) != rank + 2 or call.has("divisor_override"):
            raise NoCounterpart
        window = _window(call, kernel, strides, pads)
        if kind == "avg_pool":
            counted = call.flag("count_include_pad", True) and any(pads)
            if (
                counted
                and call.flag("ceil_mode")
                and window["padding"] != canonical_padding(call.shape()[2:], kernel, strides, (1,) * rank, pads)
            ):
                raise NoCounterpart  # of the padding, torch counts what was asked for, not what rounding up adds
            window["count_padding"] = counted
        return call.place_channels_last(f"{kind}{rank}d", call.value(), **window)

    return placed


def _adaptive_pool(kind: str, reduction: str, rank: int) -> Handler:
    def placed(call: Call) -> Placed:
        sizes, made = call.shape()[-rank:], call.output.shape[-rank:]
        if sizes == made:
            return call.operand()
        axes = tuple(range(len(call.shape()) - rank, len(call.shape())))
        if set(made) == {1}:
            return call.place(reduction, axes=axes, keep_dims=True)
        if any(size % out for size, out in zip(sizes, made, strict=True)):
            raise NoCounterpart
        kernel = tuple(size // out for size, out in zip(sizes, made, strict=True))
        return call.place_channels_last(f"{kind}{rank}d", call.value(), kernel=kernel, strides=kernel, padding="valid")

    return placed


def _upsample(method: str, coordinates: str = "") -> Handler:
    def placed(call: Call) -> Placed:
        if len(call.output.shape) != 4 or call.flag("antialias"):
            raise NoCounterpart
        if call.output.shape == call.shape():
            return call.operand()
        aligned = "align_corners" if call.flag("align_corners") else "half_pixel"
        sizes = zip(call.shape()[2:], call.output.shape[2:], strict=True)
        repeated = method == "nearest" and all(made % size == 0 for size, made in sizes)
        chosen = "half_pixel" if repeated else coordinates or aligned  # the same where each element is repeated
        return call.place_channels_last("resize", call.value(), method=method, coordinates=chosen)

    return placed


# --- norms -----------------------------------------------------------------------------------------------------------


def _batch_norm(call: Call) -> Placed:
    if call.flag("training"):
        if call.has("running_mean"):
            raise InvalidInput(
                "was exported in training mode",
                field=call.node.layer,
                remedy="call model.eval() before torch.export.export",
            )
        raise NoCounterpart  # the statistics of what it reads
    names = [name for name in ("weight", "bias") if call.has(name)]
    weights = [call.constant(name) for name in (*names, "running_mean", "running_var")]
    return call.place_channels_last(
        "batch_norm",
        call.value(),
        weights=weights,
        epsilon=call.number("eps"),
        scale="weight" in names,
        center="bias" in names,
        weight_dtype=call.weight_dtype(weights[0]),
    )


def _channel_norm(kind: str, groups: str = "") -> Handler:
    def placed(call: Call) -> Placed:
        if not call.flag("use_input_stats", True) or len(call.shape()) < 3:
            raise NoCounterpart
        grouped: dict[str, Any] = {"groups": call.integer(groups)} if groups else {}
        names = [name for name in ("weight", "bias") if call.has(name)]
        weights = [call.constant(name) for name in names]
        dtype = call.weight_dtype(weights[0]) if weights else ""
        given: dict[str, Any] = {"scale": "weight" in names, "center": "bias" in names, "weight_dtype": dtype}
        epsilon = call.number("eps", 1e-5)
        return call.place_channels_last(kind, call.value(), weights=weights, epsilon=epsilon, **given, **grouped)

    return placed


def _last_axes_norm(kind: str) -> Handler:
    """Place a norm over the last dimensions, as one dimension."""

    def placed(call: Call) -> Placed:
        shape, normed = call.shape(), call.integers("normalized_shape")
        flat = (*shape[: len(shape) - len(normed)], math.prod(normed))
        names = [name for name in ("weight", "bias") if call.has(name)]
        weights = [_flattened(call, call.constant(name), flat[-1]) for name in names]
        given: dict[str, Any] = {"scale": "weight" in names, "center": "bias" in names}
        if weights:
            given["weight_dtype"] = call.weight_dtype(weights[0])
        usual = 1e-5 if kind == "layer_norm" else _EPSILONS.get(call.output.dtype, 1e-5)
        epsilon = call.number("eps", usual) if call.has("eps") else usual
        value = call.reshape(call.operand(), flat)
        made = call.place(
            kind, (value,), TensorType(flat, call.output.dtype), weights=weights, epsilon=epsilon, **given
        )
        return call.reshape(made, call.output.shape)

    return placed


def _flattened(call: Call, weight: Constant, size: int) -> Constant:
    if math.prod(weight.shape) != size:
        raise ArtifactError(f"has weights of {weight.shape} for {size} values", field=call.node.layer)
    return weight.reshaped((size,))


_EPSILONS = {name: float(np.finfo(name).eps) for name in ("float16", "float32", "float64")}

OPERATORS: Mapping[str, Handler] = MappingProxyType(
    {
        **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "_convolution"), _conv),
        "conv_transpose2d": _transposed_conv,
        **{f"max_pool{rank}d": _pool("max_pool", rank) for rank in (1, 2, 3)},
        **{f"max_pool{rank}d_with_indices": _pool("max_pool", rank) for rank in (1, 2, 3)},
        **{f"avg_pool{rank}d": _pool("avg_pool", rank) for rank in (1, 2, 3)},
        **{f"adaptive_avg_pool{rank}d": _adaptive_pool("avg_pool", "mean", rank) for rank in (1, 2, 3)},
        **{f"_adaptive_avg_pool{rank}d": _adaptive_pool("avg_pool", "mean", rank) for rank in (2, 3)},
        **{f"adaptive_max_pool{rank}d": _adaptive_pool("max_pool", "reduce_max", rank) for rank in (1, 2, 3)},
        "upsample_nearest2d": _upsample("nearest", "asymmetric"),
        "_upsample_nearest_exact2d": _upsample("nearest", "half_pixel"),
        **{"upsample_bilinear2d": _upsample("bilinear"), "upsample_bicubic2d": _upsample("bicubic")},
        **dict.fromkeys(("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
        **dict.fromkeys(("_native_batch_norm_legit", "_batch_norm_no_update"), _batch_norm),
        **{"layer_norm": _last_axes_norm("layer_norm"), "native_layer_norm": _last_axes_norm("layer_norm")},
        "rms_norm": _last_axes_norm("rms_norm"),
        **{"group_norm": _channel_norm("group_norm", "num_groups"), "instance_norm": _channel_norm("instance_norm")},
        "native_group_norm": _channel_norm("group_norm", "group"),
        **PRODUCTS,
        **ELEMENTWISE,
        **TENSORS,
    }
)
"""How each operator is placed, by its name without overload; one that writes in place, without the "_" at its end."""
