"""Networks of low rank: they compute what those with the multiplied factors compute, and get smaller stage by stage."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra `compression` is not installed")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="the extra `import-onnx` is not installed")

from leti.compression.low_rank.applying import LowRank, decomposed
from leti.compression.low_rank.ranks import form_of, full_ranks, parameters_of
from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.patches import Patch
from leti.generator.compressing.factors import factors, most_ranks
from leti.generator.compressing.patching import patched
from leti.generator.cost import make_operator
from leti.generator.export.onnx import export_onnx
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def network(
    *ops: tuple[str, tuple[int, ...], dict], inputs: tuple[int, ...] = (2, 11, 13, 24), seed: int = 0
) -> Imported:
    """A chain of operators with random weights."""
    made, value = [], TensorType(inputs)
    for kind, shape, attributes in ops:
        output = TensorType(shape)
        made.append(make_operator(kind, (value,), (output,), tuple(sorted(attributes.items()))))
        value = output
    graph = Graph((TensorType(inputs),), tuple(made), tuple((i,) for i in range(len(made))), (len(made),))
    return Imported(graph, tuple(f"layer{i}" for i in range(len(made))), random_weights(graph, seed))


def conv(shape: tuple[int, ...], kernel=(3, 3), strides=(1, 1), padding="same", **more):
    return "conv2d", shape, {"kernel": kernel, "strides": strides, "padding": padding, **more}


def run(imported: Imported, seed: int = 1) -> np.ndarray:
    """What ONNX Runtime makes of random inputs, in the file's layout."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(export_onnx(imported.graph, weights=imported.weights), options)
    rng = np.random.default_rng(seed)
    given = {each.name: rng.standard_normal(each.shape, dtype=np.float32) for each in session.get_inputs()}
    return session.run(None, given)[0]


def with_kernel(imported: Imported, number: int, kernel: np.ndarray) -> Imported:
    weights = list(imported.weights)
    weights[number] = (kernel.astype(np.float32), *weights[number][1:])
    return Imported(imported.graph, imported.names, tuple(weights))


CONVS = {
    "same": conv((2, 11, 13, 32)),
    "strides": conv((2, 6, 5, 32), strides=(2, 3)),
    "valid": conv((2, 9, 9, 32), kernel=(3, 5), padding="valid"),
    "numbers": conv((2, 6, 8, 32), strides=(2, 2), padding=(1, 1, 2, 3), kernel=(3, 4)),
    "dilations": conv((2, 7, 13, 32), dilations=(2, 1), padding=(0, 0, 1, 1)),
    "no bias": conv((2, 11, 13, 32), bias=False),
    "row": conv((2, 11, 13, 32), kernel=(1, 5)),
    "point": conv((2, 11, 13, 32), kernel=(1, 1)),
    "strided point": conv((2, 6, 7, 32), kernel=(1, 1), strides=(2, 2)),
    "dense": ("fully_connected", (2, 11, 13, 32), {}),
}


@pytest.mark.parametrize("ranks", [(7, 9), (6,)], ids=["two", "one"])
@pytest.mark.parametrize("name", CONVS)
def test_the_factors_compute_what_the_kernel_that_they_multiply_to_computes(name, ranks):
    base = network(CONVS[name])
    fits = len(ranks) == (1 if name in ("point", "strided point", "dense") else 2) or name not in (
        *("point", "strided point", "dense", "row"),
    )
    if not fits:
        with pytest.raises(InvalidInput) as caught:
            decomposed(base, {0: ranks})
        assert caught.value.field == "patch.ranks[0]"
        return
    made = decomposed(base, {0: ranks})
    assert made.graph == patched(base.graph, Patch(ranks={0: ranks})).graph
    (layer,) = LowRank.of(made, base.graph, {0: ranks}).layers()
    expected = run(with_kernel(base, 0, layer.kernel.kernel()))
    assert np.abs(run(made) - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())
    assert not np.allclose(expected, run(base), atol=1e-2)


@pytest.mark.parametrize("name", CONVS)
def test_ranks_and_parameters_are_those_of_the_operators(name):
    (layer,) = LowRank.of(network(CONVS[name])).layers()
    assert layer.kernel.shape == layer.shape
    bias = layer.op.params - layer.kernel.size
    for most in most_ranks(layer.op):
        form = form_of(layer.shape, most)
        assert full_ranks(layer.shape, form) == most
        half = tuple(rank // 2 for rank in most)
        taken_apart = [op for _, op in factors(layer.op, half, "ranks")]
        assert sum(op.params for op in taken_apart) == parameters_of(layer.shape, half, form) + bias
        assert sum(op.macs for op in taken_apart) == layer.macs_of(half)


def test_full_ranks_change_nothing():
    base = network(CONVS["strides"], ("relu", (2, 6, 5, 32), {}), conv((2, 6, 5, 16), kernel=(1, 1)))
    made = decomposed(base, {0: (24, 32), 2: (16,)})
    assert made.names == ("layer0.first", "layer0.core", "layer0.last", "layer1", "layer2.first", "layer2.last")
    np.testing.assert_allclose(run(made), run(base), atol=1e-5)


@pytest.mark.parametrize(
    "op",
    [
        conv((2, 11, 13, 32), groups=2),
        ("depthwise_conv2d", (2, 11, 13, 24), {"kernel": (3, 3), "strides": (1, 1), "padding": "same"}),
        ("relu", (2, 11, 13, 24), {}),
    ],
    ids=["groups", "depthwise", "relu"],
)
def test_what_is_not_taken_apart_is_refused_by_name(op):
    base = network(op)
    assert not list(LowRank.of(base).layers())
    with pytest.raises(InvalidInput, match=op[0]) as caught:
        decomposed(base, {0: (4, 4)})
    assert caught.value.field == "patch.ranks[0]"


def test_networks_without_weights_and_of_another_base_are_refused():
    base = network(CONVS["same"])
    with pytest.raises(InvalidInput) as caught:
        decomposed(Imported(base.graph, base.names), {0: (4, 4)})
    assert caught.value.field == "weights"
    with pytest.raises(InvalidInput) as caught:
        LowRank.of(base, base.graph, {0: (4, 4)})
    assert caught.value.field == "imported"
    with pytest.raises(InvalidInput) as caught:
        LowRank.of(base).again({0: (4, 4)}).with_weights(base)
    assert caught.value.field == "imported"


@pytest.mark.parametrize(
    ("name", "first", "second"), [("same", (12, 14), (5, 9)), ("same", (10,), (4,)), ("point", (12,), (5,))]
)
def test_a_second_stage_is_what_the_full_kernel_would_give_after_tuning(name, first, second):
    base = network(CONVS[name], ("relu", CONVS[name][1], {}), conv((2, 11, 13, 8)))
    once = LowRank.of(base).again({0: first})
    rng = np.random.default_rng(0)
    tuned = tuple(
        tuple(a + 0.02 * rng.standard_normal(a.shape).astype(np.float32) for a in arrays)
        for arrays in once.imported.weights
    )
    once = once.with_weights(Imported(once.imported.graph, once.imported.names, tuned))
    twice = once.again({0: second})
    assert twice.ranks == {0: second}
    assert twice.imported.graph == patched(base.graph, Patch(ranks={0: second})).graph
    assert twice.imported.names == once.imported.names
    place = len(once.imported.graph.ops) - 3
    np.testing.assert_array_equal(twice.imported.weights[place][1], tuned[place][1])  # the bias as it was tuned
    np.testing.assert_array_equal(twice.imported.weights[-1][0], tuned[-1][0])  # and what was not named
    full = next(once.layers()).kernel.kernel()
    reference = with_kernel(base, 0, full)
    in_one = LowRank.of(reference).again({0: second})
    if name == "same" and len(second) == 1:  # CP has many minima
        assert twice.errors[0] <= in_one.errors[0] * 1.1
    else:
        assert twice.errors[0] == pytest.approx(in_one.errors[0], rel=1e-6)
        np.testing.assert_allclose(
            next(twice.layers()).kernel.kernel(), next(in_one.layers()).kernel.kernel(), atol=1e-5
        )
    for bad in [tuple(rank + 1 for rank in first), (3, 3) if len(first) == 1 else (3,)]:
        with pytest.raises(InvalidInput):
            once.again({0: bad})
