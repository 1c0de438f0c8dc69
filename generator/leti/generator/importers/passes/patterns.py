"""Computations that are spelled out, and the one operator that they are.

Which converter or runtime knows them: ``gelu`` and ``hard_swish`` the TFLite converter (``optimize_patterns.td``) and
ONNX Runtime (``GeluFusion``, ``FastGeluFusion``, ``BiasGeluFusion``); ``layer_norm`` and ``rms_norm`` ONNX Runtime
(``LayerNormFusion``, ``SimplifiedLayerNormFusion``), XNNPACK and the TFLite converter leave them spelled out; ``relu6``
and the other clips both; ``silu`` ONNX Runtime (``QuickGelu``). A spelled out operator counts as one here, so that a
network is the same graph by way of every format; an exporter spells it out again where its format must.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from leti.core.extras import needs
from leti.core.graph import Attribute
from leti.generator.importers.draft import Draft, Node
from leti.generator.importers.passes.matching import (
    Build,
    Form,
    Found,
    Number,
    Pattern,
    Term,
    Value,
    apply,
    either,
    form,
)
from leti.generator.importers.passes.norm_patterns import NORM_PATTERNS
from leti.generator.importers.passes.rewrite import SMALL_ELEMENTS, Rewrite
from leti.generator.importers.passes.window_patterns import WINDOW_PATTERNS

with needs("export"):
    import numpy as np

_LARGEST = 3e38  # about where float32 ends; a clip to it has no upper limit
_X: Final = Value("x")
_HAVE_BIAS: Final = frozenset({"conv1d", "conv2d", "conv3d", "depthwise_conv2d", "transpose_conv2d", "fully_connected"})


def recognise(draft: Draft) -> Draft:
    """Return the draft with computations that are spelled out as the operators that they are."""
    return apply(draft, _TABLE)


# --- what is built ---------------------------------------------------------------------------------------------------


def _to(kind: str, **attributes: Attribute) -> Build:
    def build(rewrite: Rewrite, node: Node, found: Found) -> bool:
        value = found.values["x"]
        if rewrite.old.types[value] != rewrite.old.types[node.outputs[0]]:
            return False
        rewrite.replace(node, kind, rewrite.values[value], attributes)
        return True

    return build


def _to_clip(rewrite: Rewrite, node: Node, found: Found) -> bool:
    low, high = found.numbers.get("low", 0.0), found.numbers["high"]
    if low > high:
        return False
    return _to("clip", low=low, high=high)(rewrite, node, found)


def _to_leaky_relu(rewrite: Rewrite, node: Node, found: Found) -> bool:
    alpha = found.numbers["alpha"]
    return 0 < alpha < 1 and _to("leaky_relu", alpha=alpha)(rewrite, node, found)


def _to_softmax(rewrite: Rewrite, node: Node, found: Found) -> bool:
    reductions = [found.nodes[name] for name in ("sum", "maximum") if name in found.nodes]
    axes = {reduction.integers("axes") for reduction in reductions}
    if len(axes) != 1 or len(min(axes)) != 1 or not all(reduction.attribute("keep_dims") for reduction in reductions):
        return False
    return _to("softmax", axis=min(axes)[0])(rewrite, node, found)


def _to_l2_normalize(rewrite: Rewrite, node: Node, found: Found) -> bool:
    total = found.nodes["sum"]
    small = found.numbers.get("least", 0.0) <= 1e-3 and found.numbers.get("most", math.inf) >= 1e3
    if not small or not total.attribute("keep_dims"):
        return False
    return _to("l2_normalize", axes=total.integers("axes"))(rewrite, node, found)


def _to_shifted_hard_sigmoid(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Undo the converter's addition of the 3 of a hard sigmoid to the bias of the convolution before it."""
    value = found.values["x"]
    source = rewrite.makers.get(value)
    folded = source is not None and source.kind in _HAVE_BIAS and bool(source.attribute("bias"))
    if source is None or not folded or rewrite.only_reader(value) is None:
        return False
    filters, bias = source.weights
    less = bias.map(lambda array: array - np.float32(3))
    if not rewrite.reweigh(source, (filters, less)):
        return False
    rewrite.replace(node, "hard_sigmoid", rewrite.values[value])
    return True


def _to_kept_mean(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Average an image whole: what a pool does whose window is the image."""
    value = found.values["x"]
    sizes = rewrite.shape(value)[1:-1]
    padding = node.attribute("padding")
    whole = node.integers("kernel") == sizes and math.prod(rewrite.shape(node.outputs[0])[1:-1]) == 1
    if not whole or (isinstance(padding, tuple) and any(padding)):
        return False
    axes = tuple(range(1, len(sizes) + 1))
    rewrite.replace(node, "mean", rewrite.values[value], {"axes": axes, "keep_dims": True})
    return True


def _to_reduction(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Let a reduction itself drop or keep the dimensions that a reshape after it drops or puts back."""
    reduction, value = found.nodes["reduction"], found.values["x"]
    before, after = rewrite.shape(value), rewrite.shape(node.outputs[0])
    axes, kept = reduction.integers("axes"), bool(reduction.attribute("keep_dims"))
    dropped = tuple(size for axis, size in enumerate(before) if axis not in axes)
    ones = tuple(1 if axis in axes else size for axis, size in enumerate(before))
    if after != (dropped if kept else ones):
        return False
    rewrite.replace(node, reduction.kind, rewrite.values[value], {"axes": axes, "keep_dims": not kept})
    return True


def _to_roll(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Roll along the axis on which the last part of a value is put before the rest of it."""
    value, axis = found.values["x"], node.integer("axis")
    shape = rewrite.shape(value)
    parts = [found.nodes[name] for name in ("last", "first")]
    begins = [part.integers("begin") or (0,) * len(shape) for part in parts]
    moved, rest = (rewrite.shape(part.outputs[0])[axis] for part in parts)
    expected = [tuple(rest if i == axis else 0 for i in range(len(shape))), (0,) * len(shape)]
    apart = all(stride == 1 for part in parts for stride in part.integers("strides"))
    if begins != expected or not apart or moved + rest != shape[axis]:
        return False
    return _to("roll", axes=(axis,), shifts=(moved,))(rewrite, node, found)


def _to_several(rewrite: Rewrite, node: Node, found: Found) -> bool:
    """Do along several axes at once what is done along some, then along others."""
    said = {name: (*found.nodes["before"].integers(name), *node.integers(name)) for name in node.attributes}
    if len(set(said["axes"])) < len(said["axes"]):
        return False
    return _to(node.kind, **said)(rewrite, node, found)


# --- conditions ------------------------------------------------------------------------------------------------------


def _between(low: float, high: float, node: Node) -> bool:
    most = node.number("high")
    return node.number("low") == low and (most == high or most > _LARGEST < high)


def _is_zero(node: Node) -> bool:
    weight = node.weights[0]
    return math.prod(weight.shape) <= SMALL_ELEMENTS and not np.any(weight.array())


# --- forms -----------------------------------------------------------------------------------------------------------


def _plus(term: Term, number: float) -> Form:
    return form("shift", term, number=number)


def _times(term: Term, number: float | str) -> Form:
    return form("scale", term, number=number)


_SQUARE = either(form("square", _X), form("mul", _X, _X))
_CUBE = either(form("power", _X, Number(3.0)), form("mul", _X, _SQUARE))
_HARD = form("relu6", _plus(_X, 3.0))
_SOFTPLUS = either(form("softplus", _X), form("log", _plus(form("exp", _X), 1.0)))
_ERF = _plus(form("erf", _times(_X, math.sqrt(0.5))), 1.0)
_TANH = _plus(
    form(
        "tanh",
        either(
            _times(form("add", _X, _times(_CUBE, 0.044715)), math.sqrt(2 / math.pi)),
            _times(form("add", _X, form("mul", _X, _times(_SQUARE, 0.044715))), math.sqrt(2 / math.pi)),
            _times(form("add", _X, form("mul", _times(_X, 0.044715), _SQUARE)), math.sqrt(2 / math.pi)),
            _times(form("mul", _X, _plus(_times(_SQUARE, 0.044715), 1.0)), math.sqrt(2 / math.pi)),
            form("mul", _times(_X, math.sqrt(2 / math.pi)), _plus(_times(_SQUARE, 0.044715), 1.0)),
            form("mul", _times(_X, math.sqrt(2 / math.pi)), _plus(form("mul", _times(_X, 0.044715), _X), 1.0)),
        ),
    ),
    1.0,
)
_EXP = form("exp", either(form("sub", _X, form("reduce_max", _X, name="maximum")), _X))
_SUM_OF_SQUARES = form("sum", _SQUARE, name="sum")
_NORM = form("sqrt", _SUM_OF_SQUARES)


def _halved(term: Term) -> tuple[Form, ...]:
    """Return the ways to write half of x times a term."""
    return (
        _times(form("mul", _X, term), 0.5),
        form("mul", _times(_X, 0.5), term),
        form("mul", _X, _times(term, 0.5)),
    )


_FORMS: Final[Sequence[tuple[Sequence[Form], Build]]] = (
    # Clips
    ((form("clip", _X, where=lambda node: _between(0, 6, node)),), _to("relu6")),
    ((form("clip", _X, where=lambda node: _between(-1, 1, node)),), _to("relu_n1")),
    ((form("clip", _X, where=lambda node: _between(0, math.inf, node)),), _to("relu")),
    ((form("maximum", _X, Number(0.0)),), _to("relu")),
    (
        (
            form("minimum", either(form("relu", _X), form("maximum", _X, Number("low"))), Number("high")),
            form("maximum", form("minimum", _X, Number("high")), Number("low")),
            form("relu", form("minimum", _X, Number("high"))),
        ),
        _to_clip,
    ),
    ((form("maximum", _X, _times(_X, "alpha")),), _to_leaky_relu),
    # Activations
    (
        (
            _times(_HARD, 1 / 6),
            form("clip", _plus(_times(_X, 1 / 6), 0.5), where=lambda node: _between(0, 1, node)),
        ),
        _to("hard_sigmoid"),
    ),
    (
        (
            form("mul", _X, form("hard_sigmoid", _X)),
            _times(form("mul", _X, _HARD), 1 / 6),
            form("mul", _times(_X, 1 / 6), _HARD),
        ),
        _to("hard_swish"),
    ),
    ((_times(form("relu6", _X), 1 / 6),), _to_shifted_hard_sigmoid),
    ((form("mul", _X, form("sigmoid", _X)),), _to("silu")),
    ((form("mul", _X, form("tanh", _SOFTPLUS)),), _to("mish")),
    ((form("log", _plus(form("exp", _X), 1.0)),), _to("softplus")),
    ((form("div", _X, _plus(form("abs", _X), 1.0)),), _to("softsign")),
    (
        (
            form(
                "where",
                form("greater", _X, Number(0.0)),
                _times(_X, 1.0507009873554805),
                _times(_plus(form("exp", _X), -1.0), 1.7580993408473766),
            ),
        ),
        _to("selu"),
    ),
    ((*_halved(_ERF), form("mul", _X, _plus(_times(form("erf", _times(_X, math.sqrt(0.5))), 0.5), 0.5))), _to("gelu")),
    (_halved(_TANH), _to("gelu", approximate=True)),
    # Powers
    ((form("power", _X, Number(2.0)),), _to("square")),
    ((form("power", _X, Number(0.5)),), _to("sqrt")),
    ((form("power", _X, Number(-0.5)), form("reciprocal", form("sqrt", _X))), _to("rsqrt")),
    ((form("power", _X, Number(-1.0)), form("div", Number(1.0), _X)), _to("reciprocal")),
    # Over an axis
    (
        (
            form("div", _EXP, form("sum", _EXP, name="sum")),
            form("mul", _EXP, form("reciprocal", form("sum", _EXP, name="sum"))),
        ),
        _to_softmax,
    ),
    (
        (
            form("mul", _X, form("rsqrt", form("maximum", _SUM_OF_SQUARES, Number("least")))),
            form("mul", _X, form("minimum", form("rsqrt", _SUM_OF_SQUARES), Number("most"))),
            form("mul", _X, form("rsqrt", _SUM_OF_SQUARES)),
            form("div", _X, _NORM),
            form("div", _X, form("maximum", _NORM, Number("least"))),
            form(
                "div", _X, form("clip", _NORM, where=lambda node: 0 <= node.number("low") <= 1e-3 < node.number("high"))
            ),
        ),
        _to_l2_normalize,
    ),
    # Images averaged whole, and dimensions of one element that a reshape drops or puts back
    (
        tuple(form(kind, _X) for kind in ("avg_pool1d", "avg_pool2d", "avg_pool3d")),
        _to_kept_mean,
    ),
    (
        tuple(
            form("reshape", form(kind, _X, name="reduction"))
            for kind in ("mean", "sum", "prod", "reduce_max", "reduce_min")
        ),
        _to_reduction,
    ),
    # Two parts that change places
    (
        (form("concat", form("slice", _X, name="last"), form("slice", _X, name="first")),),
        _to_roll,
    ),
    (tuple(form(kind, form(kind, _X, name="before")) for kind in ("roll", "reverse")), _to_several),
    # A multiplication by zeros
    ((form("scale", _X, where=_is_zero),), _to("zero")),
)


def _by_last_kind(forms: Iterable[tuple[Sequence[Form], Build]]) -> Mapping[str, tuple[Pattern, ...]]:
    table: dict[str, tuple[Pattern, ...]] = {}
    for terms, build in forms:
        for term in terms:
            table[term.kind] = (*table.get(term.kind, ()), Pattern(term, build))
    return table


_TABLE: Final = _by_last_kind((*WINDOW_PATTERNS, *_FORMS, *NORM_PATTERNS))
