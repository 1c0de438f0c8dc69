"""Forest: boosted trees for a few rows, all trees at once in NumPy.

The libraries spend a hundred microseconds and more on a call before they look at the first row. Here a step down one
level is taken in all trees together, and the leaves are added up one tree after the other in the precision of the
library: the same number to the last bit, or, where the library adds up in another order, all but that.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from leti.core.extras import needs
from leti.predictors.division import Ints, Matrix, Vector

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

if TYPE_CHECKING:
    from typing import Self

MOST_ROWS: Final = 8
"""Rows up to which this is faster than the libraries."""

_NOT_PLAIN: Final = 0b1101
"""What LightGBM says of a split that is by category, or takes zero for missing: bit 0, and bits 2 and 3 being 1."""


@final
class Tree(NamedTuple):
    """One tree as nodes (n): a row goes right where its column is not less than the threshold; leaves have no children.

    Children are numbers of nodes, -1 below a leaf; ``values`` count in leaves. Node 0 is the root.
    """

    columns: Ints
    thresholds: Floats
    left: Ints
    right: Ints
    values: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Trees as places (p), two for each node: a row goes from a place to ``below[place + right]``.

    It goes right where its column, ``columns`` (p,), is not less than ``thresholds`` (p,), in their precision; a leaf
    leads to itself and holds its ``values`` (p,). ``roots`` is ``(trees,)``; ``depth`` is that of the deepest leaf. The
    sum of the leaves, in their precision, is multiplied by ``scale`` and added to ``bias``.
    """

    roots: Ints
    columns: Ints
    thresholds: Floats
    below: Ints
    values: Floats
    depth: int
    scale: float = 1.0
    bias: float = 0.0

    @classmethod
    def of(cls, trees: Sequence[Tree], scale: float = 1.0, bias: float = 0.0) -> Self | None:
        """Return trees, one or more, as a forest; nothing where there are none."""
        if not trees:
            return None
        roots, below, depth, first = [], [], 0, 0
        for tree in trees:
            numbers, leaf = np.arange(len(tree.left)), tree.left < 0
            children = np.column_stack([np.where(leaf, numbers, tree.left), np.where(leaf, numbers, tree.right)])
            roots.append(2 * first)
            below.append(2 * (children + first))
            depth = max(depth, _depth(children))
            first += len(numbers)
        return cls(
            np.array(roots, dtype=np.int64),
            np.concatenate([tree.columns for tree in trees]).astype(np.int64).repeat(2),
            np.concatenate([tree.thresholds for tree in trees]).repeat(2),
            np.concatenate(below).ravel().astype(np.int64),
            np.concatenate([tree.values for tree in trees]).repeat(2),
            depth,
            scale,
            bias,
        )

    def predict(self, rows: Matrix) -> Vector:
        """Return the sum of the leaves ``(rows,)`` that rows ``(rows, columns)`` without NaN come to."""
        seen = rows.astype(self.thresholds.dtype)
        sums = np.array([self._predict(row) for row in seen], dtype=np.float64)
        return sums if self.scale == 1 and self.bias == 0 else sums * self.scale + self.bias

    def _predict(self, row: Floats) -> float:
        place = self.roots
        for _ in range(self.depth):
            right = row.take(self.columns.take(place)) >= self.thresholds.take(place)
            place = self.below.take(place + right)
        return float(np.add.accumulate(self.values.take(place))[-1])


def of_xgboost(booster: Any) -> Forest | None:
    """Return the trees of an ``xgboost.Booster``; nothing where they are not plain regression trees."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    gradient = learner["gradient_booster"]
    plain = gradient["name"] == "gbtree" and learner["objective"]["name"] == "reg:squarederror"
    if not plain or _base_score(learner) != 0:
        return None
    trees = gradient["model"]["trees"]
    if any(any(tree["split_type"]) for tree in trees):
        return None
    return Forest.of([_of_xgboost(tree) for tree in trees])


def _of_xgboost(tree: dict[str, Any]) -> Tree:
    left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
    conditions, leaf = np.array(tree["split_conditions"], dtype=np.float32), left < 0
    none = np.float32(0)
    columns = np.where(leaf, 0, np.array(tree["split_indices"]))
    return Tree(columns, np.where(leaf, none, conditions), left, right, np.where(leaf, conditions, none))


def of_lightgbm(booster: Any) -> Forest | None:
    """Return the trees of a ``lightgbm.Booster``; nothing where they are not plain regression trees."""
    head, *blocks = booster.model_to_string(num_iteration=-1).partition("\nend of trees")[0].split("\nTree=")
    trees = [dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in blocks]
    if "\nobjective=regression\n" not in f"{head}\n" or "\naverage_output" in head:
        return None
    for tree in trees:
        kinds = np.array(tree.get("decision_type", "").split(), dtype=np.int64) & _NOT_PLAIN
        if tree.get("is_linear", "0") != "0" or np.any(kinds & 1) or np.any(kinds == 0b0100):
            return None
    return Forest.of([_of_lightgbm(tree) for tree in trees])


def _of_lightgbm(tree: dict[str, str]) -> Tree:
    """Return a tree of LightGBM's text, which numbers inner nodes and, below zero, leaves."""
    leaves = np.array(tree["leaf_value"].split(), dtype=np.float64)
    inner = len(leaves) - 1
    column, limit, left, right = (
        np.array(tree[name].split() if inner else [], dtype=np.float64)
        for name in ("split_feature", "threshold", "left_child", "right_child")
    )
    ends, none = np.full(len(leaves), -1.0), np.zeros(len(leaves))
    below = [
        np.concatenate([np.where(side < 0, inner - 1 - side, side), ends]).astype(np.int64) for side in (left, right)
    ]
    # A row goes left up to the threshold itself: right from the next number on.
    return Tree(
        np.concatenate([column, none]).astype(np.int64),
        np.concatenate([np.nextafter(limit, np.inf), none]),
        below[0],
        below[1],
        np.concatenate([np.zeros(inner), leaves]),
    )


def of_catboost(booster: Any) -> Forest | None:
    """Return the trees of a ``catboost.CatBoost``; nothing where they are not plain regression trees."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "booster.json"
        booster.save_model(str(file), format="json")
        model = json.loads(file.read_text(encoding="utf-8"))
    scale, biases = model["scale_and_bias"]
    trees = model.get("oblivious_trees", [])
    plain = all(split["split_type"] == "FloatFeature" for tree in trees for split in tree["splits"] or ())
    if not plain or len(biases) != 1 or any(len(tree["leaf_values"]) != 2 ** _levels(tree) for tree in trees):
        return None
    return Forest.of([_of_catboost(tree) for tree in trees], float(scale), float(biases[0]))


def _levels(tree: dict[str, Any]) -> int:
    return len(tree["splits"] or ())


def _of_catboost(tree: dict[str, Any]) -> Tree:
    """Return a tree whose nodes of a level all ask the same: the answers are the bits of a leaf's number."""
    levels, splits = _levels(tree), tree["splits"] or ()
    sizes = 2 ** np.arange(levels)
    inner = 2**levels - 1
    # The node of level l to which the answers p, from the lowest bit on, lead has the number 2**l - 1 + p.
    level, answers = np.arange(levels).repeat(sizes), np.arange(inner) - (sizes - 1).repeat(sizes)
    left = 2 ** (level + 1) - 1 + answers
    ends, none = np.full(inner + 1, -1), np.zeros(inner + 1)
    columns = np.array([split["float_feature_index"] for split in splits], dtype=np.int64)[level]
    borders = np.array([split["border"] for split in splits], dtype=np.float32)[level]
    # A row goes right from above the border: from the next number on.
    above = np.nextafter(borders, np.float32(np.inf))
    return Tree(
        np.concatenate([columns, none]).astype(np.int64),
        np.concatenate([above, none.astype(np.float32)]),
        np.concatenate([left, ends]),
        np.concatenate([left + 2**level, ends]),
        np.concatenate([np.zeros(inner), np.array(tree["leaf_values"], dtype=np.float64)]),
    )


def _depth(below: Ints) -> int:
    """Return the steps from the root to the deepest leaf; ``below`` is ``(nodes, 2)``."""
    leaf = below[:, 0] == np.arange(len(below))
    level, depth = np.array([0]), 0
    while len(inner := level[~leaf[level]]):
        level, depth = below[inner].ravel(), depth + 1
    return depth


def _base_score(learner: dict[str, Any]) -> float:
    """Return what is added to every sum; newer versions write it as a list of one."""
    return float(str(learner["learner_model_param"]["base_score"]).strip("[]"))
