"""Distance: how far a network lies from those that a predictor learnt from.

Mahalanobis's distance ("On the generalised distance in statistics", 1936) over coarse logarithmic features: the totals
of a graph and how often each kind of operator stands in it. It is told in units of what is usual: 99 % of the training
networks lie within 1 of the others. An interval is calibrated on networks like those of the training; far away from
them it promises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

from leti.core.extras import needs
from leti.core.parts import Part
from leti.predictors.batch import Batch, Ints, Matrix, Vector
from leti.predictors.division import Table, added_up
from leti.predictors.part_sums import in_two_ways

with needs("boosting"):
    import numpy as np

_USUAL = 0.99
_SHRINKAGE = 0.05
"""Share of the covariance's diagonal that is added to it: what never varied together is not taken as a law."""

_LEAST_DEVIATION = 0.05
"""No feature is told apart more finely than 5 %: what training held constant may still differ by a little."""


_TOTALS = 6
_PEAK, _INPUTS = 3, 4
"""Columns of peak memory and elements of the inputs among the totals: no sums over parts."""


@final
@dataclass(frozen=True)
class Distance:
    """The kinds of operator that are counted, the centre of the features ``(d,)``, what makes their covariance one.

    ``whitening`` is ``(d, d)``; a distance of ``usual`` is told as 1. The last count is of all other kinds.
    """

    kinds: tuple[str, ...]
    centre: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    usual: float

    @classmethod
    def of(cls, batch: Batch) -> Distance:
        """Return the distance from the graphs of a batch, two or more."""
        kinds = tuple(sorted({kernel.kind for kernel in batch.kernels}))
        rows = _logarithms(batch, kinds)
        n = len(rows)
        centre = rows.mean(axis=0)
        covariance = np.cov(rows, rowvar=False, ddof=1)
        diagonal = np.diag_indices_from(covariance)
        covariance[diagonal] += _SHRINKAGE * covariance[diagonal] + _LEAST_DEVIATION**2
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
        squared = np.sum(((rows - centre) @ whitening) ** 2, axis=1)
        # Each network's distance from the others alone, in closed form (the covariance without it has rank one less).
        left = np.maximum((n - 1) ** 2 - n * squared, 1.0)
        apart = np.sqrt(n**2 * max(n - 2, 1) * squared / ((n - 1) * left))
        usual = max(float(np.quantile(apart, _USUAL)), 1e-9)
        return cls(kinds, tuple(centre.tolist()), tuple(map(tuple, whitening.tolist())), usual)

    def measure(self, batch: Batch) -> Vector:
        """Return the distance of each graph, ``(graphs,)``."""
        counts = in_two_ways(batch, self._added, lambda others: _counts(others, self.kinds))
        centre, whitening = self._arrays
        off = (np.log1p(counts) - centre) @ whitening
        distance: Vector = np.sqrt(np.einsum("ij,ij->i", off, off)) / self.usual
        return distance

    @cached_property
    def _arrays(self) -> tuple[Vector, Matrix]:
        return np.asarray(self.centre), np.asarray(self.whitening)

    @cached_property
    def _table(self) -> Table[Part]:
        """What each part adds."""
        return Table(_TOTALS + len(self.kinds) + 1, 0)

    def _describe(self, batch: Batch) -> tuple[Matrix, Ints]:
        return _counts(batch, self.kinds), np.empty((len(batch), 0), dtype=np.int64)

    def _added(self, batch: Batch) -> Matrix:
        division = batch.division
        table, _, numbers = self._table.look_up(division.parts, lambda parts: self._describe(batch.of_parts(parts)))
        counts = added_up(table, numbers[division.codes], division.times, division.starts)
        counts[:, _PEAK] = batch.peak_memory_bytes
        counts[:, _INPUTS] = batch.input_elements
        return counts


def _logarithms(batch: Batch, kinds: tuple[str, ...]) -> Matrix:
    """Return logarithms of totals and of counts by kind, ``(graphs, 6 + len(kinds) + 1)``."""
    return np.log1p(_counts(batch, kinds))


def _counts(batch: Batch, kinds: tuple[str, ...]) -> Matrix:
    """Return totals and counts by kind, ``(graphs, 6 + len(kinds) + 1)``; also of parts of graphs."""
    place = {kind: i for i, kind in enumerate(kinds)}
    width = len(kinds) + 1
    column = np.array([place.get(kernel.kind, len(kinds)) for kernel in batch.kernels], dtype=np.int64)
    counts = np.bincount(batch.kernel_graphs * width + column[batch.numbers], minlength=len(batch) * width)
    costs = [
        np.bincount(batch.kernel_graphs, weights=batch.cost(cost)[batch.numbers], minlength=len(batch))
        for cost in ("macs", "params", "traffic_bytes")
    ]
    return np.column_stack([*costs, batch.whole, counts.reshape(len(batch), width)]).astype(np.float64)
