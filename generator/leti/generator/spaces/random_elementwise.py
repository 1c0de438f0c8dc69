"""Elementwise operators of random graphs, truth values and their tests among them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from leti.core.graph import Attribute
from leti.generator.spaces.random_nodes import Kind, Node, Place, bounded, pair, positive


def unary(kind: str, **attributes: Attribute) -> Place:
    """Return the placing of an operator of one operand."""
    return lambda node: node.unary(kind, node.value, **attributes)


def _of_bounded(kind: str) -> Place:
    return lambda node: node.unary(kind, bounded(node, node.value))


def _of_positive(kind: str) -> Place:
    return lambda node: node.unary(kind, positive(node, node.value))


def with_number(kind: str, name: str, *values: float) -> Kind:
    """Return a kind with one number among its attributes, an option each."""
    return Kind(lambda node: node.unary(kind, node.value, **{name: values[node.option]}), options=len(values))


def _binary(kind: str) -> Place:
    def place(node: Node) -> int:
        return node.place(kind, pair(node), node.shape)

    return place


def _binary_bounded(kind: str) -> Place:
    def place(node: Node) -> int:
        left, right = pair(node)
        return node.place(kind, (bounded(node, left), bounded(node, right)), node.shape)

    return place


def _binary_positive(kind: str) -> Place:
    """Return the placing of an operator whose operands must be above zero."""

    def place(node: Node) -> int:
        left, right = pair(node)
        return node.place(kind, (positive(node, left), positive(node, right)), node.shape)

    return place


def _compare(node: Node, kind: str, left: int, right: int) -> int:
    return node.place(kind, (left, right), node.shape, "bool")


def number(node: Node, truth: int) -> int:
    """Make truth values or whole numbers real ones."""
    return node.place("cast", (truth,), node.builder.shape(truth), "float32")


def _comparison(kind: str) -> Place:
    return lambda node: number(node, _compare(node, kind, *pair(node)))


def _logical(kind: str) -> Place:
    def place(node: Node) -> int:
        left, right = pair(node)
        less, positive_too = _compare(node, "less", left, right), _compare(node, "greater", right, bounded(node, left))
        return number(node, node.place(kind, (less, positive_too), node.shape, "bool"))

    return place


def _logical_not(node: Node) -> int:
    truth = _compare(node, "greater", node.value, bounded(node, node.value))
    return number(node, node.place("logical_not", (truth,), node.shape, "bool"))


def _where(node: Node) -> int:
    left, right = pair(node)
    return node.place("where", (_compare(node, "greater", left, right), left, right), node.shape)


def _cast(node: Node) -> int:
    return number(node, node.place("cast", (bounded(node, node.value),), node.shape, "int32"))


_UNARY: Final = (
    *("relu", "relu6", "relu_n1", "selu", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid", "mish", "softsign"),
    *("abs", "neg", "sign", "floor", "ceil", "round", "erf", "zero", "scale", "shift", "prelu", "normalization"),
)
_BOUNDED: Final = ("exp", "softplus", "square", "sin", "cos")
_POSITIVE: Final = ("log", "sqrt", "rsqrt", "reciprocal")

ELEMENTWISE: Mapping[str, Kind] = MappingProxyType(
    {
        **{kind: Kind(unary(kind)) for kind in _UNARY},
        **{kind: Kind(_of_bounded(kind)) for kind in _BOUNDED},
        **{kind: Kind(_of_positive(kind)) for kind in _POSITIVE},
        "leaky_relu": with_number("leaky_relu", "alpha", 0.1, 0.2, 0.3),
        "elu": with_number("elu", "alpha", 1.0, 0.5),
        "gelu": with_number("gelu", "approximate", False, True),
        "clip": Kind(unary("clip", low=-2.0, high=3.0)),
        **{kind: Kind(_binary(kind), arity=2) for kind in ("add", "sub", "maximum", "minimum")},
        **{kind: Kind(_binary_bounded(kind), arity=2) for kind in ("mul", "squared_difference")},
        **{kind: Kind(_binary_positive(kind), arity=2) for kind in ("div", "power", "floor_div", "floor_mod")},
        **{
            kind: Kind(_comparison(kind), arity=2)
            for kind in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
        },
        **{kind: Kind(_logical(kind), arity=2) for kind in ("logical_and", "logical_or")},
        "logical_not": Kind(_logical_not),
        "where": Kind(_where, arity=2),
        "cast": Kind(_cast),
    }
)
"""The kinds of node that are elementwise."""
