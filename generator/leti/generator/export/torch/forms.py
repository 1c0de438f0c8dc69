"""PyTorch forms of every kind of operator: activations and arithmetic here, the rest joined in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from leti.core.errors import InvalidGraph
from leti.core.graph import Op
from leti.generator.export.torch.moves import MOVES
from leti.generator.export.torch.program import Argument, Form, Site, Tensor, Write
from leti.generator.export.torch.windows import WINDOWS

_MAX_FLOAT16 = 65504.0


def _unary(target: str, said: Callable[[Op], Mapping[str, Argument]] = lambda op: {}) -> Write:
    return lambda site: site.node(target, self=site.read(), **said(site.op))


def _binary(target: str, first: str = "self", second: str = "other") -> Write:
    return lambda site: site.node(target, **dict(zip((first, second), site.reads(), strict=True)))


def _bounded(target: str, low: str, high: str, bounds: tuple[float, float]) -> Write:
    return lambda site: site.node(target, self=site.read(), **dict(zip((low, high), bounds, strict=True)))


def _clip(site: Site) -> Tensor:
    most = _MAX_FLOAT16 if site.dtype == "float16" else float("inf")
    low, high = (min(max(site.op.number(name), -most), most) for name in ("low", "high"))
    return site.node("clamp", self=site.read(), min=low, max=high)


def _softsign(site: Site) -> Tensor:
    read = site.read()
    return site.node(
        "div.Tensor", self=read, other=site.node("add.Tensor", self=site.node("abs", self=read), other=1.0)
    )


def _squared_difference(site: Site) -> Tensor:
    left, right = site.reads()
    return site.node("square", self=site.node("sub.Tensor", self=left, other=right))


def _where(site: Site) -> Tensor:
    condition, left, right = site.reads()
    return site.node("where.self", condition=condition, self=left, other=right)


_UNARY = {
    **{kind: kind for kind in ("relu", "selu", "sigmoid", "tanh", "silu", "mish", "softplus", "exp", "log", "sqrt")},
    **{kind: kind for kind in ("rsqrt", "square", "reciprocal", "abs", "neg", "sign", "floor", "ceil", "round", "sin")},
    **{"cos": "cos", "erf": "erf", "logical_not": "logical_not"},
    **{"hard_swish": "hardswish", "hard_sigmoid": "hardsigmoid"},
}
_BINARY = {
    **{"add": "add.Tensor", "sub": "sub.Tensor", "mul": "mul.Tensor", "div": "div.Tensor", "maximum": "maximum"},
    **{"minimum": "minimum", "floor_div": "floor_divide", "floor_mod": "remainder.Tensor", "equal": "eq.Tensor"},
    **{"not_equal": "ne.Tensor", "less": "lt.Tensor", "less_equal": "le.Tensor", "greater": "gt.Tensor"},
    **{"greater_equal": "ge.Tensor", "logical_and": "logical_and", "logical_or": "logical_or"},
}

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        **WINDOWS,
        **MOVES,
        **{kind: Form("free", _unary(target)) for kind, target in _UNARY.items()},
        **{kind: Form("free", _binary(target)) for kind, target in _BINARY.items()},
        "power": Form("free", _binary("pow.Tensor_Tensor", second="exponent")),
        "relu6": Form("free", _bounded("hardtanh", "min_val", "max_val", (0.0, 6.0))),
        "relu_n1": Form("free", _bounded("hardtanh", "min_val", "max_val", (-1.0, 1.0))),
        "clip": Form("free", _clip),
        "elu": Form("free", _unary("elu", lambda op: {"alpha": op.number("alpha", 1.0)})),
        "leaky_relu": Form("free", _unary("leaky_relu", lambda op: {"negative_slope": op.number("alpha")})),
        "gelu": Form(
            "free", _unary("gelu", lambda op: {"approximate": "tanh" if op.get("approximate", False) else "none"})
        ),
        "softsign": Form("free", _softsign),
        "squared_difference": Form("free", _squared_difference),
        "zero": Form("free", _unary("mul.Tensor", lambda op: {"other": 0.0})),
        "where": Form("free", _where),
        "cast": Form("free", lambda site: site.cast(site.read(), site.made.dtype)),
    }
)
"""How each kind of operator is written; ``constant`` is no node, and what is not here has no form in PyTorch."""


def form_of(op: Op) -> Form:
    """Return how an operator is written; raise :class:`InvalidGraph`, naming its kind, where PyTorch cannot say it."""
    try:
        return FORMS[op.kind]
    except KeyError:
        raise InvalidGraph(
            f"{op.kind!r} has no PyTorch form", field="kind", remedy="make the model of other operators"
        ) from None
