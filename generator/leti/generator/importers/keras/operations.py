"""The table of ``keras.ops`` operations, which functional models hold where tensors are computed with directly.

A rule takes the place, the operation, and what it was called with: values, and constants as Keras was given them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leti.core.extras import needs
from leti.generator.importers.draft import Constant
from leti.generator.importers.keras.activations import (
    celu,
    glu,
    hard_shrink,
    log_sigmoid,
    relu,
    soft_shrink,
    softmax,
    squareplus,
    tanh_shrink,
    threshold,
)
from leti.generator.importers.keras.attention import dot_product_attention, einsum, matmul
from leti.generator.importers.keras.placing import Placed, Placing, Value

with needs("import-keras"):
    import keras

Rule = Callable[..., Placed]


def _operand(place: Placing, x: Any, dtype: str) -> Value | Constant:
    """Return what an operation was given: a value, or a constant of the data type that values are computed in."""
    if isinstance(x, Value):
        return place.cast(x, dtype)
    if hasattr(x, "path") and hasattr(x, "shape"):  # a variable
        return place.weight(x)
    return Constant.of(place.read(x), dtype)


def _dtype_of(x: Any) -> Any:
    """Return what Keras derives the data type of a comparison from."""
    if isinstance(x, Value):
        return x.type.dtype
    return type(x) if isinstance(x, bool | int | float) else keras.backend.standardize_dtype(x.dtype)


def _unary(kind: str) -> Rule:
    return lambda place, _operation, x: place.op(kind, place.cast(x, place.output.dtype))


def _binary(kind: str, *, dtype: str = "") -> Rule:
    def rule(place: Placing, _operation: Any, left: Any, right: Any) -> Placed:
        computed = keras.backend.result_type(*map(_dtype_of, (left, right))) if dtype else place.output.dtype
        both = _operand(place, left, computed), _operand(place, right, computed)
        return place.binary(kind, *both, dtype=place.output.dtype)

    return rule


def _axes(operation: Any, x: Value) -> tuple[int, ...]:
    axis = operation.axis
    if axis is None:
        return tuple(range(len(x.shape)))
    return tuple(sorted(x.axis(a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))))


def _reduce(kind: str) -> Rule:
    def rule(place: Placing, operation: Any, x: Value) -> Placed:
        if getattr(operation, "initial", None) is not None:
            return None
        x = place.cast(x, place.output.dtype)
        axes = _axes(operation, x)
        return place.op(kind, x, place.output.shape, axes=axes, keep_dims=bool(operation.keepdims)) if axes else x

    return rule


def _arg(kind: str) -> Rule:
    def rule(place: Placing, operation: Any, x: Value) -> Placed:
        if operation.axis is None:
            return None
        said = {"axis": x.axis(operation.axis), "keep_dims": bool(operation.keepdims)}
        return place.op(kind, x, place.output.shape, dtype=place.output.dtype, **said)

    return rule


def _variance(place: Placing, operation: Any, x: Value) -> Value:
    axes, kept = _axes(operation, x), tuple(1 if i in _axes(operation, x) else n for i, n in enumerate(x.shape))
    mean = place.op("mean", x, kept, axes=axes, keep_dims=True)
    squared = place.binary("squared_difference", x, mean)
    return place.op("mean", squared, place.output.shape, axes=axes, keep_dims=bool(operation.keepdims))


def _same_elements(place: Placing, _operation: Any, x: Value, *_rest: Any) -> Placed:
    return place.reshape(x, place.output.shape)


def _transpose(place: Placing, operation: Any, x: Value) -> Placed:
    return place.transpose(x, operation.axes or list(reversed(range(len(x.shape)))))


def _swap_axes(place: Placing, operation: Any, x: Value) -> Placed:
    order = list(range(len(x.shape)))
    first, second = x.axis(operation.axis1), x.axis(operation.axis2)
    order[first], order[second] = second, first
    return place.transpose(x, order)


def _move_axis(place: Placing, operation: Any, x: Value) -> Placed:
    moved = [x.axis(a) for a in operation.source]
    order = [i for i in range(len(x.shape)) if i not in moved]
    for to, axis in sorted((x.axis(to), axis) for to, axis in zip(operation.destination, moved, strict=True)):
        order.insert(to, axis)
    return place.transpose(x, order)


def _concatenate(place: Placing, operation: Any, xs: Sequence[Any]) -> Placed:
    read = [_operand(place, x, place.output.dtype) for x in xs]
    return place.op("concat", read, place.output.shape, axis=operation.axis % len(place.output.shape))


def _stack(place: Placing, operation: Any, xs: Sequence[Any]) -> Placed:
    read = [_operand(place, x, place.output.dtype) for x in xs]
    return place.op("stack", read, place.output.shape, axis=operation.axis % len(place.output.shape))


def _split(place: Placing, operation: Any, x: Value) -> Placed:
    return place.split(x, [made.shape for made in place.outputs], "split", x.axis(operation.axis))


def _unstack(place: Placing, operation: Any, x: Value) -> Placed:
    return place.split(x, [made.shape for made in place.outputs], "unstack", x.axis(operation.axis))


def _get_item(place: Placing, _operation: Any, x: Value, key: Any) -> Placed:
    """Place a slice, and a reshape where dimensions come or go; indices that are arrays have no counterpart."""
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(not isinstance(item, int | slice | None) and item is not Ellipsis for item in keys):
        return None
    used = sum(item is not None and item is not Ellipsis for item in keys)
    if Ellipsis not in keys:
        keys.append(Ellipsis)
    at = keys.index(Ellipsis)
    keys[at : at + 1] = [slice(None)] * (len(x.shape) - used)
    begin, strides, sizes = [], [], []
    for item, size in zip([item for item in keys if item is not None], x.shape, strict=True):
        parts = slice(item % size, item % size + 1) if isinstance(item, int) else item
        first, last, step = parts.indices(size)
        begin.append(first)
        strides.append(step)
        sizes.append(len(range(first, last, step)))
    made = x
    if tuple(sizes) != x.shape or any(step != 1 for step in strides):
        steps = tuple(strides) if set(strides) != {1} else ()
        made = place.op("slice", x, tuple(sizes), begin=tuple(begin) if any(begin) else (), strides=steps)
    return place.reshape(made, place.output.shape)


def _pad(place: Placing, operation: Any, x: Value, constant_values: Any = None) -> Placed:
    if operation.mode not in ("constant", "reflect", "symmetric") or isinstance(constant_values, Value):
        return None
    pairs = list(operation.pad_width) * (len(x.shape) if len(operation.pad_width) == 1 else 1)
    value = 0.0 if constant_values is None else float(constant_values)
    paddings = tuple(int(n) for pair in pairs for n in pair)
    return place.op("pad", x, place.output.shape, paddings=paddings, mode=operation.mode, value=value)


def _clip(place: Placing, operation: Any, x: Value) -> Placed:
    if not all(np.ndim(n) == 0 for n in (operation.x_min, operation.x_max)):
        return None
    return place.op("clip", place.cast(x, place.output.dtype), low=float(operation.x_min), high=float(operation.x_max))


def _repeat(place: Placing, operation: Any, x: Value) -> Placed:
    if operation.axis is None or not isinstance(operation.repeats, int):
        return None
    axis, times = x.axis(operation.axis), operation.repeats
    shape = (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :])
    multiples = tuple(times if i == axis + 1 else 1 for i in range(len(shape)))
    tiled = tuple(n * m for n, m in zip(shape, multiples, strict=True))
    return place.reshape(place.op("tile", place.reshape(x, shape), tiled, multiples=multiples), place.output.shape)


def _tile(place: Placing, operation: Any, x: Value) -> Placed:
    given = operation.repeats if isinstance(operation.repeats, (tuple, list)) else (operation.repeats,)
    rank = len(place.output.shape)
    x = place.reshape(x, (1,) * (rank - len(x.shape)) + x.shape)
    multiples = (1,) * (rank - len(given)) + tuple(map(int, given))
    return place.op("tile", x, place.output.shape, multiples=multiples)


def _broadcast_to(place: Placing, _operation: Any, x: Value) -> Placed:
    return x if x.shape == place.output.shape else place.op("broadcast_to", x, place.output.shape)


def _where(place: Placing, _operation: Any, condition: Any, left: Any = None, right: Any = None) -> Placed:
    if left is None or right is None:
        return None
    dtype = place.output.dtype
    read = [_operand(place, condition, "bool"), _operand(place, left, dtype), _operand(place, right, dtype)]
    return place.op("where", read, place.output.shape, dtype=dtype)


def _take(place: Placing, operation: Any, x: Any, indices: Any) -> Placed:
    if operation.axis is None or not isinstance(x, Value):
        return None
    read = indices if isinstance(indices, Value) else Constant.of(np.asarray(place.read(indices), np.int32), "int32")
    return place.op("gather", [x, read], place.output.shape, axis=x.axis(operation.axis))


def _flip(place: Placing, operation: Any, x: Value) -> Placed:
    return place.op("reverse", x, axes=_axes(operation, x))


def _roll(place: Placing, operation: Any, x: Value) -> Placed:
    if operation.axis is None:
        return None
    axes, shifts = (tuple(np.atleast_1d(given).tolist()) for given in (operation.axis, operation.shift))
    return place.op("roll", x, axes=tuple(x.axis(a) for a in axes), shifts=shifts)


def _cumsum(place: Placing, operation: Any, x: Value) -> Placed:
    return None if operation.axis is None else place.op("cumsum", x, axis=x.axis(operation.axis))


def _one_hot(place: Placing, operation: Any, x: Value) -> Placed:
    axis = operation.axis % len(place.output.shape)
    return place.op("one_hot", x, place.output.shape, dtype=place.output.dtype, axis=axis)


def _normalize(place: Placing, operation: Any, x: Value) -> Placed:
    return place.op("l2_normalize", x, axes=_axes(operation, x)) if operation.order == 2 else None


def _space(kind: str) -> Rule:
    def rule(place: Placing, operation: Any, x: Value) -> Placed:
        if operation.data_format != "channels_last":
            return None
        return place.op(kind, x, place.output.shape, block=operation.block_size)

    return rule


def _cast(place: Placing, _operation: Any, x: Value, *_rest: Any, **_more: Any) -> Placed:
    return place.cast(x, place.output.dtype)


def _identity(_place: Placing, _operation: Any, x: Any, *_rest: Any, **_more: Any) -> Placed:
    return x if isinstance(x, Value) else None


def _log_base(base: float) -> Rule:
    return lambda place, _operation, x: place.with_number("mul", place.op("log", x), 1 / math.log(base))


OPERATIONS: Mapping[str, Rule] = {
    **dict.fromkeys(("Absolute", "Abs"), _unary("abs")),
    "Negative": _unary("neg"),
    **{
        name: _unary(name.lower())
        for name in ("Exp", "Log", "Sqrt", "Rsqrt", "Square", "Reciprocal", "Sign", "Floor", "Ceil", "Sin", "Cos")
    },
    **{name: _unary(name.lower()) for name in ("Erf", "Tanh", "Sigmoid", "Silu", "Softplus", "Softsign", "Selu")},
    "Round": lambda place, operation, x: None if operation.decimals else place.op("round", x),
    "Log2": _log_base(2),
    "Log10": _log_base(10),
    "LogicalNot": _unary("logical_not"),
    "Mish": _unary("mish"),
    "Relu": _unary("relu"),
    "Relu6": _unary("relu6"),
    "HardTanh": _unary("relu_n1"),
    "HardSigmoid": _unary("hard_sigmoid"),
    "HardSilu": _unary("hard_swish"),
    "ReLU": lambda place, op, x: relu(place, x, op.negative_slope, op.max_value, op.threshold),
    "LeakyRelu": lambda place, op, x: place.op("leaky_relu", x, alpha=float(op.negative_slope)),
    "Elu": lambda place, op, x: place.op("elu", x, alpha=float(op.alpha)),
    "Celu": lambda place, op, x: celu(place, x, op.alpha),
    "Gelu": lambda place, op, x: place.op("gelu", x, approximate=bool(op.approximate)),
    "Glu": lambda place, op, x: glu(place, x, op.axis),
    "LogSigmoid": lambda place, _op, x: log_sigmoid(place, x),
    "TanhShrink": lambda place, _op, x: tanh_shrink(place, x),
    "SoftShrink": lambda place, op, x: soft_shrink(place, x, op.threshold),
    "HardShrink": lambda place, op, x: hard_shrink(place, x, op.threshold),
    "Threshold": lambda place, op, x: threshold(place, x, op.threshold, op.default_value),
    "Squareplus": lambda place, op, x: squareplus(place, x, op.b),
    "Softmax": lambda place, op, x: None if op.axis is None else softmax(place, x, op.axis),
    "LogSoftmax": lambda place, op, x: None if op.axis is None else softmax(place, x, op.axis, "log_softmax"),
    "Add": _binary("add"),
    "Subtract": _binary("sub"),
    "Multiply": _binary("mul"),
    **dict.fromkeys(("Divide", "TrueDivide"), _binary("div")),
    "FloorDivide": _binary("floor_div"),
    "Mod": _binary("floor_mod"),
    "Power": _binary("power"),
    "Maximum": _binary("maximum"),
    "Minimum": _binary("minimum"),
    **{
        name: _binary(kind, dtype="bool")
        for name, kind in (
            *(("Equal", "equal"), ("NotEqual", "not_equal"), ("Less", "less"), ("LessEqual", "less_equal")),
            *(("Greater", "greater"), ("GreaterEqual", "greater_equal")),
        )
    },
    "LogicalAnd": _binary("logical_and"),
    "LogicalOr": _binary("logical_or"),
    "Mean": _reduce("mean"),
    "Sum": _reduce("sum"),
    "Prod": _reduce("prod"),
    **dict.fromkeys(("Max", "Amax"), _reduce("reduce_max")),
    **dict.fromkeys(("Min", "Amin"), _reduce("reduce_min")),
    "Argmax": _arg("argmax"),
    "Argmin": _arg("argmin"),
    "Var": _variance,
    "Std": lambda place, operation, x: place.op("sqrt", _variance(place, operation, x)),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Ravel"), _same_elements),
    "Transpose": _transpose,
    "Swapaxes": _swap_axes,
    "Moveaxis": _move_axis,
    "Concatenate": _concatenate,
    "Stack": _stack,
    "Split": _split,
    "Unstack": _unstack,
    "GetItem": _get_item,
    "Pad": _pad,
    "Clip": _clip,
    "Repeat": _repeat,
    "Tile": _tile,
    "BroadcastTo": _broadcast_to,
    "Where": _where,
    "Take": _take,
    "Flip": _flip,
    "Roll": _roll,
    "Cumsum": _cumsum,
    "OneHot": _one_hot,
    "Normalize": _normalize,
    "DepthToSpace": _space("depth_to_space"),
    "SpaceToDepth": _space("space_to_depth"),
    "Matmul": matmul,
    "Einsum": einsum,
    "DotProductAttention": dot_product_attention,
    **dict.fromkeys(("Cast", "SaturateCast", "ConvertToTensor"), _cast),
    **dict.fromkeys(("StopGradient", "Copy"), _identity),
}
"""What each operation places, by the name of its class. Keras's own alone are looked up here."""
