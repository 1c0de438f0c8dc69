"""Prices of kernels, solved from sums of them: from the coarse to the fine, each held to the coarser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from leti.core.extras import needs
from leti.predictors.batch import Ints, Matrix, Vector
from leti.predictors.kernel_sum.costs import Kernels
from leti.predictors.kernel_sum.robust import fit_prices

with needs("boosting"):
    import numpy as np
    from scipy import sparse

if TYPE_CHECKING:
    Counts = Any  # a scipy.sparse.csr_array, which has no types

_SHARED: Final = 1e-6
"""How hard the prices of all kernels are held to nothing: only so hard that there is one answer."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Ms for each of a kernel's costs: ``table`` (1 + kinds + families, costs), of all kernels, a kind, a family."""

    table: Matrix
    kinds: int

    def of(self, kernels: Kernels) -> Vector:
        """Return the price of each distinct kernel, ``(distinct,)`` in ms."""
        row = np.where(kernels.families >= 0, 1 + self.kinds + kernels.families, 1 + kernels.kinds)
        prices: Vector = np.sum(kernels.costs * self.table[row], axis=1)
        return prices


def solve_prices(
    counts: Counts, latencies_ms: Vector, kernels: Kernels, shape: tuple[int, int], strength: float, *, overhead: bool
) -> tuple[Prices, float]:
    """Return prices of kernels, and an overhead in ms, from how long sums of kernels took.

    ``counts`` (n, distinct) says which of the distinct kernels stand in each sum and how often, ``latencies_ms`` (n,)
    how long it took; ``shape`` is how many kinds and families there are. Without ``overhead`` it is zero.
    """
    kinds, families = shape
    everything = np.zeros(len(kernels.kinds), dtype=np.int64)
    # The finest grain has a group a family, and a group a kind for its kernels that are of no family.
    finest = np.where(kernels.families >= 0, kinds + kernels.families, kernels.kinds)
    kind_of = np.arange(kinds + families)
    kind_of[finest] = kernels.kinds
    table = np.zeros((1, kernels.costs.shape[1]))
    least = 0.0
    found = []
    grains = (
        (everything, np.zeros(1, dtype=np.int64), _SHARED),
        (kernels.kinds, np.zeros(kinds, dtype=np.int64), strength),
        (finest, kind_of, strength),
    )
    for groups, coarser, held in grains:
        prior = np.append(table[coarser], least)
        rows = _charged(counts, kernels.costs, groups, len(coarser))
        free = 1 if overhead else 0
        if overhead:
            rows = np.column_stack([rows, np.ones(len(rows))])
        solved = fit_prices(rows, latencies_ms, prior[: rows.shape[1]], held, free=free)
        table = solved[: len(solved) - free].reshape(len(coarser), -1)
        least = float(solved[-1]) if overhead else 0.0
        found.append(table)
    return Prices(np.vstack([found[0], found[2]]), kinds), least


def _charged(counts: Counts, costs: Matrix, groups: Ints, size: int) -> Matrix:
    """Return the costs of each sum by group of kernels, ``(n, groups * costs)``."""
    width = costs.shape[1]
    rows = np.repeat(np.arange(len(costs)), width)
    columns = (groups[:, None] * width + np.arange(width)).ravel()
    block = sparse.csr_array((costs.ravel(), (rows, columns)), shape=(len(costs), size * width))
    charged: Matrix = (counts @ block).toarray()
    return charged
