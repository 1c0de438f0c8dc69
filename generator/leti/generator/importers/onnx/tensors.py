"""Rows of the ONNX importer's table: reductions, and where data goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, NoCounterpart
from leti.generator.importers.onnx.call import Attributes, Call, Placed

with needs("import-onnx"):
    import numpy as np

Handler = Callable[[Call], Placed]
_MOST_INDICES = 65_536


# --- reductions ------------------------------------------------------------------------------------------------------


def _axes(call: Call, position: int = 1) -> Shape:
    """Return the dimensions that an attribute or an input names; all of them where neither does."""
    given = tuple(int(n) for n in call.numbers(position)) if call.has(position) else call.integers("axes")
    rank = len(call.shape())
    return tuple(sorted(call.counted(given, rank))) or tuple(range(rank))


def _reduction(kind: str, before: str = "", after: str = "") -> Handler:
    """Place a reduction, with operators of one operand before and after it that it is spelled out with."""

    def placed(call: Call) -> Placed:
        value, made = call.value(), call.output()
        source = call.draft.types[value]
        idle = not (call.has(1) or call.integers("axes")) and call.integer("noop_with_empty_axes", 0)
        value = call.place(before, (value,), source) if before else value
        if not idle and source.shape:
            keep = call.integer("keepdims", 1) == 1
            value = call.place(kind, (value,), made, axes=_axes(call), keep_dims=keep)
        return (call.place(after, (value,), made) if after else value,)

    return placed


def _arg(kind: str) -> Handler:
    def placed(call: Call) -> Placed:
        if call.integer("select_last_index", 0):
            raise NoCounterpart
        return (call.place(kind, (call.value(),), axis=call.axis(0), keep_dims=call.integer("keepdims", 1) == 1),)

    return placed


def _softmax(kind: str) -> Handler:
    def placed(call: Call) -> Placed:
        value, shape, made = call.value(), call.shape(), call.output()
        if call.opset >= 13:
            return (call.place(kind, (value,), axis=call.axis(-1)),)
        axis = call.axis(1)
        wide = [i for i in range(axis, len(shape)) if shape[i] > 1]
        if len(wide) <= 1:  # over one dimension, as of old over all from ``axis`` on
            return (call.place(kind, (value,), axis=wide[0] if wide else axis),)
        flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
        placed = call.place(kind, (call.reshape(value, flat),), TensorType(flat, made.dtype), axis=1)
        return (call.reshape(placed, shape),)

    return placed


# --- where data goes -------------------------------------------------------------------------------------------------


def _same(call: Call) -> Placed:
    if len([name for name in call.node.output if name]) > 1:
        raise NoCounterpart  # Dropout that tells what it dropped
    return (call.operand(),)


def _reshape(call: Call) -> Placed:
    return (call.place("reshape", (call.value(),)),)


def _transpose(call: Call) -> Placed:
    rank = len(call.shape())
    perm = call.counted(call.integers("perm", tuple(reversed(range(rank)))), rank)
    if sorted(perm) != list(range(rank)):
        raise ArtifactError(f"{perm} is no order of {rank} dimensions", field=call.name)
    return (call.place("transpose", (call.value(),), perm=perm),)


def _concat(call: Call) -> Placed:
    read = [call.operand(i) for i in range(len(call.inputs)) if call.shape(i) != (0,)]
    return (call.place("concat", read, axis=call.axis()),) if len(read) > 1 else tuple(read)


def _split(call: Call) -> Placed:
    made = [call.output(i) for i in range(len(call.outputs))]
    if len(made) == 1:
        return (call.value(),)
    return call.draft.place_many("split", (call.value(),), made, name=call.name, axis=call.axis(0))


def _slice(call: Call) -> Placed:
    shape = call.shape()
    if call.opset < 10:
        stated = [call.integers(name) for name in ("starts", "ends", "axes", "steps")]
    else:
        stated = [tuple(int(n) for n in call.numbers(i)) if call.has(i) else () for i in range(1, 5)]
    starts, ends, axes, steps = stated
    axes = call.counted(axes or tuple(range(len(starts))), len(shape))
    steps = steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ArtifactError("has bounds of different lengths", field=call.name)
    begin, strides = [0] * len(shape), [1] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        begin[axis], _, strides[axis] = slice(start, end, step).indices(shape[axis])
    made = call.output()
    if made.shape == shape:
        turned = tuple(i for i, step in enumerate(strides) if step == -1)
        return (call.place("reverse", (call.value(),), axes=turned) if turned else call.value(),)
    return (place_slice(call, begin, strides, made),)


def place_slice(call: Call, begin: Sequence[int], strides: Sequence[int], made: TensorType) -> int:
    """Place a slice of the first input; beginnings of 0 and steps of 1 everywhere are left out."""
    attributes: Attributes = {}
    if any(begin):
        attributes["begin"] = tuple(begin)
    if any(step != 1 for step in strides):
        attributes["strides"] = tuple(strides)
    return call.place("slice", (call.value(),), made, **attributes)


def _pad(call: Call) -> Placed:
    rank = len(call.shape())
    pads = tuple(int(n) for n in call.numbers(1)) if call.opset >= 11 else call.integers("pads")
    axes = call.counted([int(n) for n in call.numbers(3)], rank) if call.has(3) else tuple(range(rank))
    if len(pads) != 2 * len(axes):
        raise ArtifactError(f"has {len(pads)} paddings for {len(axes)} dimensions", field=call.name)
    if min(pads, default=0) < 0:
        raise NoCounterpart
    flat = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        flat[2 * axis], flat[2 * axis + 1] = pads[i], pads[i + len(axes)]
    if not any(flat):
        return (call.value(),)
    value = float(call.numbers(2)[0]) if call.has(2) else call.number("value", 0.0)
    mode = call.text("mode", "constant") or "constant"
    return (call.place("pad", (call.value(),), paddings=tuple(flat), mode=mode, value=value),)


_METHODS = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic"}
_COORDINATES = {"half_pixel", "align_corners", "asymmetric"}


def _resize(call: Call) -> Placed:
    shape, made = call.shape(), call.output().shape
    method = _METHODS.get(call.text("mode", "nearest"))
    coordinates = call.text("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    if coordinates == "pytorch_half_pixel":  # differs where the output is one element wide
        coordinates = "half_pixel"
    if method is None or coordinates not in _COORDINATES or len(shape) != 4 or made[:2] != shape[:2]:
        raise NoCounterpart
    if made == shape:
        return (call.value(),)
    rounding = call.text("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")
    whole = all(to % of == 0 for of, to in zip(shape[2:], made[2:], strict=True))
    if method == "nearest" and coordinates == "asymmetric" and rounding == "floor" and whole:
        coordinates = "half_pixel"  # each element is repeated, which half_pixel does as well
    return (call.place_channels_last("resize", call.value(), method=method, coordinates=coordinates),)


def _expand(call: Call) -> Placed:
    return (call.value() if call.shape() == call.output().shape else call.place("broadcast_to", (call.value(),)),)


def _tile(call: Call) -> Placed:
    multiples = tuple(int(n) for n in call.numbers(1))
    if all(n == 1 for n in multiples):
        return (call.value(),)
    return (call.place("tile", (call.value(),), multiples=multiples),)


def _gather(call: Call) -> Placed:
    table, indices, made, axis = call.operand(0), call.operand(1), call.output(), call.axis(0)
    if isinstance(table, Constant) and not isinstance(indices, Constant) and len(table.shape) == 2 and axis == 0:
        dtype = call.weight_dtype(table)
        return (call.place("embedding", (indices,), weights=(table,), rows=table.shape[0], weight_dtype=dtype),)
    if (
        isinstance(indices, Constant)
        and not isinstance(table, Constant)
        and 0 < math.prod(indices.shape) <= _MOST_INDICES
    ):
        shape = list(call.shape())
        places = indices.array().ravel() % shape[axis]
        if np.array_equal(places, np.arange(places.size) + places[0]):  # neighbours: a slice of them
            begin = [0] * len(shape)
            begin[axis], shape[axis] = int(places[0]), places.size
            part = call.value()
            if tuple(shape) != call.shape():
                part = place_slice(call, begin, [1] * len(shape), TensorType(tuple(shape), made.dtype))
            return (call.reshape(part, made.shape),)
    return (call.place("gather", (table, indices), axis=axis),)


def _gather_nd(call: Call) -> Placed:
    if call.integer("batch_dims", 0):
        raise NoCounterpart
    return (call.place("gather_nd", (call.operand(0), call.operand(1))),)


def _top_k(call: Call) -> Placed:
    rank = len(call.shape())
    if call.axis(-1) != rank - 1 or not call.integer("largest", 1) or len(call.outputs) != 2:
        raise NoCounterpart
    call.constant(1) if call.opset >= 10 else call.integer("k")
    return call.draft.place_many("top_k", (call.value(),), (call.output(0), call.output(1)), name=call.name)


def _one_hot(call: Call) -> Placed:
    call.constant(1), call.constant(2)
    return (call.place("one_hot", (call.value(),), axis=call.axis(-1, rank=len(call.output().shape))),)


def _cumsum(call: Call) -> Placed:
    (axis,) = call.counted([int(call.numbers(1)[0])], len(call.shape()))
    exclusive, backwards = bool(call.integer("exclusive", 0)), bool(call.integer("reverse", 0))
    return (call.place("cumsum", (call.value(),), axis=axis, exclusive=exclusive, reverse=backwards),)


def _depth_to_space(call: Call) -> Placed:
    block, value = call.integer("blocksize"), call.value()
    if call.text("mode", "DCR") == "CRD":  # blocks inside of channels: brought in front of them first
        batch, channels, *size = call.shape()
        value = call.reshape(value, (batch, channels // block**2, block**2, *size))
        value = call.transpose(value, (0, 2, 1, 3, 4))
        value = call.reshape(value, (batch, channels, *size))
    return (call.place_channels_last("depth_to_space", value, block=block),)


def _space_to_depth(call: Call) -> Placed:
    return (call.place_channels_last("space_to_depth", call.value(), block=call.integer("blocksize")),)


def _shape(call: Call) -> Placed:
    shape = call.shape()
    start, end = call.integer("start", 0), call.integer("end", len(shape))
    return (Constant.of(np.asarray(shape[start:end], np.int64), "int64"),)


def _size(call: Call) -> Placed:
    return (Constant.of(np.asarray(math.prod(call.shape()), np.int64), "int64"),)


TENSORS: Mapping[str, Handler] = MappingProxyType(
    {
        **{"ReduceMean": _reduction("mean"), "ReduceSum": _reduction("sum"), "ReduceProd": _reduction("prod")},
        **{"ReduceMax": _reduction("reduce_max"), "ReduceMin": _reduction("reduce_min")},
        **{"ReduceL1": _reduction("sum", "abs"), "ReduceL2": _reduction("sum", "square", "sqrt")},
        **{"ReduceSumSquare": _reduction("sum", "square"), "ReduceLogSum": _reduction("sum", "", "log")},
        **{"ReduceLogSumExp": _reduction("sum", "exp", "log"), "ArgMax": _arg("argmax"), "ArgMin": _arg("argmin")},
        **{"Softmax": _softmax("softmax"), "LogSoftmax": _softmax("log_softmax")},
        **{"Identity": _same, "Dropout": _same, "Reshape": _reshape, "Flatten": _reshape, "Squeeze": _reshape},
        **{"Unsqueeze": _reshape, "Transpose": _transpose, "Concat": _concat, "Split": _split, "Slice": _slice},
        **{"Pad": _pad, "Resize": _resize, "Upsample": _resize, "Expand": _expand, "Tile": _tile},
        **{"Gather": _gather, "GatherND": _gather_nd, "TopK": _top_k, "OneHot": _one_hot, "CumSum": _cumsum},
        **{"DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Shape": _shape, "Size": _size},
    }
)
"""How reductions and what moves data are placed; what else ONNX has is in ``onnx_operators``."""
