"""The passes over drafts keep what a network computes, and make one graph of its many spellings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

pytest.importorskip("numpy")
import numpy as np
import random_drafts
from evaluator import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.graph import TensorType
from leti.generator.importers.draft import Constant, Draft
from leti.generator.importers.passes import fold, normalise
from leti.generator.importers.passes.simplify import remove_dead
from leti.generator.importers.shapes import check_shapes
from leti.generator.orders import channels_last

seeds = st.integers(0, 2**32 - 1)


def inputs_of(draft: Draft, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(draft.types[value].shape) for value in draft.inputs]


def close(made: np.ndarray, expected: np.ndarray) -> bool:
    if made.shape != expected.shape:
        return False
    largest = float(np.abs(expected).max(initial=1.0))
    return bool(np.allclose(made, expected, rtol=1e-4, atol=1e-4 * largest))


def laid(arrays: Sequence[np.ndarray], old: Draft, new: Draft) -> list[np.ndarray]:
    """Return inputs for a draft whose inputs may be channels last by now."""
    made = []
    for array, before, after in zip(arrays, old.inputs, new.inputs, strict=True):
        expected = new.types[after].shape
        if new.types[after] != old.types[before]:
            array = array.transpose(channels_last(array.ndim))
        assert array.shape == expected
        made.append(array)
    return made


def kinds(draft: Draft) -> Counter[str]:
    return Counter(node.kind for node in draft.nodes)


@pytest.mark.parametrize("layout", ["free", "kept", "inner"])
def test_a_mere_number_is_scaled_and_shifted(layout):
    draft, number = Draft(), TensorType((), "float32")
    image = draft.input(TensorType((2, 3), "float32"))
    mean = draft.place("mean", (image,), number, axes=(0, 1))
    scaled = draft.binary("mul", mean, Constant.of(np.float32(3)), number)
    draft.outputs = [draft.binary("add", scaled, Constant.of(np.ones((), np.float32)), number)]
    check_shapes(draft, draft.nodes)
    made = fold(normalise(draft, layout=layout))
    assert kinds(made) == {"mean": 1, "scale": 1, "shift": 1}
    (value,) = evaluate(made, [np.arange(6.0).reshape(2, 3)])
    assert value == 8.5


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(1, 14))
def test_no_pass_changes_what_a_random_draft_computes(seed, steps):
    draft = random_drafts.RandomDraft(seed, steps).draft
    given_inputs = inputs_of(draft)
    expected = evaluate(draft, given_inputs)
    laid_out = normalise(draft, layout="inner")
    folded = fold(laid_out)
    for new in (laid_out, folded, fold(draft)):
        assert all(map(close, evaluate(new, given_inputs), expected))
        new.finish(weights=True)
    assert kinds(remove_dead(laid_out))["transpose"] <= kinds(remove_dead(draft))["transpose"]
    assert fold(folded).nodes == folded.nodes


@settings(max_examples=75, deadline=None)
@given(seeds, st.integers(0, 8))
def test_a_network_is_the_same_graph_channels_first_and_channels_last(seed, steps):
    first = random_drafts.Network(seed, steps, first=True)
    last = random_drafts.Network(seed, steps, first=False)
    normalised = normalise(first.draft)
    (image,) = inputs_of(last.draft)
    (expected,) = evaluate(last.draft, [image])
    (made,) = evaluate(first.draft, [image.transpose(0, 3, 1, 2)])
    assert close(made if made.ndim == 2 else made.transpose(0, 2, 3, 1), expected)
    a, b = fold(normalised), fold(normalise(last.draft))
    assert close(evaluate(a, [image])[0], expected)
    assert close(evaluate(b, [image])[0], expected)
    assert a.finish().graph == b.finish().graph


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 14))
def test_only_the_layout_of_images_changes_at_the_border(seed, steps):
    draft = random_drafts.RandomDraft(seed, steps).draft
    given_inputs = inputs_of(draft)
    new = fold(normalise(draft))
    made = evaluate(new, laid(given_inputs, draft, new))
    for array, expected in zip(made, evaluate(draft, given_inputs), strict=True):
        assert close(array, expected) or close(array, expected.transpose(channels_last(expected.ndim)))


def test_a_file_whose_transposes_run_keeps_them():
    draft = random_drafts.Network(3, 6, first=True).draft
    assert kinds(normalise(draft, layout="kept")) == kinds(draft)
    assert normalise(draft, layout="inner").types[0] == draft.types[0]
    free = normalise(draft)
    assert kinds(free)["transpose"] < kinds(draft)["transpose"]
    assert free.types[0].shape == random_drafts.Network(3, 6, first=False).shape
