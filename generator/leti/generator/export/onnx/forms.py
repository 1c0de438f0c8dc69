"""ONNX forms of every kind of operator: activations and arithmetic here, the rest joined in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from leti.core.errors import InvalidGraph
from leti.core.extras import needs
from leti.core.graph import Op
from leti.generator.export.onnx.moves import MOVES
from leti.generator.export.onnx.site import Form, Site, Write, element_of
from leti.generator.export.onnx.windows import WINDOWS

with needs("import-onnx"):
    import numpy as np


def _plain(op_type: str, **attributes: Any) -> Write:
    return lambda site: site.node(op_type, *site.reads(), **attributes)


def _chain(*op_types: str) -> Write:
    return lambda site: site.chain(site.node(op_types[0], *site.reads()), *op_types[1:])


def _clip(low: float, high: float) -> Write:
    return lambda site: site.node("Clip", site.read(), site.number(low), site.number(high))


def _clip_as_said(site: Site) -> str:
    return _clip(site.op.number("low"), site.op.number("high"))(site)  # type: ignore[return-value]


def _alpha(op_type: str) -> Write:
    return lambda site: site.node(op_type, site.read(), alpha=site.op.number("alpha", 1.0))


def _gelu(site: Site) -> str:
    return site.node("Gelu", site.read(), approximate="tanh" if site.op.get("approximate", False) else "none")


def _silu(site: Site) -> str:
    return site.node("Mul", site.read(), site.node("Sigmoid", site.read()))


def _square(site: Site) -> str:
    return site.node("Pow", site.read(), site.number(2))


def _squared_difference(site: Site) -> str:
    return site.node("Pow", site.node("Sub", *site.reads()), site.number(2))


def _is_whole(site: Site) -> bool:
    return np.dtype(site.dtype).kind in "iu"


def _floor_mod(site: Site) -> str:
    left, right = site.reads()
    if _is_whole(site):
        return site.node("Mod", left, right)
    return site.node("Sub", left, site.node("Mul", right, site.chain(site.node("Div", left, right), "Floor")))


def _floor_div(site: Site) -> str:
    if not _is_whole(site):
        return site.chain(site.node("Div", *site.reads()), "Floor")
    left, right = site.reads()  # what is left over taken away, the division is exact
    return site.node("Div", site.node("Sub", left, site.node("Mod", left, right)), right)


def _cast(site: Site) -> str:
    return site.node("Cast", site.read(), to=element_of(site.made.dtype))


_UNARY = {
    **{"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "softsign": "Softsign"},
    **{"exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "abs": "Abs", "neg": "Neg"},
    **{"sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "sin": "Sin", "cos": "Cos", "erf": "Erf"},
    **{"logical_not": "Not", "mish": "Mish", "hard_swish": "HardSwish", "selu": "Selu"},
}
_BINARY = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min", "power": "Pow"},
    **{"equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater"},
    **{"greater_equal": "GreaterOrEqual", "logical_and": "And", "logical_or": "Or", "where": "Where"},
}

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        **WINDOWS,
        **MOVES,
        **{kind: Form("free", _plain(op_type)) for kind, op_type in {**_UNARY, **_BINARY}.items()},
        "not_equal": Form("free", _chain("Equal", "Not")),
        "rsqrt": Form("free", _chain("Sqrt", "Reciprocal")),
        "relu6": Form("free", _clip(0, 6)),
        "relu_n1": Form("free", _clip(-1, 1)),
        "clip": Form("free", _clip_as_said),
        "elu": Form("free", _alpha("Elu")),
        "leaky_relu": Form("free", _alpha("LeakyRelu")),
        "hard_sigmoid": Form("free", _plain("HardSigmoid", alpha=1 / 6, beta=0.5)),
        "gelu": Form("free", _gelu),
        "silu": Form("free", _silu),
        "square": Form("free", _square),
        "squared_difference": Form("free", _squared_difference),
        "floor_div": Form("free", _floor_div),
        "floor_mod": Form("free", _floor_mod),
        "cast": Form("free", _cast),
    }
)
"""How each kind of operator is written; ``constant`` is no node, and what is not here has no ONNX form."""


def form_of(op: Op) -> Form:
    """Return how an operator is written; raise :class:`InvalidGraph`, naming its kind, where ONNX cannot say it."""
    try:
        return FORMS[op.kind]
    except KeyError:
        raise InvalidGraph(
            f"{op.kind!r} has no ONNX form", field="kind", remedy="make the model of other operators"
        ) from None
