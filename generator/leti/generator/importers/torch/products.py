"""Rows of the PyTorch importer's table: products of matrices, and attention, which is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, NoCounterpart, Operand
from leti.generator.importers.torch.call import Call, Placed
from leti.generator.weights import Array

with needs("import-torch"):
    import numpy as np

Handler = Callable[[Call], Placed]


def _dense(call: Call, value: Operand, weight: Constant, bias: Operand | None = None) -> Operand:
    """Place a fully connected layer of filters (out, in); a bias that is no vector of constants is added."""
    own = isinstance(bias, Constant) and bias.shape == call.output.shape[-1:]
    made = call.place(
        "fully_connected",
        (value,),
        weights=(weight, bias) if own and isinstance(bias, Constant) else (weight,),
        bias=own,
        weight_dtype=call.weight_dtype(weight),
    )
    return made if own or bias is None else call.binary("add", made, bias)


def _linear(call: Call) -> Placed:
    weight, bias = call.operand("weight"), call.operand("bias") if call.has("bias") else None
    if isinstance(weight, Constant) and len(call.shape()) > 1:
        return _dense(call, call.value(), weight, bias)
    if len(call.shape()) < 2:
        raise NoCounterpart
    product = call.place("matmul", (call.value(), weight), transpose_b=True)
    return product if bias is None else call.binary("add", product, bias)


def _matmul(second: str) -> Handler:
    def placed(call: Call) -> Placed:
        left, right = call.operand(), call.operand(second)
        if isinstance(right, Constant) and len(right.shape) == 2 and len(call.shape()) > 1:
            return _dense(call, left, right.transposed((1, 0)))
        return _product(call, left, right, call.output)

    return placed


def _product(call: Call, left: Operand, right: Operand, made: TensorType) -> Operand:
    """Place a matrix product; a vector stands as a matrix of one row or column."""
    shapes = [call.type_of(operand).shape for operand in (left, right)]
    rows, columns = shapes[0][-2] if len(shapes[0]) > 1 else 1, shapes[1][-1] if len(shapes[1]) > 1 else 1
    if len(shapes[0]) == 1:
        left = call.reshape(left, (1, *shapes[0]))
    if len(shapes[1]) == 1:
        right = call.reshape(right, (*shapes[1], 1))
    batch = np.broadcast_shapes(shapes[0][:-2], shapes[1][:-2])
    full = TensorType((*batch, rows, columns), made.dtype)
    return call.reshape(call.place("matmul", (left, right), full), made.shape)


def _add_product(first: str, second: str) -> Handler:
    """Place beta · input + alpha · (first @ second)."""

    def placed(call: Call) -> Placed:
        left, right, added = call.operand(first), call.operand(second), call.operand()
        alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
        if isinstance(right, Constant) and len(right.shape) == 2 and alpha == beta == 1:
            return _dense(call, left, right.transposed((1, 0)), added)
        product = _times(call, _product(call, left, right, call.output), alpha)
        return call.binary("add", product, _times(call, added, beta))

    return placed


def _times(call: Call, operand: Operand, factor: float) -> Operand:
    if factor == 1:
        return operand
    made = call.type_of(operand)
    return call.binary("mul", operand, call.scalar(factor, made), made)


def _attention(call: Call) -> Placed:
    """Place scaled dot-product attention as what it is made of: product, scale, mask, softmax, product."""
    query, key, value = (call.operand(name) for name in ("query", "key", "value"))
    shapes = [call.type_of(operand).shape for operand in (query, key)]
    if call.flag("enable_gqa") or call.number("dropout_p", 0.0):
        raise NoCounterpart
    batch = np.broadcast_shapes(shapes[0][:-2], shapes[1][:-2])
    scores = TensorType((*batch, shapes[0][-2], shapes[1][-2]), call.output.dtype)
    scale = call.number("scale") if call.has("scale") else 1 / math.sqrt(shapes[0][-1])
    made = call.place("matmul", (query, key), scores, transpose_b=True)
    made = call.binary("mul", made, call.scalar(scale), scores)
    if call.flag("is_causal"):
        mask = Constant(scores.shape[-2:], scores.dtype, lambda: _causal(scores.shape[-2:]))
        made = call.binary("add", made, mask, scores)
    if call.has("attn_mask"):
        given = call.operand("attn_mask")
        if call.type_of(given).dtype == "bool":
            made = call.place("where", (given, made, call.scalar(-math.inf)), scores)
        else:
            made = call.binary("add", made, given, scores)
    made = call.place("softmax", (made,), scores, axis=len(scores.shape) - 1)
    return call.place("matmul", (made, value))


def _causal(shape: Shape) -> Array:
    return np.where(np.tril(np.ones(shape, bool)), np.float32(0), np.float32(-np.inf))


def _einsum(call: Call) -> Placed:
    """Place a sum over products of two tensors as a matrix product, the dimensions of either brought together."""
    given = call.operands("tensors")
    read, _, made = call.text("equation", "").replace(" ", "").partition("->")
    names = read.split(",")
    if len(given) != 2 or len(names) != 2 or not made or not all(map(_is_plain, (*names, made))):
        raise NoCounterpart
    left, right = names
    batch = [axis for axis in made if axis in left and axis in right]
    summed = [axis for axis in left if axis in right and axis not in made]
    rows = [axis for axis in made if axis not in right]
    columns = [axis for axis in made if axis not in left]
    sizes: dict[str, int] = {}
    for name, operand in zip(names, given, strict=True):
        for axis, size in zip(name, call.type_of(operand).shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise NoCounterpart  # one is repeated
    if not summed or len({*batch, *summed, *rows, *columns}) < len({*left, *right}):
        raise NoCounterpart
    turned = right == "".join((*batch, *columns, *summed))
    last = (columns, summed) if turned else (summed, columns)
    product = call.place(
        "matmul",
        (_grouped(call, given[0], left, (batch, rows, summed)), _grouped(call, given[1], right, (batch, *last))),
        TensorType((*(sizes[axis] for axis in batch), _size(rows, sizes), _size(columns, sizes)), call.output.dtype),
        transpose_b=turned,
    )
    order = (*batch, *rows, *columns)
    apart = call.reshape(product, tuple(sizes[axis] for axis in order))
    return call.transpose(apart, tuple(order.index(axis) for axis in made))


def _is_plain(name: str) -> bool:
    return name.isalpha() and len(set(name)) == len(name)


def _size(axes: Sequence[str], sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[axis] for axis in axes)


def _grouped(call: Call, operand: Operand, name: str, groups: tuple[Sequence[str], ...]) -> Operand:
    """Return an operand with its dimensions in the order of ``groups``, those of a group but the first as one."""
    sizes = dict(zip(name, call.type_of(operand).shape, strict=True))
    moved = call.transpose(operand, tuple(name.index(axis) for group in groups for axis in group))
    return call.reshape(moved, (*(sizes[axis] for axis in groups[0]), *(_size(group, sizes) for group in groups[1:])))


def _embedding(call: Call) -> Placed:
    table, indices = call.operand("weight"), call.value("indices")
    if not isinstance(table, Constant):
        return call.place("gather", (table, indices), axis=0)
    dtype = call.weight_dtype(table)
    return call.place("embedding", (indices,), weights=(table,), rows=table.shape[0], weight_dtype=dtype)


PRODUCTS: Mapping[str, Handler] = MappingProxyType(
    {
        **{"linear": _linear, "matmul": _matmul("other"), "mm": _matmul("mat2"), "bmm": _matmul("mat2")},
        **{"addmm": _add_product("mat1", "mat2"), "baddbmm": _add_product("batch1", "batch2")},
        **{"scaled_dot_product_attention": _attention, "einsum": _einsum, "embedding": _embedding},
    }
)
"""How products are placed: of a constant matrix as a fully connected layer."""
