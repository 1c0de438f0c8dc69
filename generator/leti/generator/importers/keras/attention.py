"""Layers that are matrix products under another name: EinsumDense, Dot, and the attentions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant
from leti.generator.importers.keras.activations import activate, softmax
from leti.generator.importers.keras.placing import Placed, Placing, Value

_MASKED = -1e9


def einsum_dense(place: Placing, layer: Any, x: Value) -> Placed:
    """Place a fully connected layer over the dimensions that the equation sums, reshaped around it.

    Inputs lie as (free, summed), kernels as (summed, free) once transposed. A kernel with a dimension of its own for
    each element of a dimension of the input (a batch dimension in both) has no counterpart.
    """
    letters = _letters(layer.equation, len(x.shape))
    if letters is None:
        return None
    given, kernel, made = letters
    summed = [c for c in given if c in kernel and c not in made]
    free, own = [c for c in made if c in given], [c for c in made if c in kernel]
    if set(free) & set(own) or len(free) + len(summed) != len(given) or len(own) + len(summed) != len(kernel):
        return None
    sizes = dict(zip(given, x.shape, strict=True)) | dict(zip(kernel, layer._kernel.shape, strict=True))
    moved = place.transpose(x, [given.index(c) for c in (*free, *summed)])
    width, units = math.prod(sizes[c] for c in summed), math.prod(sizes[c] for c in own)
    rows = tuple(sizes[c] for c in free)
    flat = place.reshape(moved, (*rows, width))
    filters = place.weight(layer._kernel).transposed([kernel.index(c) for c in (*own, *summed)])
    weights = [filters.reshaped((units, width))]
    inside = layer.bias is not None and layer.bias.shape == tuple(sizes[c] for c in own)
    if inside:
        weights.append(place.weight(layer.bias).reshaped((units,)))
    dense = place.op("fully_connected", flat, (*rows, units), *weights, bias=inside)
    order = [*free, *own]
    value = place.reshape(dense, tuple(sizes[c] for c in order))
    value = place.transpose(value, [order.index(c) for c in made])
    if layer.bias is not None and not inside:
        value = place.binary("add", value, place.weight(layer.bias))
    return activate(place, layer.activation, value)


def einsum_shape(layer: Any, shape: Shape) -> Shape:
    """Return the shape that an EinsumDense layer makes; its own word for it leaves dimensions open."""
    letters = _letters(layer.equation, len(shape))
    if letters is None:
        raise InvalidInput(f"layer {layer.name!r}: the equation {layer.equation!r} is not read", field="model")
    given, kernel, made = letters
    sizes = dict(zip(kernel, layer._kernel.shape, strict=True)) | dict(zip(given, shape, strict=True))
    return tuple(sizes[c] for c in made)


def _letters(equation: str, rank: int) -> tuple[str, str, str] | None:
    """Return the letters of an einsum's input, kernel and output, an ellipsis written out; None where they repeat."""
    sources, _, made = equation.replace(" ", "").partition("->")
    given, _, kernel = sources.partition(",")
    left = rank - len(given.replace("...", ""))
    spelled = "".join(chr(ord("0") + i) for i in range(left))
    found = [part.replace("...", spelled) for part in (given, kernel, made)]
    if "..." in kernel or any(len(set(part)) != len(part) for part in found) or len(found[0]) != rank:
        return None
    return found[0], found[1], found[2]


def multi_head_attention(
    place: Placing,
    layer: Any,
    query: Value,
    value: Value,
    key: Value | None = None,
    attention_mask: Any = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    training: Any = None,
    **masks: Any,
) -> Placed:
    """Place scaled dot-product attention ("Attention Is All You Need", Vaswani et al., 2017): projections and products.

    Queries are ``(batch, T, dim)``, values and keys ``(batch, S, dim)``, the mask ``(batch, T, S)``, True to attend;
    ``masks`` are those of the queries, values and keys themselves, ``(batch, T)`` or ``(batch, S)``.
    """
    gated = getattr(layer, "_use_gate", False) or getattr(layer, "_sliding_window", None)
    plain = all(isinstance(mask, Value | None) for mask in (attention_mask, *masks.values()))
    if gated or not plain or len(query.shape) != 3 or len(value.shape) != 3:
        return None
    projections = [layer._query_dense, layer._key_dense, layer._value_dense]
    parts = []
    for dense, x in zip(projections, (query, value if key is None else key, value), strict=True):
        inside = place.within(dense.name, TensorType(einsum_shape(dense, x.shape), x.type.dtype))
        parts.append(inside.run(inside, dense, (x,))[0])
    mask = _attended(place, attention_mask, masks)
    made, scores = scaled_product(
        place, parts[0], parts[1], parts[2], layer._inverse_sqrt_key_dim, mask=mask, causal=use_causal_mask
    )
    dense = layer._output_dense
    inside = place.within(dense.name, place.output)
    (output,) = inside.run(inside, dense, (made,))
    return [output, scores] if return_attention_scores else output


def _attended(place: Placing, attention_mask: Value | None, masks: Mapping[str, Value | None]) -> Value | None:
    """Return where scores ``(batch, heads, T, S)`` count: where every mask that there is says so."""
    given = [] if attention_mask is None else [(attention_mask, (1, *attention_mask.shape[-2:]))]
    for name, mask in masks.items():
        if mask is not None:
            positions = mask.shape[1]
            given.append((mask, (1, positions, 1) if name == "query_mask" else (1, 1, positions)))
    made: Value | None = None
    for mask, shape in given:
        laid = place.reshape(place.cast(mask, "bool"), (mask.shape[0], *shape))
        made = laid if made is None else place.binary("logical_and", made, laid)
    return made


def scaled_product(
    place: Placing, query: Value, key: Value, value: Value, scale: float, *, mask: Value | None, causal: bool
) -> tuple[Value, Value]:
    """Place attention of projected heads, all ``(batch, positions, heads, width)``; return it and its scores."""
    query, key, value = (place.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    scores = _matmul(place, query, key, transpose_b=True)
    scores = place.with_number("mul", scores, scale)
    if causal:
        scores = place.binary("add", scores, _causal(scores.shape[-2:], scores.type.dtype))
    if mask is not None:
        fill = Constant.of(_MASKED, scores.type.dtype)
        scores = place.op("where", [place.cast(mask, "bool"), scores, fill], scores.shape, dtype=scores.type.dtype)
    scores = softmax(place, scores)
    return place.transpose(_matmul(place, scores, value), (0, 2, 1, 3)), scores


def _causal(shape: Shape, dtype: str) -> Constant:
    return Constant(shape, dtype, lambda: np.triu(np.full(shape, _MASKED, np.float32), 1))


def _matmul(
    place: Placing, left: Value, right: Value, *, transpose_a: bool = False, transpose_b: bool = False
) -> Value:
    rows = left.shape[-1 if transpose_a else -2]
    columns = right.shape[-2 if transpose_b else -1]
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    return place.op("matmul", [left, right], (*batch, rows, columns), transpose_a=transpose_a, transpose_b=transpose_b)


def matmul(place: Placing, _operation: Any, left: Any, right: Any) -> Placed:
    """Place a product of matrices, one of which may be a constant."""
    if not isinstance(left, Value) or not isinstance(right, Value):
        return None
    if min(len(left.shape), len(right.shape)) < 2:
        return None
    return _matmul(place, left, right)


def einsum(place: Placing, operation: Any, *operands: Any) -> Placed:
    """Place a sum of products of two tensors as a product of matrices, dimensions moved and merged around it."""
    sources, _, made = operation.subscripts.replace(" ", "").partition("->")
    letters = sources.split(",")
    if len(letters) != 2 or not made or "." in sources or not all(isinstance(x, Value) for x in operands):
        return None
    (left, right) = letters
    sizes: dict[str, int] = {}
    for text, x in zip(letters, operands, strict=True):
        sizes |= dict(zip(text, x.shape, strict=True))
    summed = [c for c in left if c in right and c not in made]
    batch = [c for c in made if c in left and c in right]
    rows, columns = ([c for c in made if c in text and c not in batch] for text in (left, right))
    if len(batch) + len(rows) + len(summed) != len(left) or len(batch) + len(summed) + len(columns) != len(right):
        return None
    first, second = (
        place.reshape(
            place.transpose(x, [text.index(c) for part in parts for c in part]),
            (*(sizes[c] for c in parts[0]), *(math.prod(sizes[c] for c in part) for part in parts[1:])),
        )
        for x, text, parts in zip(operands, letters, ((batch, rows, summed), (batch, summed, columns)), strict=True)
    )
    order = [*batch, *rows, *columns]
    product = place.reshape(_matmul(place, first, second), tuple(sizes[c] for c in order))
    return place.transpose(product, [order.index(c) for c in made])


def dot_product_attention(
    place: Placing,
    operation: Any,
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
) -> Placed:
    """Place ``keras.ops.dot_product_attention``: heads are ``(batch, positions, heads, width)``."""
    heads = (query, key, value)
    if bias is not None or operation.attn_logits_soft_cap is not None or not isinstance(mask, Value | None):
        return None
    if not all(isinstance(x, Value) and x.shape[2] == query.shape[2] for x in heads):
        return None
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    return scaled_product(place, query, key, value, scale, mask=mask, causal=operation.is_causal)[0]


def attention(place: Placing, layer: Any, inputs: Sequence[Value], mask: Any = None, **options: Any) -> Placed:
    """Place dot-product attention without projections: query, value and key of ``(batch, positions, width)``."""
    masked = mask is not None and any(item is not None for item in mask)
    plain = layer.score_mode == "dot" and layer.scale is None
    if masked or not plain or any(options.get(name) for name in ("return_attention_scores", "use_causal_mask")):
        return None
    query, value, key = inputs[0], inputs[1], inputs[-1]
    scores = softmax(place, _matmul(place, query, key, transpose_b=True))
    return _matmul(place, scores, value)


def dot(place: Placing, layer: Any, inputs: Sequence[Value]) -> Placed:
    """Place the product over one dimension of each input, of 2 or 3 dimensions."""
    left, right = inputs
    axes = (layer.axes, layer.axes) if isinstance(layer.axes, int) else tuple(layer.axes)
    axes = (left.axis(axes[0]), right.axis(axes[1]))
    if max(len(left.shape), len(right.shape)) > 3:
        return None
    if layer.normalize:
        left, right = (place.op("l2_normalize", x, axes=(axis,)) for x, axis in zip(inputs, axes, strict=True))
    if len(left.shape) == 2:
        left, axes = place.reshape(left, (left.shape[0], 1, left.shape[1])), (2, axes[1])
    if len(right.shape) == 2:
        right, axes = place.reshape(right, (*right.shape, 1)), (axes[0], 1)
    made = _matmul(place, left, right, transpose_a=axes[0] == 1, transpose_b=axes[1] == 2)
    return place.reshape(made, place.output.shape)
