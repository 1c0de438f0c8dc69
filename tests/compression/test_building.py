"""What is built of a patch is what was predicted; what is fitted to samples is nearer to what it comes from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.building import built
from leti.compression.low_rank.applying import decomposed
from leti.compression.pruning.observing import observed
from leti.compression.reconstructing import Reference
from leti.compression.training.executing import outputs
from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.patches import Patch
from leti.core.spec import NetworkConfig
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import patched
from leti.generator.compressing.sampling import compressed_forms
from leti.generator.importers import Imported
from leti.generator.importers.draft import Constant, Draft
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.generator.weights import random_weights

SMALL = NetworkConfig(input_shape=(16, 16, 3), stem_channels=8, stacks=2, modules_per_stack=1)
NAMES = ("nasbench101", "nasbench201", "fbnet", "mobilenetv3", "darts", "chains")


def with_weights(graph: Graph, seed: int = 0) -> Imported:
    return Imported(graph, tuple(op.kind for op in graph.ops), random_weights(graph, seed))


GRAPHS = [lower(spec) for name in NAMES for spec in SPACES[name].sample(3, 7, SMALL)]
BASES = [with_weights(graph) for graph in GRAPHS if graph.params < 2_000_000]


@given(st.sampled_from(BASES), st.integers(0, 2**16), st.booleans())
@settings(max_examples=12, deadline=None)
def test_what_is_built_is_what_was_predicted(base, seed, fits):
    patch, form = compressed_forms(base.graph, 3, seed)[seed % 3]  # fewer channels, low rank, both
    inputs = np.random.default_rng(seed).standard_normal((2, *base.graph.inputs[0].shape[1:]), dtype=np.float32)
    reference = Reference.of(base, inputs, rows=64) if fits else None
    made = built(base, replace(patch, precision="full_integer"), reference=reference)
    assert made.graph == form == patched(base.graph, patch).graph
    assert all(np.isfinite(array).all() for arrays in made.weights for array in arrays)


# --- fitted ----------------------------------------------------------------------------------------------------------

WINDOWS = {
    "whole": {"kernel": (3, 3), "strides": (1, 1), "padding": "same"},
    "same": {"kernel": (3, 3), "strides": (2, 2), "padding": "same"},
    "valid": {"kernel": (3, 2), "strides": (1, 2), "padding": "valid"},
    "pads": {"kernel": (3, 3), "strides": (1, 1), "padding": (2, 0, 1, 1)},
    "dilated": {"kernel": (3, 3), "strides": (1, 1), "padding": "same", "dilations": (2, 1)},
    "pointwise": {"kernel": (1, 1), "strides": (2, 1), "padding": "valid"},
}


def spread(window: dict[str, object]) -> Imported:
    """Return a network in which half of the channels are the others, smaller, and can be had from those."""
    rng = np.random.default_rng(3)
    filters, bias = rng.standard_normal((6, 3, 3, 3)), rng.standard_normal(6)
    kernels = np.concatenate([filters, filters / 2]), np.concatenate([bias, bias / 2])
    last = rng.standard_normal((4, *window["kernel"], 12)), rng.standard_normal(4)
    draft = Draft()
    value = draft.input(TensorType((1, 9, 8, 3)))
    for made, weights, placed in ((12, kernels, WINDOWS["whole"]), (4, last, window)):
        constants = tuple(Constant.of(array.astype(np.float32)) for array in weights)
        size = made_size(placed)
        value = draft.place("conv2d", [value], TensorType((1, *size, made)), weights=constants, **placed)
        value = draft.place("relu", [value], TensorType((1, *size, made)))
    draft.outputs = [value]
    return draft.finish(weights=True)


def made_size(window: dict[str, object]) -> tuple[int, int]:
    sizes = []
    for i, size in enumerate((9, 8)):
        stride, reach = window["strides"][i], (window["kernel"][i] - 1) * window.get("dilations", (1, 1))[i] + 1
        if window["padding"] == "same":
            sizes.append(-(-size // stride))
        else:
            pads = (0, 0, 0, 0) if window["padding"] == "valid" else window["padding"]
            sizes.append((size + pads[2 * i] + pads[2 * i + 1] - reach) // stride + 1)
    return sizes[0], sizes[1]


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_what_is_left_stands_in_for_what_is_gone(window):
    base = spread(window)
    rng = np.random.default_rng(1)
    seen, unseen = (rng.standard_normal((64, 9, 8, 3), dtype=np.float32) for _ in range(2))
    expected = outputs(base, [unseen])[0]

    def missed(made: Imported) -> float:
        return float(np.linalg.norm(outputs(made, [unseen])[0] - expected) / np.linalg.norm(expected - expected.mean()))

    patch = Patch({0: 6})
    cut, fitted = built(base, patch), built(base, patch, reference=Reference.of(base, seen))
    assert cut.graph == fitted.graph
    assert missed(cut) > 0.2
    assert missed(fitted) < 0.02


def test_factors_are_fitted_to_what_samples_are_like():
    builder = GraphBuilder(TensorType((1, 6, 6, 24)))
    base = with_weights(builder.graph(builder.conv(0, 24, 3)))
    rng = np.random.default_rng(2)
    mixing = rng.standard_normal((8, 24)) @ np.diag(np.linspace(0.1, 3, 24))
    seen, unseen = ((rng.standard_normal((40, 6, 6, 8)) @ mixing).astype(np.float32) for _ in range(2))
    expected = outputs(base, [unseen])[0]
    patch = Patch(ranks={0: (10, 12)})
    svd = built(base, patch)
    for own, other in zip(svd.weights, decomposed(base, {0: (10, 12)}).weights, strict=True):
        for a, b in zip(own, other, strict=True):
            np.testing.assert_array_equal(a, b)
    fitted = built(base, patch, reference=Reference.of(base, seen))
    errors = [float(np.square(outputs(made, [unseen])[0] - expected).mean()) for made in (svd, fitted)]
    assert errors[1] < 0.8 * errors[0]


def test_the_most_important_channels_stay_by_any_criterion():
    builder = GraphBuilder(TensorType((1, 8, 8, 3)))
    value = builder.relu(builder.conv(0, 8, 3))
    base = with_weights(builder.graph(builder.conv(value, 4, 1)))
    seen = np.random.default_rng(0).standard_normal((16, 8, 8, 3), dtype=np.float32)
    evidence = observed(base, seen, operators=(1,))
    alive = (evidence.activations[1] != 0).mean(axis=(0, 1, 2))
    made = built(base, Patch({0: 3}), criterion="apoz", observed=evidence)
    np.testing.assert_array_equal(made.weights[0][0], base.weights[0][0][np.sort(np.argsort(-alive)[:3])])
    norms = np.abs(base.weights[0][0]).sum(axis=(1, 2, 3))
    made = built(base, Patch({0: 3}))
    np.testing.assert_array_equal(made.weights[0][0], base.weights[0][0][np.sort(np.argsort(-norms)[:3])])
    assert built(base, Patch({0: 8}, precision="float16")) is base
    for patch, field in (
        (Patch({0: 9}), "patch.widths[0]"),
        (Patch({9: 1}), "patch.widths[9]"),
        (Patch(ranks={1: (2,)}), "patch.ranks[1]"),
    ):
        with pytest.raises(InvalidInput) as raised:
            built(base, patch)
        assert raised.value.field == field
    with pytest.raises(InvalidInput, match="samples"):
        Reference.of(base, seen[:0])
