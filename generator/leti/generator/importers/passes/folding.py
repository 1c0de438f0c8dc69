"""Constants go into the weights before them, and zeros around an image into the convolution that reads it.

What is folded, and by whom: a multiplication and an addition right after a convolution by the TFLite converter
(``optimize_patterns.td``: FuseMulOrDivWithConv2dOrDepthwiseConv2d, FuseBinaryOpToPrecedingAffine) and ONNX Runtime
(``ConvMulFusion``, ``ConvAddFusion``, ``ConvBNFusion``); a pad by ONNX Runtime (``PadFusion``), and by the TFLite
converter where it amounts to the padding "same". A multiplication by one number right before a convolution, which
grappler may move into the weights as well, stays. New weights are computed when they are asked for, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from leti.core.extras import needs
from leti.core.graph import Attribute
from leti.generator.cost import MAX_FLOAT32, Shape, canonical_padding, constant_attribute
from leti.generator.importers.draft import Constant, Draft, Node
from leti.generator.importers.passes.rewrite import Rewrite
from leti.generator.weights import Array

with needs("export"):
    import numpy as np

_KERAS_EPSILON = 1e-7  # the least standard deviation of Keras's Normalization
_AFTER_FILTERS = {"conv1d": 0, "conv2d": 0, "conv3d": 0, "transpose_conv2d": 0, "fully_connected": 0}
_OUT_AXIS: Mapping[str, int] = {**_AFTER_FILTERS, "depthwise_conv2d": 3}
"""Kinds that constants after them go into, and the axis of their filters that counts output channels."""

_PADDED_WITH: Mapping[str, float] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "depthwise_conv2d"), 0.0),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), -MAX_FLOAT32),
}
"""What the padding of a window is made of."""
_AFFINE = frozenset({"scale", "shift", "zero"})


def combine(change: Callable[..., Array], *constants: Constant, shape: Shape, dtype: str = "") -> Constant:
    """Return the constant that ``change`` makes of several, once it is asked for."""
    return Constant(shape, dtype or constants[0].dtype, lambda: change(*(constant.array() for constant in constants)))


# --- norms -----------------------------------------------------------------------------------------------------------


def spell_out_norms(draft: Draft) -> Draft:
    """Return the draft with batch norms as multiplication and addition, Keras's normalization the other way round.

    That is how they run where no convolution takes them in (as before the convolutions of DenseNet): the TFLite
    converter writes MUL and ADD, and SUB and MUL of a Normalization layer.
    """
    rewrite = Rewrite(draft)
    for node in draft.nodes:
        if node.kind not in _SPELL or not rewrite.is_float(node.outputs[0]):
            rewrite.keep(node)
            continue
        (value,) = node.inputs
        output = draft.types[value]
        made = rewrite.values[value]
        kept = constant_attribute(output.shape[-1:], output.shape[-1])
        for kind, weight in _SPELL[node.kind](node):
            made = rewrite.new.place(kind, (made,), output, weights=(weight,), name=node.name, constant=kept)
        rewrite.values[node.outputs[0]] = made
    return rewrite.finish()


def _spell_batch_norm(node: Node) -> tuple[tuple[str, Constant], ...]:
    *affine, mean, variance = node.weights
    given = dict(zip([name for name in ("scale", "center") if node.attribute(name)], affine, strict=True))
    epsilon = np.float32(node.number("epsilon"))
    factor = variance.map(lambda array: 1 / np.sqrt(array + epsilon))
    if "scale" in given:
        factor = combine(lambda a, b: a * b, factor, given["scale"], shape=factor.shape)
    offset = combine(lambda mean, factor: -mean * factor, mean, factor, shape=mean.shape)
    if "center" in given:
        offset = combine(lambda a, b: a + b, offset, given["center"], shape=offset.shape)
    return ("scale", factor), ("shift", offset)


def _spell_normalization(node: Node) -> tuple[tuple[str, Constant], ...]:
    mean, variance, *_count = node.weights
    deviation = variance.map(lambda array: 1 / np.maximum(np.sqrt(array), np.float32(_KERAS_EPSILON)))
    return ("shift", mean.map(np.negative)), ("scale", deviation)


_SPELL: Mapping[str, Callable[[Node], tuple[tuple[str, Constant], ...]]] = {
    "batch_norm": _spell_batch_norm,
    "normalization": _spell_normalization,
}


# --- multiplication and addition by constants ------------------------------------------------------------------------


def merge_scales(draft: Draft) -> Draft:
    """Return the draft with two multiplications by constants, or two additions, in a row as one."""
    rewrite = Rewrite(draft)
    merged: dict[int, tuple[int, Constant]] = {}  # output of a merged node: its new input, and its constant
    for node in draft.nodes:
        if node.kind not in ("scale", "shift"):
            rewrite.keep(node)
            continue
        (value,) = node.inputs
        before = rewrite.maker(value, node.kind)
        own = node.weights[0]
        if before is None or rewrite.only_reader(value) is not node or not rewrite.is_float(value):
            merged[node.outputs[0]] = rewrite.values[value], own
            rewrite.keep(node)
            continue
        source, other = merged[value]
        shape = np.broadcast_shapes(own.shape, other.shape)
        weight = combine(np.multiply if node.kind == "scale" else np.add, other, own, shape=shape)
        merged[node.outputs[0]] = source, weight
        kept = constant_attribute(shape, rewrite.shape(value)[-1])
        shaped = weight.reshaped(kept or weight.shape[-1:])
        rewrite.replace(node, node.kind, source, {"constant": kept, **_stored(node)}, (shaped,))
    return rewrite.finish()


def order_affine(draft: Draft) -> Draft:
    """Return the draft with ``(x + a) * b + c`` as ``x * b + (a * b + c)``, as the TFLite converter has a batch norm.

    Keras on PyTorch subtracts the mean of a batch norm that stands alone, then multiplies, then adds.
    """
    rewrite = Rewrite(draft)
    for node in draft.nodes:
        scale = rewrite.maker(node.inputs[0], "scale") if node.kind == "shift" else None
        shift = rewrite.maker(scale.inputs[0], "shift") if scale is not None else None
        if scale is None or shift is None or not _stand_alone(rewrite, shift, scale, node):
            rewrite.keep(node)
            continue
        output, first, factor, last = (
            rewrite.shape(node.outputs[0]),
            shift.weights[0],
            scale.weights[0],
            node.weights[0],
        )
        shape = np.broadcast_shapes(first.shape, factor.shape, last.shape)
        offset = combine(lambda a, b, c: a * b + c, first, factor, last, shape=shape)
        kept = constant_attribute(shape, output[-1])
        value = rewrite.values[shift.inputs[0]]
        made_type = draft.types[node.outputs[0]]
        value = rewrite.new.place("scale", (value,), made_type, weights=(factor,), name=scale.name, **scale.attributes)
        weights = (offset.reshaped(kept or output[-1:]),)
        rewrite.values[node.outputs[0]] = rewrite.new.place(
            "shift", (value,), made_type, weights=weights, name=node.name, **{**node.attributes, "constant": kept}
        )
    return rewrite.finish()


def _stand_alone(rewrite: Rewrite, *nodes: Node) -> bool:
    """Return whether each node alone reads the one before, and all compute with floats of weights in float32."""
    follow = all(rewrite.only_reader(a.outputs[0]) is b for a, b in pairwise(nodes))
    return follow and all(
        rewrite.is_float(node.outputs[0]) and not node.attributes.get("weight_dtype") for node in nodes
    )


def _stored(node: Node) -> dict[str, Attribute]:
    return {"weight_dtype": node.attributes["weight_dtype"]} if "weight_dtype" in node.attributes else {}


def fold_scales(draft: Draft) -> Draft:
    """Return the draft with multiplications and additions by a constant a channel in the weights before them.

    Where nothing else reads what the convolution or the fully connected layer makes. Networks with integer activations
    are left as they are, and so are integer weights: their sums are rescaled where they are made.
    """
    rewrite = Rewrite(draft)
    for node in draft.nodes:
        chain = _affine_after(rewrite, node) if node.kind in _OUT_AXIS else []
        if not chain:
            if not node.outputs or node.outputs[0] not in rewrite.values:
                rewrite.keep(node)
            continue
        weights = tuple(node.weights)
        for step in chain:
            weights = _absorb(node.kind, weights, step)
        attributes = {**node.attributes, "bias": len(weights) == 2}
        rewrite.replace(node, node.kind, rewrite.values[node.inputs[0]], attributes, weights)
        rewrite.values.update((step.outputs[0], rewrite.values[node.outputs[0]]) for step in chain)
    return rewrite.finish()


def _affine_after(rewrite: Rewrite, node: Node) -> list[Node]:
    """Return the nodes right after a convolution that its weights can take in, in order."""
    output = rewrite.old.types[node.outputs[0]]
    stored = str(node.attribute("weight_dtype")) or output.dtype
    chain: list[Node] = []
    if "float" not in output.dtype or "float" not in stored:
        return chain
    value = node.outputs[0]
    while (reader := rewrite.only_reader(value)) is not None and reader.kind in _AFFINE:
        if reader.kind != "zero" and reader.weights[0].shape not in ((1,), output.shape[-1:]):
            break
        chain.append(reader)
        (value,) = reader.outputs
    return chain


def _absorb(kind: str, weights: tuple[Constant, ...], step: Node) -> tuple[Constant, ...]:
    """Return filters and bias after a multiplication or an addition by a constant a channel."""
    filters, *bias = weights
    axis = _OUT_AXIS[kind]
    channels = filters.shape[axis]
    if step.kind == "zero":
        return tuple(weight.map(np.zeros_like) for weight in weights)
    constant = step.weights[0]
    if step.kind == "shift":
        if bias:
            return filters, combine(np.add, bias[0], constant, shape=bias[0].shape)
        return filters, constant.map(lambda array: np.broadcast_to(array, (channels,)), (channels,))
    laid = tuple(-1 if i == axis else 1 for i in range(len(filters.shape)))
    scaled = combine(lambda array, factor: array * factor.reshape(laid), filters, constant, shape=filters.shape)
    return (scaled, *(combine(np.multiply, weight, constant, shape=weight.shape) for weight in bias))


# --- pads ------------------------------------------------------------------------------------------------------------


def fold_pads(draft: Draft) -> Draft:
    """Return the draft with what surrounds an image in the padding of the convolutions or pools that alone read it."""
    rewrite = Rewrite(draft)
    for node in draft.nodes:
        pad = rewrite.maker(node.inputs[0], "pad") if node.kind in _PADDED_WITH else None
        if pad is None or not _folds(rewrite, pad):
            rewrite.keep(node)
            continue
        sizes = rewrite.shape(pad.inputs[0])[1:-1]
        pads = [a + b for a, b in zip(pad.integers("paddings")[2:-2], _explicit(node), strict=True)]
        padding = canonical_padding(
            sizes, node.integers("kernel"), node.integers("strides"), node.integers("dilations"), pads
        )
        attributes = {**node.attributes, "padding": padding}
        rewrite.replace(node, node.kind, rewrite.values[pad.inputs[0]], attributes, node.weights)
    return rewrite.finish()


def _explicit(node: Node) -> Sequence[int]:
    """Return the padding of a convolution that is not padded to "same" as numbers, flat."""
    padding = node.attribute("padding")
    return padding if isinstance(padding, tuple) else (0,) * 2 * len(node.integers("kernel"))


def _folds(rewrite: Rewrite, pad: Node) -> bool:
    paddings = pad.integers("paddings")
    image = not any(paddings[:2]) and not any(paddings[-2:]) and min(paddings) >= 0
    if not image or pad.attribute("mode") != "constant" or rewrite.is_returned(pad.outputs[0]):
        return False
    value = max(pad.number("value"), -MAX_FLOAT32)
    readers = rewrite.readers[pad.outputs[0]]
    return all(_PADDED_WITH.get(reader.kind) == value and reader.attribute("padding") != "same" for reader in readers)


# --- other names for the same operator -------------------------------------------------------------------------------


def respell(draft: Draft) -> Draft:
    """Return the draft with operators under the name of the kernel that runs them.

    A convolution of as many groups as input channels is a depthwise one, a product with a constant matrix a fully
    connected layer; the TFLite converter writes them so. An edge that is repeated once is mirrored once, the one
    padding by edges that TFLite knows. A roll backwards is one forwards.
    """
    rewrite = Rewrite(draft)
    for node in draft.nodes:
        rule = _RESPELL.get(node.kind)
        if rule is None or not rule(rewrite, node):
            rewrite.keep(node)
    return rewrite.finish()


def _depthwise(rewrite: Rewrite, node: Node) -> bool:
    groups = node.integer("groups")
    if groups == 1 or groups != rewrite.shape(node.inputs[0])[-1]:
        return False
    filters, *bias = node.weights
    named = {name: value for name, value in node.attributes.items() if name != "groups"}
    weights = (filters.transposed((3, 1, 2, 0)), *bias)
    rewrite.replace(node, "depthwise_conv2d", rewrite.values[node.inputs[0]], named, weights)
    return True


def _dense(rewrite: Rewrite, node: Node) -> bool:
    left, right = node.inputs
    constant = rewrite.maker(right, "constant")
    if constant is None or node.attribute("transpose_a") or rewrite.maker(left, "constant") is not None:
        return False
    (matrix,) = constant.weights
    if len(matrix.shape) != 2:
        return False
    weight = matrix if node.attribute("transpose_b") else matrix.transposed((1, 0))
    rewrite.replace(node, "fully_connected", rewrite.values[left], {"bias": False, **_stored(constant)}, (weight,))
    return True


def _mirrored(rewrite: Rewrite, node: Node) -> bool:
    if node.attribute("mode") != "edge" or max(node.integers("paddings")) > 1:
        return False
    rewrite.replace(
        node, "pad", rewrite.values[node.inputs[0]], {"paddings": node.integers("paddings"), "mode": "symmetric"}
    )
    return True


def _forwards(rewrite: Rewrite, node: Node) -> bool:
    shape, axes, shifts = rewrite.shape(node.inputs[0]), node.integers("axes"), node.integers("shifts")
    counted = tuple(shift % shape[axis] for axis, shift in zip(axes, shifts, strict=True))
    if counted == shifts:
        return False
    rewrite.replace(node, "roll", rewrite.values[node.inputs[0]], {"axes": axes, "shifts": counted})
    return True


_RESPELL: Mapping[str, Callable[[Rewrite, Node], bool]] = {
    **{"conv2d": _depthwise, "matmul": _dense, "pad": _mirrored, "roll": _forwards},
}
