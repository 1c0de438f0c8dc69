"""A small reference interpreter of drafts in numpy: what their operators mean, written from the table's words alone.

Slow and plain: every convolution is a sum over its window's elements.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from meanings import MEANINGS, plain

from leti.generator.cost import OPERATORS
from leti.generator.importers.draft import Draft, Node

Array = np.ndarray[Any, np.dtype[Any]]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def evaluate(draft: Draft, inputs: Sequence[Array]) -> list[Array]:
    """Return what a draft makes of its inputs, in float64."""
    values: dict[int, Array] = dict(zip(draft.inputs, inputs, strict=True))
    for value, given in values.items():
        assert given.shape == draft.types[value].shape
    for node in draft.nodes:
        made = OPERATIONS[node.kind](Call(draft, node), *(values[value] for value in node.inputs))
        for value, array in zip(node.outputs, made if isinstance(made, list) else [made], strict=True):
            assert array.shape == draft.types[value].shape, (node, array.shape, draft.types[value].shape)
            values[value] = array
    return [values[value] for value in draft.outputs]


class Call:
    """An operator's attributes, weights and output shape."""

    def __init__(self, draft: Draft, node: Node) -> None:
        self.kind = node.kind
        self.attributes = {**OPERATORS[node.kind].attributes, **node.attributes}
        self.weights = [np.asarray(weight.array(), np.float64) for weight in node.weights]
        self.outputs = [draft.types[value].shape for value in node.outputs]
        self.dtype = draft.types[node.outputs[0]].dtype

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]


# --- windows ---------------------------------------------------------------------------------------------------------


def _pads(call: Call, sizes: Sequence[int]) -> list[tuple[int, int]]:
    kernel, strides, dilations = call["kernel"], call["strides"], call["dilations"]
    if call["padding"] == "valid":
        return [(0, 0)] * len(sizes)
    if call["padding"] == "same":
        missing = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        return [(m // 2, m - m // 2) for m in missing]
    flat = call["padding"]
    return [(flat[2 * i], flat[2 * i + 1]) for i in range(len(sizes))]


def _windows(call: Call, x: Array, fill: float) -> Array:
    """Return every window: (batch, *kernel, *out, channels)."""
    kernel, strides, dilations = call["kernel"], call["strides"], call["dilations"]
    padded = np.pad(x, [(0, 0), *_pads(call, x.shape[1:-1]), (0, 0)], constant_values=fill)
    out = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(padded.shape[1:-1], kernel, strides, dilations, strict=True)
    ]
    made = np.empty((x.shape[0], *kernel, *out, x.shape[-1]))
    for place in itertools.product(*map(range, kernel)):
        cut = [
            slice(p * d, p * d + (o - 1) * s + 1, s) for p, d, o, s in zip(place, dilations, out, strides, strict=True)
        ]
        made[(slice(None), *place)] = padded[(slice(None), *cut)]
    return made


def _bias(call: Call) -> Array:
    return call.weights[1] if len(call.weights) > 1 else np.zeros(())


def _conv(call: Call, x: Array) -> Array:
    filters, groups = call.weights[0], call["groups"]
    rank = len(call["kernel"])
    windows = _windows(call, x, 0.0)
    each, out = x.shape[-1] // groups, filters.shape[0] // groups
    made = []
    for g in range(groups):
        taken = windows[..., g * each : (g + 1) * each]
        weight = filters[g * out : (g + 1) * out]
        made.append(
            np.tensordot(taken, weight, ([*range(1, rank + 1), taken.ndim - 1], [*range(1, rank + 1), rank + 1]))
        )
    return np.concatenate(made, -1) + _bias(call)


def _depthwise(call: Call, x: Array) -> Array:
    filters = call.weights[0][0]
    windows = np.repeat(_windows(call, x, 0.0), filters.shape[-1] // x.shape[-1], axis=-1)
    return np.einsum("nijhwc,ijc->nhwc", windows, filters) + _bias(call)


def _transpose_conv(call: Call, x: Array) -> Array:
    filters, groups = call.weights[0], call["groups"]
    (kh, kw), (sh, sw), (dh, dw) = call["kernel"], call["strides"], call["dilations"]
    batch, height, width, channels = x.shape
    _, out_h, out_w, out = call.outputs[0]
    full = np.zeros((batch, (height - 1) * sh + (kh - 1) * dh + 1 + sh, (width - 1) * sw + (kw - 1) * dw + 1 + sw, out))
    each, made = channels // groups, out // groups
    for i, j, g in itertools.product(range(kh), range(kw), range(groups)):
        part = x[..., g * each : (g + 1) * each] @ filters[g * made : (g + 1) * made, i, j].T
        full[
            :,
            i * dh : i * dh + (height - 1) * sh + 1 : sh,
            j * dw : j * dw + (width - 1) * sw + 1 : sw,
            g * made : (g + 1) * made,
        ] += part
    if isinstance(call["padding"], tuple):
        top, left = call["padding"][0], call["padding"][2]
    elif call["padding"] == "same":
        top, left = (  # of the convolution that reads what this one makes
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) // 2
            for n, k, s, d in ((out_h, kh, sh, dh), (out_w, kw, sw, dw))
        )
    else:
        top = left = 0
    return full[:, top : top + out_h, left : left + out_w] + _bias(call)


def _axes_of_window(call: Call) -> tuple[int, ...]:
    return tuple(range(1, len(call["kernel"]) + 1))


def _max_pool(call: Call, x: Array) -> Array:
    return _windows(call, x, -np.inf).max(_axes_of_window(call))


def _avg_pool(call: Call, x: Array) -> Array:
    total = _windows(call, x, 0.0).sum(_axes_of_window(call))
    if call["count_padding"]:
        return total / math.prod(call["kernel"])
    return total / _windows(call, np.ones_like(x), 0.0).sum(_axes_of_window(call))


# --- one value a channel ---------------------------------------------------------------------------------------------


def _constant_of(call: Call) -> Array:
    weight = call.weights[0]
    return weight.reshape(call["constant"]) if call["constant"] else weight


def _normalise(call: Call, x: Array, axes: tuple[int, ...]) -> Array:
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return _affine(call, (x - mean) / np.sqrt(variance + call["epsilon"]))


def _affine(call: Call, x: Array) -> Array:
    weights = iter(call.weights)
    x = x * next(weights) if call["scale"] else x
    return x + next(weights) if call["center"] else x


def _group_norm(call: Call, x: Array) -> Array:
    grouped = x.reshape(*x.shape[:-1], call["groups"], -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, variance = grouped.mean(axes, keepdims=True), grouped.var(axes, keepdims=True)
    return _affine(call, ((grouped - mean) / np.sqrt(variance + call["epsilon"])).reshape(x.shape))


def _batch_norm(call: Call, x: Array) -> Array:
    *_, mean, variance = call.weights
    return _affine(call, (x - mean) / np.sqrt(variance + call["epsilon"]))


def _rms_norm(call: Call, x: Array) -> Array:
    return _affine(call, x / np.sqrt(np.square(x).mean(-1, keepdims=True) + call["epsilon"]))


# --- the rest --------------------------------------------------------------------------------------------------------


def _softmax(call: Call, x: Array) -> Array:
    powers = np.exp(x - x.max(call["axis"], keepdims=True))
    return powers / powers.sum(call["axis"], keepdims=True)


def _gelu(call: Call, x: Array) -> Array:
    if call["approximate"]:
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / np.sqrt(2)))


def _sigmoid(x: Array) -> Array:
    return (1 + np.tanh(x / 2)) / 2


def _slice(call: Call, x: Array) -> Array:
    begin = call["begin"] or (0,) * x.ndim
    strides = call["strides"] or (1,) * x.ndim
    index = [b + s * np.arange(n) for b, s, n in zip(begin, strides, call.outputs[0], strict=True)]
    return x[np.ix_(*index)]


def _pad(call: Call, x: Array) -> Array:
    flat = call["paddings"]
    pads = [(flat[2 * i], flat[2 * i + 1]) for i in range(x.ndim)]
    return (
        np.pad(x, pads, constant_values=call["value"]) if call["mode"] == "constant" else np.pad(x, pads, call["mode"])
    )


def _split(call: Call, x: Array) -> list[Array]:
    sizes = [shape[call["axis"]] for shape in call.outputs]
    return list(np.split(x, np.cumsum(sizes)[:-1], call["axis"]))


def _unstack(call: Call, x: Array) -> list[Array]:
    return [np.take(x, i, call["axis"]) for i in range(x.shape[call["axis"]])]


def _matmul(call: Call, a: Array, b: Array) -> Array:
    return (a.swapaxes(-1, -2) if call["transpose_a"] else a) @ (b.swapaxes(-1, -2) if call["transpose_b"] else b)


def _reduce(change: Callable[..., Array]) -> Callable[..., Array]:
    return lambda call, x: change(x, axis=call["axes"], keepdims=call["keep_dims"])


def _argument(change: Callable[..., Array]) -> Callable[..., Array]:
    return lambda call, x: change(x, axis=call["axis"], keepdims=call["keep_dims"]).astype(np.float64)


def _l2_normalize(call: Call, x: Array) -> Array:
    return x / np.sqrt(np.square(x).sum(call["axes"], keepdims=True))


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _max_pool),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _avg_pool),
    "depthwise_conv2d": _depthwise,
    "transpose_conv2d": _transpose_conv,
    "fully_connected": lambda call, x: x @ call.weights[0].T + _bias(call),
    "matmul": _matmul,
    "constant": lambda call: call.weights[0],
    "scale": lambda call, x: x * _constant_of(call),
    "shift": lambda call, x: x + _constant_of(call),
    "prelu": lambda call, x: np.where(x < 0, x * _constant_of(call), x),
    "batch_norm": _batch_norm,
    "normalization": lambda call, x: (x - call.weights[0]) / np.maximum(np.sqrt(call.weights[1]), 1e-7),
    "layer_norm": lambda call, x: _normalise(call, x, (x.ndim - 1,)),
    "instance_norm": lambda call, x: _normalise(call, x, tuple(range(1, x.ndim - 1))),
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "l2_normalize": _l2_normalize,
    "mean": _reduce(np.mean),
    "sum": _reduce(np.sum),
    "prod": _reduce(np.prod),
    "reduce_max": _reduce(np.max),
    "reduce_min": _reduce(np.min),
    "argmax": _argument(np.argmax),
    "argmin": _argument(np.argmin),
    "relu": plain(lambda x: np.maximum(x, 0)),
    "relu6": plain(lambda x: np.clip(x, 0, 6)),
    "relu_n1": plain(lambda x: np.clip(x, -1, 1)),
    "sigmoid": plain(_sigmoid),
    "tanh": plain(np.tanh),
    "silu": plain(lambda x: x * _sigmoid(x)),
    "hard_sigmoid": plain(lambda x: np.clip(x + 3, 0, 6) / 6),
    "hard_swish": plain(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "mish": plain(lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "softplus": plain(lambda x: np.log1p(np.exp(x))),
    "softsign": plain(lambda x: x / (1 + np.abs(x))),
    "exp": plain(np.exp),
    "log": plain(np.log),
    "sqrt": plain(np.sqrt),
    "rsqrt": plain(lambda x: 1 / np.sqrt(x)),
    "square": plain(np.square),
    "reciprocal": plain(np.reciprocal),
    "abs": plain(np.abs),
    "neg": plain(np.negative),
    "erf": plain(_erf),
    "zero": plain(np.zeros_like),
    "add": plain(lambda *arrays: functools.reduce(np.add, arrays)),
    "sub": plain(np.subtract),
    "mul": plain(np.multiply),
    "div": plain(np.divide),
    "maximum": plain(np.maximum),
    "minimum": plain(np.minimum),
    "power": plain(np.power),
    "squared_difference": plain(lambda a, b: np.square(a - b)),
    "where": plain(lambda c, a, b: np.where(c != 0, a, b)),
    "leaky_relu": lambda call, x: np.where(x < 0, x * call["alpha"], x),
    "elu": lambda call, x: np.where(x < 0, call["alpha"] * np.expm1(np.minimum(x, 0)), x),
    "gelu": _gelu,
    "clip": lambda call, x: np.clip(x, call["low"], call["high"]),
    "softmax": _softmax,
    "log_softmax": lambda call, x: np.log(_softmax(call, x)),
    "concat": lambda call, *arrays: np.concatenate(arrays, call["axis"]),
    "stack": lambda call, *arrays: np.stack(arrays, call["axis"]),
    "split": _split,
    "unstack": _unstack,
    "slice": _slice,
    "reshape": lambda call, x: x.reshape(call.outputs[0]),
    "transpose": lambda call, x: x.transpose(call["perm"]),
    "broadcast_to": lambda call, x: np.broadcast_to(x, call.outputs[0]),
    "tile": lambda call, x: np.tile(x, call["multiples"]),
    "pad": _pad,
    "gather": lambda call, x, indices: np.take(x, indices.astype(np.int64), call["axis"]),
    "reverse": lambda call, x: np.flip(x, call["axes"]),
    "roll": lambda call, x: np.roll(x, call["shifts"], call["axes"]),
    **MEANINGS,
}
"""What each kind makes of its inputs."""
