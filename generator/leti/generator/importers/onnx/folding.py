"""What ONNX's operators compute of constants: sizes and positions that exporters spell out, and weights rearranged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.generator.importers.onnx.call import Call
from leti.generator.weights import Array

with needs("import-onnx"):
    import numpy as np
    import onnx

Arrays = Sequence[Array | None]
Fold = Callable[[Call, Arrays], Array]


def fold(call: Call, arrays: Arrays) -> tuple[Array, ...]:
    """Return what a node of :data:`FOLDS` makes of known inputs, ``None`` for one left out.

    Raises :class:`ArtifactError` where the inputs do not fit.
    """
    try:
        with np.errstate(all="ignore"):
            if call.node.op_type == "Split":
                return tuple(_split(call, arrays))
            return (np.asarray(FOLDS[call.node.op_type](call, arrays)),)
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError, ArithmeticError) as error:
        raise ArtifactError(f"cannot be computed: {error}", field=call.name) from error


def _numpy_dtype(name: str) -> Any:
    """Return numpy's type of a data type; bfloat16 is held as float32, integers of 4 bits as int8."""
    return np.dtype({"bfloat16": "float32", "int4": "int8"}.get(name, name))


def _given(arrays: Arrays, position: int) -> Array:
    array = arrays[position] if position < len(arrays) else None
    if array is None:
        raise IndexError(f"misses input {position}")
    return array


def _optional(arrays: Arrays, position: int) -> Array | None:
    return arrays[position] if position < len(arrays) else None


def _unary(function: Callable[[Array], Any]) -> Fold:
    return lambda call, arrays: function(_given(arrays, 0))


def _binary(function: Callable[[Array, Array], Any]) -> Fold:
    return lambda call, arrays: function(_given(arrays, 0), _given(arrays, 1))


def _variadic(function: Callable[[Array, Array], Any]) -> Fold:
    def folded(call: Call, arrays: Arrays) -> Array:
        result = _given(arrays, 0)
        for i in range(1, len(arrays)):
            result = function(result, _given(arrays, i))
        return result

    return folded


def _divide(left: Array, right: Array) -> Array:
    if left.dtype.kind == "f":
        return np.asarray(left / right)
    if not np.all(right):
        raise ValueError("a whole number is divided by zero")
    quotient = np.abs(left) // np.abs(right)  # ONNX cuts towards zero
    return np.asarray(np.where((left < 0) ^ (right < 0), -quotient, quotient)).astype(left.dtype)


def _power(left: Array, right: Array) -> Array:
    return np.power(left, right.astype(left.dtype)) if left.dtype.kind == "f" else np.power(left, right)


def _mod(call: Call, arrays: Arrays) -> Array:
    return (np.fmod if call.integer("fmod", 0) else np.mod)(_given(arrays, 0), _given(arrays, 1))


def _cast(call: Call, arrays: Arrays) -> Array:
    return _given(arrays, 0).astype(_numpy_dtype(call.output().dtype))


def _axes(call: Call, arrays: Arrays) -> tuple[int, ...]:
    given = _optional(arrays, 1)
    return call.integers("axes") if given is None else tuple(int(n) for n in given.ravel())


def _squeeze(call: Call, arrays: Arrays) -> Array:
    return np.squeeze(_given(arrays, 0), _axes(call, arrays) or None)


def _unsqueeze(call: Call, arrays: Arrays) -> Array:
    return np.expand_dims(_given(arrays, 0), _axes(call, arrays))


def _reshape(call: Call, arrays: Arrays) -> Array:
    array = _given(arrays, 0)
    given = _optional(arrays, 1)
    sizes = call.integers("shape") if given is None else [int(n) for n in given]
    if not call.integer("allowzero", 0):
        sizes = [array.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    return array.reshape(sizes)


def _flatten(call: Call, arrays: Arrays) -> Array:
    array, axis = _given(arrays, 0), call.integer("axis", 1)
    return array.reshape(int(np.prod(array.shape[:axis], dtype=np.int64)), -1)


def _transpose(call: Call, arrays: Arrays) -> Array:
    return np.transpose(_given(arrays, 0), call.integers("perm") or None)


def _gather(call: Call, arrays: Arrays) -> Array:
    return np.take(_given(arrays, 0), _given(arrays, 1), axis=call.integer("axis", 0))


def _concat(call: Call, arrays: Arrays) -> Array:
    return np.concatenate([_given(arrays, i) for i in range(len(arrays))], call.integer("axis", 0))


def _split(call: Call, arrays: Arrays) -> list[Array]:
    array, sizes, axis = _given(arrays, 0), _optional(arrays, 1), call.integer("axis", 0)
    stated = call.integers("split") if sizes is None else tuple(int(n) for n in sizes)
    if stated:
        return np.split(array, list(itertools.accumulate(stated))[:-1], axis)
    width = -(-array.shape[axis] // len(call.node.output))
    return np.split(array, [width * i for i in range(1, len(call.node.output))], axis)


def _slice(call: Call, arrays: Arrays) -> Array:
    array = _given(arrays, 0)
    if len(arrays) < 2:
        stated = [call.integers(name) for name in ("starts", "ends", "axes", "steps")]
    else:
        rest = [_optional(arrays, i) for i in range(1, 5)]
        stated = [() if a is None else tuple(int(n) for n in a) for a in rest]
    starts, ends, axes, steps = stated
    index = [slice(None)] * array.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = steps[i] if steps else 1
        index[axes[i] if axes else i] = slice(start, None if end < 0 and -end > 2**30 else end, step)
    return array[tuple(index)]


def _pad(call: Call, arrays: Arrays) -> Array:
    array, pads, value = _given(arrays, 0), _given(arrays, 1), _optional(arrays, 2)
    if call.text("mode", "constant") != "constant" or _optional(arrays, 3) is not None or pads.min() < 0:
        raise ValueError("of this kind of padding")
    widths = pads.reshape(2, -1).T
    return np.pad(array, widths, constant_values=0 if value is None else value.item())


def _constant_of_shape(call: Call, arrays: Arrays) -> Array:
    sizes = [int(n) for n in _given(arrays, 0)]
    given = [attribute.t for attribute in call.node.attribute if attribute.name == "value"]
    fill = onnx.numpy_helper.to_array(given[0]).ravel()[:1] if given else np.zeros(1, np.float32)
    return np.full(sizes, fill[0])


def _expand(call: Call, arrays: Arrays) -> Array:
    array, sizes = _given(arrays, 0), tuple(int(n) for n in _given(arrays, 1))
    return np.broadcast_to(array, np.broadcast_shapes(array.shape, sizes))


def _scatter_nd(call: Call, arrays: Arrays) -> Array:
    if call.text("reduction", "none") != "none":
        raise ValueError("of this kind of scattering")
    array = _given(arrays, 0).copy()
    array[tuple(np.moveaxis(_given(arrays, 1), -1, 0))] = _given(arrays, 2)
    return array


def _range(call: Call, arrays: Arrays) -> Array:
    start, limit, step = (_given(arrays, i).item() for i in range(3))
    return np.arange(start, limit, step, dtype=_given(arrays, 0).dtype)


def _reduce(function: Callable[..., Any]) -> Fold:
    def folded(call: Call, arrays: Arrays) -> Array:
        axes = _axes(call, arrays)
        if not axes and call.integer("noop_with_empty_axes", 0):
            return _given(arrays, 0)
        array = _given(arrays, 0)
        return np.asarray(function(array, axis=axes or None, keepdims=call.integer("keepdims", 1) == 1)).astype(
            array.dtype
        )

    return folded


def _clip(call: Call, arrays: Arrays) -> Array:
    return np.clip(_given(arrays, 0), _optional(arrays, 1), _optional(arrays, 2))


def _per_axis(call: Call, array: Array, parameter: Array) -> Array:
    """Return scales or zero points in a shape that broadcasts: one for all, or one for each of a dimension."""
    if parameter.size == 1:
        return parameter.reshape(())
    if call.integer("block_size", 0):
        raise ValueError("of scales by blocks")
    axis = call.integer("axis", 1) % array.ndim
    return parameter.reshape([-1 if i == axis else 1 for i in range(array.ndim)])


def _dequantize(call: Call, arrays: Arrays) -> Array:
    array, zero = _given(arrays, 0), _optional(arrays, 2)
    scale = _per_axis(call, array, _given(arrays, 1))
    offset = 0 if zero is None else _per_axis(call, array, zero).astype(np.int64)
    return ((array.astype(np.int64) - offset) * scale).astype(scale.dtype)


def _quantize(call: Call, arrays: Arrays) -> Array:
    array, zero = _given(arrays, 0), _optional(arrays, 2)
    offset = np.zeros((), np.uint8) if zero is None else _per_axis(call, array, zero)
    steps = np.rint(array / _per_axis(call, array, _given(arrays, 1))) + offset
    bounds = np.iinfo(offset.dtype)
    clipped: Array = np.clip(steps, bounds.min, bounds.max).astype(offset.dtype)
    return clipped


FOLDS: Mapping[str, Fold] = MappingProxyType(
    {
        **{"Identity": _unary(np.asarray), "Neg": _unary(np.negative), "Abs": _unary(np.abs), "Exp": _unary(np.exp)},
        **{"Floor": _unary(np.floor), "Ceil": _unary(np.ceil), "Round": _unary(np.rint), "Sqrt": _unary(np.sqrt)},
        **{"Log": _unary(np.log), "Not": _unary(np.logical_not), "Reciprocal": _unary(np.reciprocal)},
        **{"Sin": _unary(np.sin), "Cos": _unary(np.cos), "Sign": _unary(np.sign), "IsNaN": _unary(np.isnan)},
        **{"Add": _binary(np.add), "Sub": _binary(np.subtract), "Mul": _binary(np.multiply), "Div": _binary(_divide)},
        **{"Pow": _binary(_power), "Mod": _mod, "And": _binary(np.logical_and), "Or": _binary(np.logical_or)},
        **{"Equal": _binary(np.equal), "Less": _binary(np.less), "Greater": _binary(np.greater)},
        **{"LessOrEqual": _binary(np.less_equal), "GreaterOrEqual": _binary(np.greater_equal)},
        **{"Max": _variadic(np.maximum), "Min": _variadic(np.minimum), "Sum": _variadic(np.add)},
        **{"Where": lambda call, arrays: np.where(*(_given(arrays, i) for i in range(3))), "Clip": _clip},
        **{"Cast": _cast, "CastLike": _cast, "ScatterND": _scatter_nd},
        **{"Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Reshape": _reshape, "Flatten": _flatten},
        **{"Transpose": _transpose, "Gather": _gather, "Concat": _concat, "Slice": _slice, "Pad": _pad},
        **{"Split": lambda call, arrays: _split(call, arrays)[0], "Range": _range, "Expand": _expand},
        **{"ConstantOfShape": _constant_of_shape, "Tile": _binary(lambda array, n: np.tile(array, n.astype(np.int64)))},
        **{"NonZero": _unary(lambda array: np.asarray(np.nonzero(array))), "Trilu": lambda c, a: _trilu(c, a)},
        **{"ReduceSum": _reduce(np.sum), "ReduceProd": _reduce(np.prod), "ReduceMean": _reduce(np.mean)},
        **{"ReduceMax": _reduce(np.max), "ReduceMin": _reduce(np.min)},
        **{"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize},
    }
)
"""The operators that are computed while a file is read where everything that they read is known."""


def _trilu(call: Call, arrays: Arrays) -> Array:
    diagonal = _optional(arrays, 1)
    k = 0 if diagonal is None else int(diagonal.item())
    return (np.triu if call.integer("upper", 1) else np.tril)(_given(arrays, 0), k)
