"""Rows of the ONNX importer's table: activations, arithmetic, comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.importers.draft import Constant, NoCounterpart, Operand
from leti.generator.importers.onnx.call import Attributes, Call, Placed

with needs("import-onnx"):
    import numpy as np

Handler = Callable[[Call], Placed]

_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


def _unary(kind: str, attributes: Callable[[Call], Attributes] = lambda call: {}) -> Handler:
    return lambda call: (call.place(kind, (call.value(),), **attributes(call)),)


def _only(kind: str, name: str, usual: float) -> Handler:
    """Place ``kind`` where an attribute has the value that makes it that; otherwise the node has no counterpart."""

    def placed(call: Call) -> Placed:
        if not math.isclose(call.number(name, usual), usual, rel_tol=1e-6):
            raise NoCounterpart
        return (call.place(kind, (call.value(),)),)

    return placed


def _selu(call: Call) -> Placed:
    given = call.number("alpha", _SELU[0]), call.number("gamma", _SELU[1])
    if not np.allclose(given, _SELU, rtol=1e-5):
        raise NoCounterpart
    return (call.place("selu", (call.value(),)),)


def _hard_sigmoid(call: Call) -> Placed:
    alpha, beta, made = call.number("alpha", 0.2), call.number("beta", 0.5), call.output()
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return (call.place("hard_sigmoid", (call.value(),)),)
    scaled = call.draft.binary("mul", call.value(), _scalar(alpha, made), made, name=call.name)
    shifted = call.draft.binary("add", scaled, _scalar(beta, made), made, name=call.name)
    return (call.place("clip", (shifted,), low=0.0, high=1.0),)


def _scalar(number: float, like: TensorType) -> Constant:
    return Constant.of(np.asarray([number], np.float32), like.dtype)


def _gelu(call: Call) -> Placed:
    return (call.place("gelu", (call.value(),), approximate=call.text("approximate", "none") == "tanh"),)


def _biased_gelu(approximate: bool) -> Handler:
    """Place ONNX Runtime's GELU of a sum, of which the second operand may be left out."""

    def placed(call: Call) -> Placed:
        value = call.value()
        if call.has(1):
            value = call.draft.binary("add", value, call.operand(1), call.output(), name=call.name)
        return (call.place("gelu", (value,), approximate=approximate),)

    return placed


_CLIPS = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu", (-1.0, 1.0): "relu_n1"}


def _clip(call: Call) -> Placed:
    value, made = call.value(), call.output()
    bounds: list[Operand | float] = []
    for position, name, unbounded in ((1, "min", -math.inf), (2, "max", math.inf)):
        bound = call.operand(position) if call.has(position) else call.number(name, unbounded)
        if isinstance(bound, Constant) and math.prod(bound.shape) == 1:
            bound = float(str(bound.array().ravel()[0]))
        bounds.append(unbounded if isinstance(bound, float) and abs(bound) > 3e38 else bound)
    low, high = bounds
    if isinstance(low, float) and isinstance(high, float):
        if (low, high) in _CLIPS:
            return (call.place(_CLIPS[low, high], (value,)),)
        if math.isfinite(low) and math.isfinite(high):
            return (call.place("clip", (value,), low=low, high=high),)
    for kind, bound in (("maximum", low), ("minimum", high)):
        if isinstance(bound, float):
            if not math.isfinite(bound):
                continue
            bound = _scalar(bound, made)
        value = call.draft.binary(kind, value, bound, made, name=call.name)
    return (value,)


def _binary(kind: str) -> Handler:
    return lambda call: (_placed_binary(call, kind, call.operand(0), call.operand(1), call.output()),)


def _placed_binary(call: Call, kind: str, left: Operand, right: Operand, made: TensorType) -> int:
    if isinstance(left, Constant) and isinstance(right, Constant):
        left = call.draft.constant(left, call.name)
    return call.draft.binary(kind, left, right, made, name=call.name)


def _power(call: Call) -> Placed:
    exponent = call.operand(1)
    if isinstance(exponent, Constant) and math.prod(exponent.shape) == 1:
        kind = {2.0: "square", 0.5: "sqrt", 1.0: "", -1.0: "reciprocal"}.get(float(exponent.array().ravel()[0]))
        if kind == "":
            return (call.value(),)
        if kind is not None:
            return (call.place(kind, (call.value(),)),)
    return _binary("power")(call)


def _remainder(call: Call) -> Placed:
    if call.integer("fmod", 0):
        raise NoCounterpart
    return _binary("floor_mod")(call)


def _variadic(kind: str) -> Handler:
    def placed(call: Call) -> Placed:
        result = call.operand(0)
        made = call.output()
        for position in range(1, len(call.inputs)):
            other = call.operand(position)
            shapes = [v.shape if isinstance(v, Constant) else call.draft.types[v].shape for v in (result, other)]
            part = TensorType(np.broadcast_shapes(*shapes), made.dtype)
            result = _placed_binary(call, kind, result, other, part)
        return (result,)

    return placed


def _mean(call: Call) -> Placed:
    (total,) = _variadic("add")(call)
    made, share = call.output(), np.asarray([1 / len(call.inputs)], np.float32)
    return (_placed_binary(call, "mul", total, Constant.of(share, made.dtype), made),)


def _where(call: Call) -> Placed:
    return (call.place("where", [call.operand(i) for i in range(3)]),)


def _cast(call: Call) -> Placed:
    value = call.value()
    return (value,) if call.draft.types[value] == call.output() else (call.place("cast", (value,)),)


_UNARY = {
    **{"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Softsign": "softsign"},
    **{"Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Abs": "abs", "Neg": "neg"},
    **{"Sign": "sign", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sin": "sin", "Cos": "cos", "Erf": "erf"},
    **{"Not": "logical_not", "Mish": "mish", "HardSwish": "hard_swish"},
}
_BINARY = {
    **{"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "And": "logical_and", "Or": "logical_or"},
    **{"Equal": "equal", "Less": "less", "Greater": "greater"},
    **{"LessOrEqual": "less_equal", "GreaterOrEqual": "greater_equal"},
}

ELEMENTWISE: Mapping[str, Handler] = MappingProxyType(
    {
        **{name: _unary(kind) for name, kind in _UNARY.items()},
        **{name: _binary(kind) for name, kind in _BINARY.items()},
        **{"Max": _variadic("maximum"), "Min": _variadic("minimum"), "Sum": _variadic("add"), "Mean": _mean},
        **{"Pow": _power, "Mod": _remainder, "Where": _where, "Clip": _clip, "Cast": _cast, "CastLike": _cast},
        "LeakyRelu": _unary("leaky_relu", lambda call: {"alpha": call.number("alpha", 0.01)}),
        "Elu": _unary("elu", lambda call: {"alpha": call.number("alpha", 1.0)}),
        **{"Celu": _only("elu", "alpha", 1.0), "Swish": _only("silu", "alpha", 1.0), "Selu": _selu},
        **{"HardSigmoid": _hard_sigmoid, "Gelu": _gelu},
        **{"com.microsoft.Gelu": _biased_gelu(False), "com.microsoft.BiasGelu": _biased_gelu(False)},
        "com.microsoft.FastGelu": _biased_gelu(True),
    }
)
"""How activations, arithmetic and comparisons of ONNX are placed."""
