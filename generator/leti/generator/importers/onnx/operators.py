"""The ONNX importer's table, one row an ``op_type``: windows, norms, products and quantisation; the rest is joined in.

ONNX puts channels second. An operator whose channels matter is placed between two transpositions, which the passes
cancel; everything else is placed as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape, canonical_padding, constant_attribute
from leti.generator.importers.draft import Constant, NoCounterpart
from leti.generator.importers.onnx.call import Attributes, Call, Placed
from leti.generator.importers.onnx.elementwise import ELEMENTWISE
from leti.generator.importers.onnx.tensors import TENSORS
from leti.generator.weights import Array

with needs("import-onnx"):
    import numpy as np

Handler = Callable[[Call], Placed]
_MOST_CHANNELS = 65_536


# --- windows ---------------------------------------------------------------------------------------------------------


def _ones(rank: int) -> Shape:
    return (1,) * rank


def _padding(call: Call, kernel: Shape, strides: Shape, dilations: Shape, made: Shape) -> str | Shape:
    """Return the padding of a window, as operators say it, from ``pads`` or ``auto_pad``; sizes without channels."""
    sizes = call.shape()[2:]
    rank = len(sizes)
    pads = list(call.integers("pads", (0,) * (2 * rank)))
    if len(pads) != 2 * rank or not len(kernel) == len(strides) == len(dilations) == rank:
        raise ArtifactError(f"has a window of other than {rank} dimensions", field=call.name)
    auto = call.text("auto_pad", "NOTSET")
    flat: list[int] = []
    for i in range(rank):
        before, after = pads[i], pads[rank + i]
        reach = (made[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - sizes[i]
        if auto == "VALID":
            before = after = 0
        elif auto.startswith("SAME"):
            small, missing = max(reach, 0) // 2, max(reach, 0)
            before, after = (small, missing - small) if auto == "SAME_UPPER" else (missing - small, small)
        flat += (before, max(after, reach - before))  # more than stated where the output's size is rounded up
    return canonical_padding(sizes, kernel, strides, dilations, flat)


def _window(call: Call, kernel: Shape) -> Attributes:
    rank = len(call.shape()) - 2
    if rank not in (1, 2, 3):
        raise NoCounterpart
    strides = call.integers("strides", _ones(rank))
    dilations = call.integers("dilations", _ones(rank))
    padding = _padding(call, kernel, strides, dilations, call.output().shape[2:])
    return {"kernel": kernel, "strides": strides, "padding": padding, "dilations": dilations}


def _conv(call: Call) -> Placed:
    bias = [call.constant(2)] if call.has(2) else []
    return _place_conv(call, call.constant(1), bias)


def _place_conv(call: Call, filters: Constant, bias: Sequence[Constant]) -> Placed:
    shape, rank = filters.shape, len(call.shape()) - 2
    channels, groups = call.shape()[1], call.integer("group", 1)
    if len(shape) != rank + 2 or groups < 1 or shape[1] * groups != channels:
        raise ArtifactError(f"has filters of {shape} for {channels} channels in {groups} groups", field=call.name)
    attributes = _window(call, shape[2:])
    attributes |= {"bias": bool(bias), "weight_dtype": call.weight_dtype(filters)}
    if rank == 2 and groups == channels > 1:
        kind, filters = "depthwise_conv2d", filters.transposed((1, 2, 3, 0))
    else:
        kind, filters = f"conv{rank}d", filters.transposed((0, *range(2, rank + 2), 1))
        attributes["groups"] = groups
    return (call.place_channels_last(kind, call.value(), weights=(filters, *bias), **attributes),)


def _conv_transpose(call: Call) -> Placed:
    filters, made, groups = call.constant(1), call.output().shape, call.integer("group", 1)
    bias = [call.constant(2)] if call.has(2) else []
    if len(made) != 4:
        raise NoCounterpart
    if len(filters.shape) != 4 or groups < 1 or filters.shape[1] * groups != made[1] or filters.shape[0] % groups:
        raise ArtifactError(f"has filters of {filters.shape} in {groups} groups", field=call.name)
    kernel, strides = filters.shape[2:], call.integers("strides", (1, 1))
    dilations = call.integers("dilations", (1, 1))
    attributes: Attributes = {"kernel": kernel, "strides": strides, "dilations": dilations}
    attributes["padding"] = _transposed_padding(call, kernel, strides, dilations)
    attributes |= {"groups": groups, "bias": bool(bias), "weight_dtype": call.weight_dtype(filters)}
    inner = filters.shape[0] // groups

    def regroup(array: Array) -> Array:  # (in, out / groups, …) → (out, …, in / groups)
        split = array.reshape(groups, inner, *array.shape[1:]).transpose(0, 2, 3, 4, 1)
        return split.reshape(-1, *split.shape[2:])

    weights = (filters.map(regroup, (made[1], *kernel, inner)), *bias)
    return (call.place_channels_last("transpose_conv2d", call.value(), weights=weights, **attributes),)


def _transposed_padding(call: Call, kernel: Shape, strides: Shape, dilations: Shape) -> str | Shape:
    """Return the padding of the convolution that this one is the transposition of; it reads what this one makes."""
    sizes, made = call.shape()[2:], call.output().shape[2:]
    stated = call.integers("pads", (0, 0, 0, 0))
    if not len(kernel) == len(strides) == len(dilations) == len(sizes) == 2 or len(stated) != 4:
        raise ArtifactError("has a window of other than 2 dimensions", field=call.name)
    chosen = call.text("auto_pad", "NOTSET")
    if chosen == "NOTSET" and call.integers("output_shape"):
        chosen = "SAME_LOWER"  # as ONNX has it
    flat: list[int] = []
    for i in range(2):
        total = (sizes[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - made[i]
        before = stated[i] if chosen == "NOTSET" else (total + (chosen == "SAME_LOWER")) // 2
        flat += (before, total - before)
    return canonical_padding(made, kernel, strides, dilations, flat)


def _pool(kind: str) -> Handler:
    def placed(call: Call) -> Placed:
        if len([name for name in call.node.output if name]) > 1:
            raise NoCounterpart
        attributes = _window(call, call.integers("kernel_shape"))
        if kind == "avg_pool":
            attributes["count_padding"] = (
                bool(call.integer("count_include_pad", 0)) and attributes["padding"] != "valid"
            )
        rank = len(call.shape()) - 2
        return (call.place_channels_last(f"{kind}{rank}d", call.value(), **attributes),)

    return placed


def _global_pool(kind: str) -> Handler:
    return lambda call: (call.place(kind, (call.value(),), axes=tuple(range(2, len(call.shape()))), keep_dims=True),)


# --- norms -----------------------------------------------------------------------------------------------------------


def _batch_norm(call: Call) -> Placed:
    if call.integer("training_mode", 0) or len([name for name in call.node.output if name]) > 1:
        raise NoCounterpart
    weights = [call.constant(i) for i in range(1, 5)]
    return (
        call.place_channels_last("batch_norm", call.value(), weights=weights, epsilon=call.number("epsilon", 1e-5)),
    )


def _instance_norm(call: Call) -> Placed:
    weights: list[Constant] = []
    said: dict[str, bool] = {}
    for position, name, idle in ((1, "scale", 1), (2, "center", 0)):  # ONNX asks for both; a norm without has idle ones
        weight = call.constant(position)
        small = math.prod(weight.shape) <= _MOST_CHANNELS
        said[name] = not (small and bool((weight.array() == idle).all()))
        weights += [weight] if said[name] else []
    epsilon = call.number("epsilon", 1e-5)
    return (call.place_channels_last("instance_norm", call.value(), weights=weights, epsilon=epsilon, **said),)


def _group_norm(call: Call) -> Placed:
    groups, channels = call.integer("num_groups"), call.shape()[1]
    if groups < 1 or channels % groups:
        raise ArtifactError(f"has {groups} groups of {channels} channels", field=call.name)
    weights = [call.constant(1), call.constant(2)]
    if call.opset < 21:  # one value a group, then
        weights = [w.map(lambda array: np.repeat(array, channels // groups), (channels,)) for w in weights]
    epsilon = call.number("epsilon", 1e-5)
    return (call.place_channels_last("group_norm", call.value(), weights=weights, epsilon=epsilon, groups=groups),)


def _last_axes_norm(kind: str) -> Handler:
    """Place a norm over the last dimensions, as one dimension."""

    def placed(call: Call) -> Placed:
        if len([name for name in call.node.output if name]) > 1:
            raise NoCounterpart
        shape, axis, made = call.shape(), call.axis(-1), call.output()
        flat = (*shape[:axis], math.prod(shape[axis:]))
        weights = [_spread(call.constant(i), shape[axis:]) for i in (1, 2) if call.has(i)]
        center: Attributes = {} if kind == "rms_norm" else {"center": call.has(2)}
        epsilon = call.number("epsilon", 1e-5)
        normed = call.place(
            kind,
            (call.reshape(call.value(), flat),),
            TensorType(flat, made.dtype),
            weights=weights,
            epsilon=epsilon,
            **center,
        )
        return (call.reshape(normed, made.shape),)

    return placed


def _spread(weight: Constant, shape: Shape) -> Constant:
    if np.broadcast_shapes(weight.shape, shape) != shape:
        raise ArtifactError(f"has weights of {weight.shape} for {shape}", field="weights")
    return weight.map(lambda array: np.broadcast_to(array, shape).reshape(-1), (math.prod(shape),))


def _local_response_norm(call: Call) -> Placed:
    size = call.integer("size")
    if size % 2 == 0:
        raise NoCounterpart
    attributes: Attributes = {"alpha": call.number("alpha", 1e-4) / size, "beta": call.number("beta", 0.75)}
    bias = call.number("bias", 1.0)
    return (call.place_channels_last("local_response_norm", call.value(), radius=size // 2, bias=bias, **attributes),)


def _lp_norm(call: Call) -> Placed:
    if call.integer("p", 2) != 2:
        raise NoCounterpart
    return (call.place("l2_normalize", (call.value(),), axes=(call.axis(-1),)),)


def _prelu(call: Call) -> Placed:
    slope, rank = call.constant(1), len(call.shape())
    slope = slope.reshaped((1,) * (rank - len(slope.shape)) + slope.shape)
    if rank > 2:
        slope = slope.transposed((0, *range(2, rank), 1))
    kept = constant_attribute(slope.shape, call.shape()[1] if rank > 1 else 1)
    weight = slope.reshaped(kept or slope.shape[-1:])
    return (call.place_channels_last("prelu", call.value(), weights=(weight,), constant=kept),)


# --- products --------------------------------------------------------------------------------------------------------


def _matmul(call: Call) -> Placed:
    weight = call.operand(1)
    if isinstance(weight, Constant) and len(weight.shape) == 2 and len(call.shape()) > 1:
        return (_dense(call, weight.transposed((1, 0))),)
    return (_product(call, call.value(0), call.value(1), call.output()),)


def _dense(call: Call, weight: Constant, bias: Sequence[Constant] = (), position: int = 0) -> int:
    return call.place(
        "fully_connected",
        (call.value(position),),
        weights=(weight, *bias),
        bias=bool(bias),
        weight_dtype=call.weight_dtype(weight),
    )


def _product(call: Call, left: int, right: int, made: TensorType) -> int:
    """Place a matrix product; a vector stands as a matrix of one row or column, as in numpy."""
    shapes = [call.draft.types[value].shape for value in (left, right)]
    if min(map(len, shapes)) > 1:
        return call.place("matmul", (left, right), made)
    if len(shapes[0]) == 1:
        left, shapes[0] = call.reshape(left, (1, *shapes[0])), (1, *shapes[0])
    if len(shapes[1]) == 1:
        right, shapes[1] = call.reshape(right, (*shapes[1], 1)), (*shapes[1], 1)
    batch = max(shapes[0][:-2], shapes[1][:-2], key=len)
    full = TensorType((*batch, shapes[0][-2], shapes[1][-1]), made.dtype)
    return call.reshape(call.place("matmul", (left, right), full), made.shape)


def _gemm(call: Call) -> Placed:
    made, weight = call.output(), call.operand(1)
    turned_a, turned_b = bool(call.integer("transA", 0)), bool(call.integer("transB", 0))
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    added = call.operand(2) if call.has(2) else None
    if not isinstance(weight, Constant):
        product = call.place("matmul", (call.value(0), call.value(1)), made, transpose_a=turned_a, transpose_b=turned_b)
        product = _times(call, product, alpha, made)
    else:
        units = made.shape[-1]
        matrix = weight if turned_b else weight.transposed((1, 0))
        matrix = matrix if alpha == 1 else matrix.map(lambda array: array * np.float32(alpha))
        source = call.transpose(call.value(0), (1, 0)) if turned_a else call.value(0)
        bias = [added] if isinstance(added, Constant) and math.prod(added.shape) in (1, units) else []
        bias = bias if not bias or bias[0].shape[-1:] in ((units,), (1,), ()) else []
        read = [b.map(lambda array: np.broadcast_to(array.ravel() * np.float32(beta), units), (units,)) for b in bias]
        dtype = call.weight_dtype(weight)
        product = call.place("fully_connected", (source,), weights=(matrix, *read), bias=bool(bias), weight_dtype=dtype)
        added = None if bias else added
    if added is None:
        return (product,)
    if beta != 1:
        added = (
            added.map(lambda array: array * np.float32(beta))
            if isinstance(added, Constant)
            else _times(call, added, beta, call.draft.types[added])
        )
    return (call.draft.binary("add", product, added, made, name=call.name),)


def _times(call: Call, value: int, factor: float, made: TensorType) -> int:
    if factor == 1:
        return value
    constant = Constant.of(np.asarray([factor], np.float32), made.dtype)
    return call.draft.binary("mul", value, constant, made, name=call.name)


# --- quantised operators ---------------------------------------------------------------------------------------------


def _scaled(call: Call, weight: int, scale: int, zero: int) -> Constant:
    """Return a quantised weight as the numbers that it stands for, per output (its first dimension) or as a whole."""
    stored, scales = call.constant(weight), call.constant(scale)
    zeros = call.constant(zero) if call.has(zero) else None
    around = (-1,) + (1,) * (len(stored.shape) - 1)

    def real(array: Array) -> Array:
        offset = 0 if zeros is None else zeros.array().reshape(around if zeros.array().size > 1 else ())
        factor = scales.array()
        return (array - offset) * factor.reshape(around if factor.size > 1 else ())

    return stored.map(real)


def _qlinear_conv(call: Call) -> Placed:
    bias = []
    if call.has(8):
        scales = [call.constant(i) for i in (1, 4)]
        bias = [call.constant(8).map(lambda array: array * (scales[0].array() * scales[1].array()).ravel())]
    return _place_conv(call, _scaled(call, 3, 4, 5), bias)


def _qlinear_matmul(call: Call) -> Placed:
    weight = call.operand(3)
    if isinstance(weight, Constant) and len(weight.shape) == 2 and math.prod(call.constant(4).shape) == 1:
        return (_dense(call, _scaled(call, 3, 4, 5).transposed((1, 0))),)
    return (_product(call, call.value(0), call.value(3), call.output()),)


def _quantized(kind: str) -> Handler:
    return lambda call: (call.place(kind, (call.value(),)),)


OPERATORS: Mapping[str, Handler] = MappingProxyType(
    {
        **TENSORS,
        **ELEMENTWISE,
        **{
            "Conv": _conv,
            "ConvTranspose": _conv_transpose,
            "ConvInteger": lambda call: _place_conv(call, call.constant(1), ()),
        },
        **{"AveragePool": _pool("avg_pool"), "MaxPool": _pool("max_pool")},
        **{"GlobalAveragePool": _global_pool("mean"), "GlobalMaxPool": _global_pool("reduce_max")},
        **{
            "BatchNormalization": _batch_norm,
            "InstanceNormalization": _instance_norm,
            "GroupNormalization": _group_norm,
        },
        **{"LayerNormalization": _last_axes_norm("layer_norm"), "RMSNormalization": _last_axes_norm("rms_norm")},
        **{"LRN": _local_response_norm, "LpNormalization": _lp_norm, "PRelu": _prelu},
        **{"MatMul": _matmul, "Gemm": _gemm, "MatMulInteger": _matmul},
        **{"QLinearConv": _qlinear_conv, "QLinearMatMul": _qlinear_matmul},
        **{"QuantizeLinear": _quantized("quantize"), "DequantizeLinear": _quantized("dequantize")},
    }
)
"""How each operator is placed, by its name in ONNX's own domain or by domain and name; others are ``unknown``."""
