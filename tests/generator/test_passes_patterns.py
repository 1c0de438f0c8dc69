"""What is spelled out in a file and what it becomes: one row a spelling."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

pytest.importorskip("numpy")
import numpy as np
from evaluator import evaluate

from leti.core.graph import Attribute, TensorType
from leti.generator.importers.draft import Constant, Draft
from leti.generator.importers.passes import fold, normalise

IMAGE = (2, 6, 5, 4)


class Writing:
    """Writes a draft in few words; values are numbers, constants are numbers or arrays."""

    def __init__(self, *shapes: tuple[int, ...], dtype: str = "float32") -> None:
        self.draft = Draft()
        self.dtype = dtype
        self.x, *self.more = (self.draft.input(TensorType(shape, dtype)) for shape in shapes or (IMAGE,))
        self.rng = np.random.default_rng(0)

    def shape(self, value: int) -> tuple[int, ...]:
        return self.draft.types[value].shape

    def random(self, *shape: int) -> Constant:
        return Constant.of((self.rng.random(shape) + 0.5).astype(np.float32))

    def op(
        self,
        kind: str,
        *values: int | float | Constant,
        shape: tuple[int, ...] | None = None,
        weights: tuple[Constant, ...] = (),
        **attributes: Attribute,
    ) -> int:
        read = [v if isinstance(v, int | Constant) else Constant.of(np.float32(v)) for v in values]
        shapes = [v.shape if isinstance(v, Constant) else self.shape(v) for v in read]
        output = TensorType(np.broadcast_shapes(*shapes) if shape is None else shape, self.dtype)
        if kind in ("add", "sub", "mul", "div") and any(isinstance(v, int) for v in read):
            return self.draft.binary(kind, read[0], read[1], output)
        return self.draft.place(kind, read, output, weights=weights, **attributes)

    def reduce(self, kind: str, value: int, *axes: int, keep: bool = True) -> int:
        shape = [1 if i in axes else n for i, n in enumerate(self.shape(value)) if keep or i not in axes]
        return self.op(kind, value, shape=tuple(shape), axes=axes, keep_dims=keep)

    def conv(self, value: int, kind: str = "conv2d", **more: Attribute) -> int:
        """Place a filter of 3×3 and 4 channels in and out, without bias unless ``more`` says otherwise."""
        settings = {"kernel": (3, 3), "strides": (1, 1), "padding": "same", "bias": False, **more}
        n, h, w, _ = self.shape(value)
        if settings["padding"] == "valid":
            h, w = h - 2, w - 2
        groups = settings.get("groups", 1)
        filters = self.random(1, 3, 3, 4) if kind == "depthwise_conv2d" else self.random(4, 3, 3, 4 // int(str(groups)))
        bias = (self.random(4),) if settings["bias"] else ()
        return self.op(kind, value, shape=(n, h, w, 4), weights=(filters, *bias), **settings)

    def norm(self, value: int) -> int:
        weights = tuple(self.random(4) for _ in range(4))
        return self.op("batch_norm", value, weights=weights, epsilon=1e-3)


Write = Callable[[Writing], int]


def cube(w: Writing) -> int:
    return w.op("power", w.x, 3.0)


def halves(term: Callable[[Writing], int]) -> tuple[Write, ...]:
    return (
        lambda w: w.op("mul", w.op("mul", w.x, term(w)), 0.5),
        lambda w: w.op("mul", w.op("mul", w.x, 0.5), term(w)),
        lambda w: w.op("mul", w.op("mul", 0.5, term(w)), w.x),
    )


def erf(w: Writing) -> int:
    return w.op("add", w.op("erf", w.op("div", w.x, math.sqrt(2))), 1.0)


def tanh(inner: Callable[[Writing], int]) -> Write:
    return lambda w: w.op("add", w.op("tanh", w.op("mul", inner(w), math.sqrt(2 / math.pi))), 1.0)


def sums(cubed: Callable[[Writing], int]) -> Write:
    return lambda w: w.op("add", w.x, w.op("mul", cubed(w), 0.044715))


def hard(w: Writing) -> int:
    return w.op("clip", w.op("add", w.x, 3.0), low=0.0, high=6.0)


def exps(w: Writing) -> int:
    return w.op("exp", w.op("sub", w.x, w.reduce("reduce_max", w.x, 3)))


def parts(w: Writing, first: int, second: int) -> int:
    """Place the rows from two places on, two and four of them, one after the other."""
    last = w.op("slice", w.x, shape=(2, 2, 5, 4), begin=(0, first, 0, 0))
    rest = w.op("slice", w.x, shape=(2, 4, 5, 4), begin=(0, min(second, 2), 0, 0))
    return w.op("concat", last, rest, shape=IMAGE, axis=1)


def norm(w: Writing) -> int:
    return w.op("sqrt", w.reduce("sum", w.op("square", w.x), 3))


def centered(w: Writing) -> int:
    return w.op("sub", w.x, w.reduce("mean", w.x, 3))


def layer_norm_of_pytorch(w: Writing) -> int:
    variance = w.reduce("mean", w.op("power", centered(w), 2.0), 3)
    return w.op("div", centered(w), w.op("sqrt", w.op("add", variance, 1e-5)))


def inverse_of_keras(w: Writing, x: int, *axes: int) -> tuple[int, int]:
    mean = w.reduce("mean", x, *axes)
    variance = w.reduce("mean", w.op("squared_difference", x, mean), *axes)
    return mean, w.op("rsqrt", w.op("add", variance, 1e-3))


def layer_norm_of_tflite(w: Writing) -> int:
    mean, inverse = inverse_of_keras(w, w.x, 3)
    factor = w.op("mul", inverse, w.random(1, 1, 1, 4))
    offset = w.op("add", w.op("mul", w.op("neg", mean), factor), w.random(1, 1, 1, 4))
    return w.op("add", w.op("mul", w.x, factor), offset)


def layer_norm_of_moments(w: Writing) -> int:
    mean, inverse = inverse_of_keras(w, w.x, 3)
    factor = w.op("mul", inverse, w.random(4))
    offset = w.op("sub", w.draft.constant(w.random(4)), w.op("mul", mean, factor))
    return w.op("add", w.op("mul", w.x, factor), offset)


def bare_layer_norm_of_tflite(w: Writing) -> int:
    mean, inverse = inverse_of_keras(w, w.x, 3)
    return w.op("add", w.op("mul", w.x, inverse), w.op("mul", w.op("neg", mean), inverse))


def group_norm_of_tflite(w: Writing) -> int:
    x = w.op("reshape", w.x, shape=(2, 6, 5, 2, 2))
    mean, inverse = inverse_of_keras(w, x, 1, 2, 4)
    factor = w.op("mul", inverse, w.random(1, 1, 1, 2, 2))
    offset = w.op("add", w.op("mul", w.op("neg", mean), factor), w.random(1, 1, 1, 2, 2))
    return w.op("reshape", w.op("add", w.op("mul", x, factor), offset), shape=IMAGE)


def rms(w: Writing) -> int:
    return w.op("mul", w.x, w.op("rsqrt", w.op("add", w.reduce("mean", w.op("square", w.x), 3), 1e-6)))


def selu(w: Writing) -> int:
    less = w.op("mul", w.op("sub", w.op("exp", w.x), 1.0), 1.7580993)
    return w.op("where", w.op("greater", w.x, 0.0), w.op("mul", w.x, 1.050701), less)


SPELLINGS: list[tuple[str, dict[str, Attribute], tuple[Write, ...]]] = [
    (
        "roll",
        {"axes": (1,), "shifts": (2,)},
        (lambda w: parts(w, 4, 0), lambda w: w.op("roll", w.x, axes=(1,), shifts=(-4,))),
    ),
    (
        "roll",
        {"axes": (2, 1), "shifts": (1, 2)},
        (lambda w: w.op("roll", w.op("roll", w.x, axes=(2,), shifts=(1,)), axes=(1,), shifts=(2,)),),
    ),
    ("reverse", {"axes": (1, 3)}, (lambda w: w.op("reverse", w.op("reverse", w.x, axes=(1,)), axes=(3,)),)),
    ("relu", {}, (lambda w: w.op("clip", w.x, low=0.0, high=math.inf), lambda w: w.op("maximum", 0.0, w.x))),
    (
        "relu6",
        {},
        (
            lambda w: w.op("clip", w.x, low=0.0, high=6.0),
            lambda w: w.op("minimum", w.op("relu", w.x), 6.0),
            lambda w: w.op("relu", w.op("minimum", w.x, 6.0)),
            lambda w: w.op("minimum", w.op("maximum", w.x, 0.0), 6.0),
        ),
    ),
    ("relu_n1", {}, (lambda w: w.op("clip", w.x, low=-1.0, high=1.0),)),
    (
        "clip",
        {"low": -2.0, "high": 3.0},
        (
            lambda w: w.op("minimum", w.op("maximum", w.x, -2.0), 3.0),
            lambda w: w.op("maximum", w.op("minimum", w.x, 3.0), -2.0),
        ),
    ),
    ("leaky_relu", {"alpha": 0.2}, (lambda w: w.op("maximum", w.x, w.op("mul", w.x, 0.2)),)),
    ("silu", {}, (lambda w: w.op("mul", w.op("sigmoid", w.x), w.x),)),
    (
        "hard_sigmoid",
        {},
        (
            lambda w: w.op("mul", hard(w), 1 / 6),
            lambda w: w.op("div", hard(w), 6.0),
            lambda w: w.op("clip", w.op("add", w.op("div", w.x, 6.0), 0.5), low=0.0, high=1.0),
        ),
    ),
    (
        "hard_swish",
        {},
        (
            lambda w: w.op("mul", w.x, w.op("hard_sigmoid", w.x)),
            lambda w: w.op("mul", w.x, w.op("mul", hard(w), 1 / 6)),
            lambda w: w.op("mul", w.op("mul", w.x, hard(w)), 1 / 6),
            lambda w: w.op("mul", w.op("mul", w.x, 1 / 6), hard(w)),
        ),
    ),
    ("softplus", {}, (lambda w: w.op("log", w.op("add", w.op("exp", w.x), 1.0)),)),
    (
        "mish",
        {},
        (
            lambda w: w.op("mul", w.x, w.op("tanh", w.op("softplus", w.x))),
            lambda w: w.op("mul", w.x, w.op("tanh", w.op("log", w.op("add", w.op("exp", w.x), 1.0)))),
        ),
    ),
    ("softsign", {}, (lambda w: w.op("div", w.x, w.op("add", w.op("abs", w.x), 1.0)),)),
    ("selu", {}, (selu,)),
    (
        "gelu",
        {},
        (
            *halves(erf),
            lambda w: w.op("mul", w.x, w.op("add", w.op("mul", w.op("erf", w.op("mul", w.x, 0.5**0.5)), 0.5), 0.5)),
        ),
    ),
    (
        "gelu",
        {"approximate": True},
        (
            *halves(tanh(sums(cube))),
            *halves(tanh(sums(lambda w: w.op("mul", w.x, w.op("square", w.x))))),
            *halves(tanh(sums(lambda w: w.op("mul", w.op("mul", w.x, w.x), w.x)))),
            *halves(tanh(lambda w: w.op("mul", w.x, w.op("add", w.op("mul", w.op("mul", w.x, w.x), 0.044715), 1.0)))),
            *halves(tanh(lambda w: w.op("add", w.x, w.op("mul", w.op("mul", w.x, 0.044715), w.op("square", w.x))))),
        ),
    ),
    ("square", {}, (lambda w: w.op("power", w.x, 2.0),)),
    ("sqrt", {}, (lambda w: w.op("power", w.x, 0.5),)),
    ("rsqrt", {}, (lambda w: w.op("power", w.x, -0.5), lambda w: w.op("reciprocal", w.op("sqrt", w.x)))),
    ("reciprocal", {}, (lambda w: w.op("div", w.draft.constant(Constant.of(np.float32(1))), w.x),)),
    (
        "softmax",
        {"axis": 3},
        (
            lambda w: w.op("div", exps(w), w.reduce("sum", exps(w), 3)),
            lambda w: w.op("div", w.op("exp", w.x), w.reduce("sum", w.op("exp", w.x), 3)),
            lambda w: w.op("mul", exps(w), w.op("reciprocal", w.reduce("sum", exps(w), 3))),
        ),
    ),
    (
        "l2_normalize",
        {"axes": (3,)},
        (
            lambda w: w.op("div", w.x, norm(w)),
            lambda w: w.op("div", w.x, w.op("maximum", norm(w), 1e-12)),
            lambda w: w.op("div", w.x, w.op("clip", norm(w), low=1e-12, high=math.inf)),
            lambda w: w.op("mul", w.x, w.op("rsqrt", w.op("maximum", w.reduce("sum", w.op("square", w.x), 3), 1e-12))),
            lambda w: w.op("mul", w.x, w.op("minimum", w.op("rsqrt", w.reduce("sum", w.op("mul", w.x, w.x), 3)), 1e12)),
        ),
    ),
    ("layer_norm", {"epsilon": 1e-5, "scale": False, "center": False}, (layer_norm_of_pytorch,)),
    ("layer_norm", {"epsilon": 1e-3, "scale": False, "center": False}, (bare_layer_norm_of_tflite,)),
    (
        "layer_norm",
        {"epsilon": 1e-5},
        (lambda w: w.op("add", w.op("mul", layer_norm_of_pytorch(w), w.random(4)), w.random(4)),),
    ),
    ("layer_norm", {"epsilon": 1e-3}, (layer_norm_of_tflite, layer_norm_of_moments)),
    ("group_norm", {"epsilon": 1e-3, "groups": 2}, (group_norm_of_tflite,)),
    ("rms_norm", {"epsilon": 1e-6, "scale": False}, (rms,)),
    ("rms_norm", {"epsilon": 1e-6}, (lambda w: w.op("mul", rms(w), w.random(4)),)),
    (
        "mean",
        {"axes": (1, 2)},
        (
            lambda w: w.op("reshape", w.reduce("mean", w.x, 1, 2), shape=(2, 4)),
            lambda w: w.op(
                "reshape",
                w.op("avg_pool2d", w.x, shape=(2, 1, 1, 4), kernel=(6, 5), strides=(6, 5), padding="valid"),
                shape=(2, 4),
            ),
        ),
    ),
    (
        "mean",
        {"axes": (1, 2), "keep_dims": True},
        (lambda w: w.op("reshape", w.reduce("mean", w.x, 1, 2, keep=False), shape=(2, 1, 1, 4)),),
    ),
    ("zero", {}, (lambda w: w.op("mul", w.x, 0.0), lambda w: w.op("mul", w.x, Constant.of(np.zeros((6, 5, 4)))))),
    ("fully_connected", {"bias": False}, (lambda w: w.op("matmul", w.x, w.random(4, 4), shape=IMAGE),)),
    (
        "depthwise_conv2d",
        {"kernel": (3, 3), "strides": (1, 1), "padding": "same"},
        (lambda w: w.conv(w.x, groups=4, bias=True),),
    ),
    ("conv2d", {"kernel": (3, 3), "strides": (1, 1), "padding": "same"}, (lambda w: w.norm(w.conv(w.x)),)),
]
ROWS = [
    pytest.param(kind, attributes, write, id=f"{kind}-{i}-{j}")
    for i, (kind, attributes, spellings) in enumerate(SPELLINGS)
    for j, write in enumerate(spellings)
]


@pytest.mark.parametrize(("kind", "attributes", "write"), ROWS)
def test_a_spelling_becomes_one_operator(kind, attributes, write):
    w = Writing()
    w.draft.outputs = [write(w)]
    folded = fold(normalise(w.draft))
    (node,) = [node for node in folded.nodes if node.kind != "constant"]
    (op,) = folded.finish(weights=True).graph.ops
    assert (op.kind, dict(op.attributes)) == (kind, attributes)
    assert len(node.inputs) == 1
    assert fold(folded).nodes == folded.nodes
    x = w.rng.random(IMAGE) * 8 + 0.1 if kind in ("sqrt", "rsqrt", "reciprocal") else w.rng.standard_normal(IMAGE) * 4
    np.testing.assert_allclose(evaluate(folded, [x])[0], evaluate(w.draft, [x])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "attributes", "write"), ROWS)
def test_what_something_else_reads_on_the_way_is_still_computed(kind, attributes, write):
    w = Writing()
    last = write(w)
    before = [value for node in w.draft.nodes for value in node.outputs if node.kind != "constant" and value != last]
    w.draft.outputs = [last, *before]
    expected = evaluate(w.draft, [x := w.rng.random(IMAGE) + 0.1])
    folded = fold(normalise(w.draft))
    for made, wanted in zip(evaluate(folded, [x]), expected, strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)


NOT: list[Write] = [
    lambda w: parts(w, 0, 4),
    lambda w: parts(w, 3, 3),
    lambda w: w.op("reverse", w.op("reverse", w.x, axes=(1,)), axes=(1,)),
    lambda w: w.op("mul", w.op("relu6", w.op("add", w.x, 2.0)), 1 / 6),
    lambda w: w.op("mul", w.op("relu6", w.x), 1 / 6),
    lambda w: w.op("mul", w.x, w.op("sigmoid", w.more[0])),
    lambda w: w.op("maximum", w.x, w.op("mul", w.x, 2.0)),
    lambda w: w.op("clip", w.x, low=0.0, high=5.0),
    lambda w: w.op("div", e := w.op("exp", w.x), w.reduce("sum", e, 1, 2)),
    lambda w: w.op("div", w.x, w.op("maximum", norm(w), 3.0)),
    lambda w: w.op("power", w.x, 3.0),
    lambda w: w.op("mul", w.x, Constant.of(np.eye(4, dtype=np.float32)[0])),
    lambda w: w.op("avg_pool2d", w.x, shape=(2, 5, 4, 4), kernel=(2, 2), strides=(1, 1), padding="valid"),
    lambda w: w.op("reshape", w.reduce("mean", w.x, 1, keep=False), shape=(2, 1, 5, 4, 1)),
    lambda w: w.op("dequantize", w.op("quantize", w.x)),
]


@pytest.mark.parametrize("write", NOT)
def test_what_only_looks_alike_stays(write):
    w = Writing(IMAGE, IMAGE)
    w.draft.outputs = [write(w)]
    before = sorted(node.kind for node in normalise(w.draft).nodes)
    assert sorted(node.kind for node in fold(normalise(w.draft)).nodes) == before
