"""Rows of the PyTorch importer's table: activations, arithmetic, comparisons, casts, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.importers.draft import Constant, NoCounterpart, Operand
from leti.generator.importers.torch.call import Call, Placed

Handler = Callable[[Call], Placed]


def _unary(kind: str) -> Handler:
    return lambda call: call.place(kind, (call.cast(call.operand(), call.output.dtype),))


def _only(kind: str, **usual: float) -> Handler:
    """Place ``kind`` where the arguments have the values that make it that; otherwise there is no counterpart."""

    def placed(call: Call) -> Placed:
        if any(not math.isclose(call.number(name, value), value, rel_tol=1e-6) for name, value in usual.items()):
            raise NoCounterpart
        return call.place(kind)

    return placed


def _with(kind: str, attributes: Callable[[Call], dict[str, Any]]) -> Handler:
    return lambda call: call.place(kind, **attributes(call))


def _elu(call: Call) -> Placed:
    if call.number("scale", 1) != 1 or call.number("input_scale", 1) != 1:
        raise NoCounterpart
    return call.place("elu", alpha=call.number("alpha", 1))


def _prelu(call: Call) -> Placed:
    slope = call.constant("weight")
    kept = () if slope.shape == call.shape()[1:2] else (1,)
    return call.place_channels_last("prelu", call.value(), weights=(slope,), constant=kept)


def _glu(call: Call) -> Placed:
    axis, made = call.axis(default=-1), call.output
    halves = call.draft.place_many("split", (call.operand(),), (made, made), name=call.node.layer, axis=axis)
    return call.place("mul", (halves[0], call.place("sigmoid", (halves[1],))))


# --- bounds ----------------------------------------------------------------------------------------------------------

_CLIPS = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu", (-1.0, 1.0): "relu_n1"}


def _clamp(low: str, high: str, usual: tuple[float, float]) -> Handler:
    def placed(call: Call) -> Placed:
        bounds: list[Operand | float] = []
        for name, default in zip((low, high), usual, strict=True):
            given = call.node.arguments.get(name, default)
            if given is None:
                given = -math.inf if name == low else math.inf
            bounds.append(float(given) if isinstance(given, int | float) else call.operand(name))
        return _bounded(call, bounds[0], bounds[1])

    return placed


def _bounded(call: Call, low: Operand | float, high: Operand | float) -> Placed:
    value = call.operand()
    if isinstance(low, float) and isinstance(high, float):
        if (low, high) in _CLIPS:
            return call.place(_CLIPS[low, high])
        if math.isfinite(low) and math.isfinite(high):
            return call.place("clip", low=low, high=high)
    for kind, bound in (("maximum", low), ("minimum", high)):
        if isinstance(bound, float):
            if not math.isfinite(bound):
                continue
            bound = call.scalar(bound)
        value = call.binary(kind, value, bound)
    return value


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _binary(kind: str) -> Handler:
    return lambda call: call.binary(kind, call.operand(), call.operand("other"))


def _sum(kind: str) -> Handler:
    """Place self ± alpha · other."""
    return lambda call: call.binary(kind, call.operand(), _multiplied(call, call.operand("other")))


def _multiplied(call: Call, operand: Operand) -> Operand:
    alpha = call.number("alpha", 1)
    if alpha == 1:
        return operand
    if isinstance(operand, Constant):
        return operand.map(lambda array: array * array.dtype.type(alpha))
    made = call.type_of(operand)
    return call.binary("mul", operand, call.scalar(alpha, made), made)


def _reversed_sub(call: Call) -> Placed:
    if call.number("alpha", 1) != 1:
        raise NoCounterpart
    return call.binary("sub", call.operand("other"), call.operand())


def _div(call: Call) -> Placed:
    mode = call.text("rounding_mode", "None")
    kinds = {"None": "div", "floor": "floor_div"}
    if mode not in kinds:
        raise NoCounterpart
    return call.binary(kinds[mode], call.operand(), call.operand("other"))


_POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


def _power(call: Call) -> Placed:
    exponent = call.node.arguments.get("exponent")
    if isinstance(exponent, int | float):
        if exponent == 1:
            return call.operand()
        if float(exponent) in _POWERS:
            return _unary(_POWERS[float(exponent)])(call)
    return call.binary("power", call.operand(), call.operand("exponent"))


def _add_quotient(kind: str) -> Handler:
    """Place self + value · (tensor1 ``kind`` tensor2)."""

    def placed(call: Call) -> Placed:
        if call.number("value", 1) != 1:
            raise NoCounterpart
        part = call.binary(kind, call.operand("tensor1"), call.operand("tensor2"))
        return call.binary("add", call.operand(), part)

    return placed


def _logical(kind: str) -> Handler:
    """Place a logical operation, or one on bits, which on truth values is the same."""

    def placed(call: Call) -> Placed:
        read = [call.operand(), call.operand() if kind == "logical_not" else call.operand("other")]
        if {call.output.dtype, *(call.type_of(operand).dtype for operand in read)} != {"bool"}:
            raise NoCounterpart
        return call.place(kind) if kind == "logical_not" else _binary(kind)(call)

    return placed


def _where(call: Call) -> Placed:
    if not call.has("self"):
        raise NoCounterpart
    chosen = [call.cast(call.operand(name), call.output.dtype) for name in ("self", "other")]
    return call.place("where", [call.operand("condition"), *chosen])


def _masked_fill(call: Call) -> Placed:
    filling = call.cast(call.operand("value"), call.output.dtype)
    return call.place("where", [call.operand("mask"), filling, call.operand()])


# --- what does nothing, or next to it --------------------------------------------------------------------------------


def _cast(call: Call) -> Placed:
    value = call.operand()
    return value if call.type_of(value) == call.output else call.place("cast")


def _copy(call: Call) -> Placed:
    source = call.operand("src")
    kept = call.type_of(source)
    if kept.dtype != call.output.dtype:
        kept = TensorType(kept.shape, call.output.dtype)
        source = call.place("cast", (source,), kept)
    return source if kept == call.output else call.place("broadcast_to", (source,))


def _fill(call: Call) -> Placed:
    return call.place("broadcast_to", (call.operand("value"),))


def _dropout(training: str) -> Handler:
    def placed(call: Call) -> Placed:
        if call.flag(training) and call.number("p", 0.5):
            raise InvalidInput(
                "drops at random: it was exported in training mode",
                field=call.node.layer,
                remedy="call model.eval() before torch.export.export",
            )
        return call.operand()

    return placed


_UNARY = {
    **{name: name for name in ("relu", "relu6", "selu", "sigmoid", "tanh", "silu", "mish", "exp", "log", "sqrt")},
    **{name: name for name in ("rsqrt", "square", "reciprocal", "abs", "neg", "sign", "floor", "ceil", "sin", "cos")},
    **{name: name for name in ("erf", "softsign")},
    **{"hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid", "special_erf": "erf", "negative": "neg"},
}
_BINARY = {
    **{"mul": "mul", "multiply": "mul", "floor_divide": "floor_div", "remainder": "floor_mod"},
    **{"maximum": "maximum", "minimum": "minimum"},
    **{"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"},
}
_CASTS = ("to", "_to_copy", "type_as", "contiguous", "clone", "detach", "alias", "lift_fresh", "lift_fresh_copy")

ELEMENTWISE: Mapping[str, Handler] = MappingProxyType(
    {
        **{name: _unary(kind) for name, kind in _UNARY.items()},
        **{name: _binary(kind) for name, kind in _BINARY.items()},
        **{"add": _sum("add"), "sub": _sum("sub"), "subtract": _sum("sub"), "rsub": _reversed_sub},
        **{"div": _div, "divide": _div, "true_divide": _div, "pow": _power},
        **{"addcmul": _add_quotient("mul"), "addcdiv": _add_quotient("div")},
        **{"bitwise_and": _logical("logical_and"), "bitwise_or": _logical("logical_or")},
        **{"__and__": _logical("logical_and"), "__or__": _logical("logical_or")},
        **{name: _logical(name) for name in ("logical_and", "logical_or", "logical_not")},
        **{"bitwise_not": _logical("logical_not"), "where": _where, "masked_fill": _masked_fill},
        "leaky_relu": _with("leaky_relu", lambda call: {"alpha": call.number("negative_slope", 0.01)}),
        "gelu": _with("gelu", lambda call: {"approximate": call.text("approximate", "none") == "tanh"}),
        **{"elu": _elu, "celu": _only("elu", alpha=1), "softplus": _only("softplus", beta=1, threshold=20)},
        **{"round": _only("round", decimals=0), "prelu": _prelu, "_prelu_kernel": _prelu, "glu": _glu},
        "hardtanh": _clamp("min_val", "max_val", (-1.0, 1.0)),
        **dict.fromkeys(("clamp", "clip"), _clamp("min", "max", (-math.inf, math.inf))),
        **{
            "clamp_min": _clamp("min", "", (-math.inf, math.inf)),
            "clamp_max": _clamp("", "max", (-math.inf, math.inf)),
        },
        **dict.fromkeys(_CASTS, _cast),
        **{"copy": _copy, "fill": _fill},
        **dict.fromkeys(("dropout", "feature_dropout", "native_dropout"), _dropout("train")),
        **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout"), _dropout("train")),
    }
)
"""How activations, arithmetic and comparisons of ATen are placed; casts to the type that there is are left out."""
