"""Forest: XGBoost's trees for a few rows, all trees at once in NumPy.

XGBoost spends some hundred microseconds on a call before it looks at the first row. Here a step down one level is taken
in all trees together, and the leaves are added up one tree after the other in float32, as XGBoost does: the same number
to the last bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from leti.core.extras import needs
from leti.predictors.division import Ints, Matrix, Vector

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

if TYPE_CHECKING:
    from typing import Self

MOST_ROWS: Final = 8
"""Rows up to which this is faster than XGBoost."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Trees as nodes (n): a row goes from a node to ``below[node, 0]`` where its column is less than ``thresholds``.

    ``columns`` (n,) says which column; a leaf leads to itself and holds its ``values`` (n,). ``roots`` is ``(trees,)``,
    ``below`` ``(n, 2)``, flat; ``depth`` is that of the deepest leaf.
    """

    roots: Ints
    columns: Ints
    thresholds: Floats
    below: Ints
    values: Floats
    depth: int

    @classmethod
    def of(cls, booster: Any) -> Self | None:
        """Return the trees of an ``xgboost.Booster``; nothing where they are not plain regression trees."""
        learner = json.loads(booster.save_raw("json"))["learner"]
        gradient = learner["gradient_booster"]
        plain = gradient["name"] == "gbtree" and learner["objective"]["name"] == "reg:squarederror"
        if not plain or _base_score(learner) != 0:
            return None
        roots, columns, thresholds, below, values, depth, first = [], [], [], [], [], 0, 0
        for tree in gradient["model"]["trees"]:
            if any(tree["split_type"]):
                return None
            left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
            numbers, leaf = np.arange(len(left)), left < 0
            conditions = np.array(tree["split_conditions"], dtype=np.float32)
            roots.append(first)
            columns.append(np.where(leaf, 0, np.array(tree["split_indices"])))
            thresholds.append(np.where(leaf, np.float32(0), conditions))
            values.append(np.where(leaf, conditions, np.float32(0)))
            children = np.column_stack([np.where(leaf, numbers, left), np.where(leaf, numbers, right)])
            below.append(children + first)
            depth = max(depth, _depth(children))
            first += len(left)
        if not roots:
            return None
        joined = np.concatenate(thresholds).astype(np.float32), np.concatenate(values).astype(np.float32)
        flat = np.concatenate(below).ravel().astype(np.int64)
        return cls(np.array(roots), np.concatenate(columns).astype(np.int64), joined[0], flat, joined[1], depth)

    def predict(self, rows: Matrix) -> Vector:
        """Return the sum of the leaves ``(rows,)`` that rows ``(rows, columns)`` without NaN come to."""
        seen = rows.astype(np.float32)
        return np.array([self._predict(row) for row in seen], dtype=np.float64)

    def _predict(self, row: Floats) -> float:
        node = self.roots
        for _ in range(self.depth):
            right = row[self.columns[node]] >= self.thresholds[node]
            node = self.below[2 * node + right]
        return float(np.add.accumulate(self.values[node])[-1])


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
