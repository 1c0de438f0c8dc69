"""The table of TFLite's builtin operators: what each is among the operators of the table of costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

import numpy as np

from leti.generator.cost import Shape, constant_attribute
from leti.generator.importers.draft import Constant, Operand, weight_dtype
from leti.generator.importers.tflite.moves import MOVES
from leti.generator.importers.tflite.site import Site
from leti.generator.importers.tflite.windows import (
    batch_matmul,
    conv,
    conv_3d,
    depthwise_conv,
    fully_connected,
    pool,
    transpose_conv,
)

Row = Callable[[Site], Sequence[Operand]]
"""Places the nodes of an operator, returns what its outputs become; raises ``NoCounterpart`` before placing any."""

_AFFINE = frozenset({"add", "sub", "mul", "div"})


def _unary(kind: str, **attributes: Any) -> Row:
    def place(site: Site) -> Sequence[Operand]:
        _same_shape(site)
        return (site.place(kind, (site.value(0),), **attributes),)

    return place


def _binary(kind: str, options: str = "") -> Row:
    """Return the function for an operator of two operands that broadcast, ending in an activation of its options."""

    def place(site: Site) -> Sequence[Operand]:
        output = site.output()
        _broadcasts(site, site.input(0).shape, site.input(1).shape)
        (activation,) = site.options(options, "FusedActivationFunction") if options else (0,)
        read: list[Operand] = [site.operand(i) if kind in _AFFINE else site.value(i) for i in (0, 1)]
        if not any(isinstance(operand, int) for operand in read) or output.shape not in _shapes_of_values(site, read):
            read = [site.value(i) for i in (0, 1)]
        return site.activated(site.binary(kind, read[0], read[1], output), activation)

    return place


def _add_n(site: Site) -> Sequence[Operand]:
    values = site.values()
    total = values[0] if values else site.value(0)
    for i, value in enumerate(values[1:], start=1):
        site.require(site.input(i) == site.output(), f"adds {site.input(i).shape}")
        total = site.binary("add", total, value, site.output())
    return (total,)


def _select(site: Site) -> Sequence[Operand]:
    return (site.place("where", [site.value(i) for i in range(3)]),)


def _reduction(kind: str) -> Row:
    def place(site: Site) -> Sequence[Operand]:
        (keep_dims,) = site.options("ReducerOptions", "KeepDims")
        rank = len(site.input().shape)
        axes = tuple(sorted({site.axis(axis, rank) for axis in site.integers(1)}))
        kept = [1 if i in axes else n for i, n in enumerate(site.input().shape) if keep_dims or i not in axes]
        site.require(site.output().shape == tuple(kept), f"makes {site.output().shape} of {site.input().shape}")
        return (site.place(kind, (site.value(0),), axes=axes, keep_dims=bool(keep_dims)),)

    return place


def _arg(kind: str) -> Row:
    def place(site: Site) -> Sequence[Operand]:
        axis = site.axis(site.integer(1), len(site.input().shape))
        return (site.place(kind, (site.value(0),), axis=axis),)

    return place


def _leaky_relu(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    (alpha,) = site.options("LeakyReluOptions", "Alpha")
    return (site.place("leaky_relu", (site.value(0),), alpha=_shortest(alpha)),)


def _prelu(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    slopes, output = site.constant(1), site.output()
    _broadcasts(site, output.shape, slopes.shape)
    kept = constant_attribute(slopes.shape, output.shape[-1] if output.shape else 1)
    slopes = slopes.reshaped(kept or output.shape[-1:])
    dtype = weight_dtype(slopes, output)
    return (site.place("prelu", (site.value(0),), weights=(slopes,), constant=kept, weight_dtype=dtype),)


def _gelu(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    (approximate,) = site.options("GeluOptions", "Approximate")
    return (site.place("gelu", (site.value(0),), approximate=bool(approximate)),)


def _softmax(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    (beta,) = site.options("SoftmaxOptions", "Beta")
    value, rank = site.value(0), len(site.output().shape)
    site.require(rank > 0, "is over no axis")
    if beta != 1:
        value = site.binary("mul", value, Constant.of(np.full((1,), beta, np.float32)), site.input())
    return (site.place("softmax", (value,), axis=rank - 1),)


def _log_softmax(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    site.require(len(site.output().shape) > 0, "is over no axis")
    return (site.place("log_softmax", (site.value(0),), axis=len(site.output().shape) - 1),)


def _l2_normalization(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    (activation,) = site.options("L2NormOptions", "FusedActivationFunction")
    site.require(len(site.output().shape) > 0, "is over no axis")
    value = site.place("l2_normalize", (site.value(0),), axes=(len(site.output().shape) - 1,))
    return site.activated(value, activation)


def _local_response_normalization(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    names = ("Radius", "Bias", "Alpha", "Beta")
    radius, *floats = site.options("LocalResponseNormalizationOptions", *names)
    bias, alpha, beta = map(_shortest, floats)
    return (site.place("local_response_norm", (site.value(0),), radius=int(radius), bias=bias, alpha=alpha, beta=beta),)


def _cumsum(site: Site) -> Sequence[Operand]:
    _same_shape(site)
    exclusive, reverse = site.options("CumsumOptions", "Exclusive", "Reverse")
    axis = site.axis(site.integer(1), len(site.output().shape))
    return (site.place("cumsum", (site.value(0),), axis=axis, exclusive=bool(exclusive), reverse=bool(reverse)),)


def _dequantize(site: Site) -> Sequence[Operand]:
    """Place a ``DEQUANTIZE``; of a constant, nothing: what reads it says what its weights are stored as."""
    _same_shape(site)
    operand = site.operand(0)
    return (operand if isinstance(operand, Constant) else site.place("dequantize", (operand,)),)


def _densify(site: Site) -> Sequence[Operand]:
    return (site.constant(0),)


def _same_shape(site: Site) -> None:
    site.require(site.input().shape == site.output().shape, f"makes {site.output().shape} of {site.input().shape}")


def _broadcasts(site: Site, left: Shape, right: Shape) -> None:
    """Check that the output is what two shapes broadcast to."""
    pairs = list(zip_longest(reversed(left), reversed(right), fillvalue=1))
    made = tuple(max(pair) for pair in reversed(pairs))
    fits = all(min(pair) in (1, max(pair)) for pair in pairs)
    site.require(fits and made == site.output().shape, f"makes {site.output().shape} of {left} and {right}")


def _shapes_of_values(site: Site, read: Sequence[Operand]) -> list[Shape]:
    return [site.input(i).shape for i, operand in enumerate(read) if isinstance(operand, int)]


def _shortest(value: float) -> float:
    """Return the shortest decimal that is this value in float32, as the number was meant before it was stored."""
    return float(str(np.float32(value)))


_UNARY = {
    **{name: name.lower() for name in ("ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "SIN", "COS", "FLOOR")},
    **{name: name.lower() for name in ("CEIL", "ROUND", "SIGN", "LOGICAL_NOT", "TANH", "RELU", "RELU6", "ELU")},
    **{"RELU_N1_TO_1": "relu_n1", "LOGISTIC": "sigmoid", "HARD_SWISH": "hard_swish"},
    **{"CAST": "cast", "QUANTIZE": "quantize"},
}
_BINARY = {
    **{"ADD": ("add", "AddOptions"), "SUB": ("sub", "SubOptions")},
    **{"MUL": ("mul", "MulOptions"), "DIV": ("div", "DivOptions")},
    **{name: (name.lower(), "") for name in ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD")},
    **{name: (name.lower(), "") for name in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")},
    **{"POW": ("power", ""), "LOGICAL_AND": ("logical_and", ""), "LOGICAL_OR": ("logical_or", "")},
}
_REDUCTIONS = {
    **{"MEAN": "mean", "SUM": "sum", "REDUCE_PROD": "prod"},
    **{"REDUCE_MAX": "reduce_max", "REDUCE_MIN": "reduce_min"},
}

OPERATORS: Mapping[str, Row] = MappingProxyType(
    {
        "CONV_2D": conv,
        "DEPTHWISE_CONV_2D": depthwise_conv,
        "CONV_3D": conv_3d,
        "TRANSPOSE_CONV": transpose_conv,
        "FULLY_CONNECTED": fully_connected,
        "BATCH_MATMUL": batch_matmul,
        "AVERAGE_POOL_2D": pool("avg_pool2d"),
        "MAX_POOL_2D": pool("max_pool2d"),
        **{name: _unary(kind) for name, kind in _UNARY.items()},
        "RELU_0_TO_1": _unary("clip", low=0.0, high=1.0),
        **{name: _binary(kind, options) for name, (kind, options) in _BINARY.items()},
        **{name: _reduction(kind) for name, kind in _REDUCTIONS.items()},
        "ADD_N": _add_n,
        "SELECT": _select,
        "SELECT_V2": _select,
        "ARG_MAX": _arg("argmax"),
        "ARG_MIN": _arg("argmin"),
        "LEAKY_RELU": _leaky_relu,
        "PRELU": _prelu,
        "GELU": _gelu,
        "SOFTMAX": _softmax,
        "LOG_SOFTMAX": _log_softmax,
        "L2_NORMALIZATION": _l2_normalization,
        "LOCAL_RESPONSE_NORMALIZATION": _local_response_normalization,
        "CUMSUM": _cumsum,
        "DEQUANTIZE": _dequantize,
        "DENSIFY": _densify,
        **MOVES,
    }
)
"""What is not here, custom operators and control flow among it, is kept as ``unknown:NAME``."""
