"""What goes into the weights of a convolution, what of a network need not run, and what stays."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("numpy")
import numpy as np
from evaluator import evaluate

from leti.core.errors import InvalidGraph
from leti.core.graph import TensorType
from leti.generator.importers.draft import Constant, Draft
from leti.generator.importers.passes import fold, normalise

IMAGE = (2, 6, 5, 4)
rng = np.random.default_rng(1)


def constant(*shape: int) -> Constant:
    return Constant.of((rng.random(shape) + 0.5).astype(np.float32))


def unloadable(*shape: int) -> Constant:
    def load() -> np.ndarray:
        raise AssertionError("nobody asked for the weights")

    return Constant(shape, "float32", load)


class Net:
    """A draft that grows at its last value."""

    def __init__(self, shape: tuple[int, ...] = IMAGE, dtype: str = "float32") -> None:
        self.draft, self.dtype = Draft(), dtype
        self.x = self.last = self.draft.input(TensorType(shape, dtype))

    def shape(self, value: int) -> tuple[int, ...]:
        return self.draft.types[value].shape

    def op(self, kind: str, *inputs: int, shape: tuple[int, ...] | None = None, weights=(), **attributes) -> Net:
        read = inputs or (self.last,)
        output = TensorType(self.shape(read[0]) if shape is None else shape, self.dtype)
        self.last = self.draft.place(kind, read, output, weights=weights, **attributes)
        return self

    def filter(self, kind: str = "conv2d", *, make=constant, bias: bool = False, name: str = "", **more) -> Net:
        n, h, w, c = self.shape(self.last)
        weights: dict[str, tuple[int, ...]] = {
            "conv2d": (c, 3, 3, c),
            "depthwise_conv2d": (1, 3, 3, c),
            "transpose_conv2d": (c, 3, 3, c),
            "fully_connected": (c, c),
        }
        settings = {} if kind == "fully_connected" else {"kernel": (3, 3), "strides": (1, 1), "padding": "same", **more}
        if settings.get("padding") == "valid":
            h, w = h - 2, w - 2
        given = (make(*weights[kind]), *((make(c),) if bias else ()))
        return self.op(kind, shape=(n, h, w, c), weights=given, bias=bias, **settings)

    def batch_norm(self, make=constant, **more) -> Net:
        c = self.shape(self.last)[-1]
        count = 4 - (not more.get("scale", True)) - (not more.get("center", True))
        return self.op("batch_norm", weights=tuple(make(c) for _ in range(count)), epsilon=1e-3, **more)

    def scale(self, *shape: int) -> Net:
        self.last = self.draft.binary("mul", self.last, constant(*shape), self.draft.types[self.last])
        return self

    def shift(self, *shape: int) -> Net:
        self.last = self.draft.binary("add", self.last, constant(*shape), self.draft.types[self.last])
        return self

    def end(self, *outputs: int) -> Draft:
        self.draft.outputs = list(outputs or (self.last,))
        return self.draft


def kinds(draft: Draft) -> list[str]:
    return [node.kind for node in draft.nodes]


def folded(draft: Draft) -> Draft:
    """Fold, and check that neither outputs nor a second folding differ."""
    new = fold(normalise(draft))
    inputs = [rng.standard_normal(draft.types[value].shape) for value in draft.inputs]
    for made, expected in zip(evaluate(new, inputs), evaluate(draft, inputs), strict=True):
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)
    assert fold(new).nodes == new.nodes
    return new


FILTERS = ("conv2d", "depthwise_conv2d", "transpose_conv2d", "fully_connected")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("more", [{}, {"scale": False}, {"center": False}, {"scale": False, "center": False}])
def test_a_batch_norm_goes_into_the_weights_before_it(kind, bias, more):
    new = folded(Net().filter(kind, bias=bias).batch_norm(**more).end())
    assert kinds(new) == [kind]
    assert len(new.nodes[0].weights) == 2


@pytest.mark.parametrize("kind", FILTERS)
def test_so_do_constants_one_a_channel_or_one_for_all(kind):
    assert kinds(folded(Net().filter(kind).scale(4).shift(1).scale(1).shift(1, 1, 1, 4).end())) == [kind]
    (node,) = folded(Net().filter(kind).scale(4).end()).nodes
    assert len(node.weights) == 1  # a multiplication needs no bias


def test_a_convolution_that_something_else_reads_keeps_its_weights():
    net = Net().filter()
    inner = net.last
    assert kinds(folded(net.batch_norm().end(net.last, inner))) == ["conv2d", "scale", "shift"]


def test_constants_of_other_shapes_stay():
    assert kinds(folded(Net().filter().scale(5, 4).end())) == ["conv2d", "scale"]
    assert kinds(folded(Net().filter().op("relu").scale(4).end())) == ["conv2d", "relu", "scale"]
    assert kinds(folded(Net().scale(4).filter().end())) == ["scale", "conv2d"]


def test_a_batch_norm_alone_is_a_multiplication_and_an_addition():
    assert kinds(folded(Net().batch_norm().op("relu").filter().end())) == ["scale", "shift", "relu", "conv2d"]


def test_a_normalization_subtracts_first():
    weights = (constant(4), constant(4), constant())
    assert kinds(folded(Net().op("normalization", weights=weights).end())) == ["shift", "scale"]


def test_constants_in_a_row_are_one():
    assert kinds(folded(Net().scale(4).scale(1).shift(1).shift(5, 4).end())) == ["scale", "shift"]
    assert kinds(folded(Net().scale(1).shift(4).scale(4).end())) == ["scale", "shift", "scale"]


def test_integer_activations_and_weights_are_left_as_they_are():
    assert kinds(fold(Net(dtype="int8").filter().op("scale", weights=(constant(4),)).end())) == ["conv2d", "scale"]
    net = Net()
    net.op("conv2d", weights=(constant(4, 1, 1, 4),), kernel=(1, 1), strides=(1, 1), padding="same", bias=False)
    quantised = net.draft.nodes[-1].attributes | {"weight_dtype": "int8"}
    other = Net().op("conv2d", weights=(constant(4, 1, 1, 4),), **quantised).scale(4)
    assert kinds(fold(net.scale(4).end())) == ["conv2d"]
    assert kinds(fold(other.end())) == ["conv2d", "scale"]


def test_a_network_is_folded_without_loading_its_weights():
    net = Net((1, 8, 8, 2048))
    net.filter(make=unloadable).batch_norm(make=unloadable).op("relu").batch_norm(make=unloadable)
    net.op("transpose", shape=(1, 2048, 8, 8), perm=(0, 3, 1, 2)).op("reshape", shape=(1, 131072))
    net.op("fully_connected", shape=(1, 5), weights=(unloadable(5, 131072),), bias=False)
    draft = fold(normalise(net.end()))
    assert kinds(draft) == ["conv2d", "relu", "scale", "shift", "reshape", "fully_connected"]
    assert draft.finish().weights is None
    with pytest.raises(AssertionError, match="nobody"):
        draft.finish(weights=True)


def padded(*paddings: int, **more) -> Net:
    n, h, w, c = IMAGE
    shape = (n, h + sum(paddings[:2]), w + sum(paddings[2:]), c)
    return Net().op("pad", shape=shape, paddings=(0, 0, *paddings, 0, 0), **more)


@pytest.mark.parametrize(
    ("pads", "padding"), [((1, 1, 1, 1), "same"), ((0, 2, 1, 1), (0, 2, 1, 1)), ((2, 2, 2, 2), (2,) * 4)]
)
@pytest.mark.parametrize("kind", ["conv2d", "depthwise_conv2d"])
def test_zeros_around_an_image_go_into_the_padding(kind, pads, padding):
    (node,) = folded(padded(*pads).filter(kind, padding="valid").end()).nodes
    assert (node.kind, node.attributes["padding"]) == (kind, padding)


def test_pads_add_up_and_serve_several_convolutions():
    net = padded(0, 1, 0, 1)
    n, h, w, c = net.shape(net.last)
    pad = net.last
    window = {"kernel": (3, 3), "strides": (1, 1), "bias": False}
    net.op("conv2d", shape=(n, h, w, c), weights=(constant(4, 3, 3, 4),), padding=(1, 1, 1, 1), **window)
    first = net.last
    net.last = pad
    new = folded(net.filter(padding="valid").end(first, net.filter(padding="valid").last))
    assert "pad" not in kinds(new)
    assert new.nodes[0].attributes["padding"] == (1, 2, 1, 2)


def test_other_pads_stay():
    pool = {"kernel": (3, 3), "strides": (1, 1), "padding": "valid"}
    for net in (
        padded(1, 1, 1, 1, value=1.0).filter(padding="valid"),
        padded(1, 1, 1, 1, mode="reflect").filter(padding="valid"),
        padded(1, 1, 1, 1).filter(padding="same"),
        padded(1, 1, 1, 1).op("max_pool2d", shape=IMAGE, **pool),
        padded(1, 1, 1, 1).op("avg_pool2d", shape=IMAGE, **pool),
        Net().op("pad", shape=(2, 6, 5, 6), paddings=(0,) * 6 + (1, 1)).filter(padding="valid"),
    ):
        assert kinds(folded(net.end()))[0] == "pad"
    net = padded(1, 1, 1, 1)
    assert "pad" in kinds(folded(net.end(net.last, net.filter(padding="valid").last)))
    net = padded(1, 1, 1, 1, mode="reflect")
    pad = net.last
    first = net.filter(padding="valid").last
    assert kinds(folded(net.end(first, net.op("tanh", pad, shape=net.shape(pad)).last)))[0] == "pad"


def test_the_three_of_a_hard_sigmoid_comes_back_out_of_the_bias():
    """The TFLite converter writes conv → +3 → relu6 → /6 with the 3 in the bias; it is the same network."""
    spelled = Net().filter(bias=True).op("relu6")
    spelled.last = spelled.draft.binary("mul", spelled.last, Constant.of(np.float32(1 / 6)), TensorType(IMAGE))
    assert kinds(folded(spelled.end())) == ["conv2d", "hard_sigmoid"]


IDENTITIES = [
    lambda net: net.op("reshape"),
    lambda net: net.op("reshape", shape=(60, 4)).op("reshape", shape=(4, 60)).op("reshape", shape=IMAGE),
    lambda net: net.op("transpose", perm=(0, 1, 2, 3)),
    lambda net: net.op("slice"),
    lambda net: net.op("slice", begin=(0, 0, 0, 0), strides=(1, 1, 1, 1)),
    lambda net: net.op("concat", axis=3),
    lambda net: net.op("add"),
    lambda net: net.op("cast"),
    lambda net: net.op("resize", method="nearest"),
    lambda net: net.op("pad", paddings=(0,) * 8),
    lambda net: net.op("tile", multiples=(1,) * 4),
    lambda net: net.op("scale", weights=(Constant.of(np.ones(1, np.float32)),), constant=(1,)),
    lambda net: net.op("shift", weights=(Constant.of(np.zeros(1, np.float32)),), constant=(1,)),
    lambda net: net.op("max_pool2d", kernel=(1, 1), strides=(1, 1), padding="valid"),
]


@pytest.mark.parametrize("write", IDENTITIES)
def test_what_returns_what_it_reads_is_dropped(write):
    net = Net().op("relu")
    write(net)
    assert kinds(folded(net.op("tanh").end())) == ["relu", "tanh"]
    only = Net()
    write(only)
    new = folded(only.end())
    assert (kinds(new), new.outputs) == ([], new.inputs)


def test_reversals_and_reshapes_that_do_something_stay():
    reversal = Net().op("slice", begin=(0, 0, 0, 3), strides=(1, 1, 1, -1))
    assert kinds(folded(reversal.end())) == ["slice"]
    chain = Net().op("reshape", shape=(60, 4)).op("reshape", shape=(2, 30, 4)).end()
    assert kinds(folded(chain)) == ["reshape"]


def test_dead_nodes_go_and_equal_ones_are_one():
    net = Net()
    a = net.op("relu", net.x).last
    b = net.op("relu", net.x).last
    net.op("tanh", a)
    first = net.op("mul", a, net.op("sigmoid", net.x).last).last
    second = net.op("mul", net.op("sigmoid", net.x).last, b).last
    assert sorted(kinds(folded(net.op("sub", first, second).end()))) == ["mul", "relu", "sigmoid", "sub"]


def test_different_scalars_and_weights_are_not_equal():
    net = Net()
    twice = [
        net.op("scale", net.x, weights=(Constant.of(np.full(1, n, np.float32)),), constant=(1,)).last for n in (2, 3, 3)
    ]
    assert kinds(folded(net.end(*twice))) == ["scale", "scale"]
    net = Net()
    net.filter()
    first, net.last = net.last, net.x
    assert kinds(folded(net.filter().op("add", first, net.last).end())) == ["conv2d", "conv2d", "add"]


def test_unknown_operators_stay_and_are_not_merged():
    net = Net()
    made = [net.draft.unknown("Random", [net.x], [TensorType(IMAGE)])[0] for _ in range(2)]
    net.draft.outputs = made
    assert kinds(fold(normalise(net.draft))) == ["unknown:Random"] * 2


def test_constants_are_computed():
    draft = Draft()
    x = draft.input(TensorType((2, 4)))
    a = draft.constant(constant(1, 4))
    b = draft.place("transpose", (draft.constant(constant(4, 1)),), TensorType((1, 4)), perm=(1, 0))
    both = draft.place("concat", (a, b), TensorType((2, 4)), axis=0)
    half = draft.place("slice", (both,), TensorType((1, 4)), begin=(1, 0))
    root = draft.place("rsqrt", (half,), TensorType((1, 4)))
    draft.outputs = [draft.place("mul", (root, x), TensorType((2, 4)))]
    new = normalise(draft)
    assert kinds(folded(draft)) == ["scale"]
    assert new.nodes[-1].kind == "scale"
    given = rng.standard_normal((2, 4))
    np.testing.assert_allclose(evaluate(new, [given])[0], evaluate(draft, [given])[0], rtol=1e-6)


@pytest.mark.parametrize("value", [float("-inf"), -3.4028234663852886e38])
def test_the_least_number_around_an_image_is_a_maximum_pool_s_own_padding(value: float) -> None:
    draft = Draft()
    image = draft.input(TensorType((1, 7, 7, 3)))
    padded = draft.place("pad", (image,), TensorType((1, 9, 9, 3)), paddings=(0, 0, 1, 1, 1, 1, 0, 0), value=value)
    attributes = {"kernel": (3, 3), "strides": (2, 2), "padding": "valid"}
    draft.outputs = [draft.place("max_pool2d", (padded,), TensorType((1, 4, 4, 3)), **attributes)]
    (op,) = fold(draft).finish().graph.ops
    assert (op.kind, op["padding"]) == ("max_pool2d", "same")


def test_infinite_attributes_become_the_last_numbers_of_float32_and_nan_is_refused() -> None:
    draft = Draft()
    image = draft.input(TensorType((1, 7, 7, 3)))
    draft.outputs = [draft.place("clip", (image,), TensorType((1, 7, 7, 3)), low=float("-inf"), high=2.0)]
    text = json.dumps(draft.finish().graph.to_json(), allow_nan=False)
    assert "-3.4028234663852886e+38" in text
    with pytest.raises(InvalidGraph, match="not a number"):
        draft.place("clip", (image,), TensorType((1, 7, 7, 3)), low=float("nan"), high=2.0)


def test_a_batch_norm_that_is_spelled_out_in_three_is_two() -> None:
    image = TensorType((1, 4, 4, 3))
    rng = np.random.default_rng(0)
    vectors = [Constant.of(rng.standard_normal(3, dtype=np.float32)) for _ in range(3)]
    draft = Draft()
    value = first = draft.place("relu", (draft.input(image),), image)
    for kind, weight in zip(("shift", "scale", "shift"), vectors, strict=True):
        value = draft.place(kind, (value,), image, weights=(weight,))
    draft.outputs = [draft.place("add", (value, first), image)]
    folded = fold(draft).finish(weights=True)
    assert [op.kind for op in folded.graph.ops] == ["relu", "scale", "shift", "add"]
    a, b, c = (vector.array() for vector in vectors)
    assert folded.weights is not None
    np.testing.assert_allclose(folded.weights[1][0], b)
    np.testing.assert_allclose(folded.weights[2][0], a * b + c, rtol=1e-6)
