"""A network of one operator for every kind in the table of costs, with weights, inputs and what it must make of them.

What operators mean stands in ``evaluator.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leti.core.graph import Attribute, Graph, TensorType
from leti.generator.cost import make_operator
from leti.generator.importers.draft import Constant, Draft, Imported
from leti.generator.weights import random_weights

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]
Types = Sequence[Shape | TensorType]


@dataclass(frozen=True)
class Case:
    """A network of one operator: its draft, and inputs that are in the operator's domain."""

    name: str
    kind: str
    draft: Draft
    inputs: tuple[Array, ...]

    def imported(self) -> Imported:
        """Return graph and weights."""
        return self.draft.finish(weights=True)


IMAGE = (1, 9, 8, 6)
ROWS = (2, 5, 12)
INDICES = TensorType((2, 3), "int32")
BOOL = "bool"


def _type(given: Shape | TensorType, dtype: str = "float32") -> TensorType:
    return given if isinstance(given, TensorType) else TensorType(given, dtype)


def _case(
    kind: str,
    inputs: Types = (IMAGE,),
    outputs: Types | None = None,
    *,
    name: str = "",
    domain: Callable[[Array], Array] = lambda array: array,
    dtype: str = "float32",
    **attributes: Attribute,
) -> Case:
    """Return the case of an operator; of one output like the first input unless told otherwise."""
    rng = np.random.default_rng(7)
    read = tuple(_type(t) for t in inputs)
    made = tuple(_type(t, dtype) for t in (outputs or inputs[:1]))
    op = make_operator(kind, read, made, tuple(sorted(attributes.items())))
    values = tuple(range(len(read)))
    (weights,) = random_weights(Graph(read, (op,), (values,), (len(read),)), 11)
    draft = Draft()
    for t in read:
        draft.input(t)
    places = draft.place_many(kind, values, made, weights=[Constant.of(w) for w in weights], **attributes)
    draft.outputs = list(places)
    arrays = tuple(domain(_drawn(rng, t)) if t.dtype == "float32" else _drawn(rng, t) for t in read)
    return Case(name or kind, kind, draft, arrays)


def _drawn(rng: np.random.Generator, t: TensorType) -> Array:
    if t.dtype == "float32":
        return rng.standard_normal(t.shape, dtype=np.float32)
    return rng.integers(0, 2, t.shape).astype(t.dtype)


def _positive(array: Array) -> Array:
    return np.abs(array) + np.float32(0.25)


def _away_from_zero(array: Array) -> Array:
    return np.where(array < 0, array - 1, array + 1).astype(np.float32)


def _window(kernel: Shape, strides: Shape, padding: str | Shape, **more: Attribute) -> dict[str, Any]:
    return {"kernel": kernel, "strides": strides, "padding": padding, **more}


def _convolutions() -> list[Case]:
    return [
        _case("conv1d", [(1, 9, 32)], [(1, 5, 40)], **_window((3,), (2,), "same")),
        _case("conv1d", [(1, 9, 6)], [(1, 8, 4)], name="conv1d padded", **_window((3,), (1,), (1, 0))),
        _case("conv2d", [(1, 9, 8, 16)], [(1, 5, 4, 32)], **_window((3, 3), (2, 2), "same")),
        _case("conv2d", outputs=[(1, 4, 3, 4)], name="conv2d valid", **_window((3, 4), (2, 2), "valid")),
        _case("conv2d", outputs=[(1, 5, 4, 4)], name="conv2d padded", **_window((3, 3), (2, 2), (1, 1, 1, 1))),
        _case(
            "conv2d", outputs=[(1, 9, 8, 4)], name="conv2d dilated", **_window((3, 3), (1, 1), "same", dilations=(2, 2))
        ),
        _case("conv2d", outputs=[(1, 9, 8, 9)], name="conv2d in groups", **_window((3, 3), (1, 1), "same", groups=3)),
        _case(
            "conv2d", outputs=[(1, 9, 8, 4)], name="conv2d without bias", **_window((1, 1), (1, 1), "same", bias=False)
        ),
        _case("conv3d", [(1, 4, 6, 6, 4)], [(1, 4, 3, 3, 8)], **_window((3, 3, 3), (1, 2, 2), "same")),
        _case("depthwise_conv2d", [(1, 9, 8, 48)], [(1, 9, 8, 48)], **_window((5, 5), (1, 1), "same")),
        _case("depthwise_conv2d", outputs=[(1, 9, 8, 12)], name="depthwise twice", **_window((3, 3), (1, 1), "same")),
        _case(
            "depthwise_conv2d", outputs=[(1, 5, 4, 6)], name="depthwise padded", **_window((3, 3), (2, 2), (1, 1, 1, 1))
        ),
        _case("depthwise_conv2d", name="depthwise without bias", **_window((3, 3), (1, 1), "same", bias=False)),
        _case("transpose_conv2d", [(1, 5, 4, 16)], [(1, 10, 8, 16)], **_window((3, 3), (2, 2), "same")),
        _case(
            "transpose_conv2d",
            [(1, 5, 4, 6)],
            [(1, 11, 9, 4)],
            name="transpose_conv2d valid",
            **_window((3, 3), (2, 2), "valid"),
        ),
        _case(
            "transpose_conv2d",
            [(1, 5, 4, 6)],
            [(1, 9, 7, 4)],
            name="transpose_conv2d cut",
            **_window((3, 3), (2, 2), (1, 1, 1, 1), bias=False),
        ),
        _case("fully_connected", [(3, 40)], [(3, 32)]),
        _case("fully_connected", [ROWS], [(2, 5, 7)], name="fully_connected rank 3"),
        _case("fully_connected", [(3, 12)], [(3, 7)], name="fully_connected without bias", bias=False),
        _case("matmul", [(2, 5, 12), (2, 12, 7)], [(2, 5, 7)]),
        _case("matmul", [(2, 5, 12), (2, 7, 12)], [(2, 5, 7)], name="matmul transposed", transpose_b=True),
        _case("embedding", [INDICES], [(2, 3, 40)], rows=30),
    ]


def _pools() -> list[Case]:
    return [
        _case("avg_pool1d", [(1, 9, 6)], [(1, 5, 6)], **_window((3,), (2,), "same")),
        _case("avg_pool2d", outputs=[(1, 5, 4, 6)], **_window((3, 3), (2, 2), "same")),
        _case(
            "avg_pool2d",
            outputs=[(1, 9, 8, 6)],
            name="avg_pool2d counted",
            **_window((3, 3), (1, 1), "same", count_padding=True),
        ),
        _case("avg_pool2d", outputs=[(1, 5, 4, 6)], name="avg_pool2d padded", **_window((3, 3), (2, 2), (1, 1, 1, 1))),
        _case("avg_pool3d", [(1, 4, 6, 6, 3)], [(1, 4, 3, 3, 3)], **_window((3, 2, 2), (1, 2, 2), "same")),
        _case("max_pool1d", [(1, 9, 6)], [(1, 4, 6)], **_window((3,), (2,), "valid")),
        _case("max_pool2d", outputs=[(1, 5, 4, 6)], **_window((3, 3), (2, 2), "same")),
        _case("max_pool2d", outputs=[(1, 5, 4, 6)], name="max_pool2d padded", **_window((3, 3), (2, 2), (1, 1, 1, 1))),
        _case("max_pool3d", [(1, 4, 6, 6, 3)], [(1, 2, 3, 3, 3)], **_window((2, 2, 2), (2, 2, 2), "same")),
    ]


def _channels() -> list[Case]:
    return [
        _constant(),
        _case("scale"),
        _case("scale", name="scale by a number", constant=(1,)),
        _case("scale", name="scale by an image", constant=(9, 8, 6)),
        _case("shift"),
        _case("shift", name="shift by a number", constant=(1,)),
        _case("prelu"),
        _case("batch_norm", epsilon=1e-3),
        _case("normalization"),
        _case("layer_norm", [ROWS], epsilon=1e-3),
        _case("layer_norm", [ROWS], name="layer_norm without offset", epsilon=1e-3, center=False),
        _case("layer_norm", [ROWS], name="layer_norm bare", epsilon=1e-3, scale=False, center=False),
        _case("instance_norm", epsilon=1e-3),
        _case("group_norm", epsilon=1e-3, groups=3),
        _case("rms_norm", [ROWS], epsilon=1e-3),
        _case("rms_norm", [ROWS], name="rms_norm bare", epsilon=1e-3, scale=False),
        _case("local_response_norm", radius=2, alpha=0.1, beta=0.75),
        _case("l2_normalize", axes=(3,)),
        _case("l2_normalize", name="l2_normalize over the image", axes=(1, 2)),
    ]


def _constant() -> Case:
    """Return a multiplication of matrices by one that is known."""
    draft = Draft()
    rng = np.random.default_rng(7)
    value = draft.input(TensorType(ROWS))
    matrix = Constant.of(rng.standard_normal((2, 12, 3), dtype=np.float32))
    draft.outputs = [draft.place("matmul", (value, matrix), TensorType((2, 5, 3)))]
    return Case("constant", "constant", draft, (rng.standard_normal(ROWS, dtype=np.float32),))


def _reductions() -> list[Case]:
    return [
        _case("mean", outputs=[(1, 6)], axes=(1, 2)),
        _case("mean", outputs=[(1, 1, 1, 6)], name="mean with dimensions", axes=(1, 2), keep_dims=True),
        _case("sum", outputs=[(1, 6)], axes=(1, 2)),
        _case("prod", outputs=[(1, 9, 6)], axes=(2,), domain=_positive),
        _case("reduce_max", outputs=[(1, 6)], axes=(1, 2)),
        _case("reduce_min", outputs=[(1, 9, 8)], axes=(3,)),
        _case("argmax", outputs=[(1, 9, 8)], axis=3, dtype="int64"),
        _case("argmin", outputs=[(1, 9, 8, 1)], axis=3, keep_dims=True, dtype="int32"),
    ]


_UNARY = (
    *("relu", "relu6", "relu_n1", "selu", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid", "mish", "softplus"),
    *("softsign", "exp", "square", "abs", "neg", "sign", "floor", "ceil", "round", "sin", "cos", "erf", "zero", "elu"),
    "gelu",
)
_BINARY = ("add", "sub", "mul", "maximum", "minimum", "squared_difference")
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def _elementwise() -> list[Case]:
    pair = (IMAGE, IMAGE)
    flags = TensorType(IMAGE, BOOL)
    return [
        *(_case(kind, domain=lambda array: array * 3) for kind in _UNARY),
        *(_case(kind, domain=_positive) for kind in ("log", "sqrt", "rsqrt")),
        _case("reciprocal", domain=_away_from_zero),
        *(_case(kind, pair) for kind in _BINARY),
        _case("mul", (IMAGE, (1, 1, 1, 6)), name="mul by channels"),
        _case("div", pair, domain=_away_from_zero),
        _case("power", pair, domain=_positive),
        _case("floor_div", pair, domain=_away_from_zero),
        _case("floor_mod", pair, domain=_away_from_zero),
        *(_case(kind, pair, dtype=BOOL) for kind in _COMPARISONS),
        _case("logical_not", [flags], dtype=BOOL),
        *(_case(kind, (flags, flags), dtype=BOOL) for kind in ("logical_and", "logical_or")),
        _case("where", (flags, IMAGE, IMAGE), [IMAGE]),
        _case("where", (flags, IMAGE, (1, 1, 1, 6)), [IMAGE], name="where of channels"),
        _case("cast", dtype="int32"),
        _quantized("quantize"),
        _quantized("dequantize"),
        _case("leaky_relu", alpha=0.1),
        _case("elu", name="elu of another slope", alpha=0.5),
        _case("gelu", name="gelu by tanh", approximate=True),
        _case("clip", low=-0.5, high=1.5),
        _case("clip", name="clip from below", low=-0.5, high=math.inf),
        _case("softmax", axis=3),
        _case("softmax", name="softmax over rows", axis=1),
        _case("log_softmax", axis=3),
    ]


def _quantized(kind: str) -> Case:
    """Return a network that passes through int8."""
    draft = Draft()
    value = draft.input(TensorType(IMAGE))
    numbers = draft.place("quantize", (value,), TensorType(IMAGE, "int8"))
    draft.outputs = [draft.place("dequantize", (numbers,), TensorType(IMAGE))]
    return Case(kind, kind, draft, (np.random.default_rng(7).standard_normal(IMAGE, dtype=np.float32),))


def _moves() -> list[Case]:
    batch = (4, 6, 4, 3)
    return [
        _case("concat", (IMAGE, (1, 9, 8, 2)), [(1, 9, 8, 8)], axis=3),
        _case("split", outputs=[(1, 9, 8, 2)] * 3, axis=3),
        _case("split", outputs=[(1, 9, 8, 2), (1, 9, 8, 4)], name="split in unequal parts", axis=3),
        _case("stack", (IMAGE, IMAGE), [(1, 2, 9, 8, 6)], axis=1),
        _case("unstack", [(2, 3, 5)], [(2, 5)] * 3, axis=1),
        _case("slice", outputs=[(1, 9, 8, 4)]),
        _case("slice", outputs=[(1, 4, 8, 2)], name="slice from within", begin=(0, 2, 0, 3)),
        _case("slice", outputs=[(1, 4, 4, 6)], name="slice by steps", begin=(0, 1, 0, 0), strides=(1, 2, 2, 1)),
        _case("slice", name="slice backwards", begin=(0, 8, 0, 0), strides=(1, -1, 1, 1)),
        _case("reshape", outputs=[(1, 72, 6)]),
        _case("transpose", outputs=[(1, 6, 9, 8)], perm=(0, 3, 1, 2)),
        _case("broadcast_to", [(1, 1, 8, 6)], [(1, 9, 8, 6)]),
        _case("tile", outputs=[(1, 18, 8, 6)], multiples=(1, 2, 1, 1)),
        _case("pad", outputs=[(1, 11, 11, 6)], paddings=(0, 0, 1, 1, 2, 1, 0, 0)),
        _case(
            "pad", outputs=[(1, 11, 10, 6)], name="pad by edges", paddings=(0, 0, 1, 1, 1, 1, 0, 0), mode="symmetric"
        ),
        _case("pad", outputs=[(1, 11, 11, 6)], name="pad by ones", paddings=(0, 0, 1, 1, 2, 1, 0, 0), value=1.0),
        _case(
            "pad", outputs=[(1, 11, 11, 6)], name="pad by reflection", paddings=(0, 0, 1, 1, 2, 1, 0, 0), mode="reflect"
        ),
        _case("gather", (IMAGE, TensorType((3,), "int32")), [(1, 3, 8, 6)], axis=1),
        _case("gather_nd", ((3, 4, 5), TensorType((2, 2), "int32")), [(2, 5)]),
        _case("top_k", outputs=[(1, 9, 8, 2), TensorType((1, 9, 8, 2), "int32")]),
        _case("one_hot", [INDICES], [(2, 3, 5)], axis=2),
        _case("cumsum", axis=1),
        _case("cumsum", name="cumsum from behind", axis=1, reverse=True, exclusive=True),
        _case("reverse", axes=(1,)),
        _case("reverse", name="reverse twice", axes=(1, 2)),
        _case("roll", axes=(1, 2), shifts=(2, 7)),
        _case("depth_to_space", [(1, 3, 4, 8)], [(1, 6, 8, 2)], block=2),
        _case("space_to_depth", [(1, 6, 8, 2)], [(1, 3, 4, 8)], block=2),
        _case("space_to_batch", [(1, 6, 7, 3)], [(4, 3, 4, 3)], block=(2, 2), paddings=(0, 0, 0, 1)),
        _case("batch_to_space", [batch], [(1, 12, 7, 3)], block=(2, 2), crops=(0, 0, 0, 1)),
        _case("resize", outputs=[(1, 18, 16, 6)], method="nearest", coordinates="asymmetric"),
        _case("resize", outputs=[(1, 18, 16, 6)], name="resize bilinear", method="bilinear"),
        _case(
            "resize", outputs=[(1, 18, 16, 6)], name="resize to corners", method="bilinear", coordinates="align_corners"
        ),
    ]


CASES: tuple[Case, ...] = (
    *_convolutions(),
    *_pools(),
    *_channels(),
    *_reductions(),
    *_elementwise(),
    *_moves(),
)

UNSAID = frozenset({"quantize", "dequantize"})
"""Kinds that formats without scales of their own cannot say: a graph does not hold them."""

SAID = tuple(case for case in CASES if case.kind not in UNSAID)
"""The cases of all other kinds."""


def of_one(kind: str, shape: Shape, made: Shape | None = None, **attributes: Attribute) -> Graph:
    """Return the graph of one operator of one input."""
    given = TensorType(shape)
    op = make_operator(kind, (given,), (TensorType(made or shape),), tuple(sorted(attributes.items())))
    return Graph((given,), (op,), ((0,),), (1,))
