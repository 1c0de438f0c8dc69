"""Activation functions of Keras, by the names that ``keras.activations`` gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from leti.generator.importers.draft import Constant
from leti.generator.importers.keras.placing import Placing, Value

Activation = Callable[[Placing, Value], Value]


def activate(place: Placing, function: Any, x: Value) -> Value:
    """Place an activation function of a layer; one that Keras has not is kept as unknown."""
    if function is None:
        return x
    name = getattr(function, "__name__", type(function).__name__)
    of_keras = str(getattr(function, "__module__", "")).startswith("keras.")
    rule = ACTIVATIONS.get(name) if of_keras else None
    if rule is None:
        return place.within(name, x.type).unknown(name, [x])[0]
    return rule(place, x)


def relu(place: Placing, x: Value, slope: float = 0.0, most: float | None = None, threshold: float = 0.0) -> Value:
    """Place Keras's ``relu``: ``x`` above a threshold, at most ``most``, a slope below the threshold."""
    if threshold:
        above = place.binary("greater", x, _number(x, threshold), "bool")
        made = _where(place, above, x, 0.0)
        made = made if most is None else _clip(place, made, 0.0, most)
        if not slope:
            return made
        below = place.op("relu", place.with_number("add", place.op("neg", x), threshold))
        return place.binary("sub", made, place.with_number("mul", below, slope))
    if slope and most is None:
        return place.op("leaky_relu", x, alpha=float(slope))
    made = place.op("relu6", x) if most == 6 else place.op("relu", x)
    made = made if most in (None, 6) else _clip(place, made, 0.0, float(most or 0))
    if not slope:
        return made
    below = place.op("relu", place.op("neg", x))
    return place.binary("sub", made, place.with_number("mul", below, slope))


def softmax(place: Placing, x: Value, axis: Any = -1, kind: str = "softmax") -> Value:
    """Place a softmax over one axis, or over several trailing ones."""
    axes = sorted(x.axis(a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    if len(axes) == 1:
        return place.op(kind, x, axis=axes[0])
    rest = [i for i in range(len(x.shape)) if i not in axes]
    moved = place.transpose(x, [*rest, *axes])
    flat = place.reshape(moved, (*(x.shape[i] for i in rest), -1))
    made = place.reshape(place.op(kind, flat, axis=len(rest)), moved.shape)
    order = [*rest, *axes]
    return place.transpose(made, [order.index(i) for i in range(len(order))])


def _number(x: Value, number: float) -> Constant:
    return Constant.of(number, x.type.dtype)


def _where(place: Placing, condition: Value, x: Value, otherwise: float) -> Value:
    return place.op("where", [condition, x, _number(x, otherwise)], x.shape, dtype=x.type.dtype)


def _clip(place: Placing, x: Value, low: float, high: float) -> Value:
    return place.op("clip", x, low=float(low), high=float(high))


def _kind(kind: str, **numbers: float) -> Activation:
    return lambda place, x: place.op(kind, x, None, dtype="", **numbers)


def log_sigmoid(place: Placing, x: Value) -> Value:
    """Place ``-softplus(-x)``."""
    return place.op("neg", place.op("softplus", place.op("neg", x)))


def tanh_shrink(place: Placing, x: Value) -> Value:
    """Place ``x - tanh(x)``."""
    return place.binary("sub", x, place.op("tanh", x))


def soft_shrink(place: Placing, x: Value, threshold: float = 0.5) -> Value:
    """Place ``sign(x) * relu(|x| - threshold)``."""
    left = place.op("relu", place.with_number("sub", place.op("abs", x), threshold))
    return place.binary("mul", place.op("sign", x), left)


def hard_shrink(place: Placing, x: Value, threshold: float = 0.5) -> Value:
    """Place ``x`` where ``|x|`` is above the threshold, else 0."""
    return _where(place, place.binary("greater", place.op("abs", x), _number(x, threshold), "bool"), x, 0.0)


def threshold(place: Placing, x: Value, value: float, default: float) -> Value:
    """Place ``x`` where it is above a value, else a number."""
    return _where(place, place.binary("greater", x, _number(x, value), "bool"), x, default)


def squareplus(place: Placing, x: Value, b: float = 4) -> Value:
    """Place ``(x + sqrt(x² + b)) / 2``."""
    root = place.op("sqrt", place.with_number("add", place.op("square", x), b))
    return place.with_number("mul", place.binary("add", x, root), 0.5)


def glu(place: Placing, x: Value, axis: int = -1) -> Value:
    """Place the first half times the sigmoid of the second."""
    axis = x.axis(axis)
    half = tuple(n // 2 if i == axis else n for i, n in enumerate(x.shape))
    left, right = place.split(x, [half, half], "split", axis)
    return place.binary("mul", left, place.op("sigmoid", right))


def celu(place: Placing, x: Value, alpha: float = 1.0) -> Value:
    """Place ``max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)``, which is an ELU where ``alpha`` is 1."""
    if alpha == 1:
        return place.op("elu", x)
    inner = place.op("elu", place.with_number("mul", x, 1 / alpha))
    return place.with_number("mul", inner, alpha)


def _sparse_sigmoid(place: Placing, x: Value) -> Value:
    return place.with_number("mul", _clip(place, place.with_number("add", x, 1.0), 0.0, 2.0), 0.5)


def _sparse_plus(place: Placing, x: Value) -> Value:
    """Place ``(clip(x, -1, 1) + 1)² / 4 + relu(x - 1)``, which is 0, a parabola and ``x``, piece by piece."""
    inner = place.op("square", place.with_number("add", _clip(place, x, -1.0, 1.0), 1.0))
    outer = place.op("relu", place.with_number("sub", x, 1.0))
    return place.binary("add", place.with_number("mul", inner, 0.25), outer)


ACTIVATIONS: Mapping[str, Activation] = {
    "linear": lambda _place, x: x,
    "relu": relu,
    "relu6": _kind("relu6"),
    "leaky_relu": _kind("leaky_relu", alpha=0.2),
    "elu": _kind("elu"),
    "selu": _kind("selu"),
    "celu": celu,
    "gelu": _kind("gelu"),
    "glu": glu,
    "silu": _kind("silu"),
    "mish": _kind("mish"),
    "sigmoid": _kind("sigmoid"),
    "hard_sigmoid": _kind("hard_sigmoid"),
    "hard_silu": _kind("hard_swish"),
    "hard_tanh": _kind("relu_n1"),
    "tanh": _kind("tanh"),
    "exponential": _kind("exp"),
    "softplus": _kind("softplus"),
    "softsign": _kind("softsign"),
    "softmax": softmax,
    "log_softmax": lambda place, x: softmax(place, x, kind="log_softmax"),
    "log_sigmoid": log_sigmoid,
    "tanh_shrink": tanh_shrink,
    "soft_shrink": soft_shrink,
    "hard_shrink": hard_shrink,
    "squareplus": squareplus,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
}
"""What each activation function places, with the function's own defaults."""
