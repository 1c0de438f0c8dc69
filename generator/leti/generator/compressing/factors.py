"""Factors: the operators of low rank that stand in the place of one convolution or fully connected layer."""

from __future__ import annotations

import math
from typing import Literal

from leti.core.errors import InvalidInput
from leti.core.graph import Attribute, Op, TensorType
from leti.generator.cost import canonical_padding, make_operator, weight_shapes

Factor = tuple[Literal["same", "first", "core", "column", "row", "last"], Op]
"""An operator, and what it is in the decomposition."""

Attributes = dict[str, Attribute]


def factors(op: Op, ranks: tuple[int, ...], where: str) -> tuple[Factor, ...]:
    """Return the operators that take the place of ``op``, in order; the bias is the last one's.

    - ``conv2d`` of a window and ``(r_in, r_out)``: Tucker-2 ("Compression of Deep Convolutional Neural Networks for
      Fast and Low Power Mobile Applications", Kim et al., 2016).
    - ``conv2d`` of a window and ``(r,)``: CP ("Speeding-up Convolutional Neural Networks Using Fine-tuned
      CP-Decomposition", Lebedev et al., 2015).
    - 1×1 ``conv2d``, ``fully_connected`` and ``(r,)``: the singular value decomposition.

    Raises :class:`~leti.core.errors.InvalidInput`, naming ``where``, for another operator, and for ranks that are too
    many or too large.
    """
    if op.kind == "fully_connected":
        return _singular(op, _checked(ranks, most_ranks(op)[0], where))
    if op.kind != "conv2d" or op.integer("groups", 1) != 1:
        raise InvalidInput(
            f"{_called(op)} is not taken apart", field=where, remedy="give ranks for conv2d or fully_connected"
        )
    if op["kernel"] == (1, 1):
        return _singular(op, _checked(ranks, most_ranks(op)[0], where))
    for most in most_ranks(op):
        if len(ranks) == len(most):
            return (_tucker if len(ranks) == 2 else _canonical)(op, _checked(ranks, most, where))
    return _tucker(op, _checked(ranks, most_ranks(op)[0], where))


def most_ranks(op: Op) -> tuple[tuple[int, ...], ...]:
    """Return the largest ranks of each decomposition of an operator, in the form that a patch gives them.

    Nothing for an operator that is not taken apart. A rank beyond these adds nothing: there, a decomposition is exact.
    """
    if op.kind not in ("conv2d", "fully_connected") or op.integer("groups", 1) != 1:
        return ()
    filters = weight_shapes(op)[0]
    if op.kind == "fully_connected" or op["kernel"] == (1, 1):
        return ((min(filters[0], filters[-1]),),)
    channels = (filters[-1], filters[0])
    if 1 in op.integers("kernel"):
        return (channels,)
    return channels, (math.prod(filters) // max(filters),)


def _checked(ranks: tuple[int, ...], most: tuple[int, ...], where: str) -> tuple[int, ...]:
    if len(ranks) != len(most) or any(not 1 <= rank <= limit for rank, limit in zip(ranks, most, strict=False)):
        said = " and ".join(f"1 to {limit}" for limit in most)
        raise InvalidInput(f"must be {len(most)} of {said}, not {list(ranks)}", field=where)
    return ranks


def _called(op: Op) -> str:
    groups = op.get("groups", 1)
    return op.kind if groups == 1 else f"{op.kind} of {groups} groups"


def _singular(op: Op, ranks: tuple[int, ...]) -> tuple[Factor, ...]:
    read, made = op.inputs[0], op.outputs[0]
    inner = _with_channels(made, ranks[0])
    first = _remade(op, read, inner, bias=False)
    if op.kind == "fully_connected":
        return ("first", first), ("last", _remade(op, inner, made))
    return ("first", first), ("last", _pointwise(op, inner, made, op.get("bias", True)))


def _tucker(op: Op, ranks: tuple[int, ...]) -> tuple[Factor, ...]:
    read, made = op.inputs[0], op.outputs[0]
    before, after = _with_channels(read, ranks[0]), _with_channels(made, ranks[1])
    return (
        ("first", _pointwise(op, read, before, False)),
        ("core", _remade(op, before, after, bias=False)),
        ("last", _pointwise(op, after, made, op.get("bias", True))),
    )


def _canonical(op: Op, ranks: tuple[int, ...]) -> tuple[Factor, ...]:
    read, made = op.inputs[0], op.outputs[0]
    batch, _, width, _ = read.shape
    before, after = _with_channels(read, ranks[0]), _with_channels(made, ranks[0])
    between = TensorType((batch, made.shape[1], width, ranks[0]), made.dtype)
    return (
        ("first", _pointwise(op, read, before, False)),
        ("column", _along(op, 0, before, between)),
        ("row", _along(op, 1, between, after)),
        ("last", _pointwise(op, after, made, op.get("bias", True))),
    )


def _along(op: Op, dimension: int, read: TensorType, made: TensorType) -> Op:
    """Return the depthwise convolution along one dimension of the window of ``op``."""
    here = {name: _only(op.integers(name, (1, 1)), dimension) for name in ("kernel", "strides", "dilations")}
    padding = op["padding"]
    if isinstance(padding, tuple):  # before and after the height, then the width
        pads = [n if i // 2 == dimension else 0 for i, n in enumerate(padding)]
        padding = canonical_padding(read.shape[1:3], here["kernel"], here["strides"], here["dilations"], pads)
    return _made("depthwise_conv2d", read, made, {**_stored(op), **here, "padding": padding, "bias": False})


def _only(pair: tuple[int, ...], dimension: int) -> tuple[int, int]:
    return (pair[0], 1) if dimension == 0 else (1, pair[1])


def _pointwise(op: Op, read: TensorType, made: TensorType, bias: Attribute) -> Op:
    window: Attributes = {"kernel": (1, 1), "strides": (1, 1), "padding": "same", "bias": bias}
    return _made("conv2d", read, made, {**_stored(op), **window})


def _remade(op: Op, read: TensorType, made: TensorType, **changes: Attribute) -> Op:
    return _made(op.kind, read, made, {**dict(op.attributes), **changes})


def _made(kind: str, read: TensorType, made: TensorType, attributes: Attributes) -> Op:
    return make_operator(kind, (read,), (made,), tuple(sorted(attributes.items())))


def _stored(op: Op) -> Attributes:
    return {"weight_dtype": op.get("weight_dtype", "")}


def _with_channels(tensor_type: TensorType, channels: int) -> TensorType:
    return TensorType((*tensor_type.shape[:-1], channels), tensor_type.dtype)
