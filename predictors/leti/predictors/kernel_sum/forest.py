"""Random forests that correct the prices of kernels, a forest a family, learnt from kernels measured one by one.

Breiman, "Random Forests" (2001), as nn-Meter uses them; but of the logarithm of what a kernel took over its price, so
that beyond the kernels measured it is still the price that grows with the work. Kept as plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from leti.core.codec import Json
from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.predictors.batch import Ints, Matrix, Vector
from leti.predictors.calibrated import Arrays
from leti.predictors.kernel_sum.costs import Kernels
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np

TREES: Final = 30
MIN_KERNELS: Final = 40
"""Fewest different kernels of a family that a forest is grown from."""

_TRIAL_TREES: Final = 8
"""Trees of a forest that is only grown to see whether one helps."""

_GAIN: Final = 0.95
"""A forest is kept where it errs less than this share of what the price alone does, on kernels kept apart."""

_FEATURE, _THRESHOLD, _LEFT, _RIGHT, _VALUE = range(5)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Trees as one table of ``nodes`` (nodes, 5): feature (-1 in a leaf), threshold, both children, value.

    ``roots`` (trees,) are the numbers of the first nodes; a child's number is above its parent's.
    """

    nodes: Matrix
    roots: Ints

    @classmethod
    def grow(cls, rows: Matrix, targets: Vector, *, seed: int, trees: int = TREES) -> Forest:
        """Learn targets ``(n,)`` from rows ``(n, columns)``."""
        with needs("boosting"):
            from sklearn.ensemble import RandomForestRegressor
        grown = RandomForestRegressor(trees, min_samples_leaf=2, max_features=0.6, random_state=seed % 2**32)
        grown.fit(rows.astype(np.float32), targets)
        tables, roots, before = [], [], 0
        for tree in (estimator.tree_ for estimator in grown.estimators_):
            leaf = tree.children_left < 0
            table = np.column_stack(
                [
                    np.where(leaf, -1, tree.feature),
                    np.where(leaf, 0.0, tree.threshold),
                    np.where(leaf, 0, tree.children_left + before),
                    np.where(leaf, 0, tree.children_right + before),
                    tree.value[:, 0, 0],
                ]
            )
            tables.append(table.astype(np.float64))
            roots.append(before)
            before += len(table)
        return cls(np.vstack(tables), np.array(roots, dtype=np.int64))

    def predict(self, rows: Matrix) -> Vector:
        """Return the mean of the trees for rows ``(n, columns)``, ``(n,)``."""
        seen = rows.astype(np.float32).astype(np.float64)  # thresholds lie between values of single precision
        node = np.tile(self.roots, (len(rows), 1))
        feature = self.nodes[:, _FEATURE].astype(np.int64)
        children = self.nodes[:, [_LEFT, _RIGHT]].astype(np.int64)
        while np.any(inner := feature[node] >= 0):
            row, tree = np.nonzero(inner)
            here = node[row, tree]
            right = seen[row, feature[here]] > self.nodes[here, _THRESHOLD]
            node[row, tree] = children[here, right.astype(np.int64)]
        mean: Vector = self.nodes[node, _VALUE].mean(axis=1)
        return mean

    @classmethod
    def read(cls, nodes: Matrix, roots: Vector, columns: int) -> Forest:
        """Return a forest of arrays that were saved; raise ``ArtifactError`` where they are none."""
        numbers = np.arange(len(nodes))
        if nodes.ndim != 2 or nodes.shape[1:] != (5,) or roots.ndim != 1 or not np.all(np.isfinite(nodes)):
            raise ArtifactError("is not a table of nodes", field="forest")
        inner = nodes[:, _FEATURE] >= 0
        children = nodes[inner][:, [_LEFT, _RIGHT]]
        if (
            not len(roots)
            or not np.all((roots >= 0) & (roots < len(nodes)))
            or not np.all(nodes[:, _FEATURE] < columns)
            or not np.all((children > numbers[inner][:, None]) & (children < len(nodes)))
        ):
            raise ArtifactError("has nodes that lead nowhere", field="forest")
        return cls(nodes, roots.astype(np.int64))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Forests:
    """Forests by the number of the family that they correct."""

    by_family: Mapping[int, Forest]

    @classmethod
    def grow(cls, kernels: Kernels, measured: Ints, ratios: Vector, *, seed: int) -> Forests:
        """Grow a forest for each family where that helps.

        ``measured`` are the numbers of the distinct kernels that were, ``ratios`` what each took over its price.
        """
        found = {}
        for family in np.unique(kernels.families[measured]).tolist():
            of_family = kernels.families[measured] == family
            if family < 0 or of_family.sum() < MIN_KERNELS:
                continue
            rows, targets = _rows(kernels, measured[of_family]), np.log(ratios[of_family])
            if _helps(rows, targets, seed):
                found[family] = Forest.grow(rows, targets, seed=seed)
        return cls(found)

    def factors(self, kernels: Kernels) -> Vector:
        """Return what the price of each distinct kernel is multiplied by, ``(distinct,)``."""
        factors = np.ones(len(kernels.costs))
        for family, forest in self.by_family.items():
            members = np.flatnonzero(kernels.families == family)
            if len(members):
                factors[members] = np.exp(forest.predict(_rows(kernels, members)))
        return factors

    def to_arrays(self) -> Arrays:
        """Return the arrays of all forests by name."""
        return {
            f"{name}{family}": array.astype(np.float64)
            for family, forest in self.by_family.items()
            for name, array in (("nodes", forest.nodes), ("roots", forest.roots))
        }

    def to_json(self) -> Json:
        """Return the numbers of the families."""
        return sorted(self.by_family)

    @classmethod
    def read(cls, data: Json, arrays: Arrays, families: int, columns: int) -> Forests:
        """Return forests of what was saved; raise ``ArtifactError`` where they are none."""
        if not isinstance(data, list) or not all(type(n) is int and 0 <= n < families for n in data):
            raise ArtifactError("must be numbers of families", field="forests")
        return cls({n: Forest.read(arrays[f"nodes{n}"], arrays[f"roots{n}"], columns) for n in data})


def _rows(kernels: Kernels, members: Ints) -> Matrix:
    rows: Matrix = np.log1p(kernels.costs[members])
    return rows


def _helps(rows: Matrix, targets: Vector, seed: int) -> bool:
    """Return whether a forest errs clearly less than the price alone on kernels that it has not seen."""
    with_forest = np.empty(len(targets))
    for rest, fold in cross_splits(range(len(targets)), 3, seed=seed):
        forest = Forest.grow(rows[rest], targets[rest], seed=seed, trees=_TRIAL_TREES)
        with_forest[fold] = targets[fold] - forest.predict(rows[fold])
    return float(np.abs(with_forest).mean()) < _GAIN * float(np.abs(targets).mean())
