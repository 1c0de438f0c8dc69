"""What operators mean that move whole blocks, compare, round or look up; the rest of the table of ``evaluator.py``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def plain(change: Callable[..., Array]) -> Callable[..., Array]:
    """Return the meaning of an operator that has no attributes."""
    return lambda _call, *arrays: change(*arrays)


def _resize(call: Any, x: Array) -> Array:
    for axis, (old, new) in enumerate(zip(x.shape, call.outputs[0], strict=True)):
        places = {
            "half_pixel": (np.arange(new) + 0.5) * old / new - 0.5,
            "align_corners": np.arange(new) * (old - 1) / max(new - 1, 1),
            "asymmetric": np.arange(new) * old / new,
        }[call["coordinates"]]
        if call["method"] == "nearest":
            rounding = 0 if call["coordinates"] == "asymmetric" else 0.5
            x = np.take(x, np.clip(np.floor(places + rounding), 0, old - 1).astype(int), axis)
            continue
        places = np.clip(places, 0, old - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, old - 1)
        part = (places - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


def _blocks_to_batch(call: Any, x: Array) -> Array:
    pads = np.reshape(call["paddings"], (-1, 2))
    x = np.pad(x, [(0, 0), *map(tuple, pads), (0, 0)])
    bh, bw = call["block"]
    return np.concatenate([x[:, i::bh, j::bw] for i, j in itertools.product(range(bh), range(bw))])


def _batch_to_blocks(call: Any, x: Array) -> Array:
    (bh, bw), n = call["block"], len(x) // math.prod(call["block"])
    made = np.empty((n, x.shape[1] * bh, x.shape[2] * bw, x.shape[3]))
    for k, (i, j) in enumerate(itertools.product(range(bh), range(bw))):
        made[:, i::bh, j::bw] = x[k * n : (k + 1) * n]
    (top, bottom), (left, right) = np.reshape(call["crops"], (-1, 2))
    return made[:, top : made.shape[1] - bottom, left : made.shape[2] - right]


def _depth_to_space(call: Any, x: Array) -> Array:
    n, h, w, c = x.shape
    b = call["block"]
    return x.reshape(n, h, w, b, b, c // b // b).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, -1)


def _space_to_depth(call: Any, x: Array) -> Array:
    n, h, w, c = x.shape
    b = call["block"]
    return x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // b, w // b, -1)


def _local_response(call: Any, x: Array) -> Array:
    radius, depth = call["radius"], x.shape[-1]
    sums = [np.square(x[..., max(0, c - radius) : c + radius + 1]).sum(-1) for c in range(depth)]
    return x / (call["bias"] + call["alpha"] * np.stack(sums, -1)) ** call["beta"]


def _top(call: Any, x: Array) -> list[Array]:
    order = np.argsort(-x, axis=-1, kind="stable")[..., : call.outputs[0][-1]]
    return [np.take_along_axis(x, order, -1), order.astype(np.float64)]


def _cumsum(call: Any, x: Array) -> Array:
    x = np.flip(x, call["axis"]) if call["reverse"] else x
    made = np.cumsum(x, call["axis"]) - (x if call["exclusive"] else 0)
    return np.flip(made, call["axis"]) if call["reverse"] else made


MEANINGS: Mapping[str, Callable[..., Any]] = {
    "selu": plain(lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))),
    **{kind: plain(getattr(np, kind)) for kind in ("sign", "floor", "ceil", "sin", "cos", "equal", "not_equal")},
    **{kind: plain(getattr(np, kind)) for kind in ("less", "less_equal", "greater", "greater_equal")},
    **{kind: plain(getattr(np, kind)) for kind in ("logical_and", "logical_or", "logical_not")},
    "round": plain(np.rint),
    "floor_div": plain(np.floor_divide),
    "floor_mod": plain(np.mod),
    "quantize": plain(lambda x: x),
    "dequantize": plain(lambda x: x),
    "cast": lambda call, x: x if "float" in call.dtype else np.trunc(x),
    "embedding": lambda call, x: call.weights[0][x.astype(int)],
    "gather_nd": plain(lambda x, indices: x[tuple(np.moveaxis(indices.astype(int), -1, 0))]),
    "one_hot": lambda call, x: np.eye(call.outputs[0][-1])[x.astype(int)],
    "top_k": _top,
    "cumsum": _cumsum,
    "local_response_norm": _local_response,
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
    "space_to_batch": _blocks_to_batch,
    "batch_to_space": _batch_to_blocks,
    "resize": _resize,
}
