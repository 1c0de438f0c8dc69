"""What each kind of operator does in a layout of other order: a table, and a rule a family of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from leti.core.graph import Attribute
from leti.generator.cost import Shape, constant_attribute
from leti.generator.importers.draft import Constant, Node
from leti.generator.importers.passes.relayout import Relayout
from leti.generator.orders import (
    Order,
    blocks_of,
    channels_last,
    identity,
    inverse,
    permuted,
)

Rule = Callable[[Relayout, Node], None]

_UNARY = (
    *("relu", "relu6", "relu_n1", "selu", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid", "mish"),
    *("softplus", "softsign", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "abs", "neg", "sign"),
    *("floor", "ceil", "round", "sin", "cos", "erf", "logical_not", "cast", "quantize", "dequantize", "zero"),
    *("leaky_relu", "elu", "gelu", "clip"),
)
_N_ARY = (
    *("add", "sub", "mul", "div", "maximum", "minimum", "power", "squared_difference", "floor_div", "floor_mod"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "where"),
)
_SCALED = ("scale", "shift", "prelu")
_REDUCTIONS = ("mean", "sum", "prod", "reduce_max", "reduce_min")
_ARGUMENTS = ("argmax", "argmin")

FLAT: Final = frozenset({*_UNARY, *_SCALED, "batch_norm"})
"""Kinds that a flattened image may pass on its way to a fully connected layer, whatever the order it was flattened."""

ASK_NOTHING: Final = frozenset({"constant", "stack", "unstack", "gather", "l2_normalize", *_REDUCTIONS, *_ARGUMENTS})
"""Kinds that work in any order and whose result has other axes."""

PASSES_ON: Final = frozenset(
    {*_UNARY, *_N_ARY, *_SCALED, "concat", "split", "softmax", "log_softmax", "cumsum", "slice", "broadcast_to", "tile"}
    | {"pad", "reverse", "roll", "resize"}
)
"""Kinds that work in any order and whose result has the same axes."""


def _last(order: Order) -> bool:
    return order[-1] == len(order) - 1


def _first_and_last(order: Order) -> bool:
    return order[0] == 0 and _last(order)


KEEPS_CHANNELS: Final[Mapping[str, Callable[[Order], bool]]] = {
    **dict.fromkeys(("fully_connected", "batch_norm", "normalization", "layer_norm", "rms_norm"), _last),
    **dict.fromkeys(("instance_norm", "group_norm"), _first_and_last),
}
"""Kinds that work in every order that leaves the channels last, the batch first where images have statistics."""


# --- rules -----------------------------------------------------------------------------------------------------------


def order_before(before: Shape, after: Shape, asked: Order) -> Order | None:
    """Return the order to have a value in so that its reshape is had in the order that is asked of that, if any."""
    places = inverse(asked)
    blocks = blocks_of(before, after)
    blocks.sort(key=lambda block: min(places[axis] for axis in block[1]))
    joined = tuple(axis for _, new in blocks for axis in new)
    if joined != tuple(axis for axis in asked if after[axis] > 1):
        return None
    return _complete(tuple(axis for old, _ in blocks for axis in old), before, channels_last(len(before)))


def make_logical(layout: Relayout, node: Node) -> None:
    """Run an operator with all axes as it names them."""
    inputs = [layout.read(value, identity(len(layout.shape(value)))) for value in node.inputs]
    layout.place(node, inputs, [identity(len(layout.shape(value))) for value in node.outputs])


def _constant(layout: Relayout, node: Node) -> None:
    layout.hold_constant(node)


def _transpose(layout: Relayout, node: Node) -> None:
    (value,) = node.inputs
    perm = node.integers("perm")
    if layout.is_constant(value):
        known = layout.constant(value)
        weight = known.weights[0].transposed(perm)
        layout.hold_constant(Node("constant", (), node.outputs, known.attributes, (weight,), known.name))
        return
    (output,) = node.outputs
    layout.hold(output, layout.read(value, layout.order(value)), layout.move(value, perm))


def _elementwise(layout: Relayout, node: Node) -> None:
    if any(value in layout.shuffled for value in node.inputs):
        _shuffled(layout, node)
        return
    order = layout.choose(node)
    layout.place(node, [layout.read(value, order) for value in node.inputs], [order])


def _scaled(layout: Relayout, node: Node) -> None:
    if node.inputs[0] in layout.shuffled:
        _shuffled(layout, node)
        return
    order = layout.choose(node)
    shape = layout.shape(node.outputs[0])
    weight = node.weights[0]
    if order == identity(len(order)) or (weight.shape == (1,) and shape[-1] != 1):
        changes: dict[str, Attribute] = {}
    else:
        weight = weight.reshaped((1,) * (len(shape) - len(weight.shape)) + weight.shape).transposed(order)
        kept = constant_attribute(weight.shape, shape[order[-1]])
        weight, changes = weight.reshaped(kept or weight.shape[-1:]), {"constant": kept}
    layout.place(node, [layout.read(node.inputs[0], order)], [order], changes, weights=(weight,))


def _keeps_channels(layout: Relayout, node: Node) -> None:
    if node.inputs[0] in layout.shuffled:
        _shuffled(layout, node)
        return
    order = layout.choose(node, KEEPS_CHANNELS[node.kind])
    layout.place(node, [layout.read(node.inputs[0], order)], [order])


def _shuffled(layout: Relayout, node: Node) -> None:
    """Run an operator on a flattened image: what is one value a channel is brought into the order of flattening."""
    (value,) = node.inputs
    image, order = layout.shuffled[value]
    features = layout.shape(value)[-1]

    def bring(weight: Constant) -> Constant:
        if weight.shape[-1:] != (features,):
            return weight
        front = weight.shape[:-1]
        axes = (*range(len(front)), *(axis + len(front) for axis in order))
        return weight.reshaped((*front, *image)).transposed(axes).reshaped(weight.shape)

    if node.kind == "fully_connected":
        weights: tuple[Constant, ...] = (bring(node.weights[0]), *node.weights[1:])
    else:
        weights = tuple(map(bring, node.weights))
        layout.shuffled[node.outputs[0]] = image, order
    layout.place(node, [layout.read(value, identity(2))], [identity(2)], weights=weights)


def _axis(layout: Relayout, node: Node) -> None:
    """Run an operator along one axis that makes outputs of the same axes as its inputs."""
    order = layout.choose(node)
    inputs = [layout.read(value, order) for value in node.inputs]
    layout.place(node, inputs, [order] * len(node.outputs), {"axis": order.index(node.integer("axis"))})


def _reduction(layout: Relayout, node: Node) -> None:
    (value,) = node.inputs
    order = layout.order(value)
    axes = node.integers("axes") if "axes" in node.attributes else (node.integer("axis"),)
    kept = node.kind == "l2_normalize" or bool(node.attribute("keep_dims"))
    places = tuple(sorted(order.index(axis) for axis in axes))
    changes: dict[str, Attribute] = {"axes": places} if "axes" in node.attributes else {"axis": places[0]}
    remaining = order if kept else _renumbered(tuple(axis for axis in order if axis not in axes))
    layout.place(node, [layout.read(value, order)], [remaining], changes)


def _renumbered(axes: Order) -> Order:
    """Return the order of the axes that are left, counted anew."""
    return tuple(sorted(axes).index(axis) for axis in axes)


def _axes_per_dimension(*names: str) -> Rule:
    """Return the rule of operators whose attributes hold a number a dimension, where they hold any."""

    def rule(layout: Relayout, node: Node) -> None:
        order = layout.choose(node)
        changes: dict[str, Attribute] = {}
        for name in names:
            values = node.integers(name)
            each = len(values) // max(len(order), 1)
            changes[name] = tuple(values[axis * each + i] for axis in order for i in range(each))
        layout.place(node, [layout.read(value, order) for value in node.inputs], [order], changes)

    return rule


def _along_axes(layout: Relayout, node: Node) -> None:
    """Run ``reverse`` or ``roll``."""
    order = layout.choose(node)
    places: dict[str, Attribute] = {"axes": tuple(order.index(axis) for axis in node.integers("axes"))}
    layout.place(node, [layout.read(node.inputs[0], order)], [order], places)


def _stack(layout: Relayout, node: Node) -> None:
    axis = node.integer("axis")
    order = next(
        (layout.order(v) for v in node.inputs if not layout.is_constant(v)), identity(len(layout.shape(node.inputs[0])))
    )
    made = [old + (old >= axis) for old in order]
    made.insert(axis, axis)
    layout.place(node, [layout.read(value, order) for value in node.inputs], [tuple(made)])


def _unstack(layout: Relayout, node: Node) -> None:
    (value,) = node.inputs
    axis, order = node.integer("axis"), layout.order(value)
    made = tuple(old - (old > axis) for old in order if old != axis)
    layout.place(node, [layout.read(value, order)], [made] * len(node.outputs), {"axis": order.index(axis)})


def _gather(layout: Relayout, node: Node) -> None:
    data, indices = node.inputs
    axis, rank = node.integer("axis"), len(layout.shape(indices))
    if node.attribute("batch_dims"):
        make_logical(layout, node)
        return
    order = layout.order(data)
    made: list[int] = []
    for old in order:
        made += range(axis, axis + rank) if old == axis else (old + (rank - 1) * (old > axis),)
    inputs = [layout.read(data, order), layout.read(indices, identity(rank))]
    layout.place(node, inputs, [tuple(made)], {"axis": order.index(axis)})


def _broadcast_to(layout: Relayout, node: Node) -> None:
    order = layout.choose(node)
    layout.place(node, [layout.read(node.inputs[0], order)], [order])


def _reshape(layout: Relayout, node: Node) -> None:
    """Reshape in the order in which the value is held, if the axes that are taken together lie together in it."""
    (value,), (output,) = node.inputs, node.outputs
    before, after = layout.shape(value), layout.shape(output)
    held = tuple(axis for axis in layout.order(value) if before[axis] > 1)
    blocks = blocks_of(before, after)
    blocks.sort(key=lambda block: min(map(held.index, block[0])))
    joined = tuple(axis for old, _ in blocks for axis in old)
    wanted = layout.wanted[output]
    if joined != held and _flattens(layout, node):
        order = layout.order(value)
        base = layout.reshape(layout.read(value, order), after, node.name)
        layout.shuffled[output] = before[1:], tuple(axis - 1 for axis in order[1:])
        layout.hold(output, base, identity(2))
        return
    if joined != held and wanted is not None:
        blocks.sort(key=lambda block: min(map(wanted.index, block[1]), default=0))
        joined = tuple(axis for old, _ in blocks for axis in old)
    order = layout.order(value)
    if joined != held:
        order = (*(axis for axis in range(len(before)) if before[axis] == 1), *joined)
    made = _complete(tuple(axis for _, new in blocks for axis in new), after, wanted)
    base = layout.reshape(layout.read(value, order), permuted(after, made), node.name)
    layout.hold(output, base, made)


def _flattens(layout: Relayout, node: Node) -> bool:
    """Return whether a reshape makes of images the vectors that fully connected layers alone read."""
    (value,), (output,) = node.inputs, node.outputs
    before, after = layout.shape(value), layout.shape(output)
    batched = len(after) == 2 and len(before) > 2 and before[0] == after[0] and layout.order(value)[0] == 0
    return batched and output in layout.only_dense and not layout.is_constant(value)


def _complete(axes: tuple[int, ...], shape: Shape, wanted: Order | None) -> Order:
    """Return an order of all axes that has those of more than one element in the order given."""
    rank = len(shape)
    for order in (wanted, identity(rank), channels_last(rank)):
        if order is not None and tuple(axis for axis in order if shape[axis] > 1) == axes:
            return order
    ones = [axis for axis in range(rank) if shape[axis] == 1]
    return (*ones, *axes)


RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys((*_UNARY, *_N_ARY), _elementwise),
    **dict.fromkeys(_SCALED, _scaled),
    **dict.fromkeys(KEEPS_CHANNELS, _keeps_channels),
    **dict.fromkeys(("concat", "split", "softmax", "log_softmax", "cumsum"), _axis),
    **dict.fromkeys((*_REDUCTIONS, *_ARGUMENTS, "l2_normalize"), _reduction),
    **dict.fromkeys(("reverse", "roll"), _along_axes),
    "constant": _constant,
    "transpose": _transpose,
    "reshape": _reshape,
    "slice": _axes_per_dimension("begin", "strides"),
    "pad": _axes_per_dimension("paddings"),
    "tile": _axes_per_dimension("multiples"),
    "resize": _axes_per_dimension(),
    "broadcast_to": _broadcast_to,
    "stack": _stack,
    "unstack": _unstack,
    "gather": _gather,
}
"""Every kind that need not have its axes as they are named; the others run by :func:`make_logical`."""
