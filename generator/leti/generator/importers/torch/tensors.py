"""Rows of the PyTorch importer's table: reductions, and what moves data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from leti.core.errors import ArtifactError
from leti.core.graph import TensorType
from leti.generator.importers.draft import Constant, NoCounterpart, Operand
from leti.generator.importers.torch.call import Call, Placed
from leti.generator.importers.torch.program import Name

Handler = Callable[[Call], Placed]

# --- reductions ------------------------------------------------------------------------------------------------------


def _reduction(kind: str) -> Handler:
    def placed(call: Call) -> Placed:
        if not call.shape():
            return call.operand()
        axes = tuple(sorted(call.axes()))
        source = call.operand()
        kept = call.type_of(source)
        if kept.dtype != call.output.dtype:
            source = call.place("cast", (source,), TensorType(kept.shape, call.output.dtype))
        return call.place(kind, (source,), axes=axes, keep_dims=call.flag("keepdim"))

    return placed


def _extreme(kind: str, position: str, pair: str) -> Handler:
    """Place ``max`` and ``min`` in their three forms: of all, along an axis with positions, of two tensors."""

    def placed(call: Call) -> Placed:
        if call.has("other"):
            return call.binary(pair, call.operand(), call.operand("other"))
        if not call.has("dim"):
            return _reduction(kind)(call)
        kept = call.flag("keepdim")
        value = call.place(kind, axes=call.axes(), keep_dims=kept)
        if not call.is_read(1):
            return value, None
        return value, call.place(position, output=call.outputs[1], axis=call.axis(), keep_dims=kept)

    return placed


def _position(kind: str) -> Handler:
    def placed(call: Call) -> Placed:
        if not call.has("dim"):
            flat = call.reshape(call.operand(), (math.prod(call.shape()),))
            return call.reshape(call.place(kind, (flat,), TensorType((), call.output.dtype), axis=0), call.output.shape)
        return call.place(kind, axis=call.axis(), keep_dims=call.flag("keepdim"))

    return placed


def _softmax(kind: str) -> Handler:
    return lambda call: call.place(kind, axis=call.axis())


def _norm(call: Call) -> Placed:
    if any(call.has(name) and call.number(name) != 2 for name in ("p", "ord")):
        raise NoCounterpart
    kept = TensorType(call.shape(), call.output.dtype)
    squares = call.place("square", output=kept)
    return call.place("sqrt", (call.place("sum", (squares,), axes=call.axes(), keep_dims=call.flag("keepdim")),))


# --- shapes ----------------------------------------------------------------------------------------------------------


def _reshape(call: Call) -> Placed:
    return call.reshape(call.operand(), call.output.shape)


def _expand(call: Call) -> Placed:
    return call.operand() if call.shape() == call.output.shape else call.place("broadcast_to")


def _permute(call: Call) -> Placed:
    return call.transpose(call.operand(), call.counted(call.integers("dims")))


def _swap(call: Call) -> Placed:
    perm = list(range(len(call.shape())))
    if len(perm) < 2:
        return call.operand()
    names = ("dim0", "dim1") if call.has("dim0") else ("axis0", "axis1")
    one, other = (call.axis(name) for name in names) if call.has(names[0]) else (-2, -1)
    perm[one], perm[other] = perm[other], perm[one]
    return call.transpose(call.operand(), tuple(perm))


def _move(call: Call) -> Placed:
    source, target = call.counted(call.integers("source")), call.counted(call.integers("destination"))
    order = [axis for axis in range(len(call.shape())) if axis not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        order.insert(place, axis)
    return call.transpose(call.operand(), tuple(order))


def _parts(call: Call) -> Placed:
    """Place ``split``, ``chunk`` or ``tensor_split``; a constant is taken apart."""
    axis, value = call.axis(default=0), call.operand()
    if len(call.outputs) == 1:
        return value
    if not isinstance(value, Constant):
        return call.draft.place_many("split", (value,), call.outputs, name=call.node.layer, axis=axis)
    made: list[Operand] = []
    start = 0
    for part in call.outputs:
        made.append(_cut(value, axis, start, part))
        start += part.shape[axis]
    return made


def _cut(value: Constant, axis: int, start: int, part: TensorType) -> Constant:
    window = (slice(None),) * axis + (slice(start, start + part.shape[axis]),)
    return value.map(lambda array: array[window], part.shape)


def _unbind(call: Call) -> Placed:
    axis, value = call.axis(default=0), call.operand()
    if not isinstance(value, Constant):
        return call.draft.place_many("unstack", (value,), call.outputs, name=call.node.layer, axis=axis)
    thin = TensorType((*value.shape[:axis], 1, *value.shape[axis + 1 :]), value.dtype)
    return [_cut(value, axis, i, thin).reshaped(part.shape) for i, part in enumerate(call.outputs)]


def _concat(call: Call) -> Placed:
    operands = call.operands("tensors")
    return call.place("concat", operands, axis=call.axis(default=0, rank=len(call.output.shape)))


def _stack(call: Call) -> Placed:
    return call.place("stack", call.operands("tensors"), axis=call.axis(default=0, rank=len(call.output.shape)))


def _slice(call: Call) -> Placed:
    axis, shape = call.axis(default=0), call.shape()
    start, step = _known(call, "start", 0), call.integer("step", 1)
    if step < 1:
        raise ArtifactError("has a step below 1", field=call.node.layer)
    return _sliced(call, axis, slice(start, None, step).indices(shape[axis])[0], step, call.output)


def _known(call: Call, name: str, default: int) -> int:
    return call.integer(name) if call.has(name) else default


def _sliced(call: Call, axis: int, start: int, step: int, made: TensorType) -> Operand:
    """Place a slice along one axis; of what the node before has sliced along others, it is one slice with that.

    An exported program slices one axis after the other, each a view of the one before. Beginnings of 0 and steps of 1
    everywhere are left out.
    """
    if made.shape == call.shape():
        return call.operand()
    rank, value = len(call.shape()), call.operand()
    begin, strides = [0] * rank, [1] * rank
    last = call.draft.nodes[-1] if call.draft.nodes else None
    if last is not None and last.kind == "slice" and last.outputs == (value,):
        before = {"begin": begin, "strides": strides}
        before |= {name: list(last.integers(name)) for name in before if last.attributes.get(name)}
        kept = call.draft.types[last.inputs[0]].shape[axis]
        if (before["begin"][axis], before["strides"][axis], kept) == (0, 1, call.shape()[axis]):
            begin, strides, value = before["begin"], before["strides"], last.inputs[0]
    begin[axis], strides[axis] = start, step
    attributes: dict[str, Any] = {}
    if any(begin):
        attributes["begin"] = tuple(begin)
    if any(stride != 1 for stride in strides):
        attributes["strides"] = tuple(strides)
    return call.place("slice", (value,), made, **attributes)


def _narrow(call: Call) -> Placed:
    axis = call.axis()
    return _sliced(call, axis, call.integer("start") % (call.shape()[axis] + 1), 1, call.output)


def _select(call: Call) -> Placed:
    axis, shape = call.axis(), call.shape()
    thin = TensorType((*shape[:axis], 1, *shape[axis + 1 :]), call.output.dtype)
    start = call.counted((call.integer("index"),), shape[axis])[0]
    return call.reshape(_sliced(call, axis, start, 1, thin), call.output.shape)


def _index(call: Call) -> Placed:
    """Place indexing by one tensor of whole numbers as ``gather``."""
    indices = call.node.arguments.get("indices")
    if not isinstance(indices, tuple):
        raise NoCounterpart
    given = [(axis, item.name) for axis, item in enumerate(indices) if isinstance(item, Name)]
    if len(given) != 1:
        raise NoCounterpart
    ((axis, name),) = given
    where = call.find(name)
    if call.type_of(where).dtype not in ("int64", "int32"):
        raise NoCounterpart
    return call.place("gather", (call.operand(), where), axis=axis)


def _index_select(call: Call) -> Placed:
    return call.place("gather", (call.operand(), call.operand("index")), axis=call.axis())


# --- other moves -----------------------------------------------------------------------------------------------------

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad(mode: str = "") -> Handler:
    def placed(call: Call) -> Placed:
        name = "pad" if call.has("pad") else "padding"
        pads, rank = call.integers(name, ()), len(call.shape())
        if len(pads) % 2 or len(pads) > 2 * rank:
            raise ArtifactError(f"has {len(pads)} paddings for {rank} dimensions", field=call.node.layer)
        if min(pads, default=0) < 0:
            raise NoCounterpart
        if not any(pads):
            return call.operand()
        flat = [0] * (2 * rank)
        for i in range(len(pads) // 2):  # from the last dimension on
            flat[2 * (rank - 1 - i)], flat[2 * (rank - 1 - i) + 1] = pads[2 * i], pads[2 * i + 1]
        chosen = _MODES.get(mode or call.text("mode", "constant"))
        if chosen is None:
            raise NoCounterpart
        value = call.number("value") if call.has("value") else 0.0
        return call.place("pad", paddings=tuple(flat), mode=chosen, value=value)

    return placed


def _roll(call: Call) -> Placed:
    shifts, axes = call.integers("shifts"), call.integers("dims", ())
    if len(axes) != len(shifts):
        raise NoCounterpart
    return call.place("roll", axes=call.counted(axes), shifts=shifts)


def _flip(call: Call) -> Placed:
    return call.place("reverse", axes=tuple(sorted(call.axes("dims"))))


def _repeat(call: Call) -> Placed:
    multiples = call.integers("repeats" if call.has("repeats") else "dims")
    shape = (1,) * (len(multiples) - len(call.shape())) + call.shape()
    value = call.reshape(call.operand(), shape)
    full = (1,) * (len(shape) - len(multiples)) + multiples
    return value if all(n == 1 for n in full) else call.place("tile", (value,), multiples=full)


def _pixel_shuffle(call: Call) -> Placed:
    """Place blocks that lie inside of channels in front of them first, as ``depth_to_space`` has them."""
    if len(call.shape()) != 4:
        raise NoCounterpart
    block, (batch, channels, *size) = call.integer("upscale_factor"), call.shape()
    value = _regrouped(call, call.operand(), (batch, channels // block**2, block**2, *size))
    return call.place_channels_last("depth_to_space", _placed(call, value), block=block)


def _pixel_unshuffle(call: Call) -> Placed:
    if len(call.shape()) != 4:
        raise NoCounterpart
    block, (batch, channels, height, width) = call.integer("downscale_factor"), call.shape()
    made = call.output
    first = (0, 2, 3, 1)
    value = call.place("transpose", output=TensorType((batch, height, width, channels), made.dtype), perm=first)
    last = TensorType((batch, height // block, width // block, made.shape[1]), made.dtype)
    value = call.place("space_to_depth", (value,), last, block=block)
    back = call.place("transpose", (value,), perm=(0, 3, 1, 2))
    return _regrouped(call, back, (batch, block**2, channels, *made.shape[2:]))


def _channel_shuffle(call: Call) -> Placed:
    batch, channels, *size = call.shape()
    groups = call.integer("groups")
    return _regrouped(call, call.operand(), (batch, groups, channels // groups, *size))


def _regrouped(call: Call, value: Operand, groups: tuple[int, ...]) -> Operand:
    """Place an exchange of the two dimensions that channels are made of."""
    shape = call.type_of(value).shape
    turned = call.transpose(call.reshape(value, groups), (0, 2, 1, *range(3, len(groups))))
    return call.reshape(turned, shape)


def _placed(call: Call, value: Operand) -> int:
    return call.draft.constant(value, call.node.layer) if isinstance(value, Constant) else value


def _top_k(call: Call) -> Placed:
    if call.axis(default=-1) != len(call.shape()) - 1 or not call.flag("largest", True):
        raise NoCounterpart
    return call.draft.place_many("top_k", (call.operand(),), call.outputs, name=call.node.layer)


def _cumsum(call: Call) -> Placed:
    return call.place("cumsum", axis=call.axis())


def _names(handler: Handler, names: Sequence[str]) -> Mapping[str, Handler]:
    return dict.fromkeys(names, handler)


TENSORS: Mapping[str, Handler] = MappingProxyType(
    {
        **{"mean": _reduction("mean"), "sum": _reduction("sum"), "prod": _reduction("prod")},
        **{"amax": _reduction("reduce_max"), "amin": _reduction("reduce_min")},
        **{"max": _extreme("reduce_max", "argmax", "maximum"), "min": _extreme("reduce_min", "argmin", "minimum")},
        **{"argmax": _position("argmax"), "argmin": _position("argmin"), "cumsum": _cumsum},
        **_names(_softmax("softmax"), ("softmax", "_softmax")),
        **_names(_softmax("log_softmax"), ("log_softmax", "_log_softmax")),
        **_names(_norm, ("norm", "linalg_vector_norm")),
        **_names(_reshape, ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")),
        **_names(_reshape, ("view_as", "reshape_as", "_reshape_alias", "ravel")),
        **_names(_expand, ("expand", "expand_as", "broadcast_to")),
        **{"permute": _permute, "movedim": _move, "moveaxis": _move, "roll": _roll, "flip": _flip},
        **_names(_swap, ("transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT")),
        **_names(_parts, ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")),
        **{"unbind": _unbind, "cat": _concat, "concat": _concat, "stack": _stack},
        **{"slice": _slice, "narrow": _narrow, "select": _select, "index": _index, "index_select": _index_select},
        **{"pad": _pad(), "constant_pad_nd": _pad("constant"), "repeat": _repeat, "tile": _repeat},
        **{f"reflection_pad{rank}d": _pad("reflect") for rank in (1, 2, 3)},
        **{f"replication_pad{rank}d": _pad("replicate") for rank in (1, 2, 3)},
        **{"pixel_shuffle": _pixel_shuffle, "pixel_unshuffle": _pixel_unshuffle},
        **{"channel_shuffle": _channel_shuffle, "native_channel_shuffle": _channel_shuffle, "topk": _top_k},
    }
)
"""How reductions and what moves data are placed; a view of the same shape is left out."""
