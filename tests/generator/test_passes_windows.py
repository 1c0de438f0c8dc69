"""Windows of one and of three dimensions, which files write as windows of two between reshapes."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")
import numpy as np
from evaluator import evaluate

from leti.core.graph import TensorType
from leti.generator.importers.draft import Constant, Draft
from leti.generator.importers.passes import fold, normalise

Shape = tuple[int, ...]


def place(draft: Draft, kind: str, value: int, shape: Shape, weights=(), **attributes) -> int:
    return draft.place(kind, (value,), TensorType(shape), weights=weights, **attributes)


def folded(draft: Draft, value: int) -> Draft:
    """Fold a draft, and check that it computes the same."""
    draft.outputs = [value]
    new = fold(normalise(draft))
    x = np.random.default_rng(0).standard_normal(draft.types[0].shape)
    np.testing.assert_allclose(evaluate(new, [x])[0], evaluate(draft, [x])[0], rtol=1e-5, atol=1e-6)
    return new


def row(kind: str, kernel: Shape, made: Shape, padding: object, line: Shape = (2, 1, 9, 4), **more) -> Draft:
    draft = Draft()
    value = place(draft, "reshape", draft.input(TensorType((2, 9, 4))), line)
    filters = np.random.default_rng(1).standard_normal((5, *kernel, 4)).astype(np.float32)
    weights = (Constant.of(filters), Constant.of(np.ones(5, np.float32))) if kind == "conv2d" else ()
    window = {"kernel": kernel, "strides": (1, 2), "padding": padding, **more}
    value = place(draft, kind, value, made, weights, **window)
    return folded(draft, place(draft, "reshape", value, (2, made[1] * made[2], made[3])))


@pytest.mark.parametrize(
    ("padding", "size", "kept"), [("same", 5, "same"), ("valid", 4, "valid"), ((0, 0, 0, 1), 4, (0, 1))]
)
@pytest.mark.parametrize(("kind", "channels"), [("conv2d", 5), ("avg_pool2d", 4), ("max_pool2d", 4)])
def test_a_window_over_one_line_is_one_over_a_row(kind, channels, padding, size, kept):
    (node,) = row(kind, (1, 3), (2, 1, size, channels), padding).nodes
    assert (node.kind, node.integers("kernel"), node.integers("strides")) == (f"{kind[:-2]}1d", (3,), (2,))
    assert node.attribute("padding") == kept


@pytest.mark.parametrize(
    ("kernel", "made", "padding", "line"),
    [
        ((1, 3), (2, 3, 2, 4), "same", (2, 3, 3, 4)),  # over three lines
        ((3, 3), (2, 1, 5, 4), "same", (2, 1, 9, 4)),  # which looks above the line and below
        ((1, 3), (2, 3, 5, 4), (1, 1, 1, 1), (2, 1, 9, 4)),  # which makes more of them
    ],
)
def test_other_windows_between_reshapes_stay(kernel, made, padding, line):
    kinds = [node.kind for node in row("max_pool2d", kernel, made, padding, line).nodes]
    assert kinds == ["reshape", "max_pool2d", "reshape"]


def column(kind: str, *, width: int, kernel: Shape) -> Draft:
    """Place pools over (2, 6, 5, 4, 3): over height and width, then over depth, ``width`` wide."""
    draft = Draft()
    value = place(draft, "reshape", draft.input(TensorType((2, 6, 5, 4, 3))), (12, 5, 4, 3))
    value = place(draft, kind, value, (12, 3, 2, 3), kernel=(3, 2), strides=(2, 2), padding="same")
    value = place(draft, "reshape", value, (2, 6, 6, 3))
    value = place(draft, kind, value, (2, 5, 7 - width, 3), kernel=kernel, strides=(1, 1), padding="valid")
    return folded(draft, place(draft, "reshape", value, (2, 5 * (7 - width), 3)))


@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
def test_a_pool_over_images_and_one_over_their_depth_are_a_pool_of_three_dimensions(kind):
    window, last = column(kind, width=1, kernel=(2, 1)).nodes
    assert (window.kind, last.kind) == (f"{kind[:-2]}3d", "reshape")
    assert window.attributes["kernel"] == (2, 3, 2)
    assert window.attributes["padding"] == (0, 0, 1, 1, 0, 0)


def test_a_pool_that_looks_to_the_side_is_not_one_over_the_depth():
    kinds = [node.kind for node in column("max_pool2d", width=2, kernel=(2, 2)).nodes]
    assert kinds == ["reshape", "max_pool2d", "reshape", "max_pool2d", "reshape"]
