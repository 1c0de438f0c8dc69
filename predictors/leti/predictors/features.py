"""Features: batches of graphs become rows of numbers, by the same code for training and for serving.

A graph is taken apart into *kernels* (:mod:`leti.predictors.batch`). Latency on one platform is close to a sum over
kernels, so a row counts them at three grains, beside the totals of the whole graph: the kind of operator (``conv2d``),
the family (kind and attributes of every operator in the kernel, shapes left out), and the kernel with all its shapes.
The coarse grains say something about a kernel that training never saw; the fine one is exact where it did.

What the sum misses is how kernels follow each other: a runtime that runs branches side by side is as slow as the
longest path, and a kernel whose input was just written finds it in the cache. So a row also has the longest paths by
several measures, which family reads from which, and how many readers an output has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

from leti.core.extras import needs
from leti.predictors.batch import Batch, Ints, Matrix, Vector

with needs("boosting"):
    import numpy as np

TOTALS = ("macs", "params", "traffic_bytes", "peak_memory_bytes", "input_elements", "operators", "kernels", "width")
"""Columns of the whole graph; ``width`` counts the kernels that stand side by side at most."""

PATHS = ("kernels", "macs", "traffic_bytes", "macs + 4 bytes", "macs + 16 bytes", "macs + 64 bytes")
"""Columns of longest paths: each is the largest sum along any path. The last three add what moving data may cost."""

_Name = TypeVar("_Name", str, tuple[str, str])

COSTS = ("count", "macs", "traffic_bytes")
"""Columns of each kind and of each family."""

MAX_READERS = 4
"""Outputs read this often or more are counted together."""


@final
@dataclass(frozen=True, slots=True)
class FeatureMap:
    """Which columns a row has beside :data:`TOTALS`: what training had, by name. Without arguments: the totals alone.

    ``pairs`` are two families, the second of which reads what the first writes.
    """

    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    paths: bool = False

    @classmethod
    def learn(cls, batch: Batch, *, min_graphs: int = 3, max_columns: int = 512) -> FeatureMap:
        """Return columns for the kernels of a batch.

        A kernel or pair gets a column where at least ``min_graphs`` graphs have it (less tells nothing that its family
        does not): the most widespread first, at most ``max_columns`` of either.
        """
        name = [kernel.name for kernel in batch.kernels]
        family = [kernel.family for kernel in batch.kernels]
        kinds = {kernel.kind for kernel in batch.kernels}
        families = set(family) - kinds  # a lone operator without attributes is named by its kind
        size = len(batch.kernels)
        pair = batch.edge_writers * size + batch.edge_readers
        pairs = ((graph, (family[p // size], family[p % size])) for graph, p in _distinct(batch.edge_graphs, pair))
        kernels = ((graph, name[k]) for graph, k in _distinct(batch.kernel_graphs, batch.kernel_numbers))
        return cls(
            tuple(sorted(kinds)),
            tuple(sorted(families)),
            _widespread(kernels, min_graphs, max_columns),
            _widespread(pairs, min_graphs, max_columns),
            paths=True,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""
        readers = [f"{n} readers: {name}" for name in self._coarse for n in range(2, MAX_READERS + 1)]
        return (
            *TOTALS,
            *(f"path: {name}" for name in PATHS if self.paths),
            *(f"{cost}: {name}" for cost in COSTS for name in self._coarse),
            *readers,
            *(f"count: {name}" for name in self.kernels),
            *(f"pair: {writer} > {reader}" for writer, reader in self.pairs),
        )

    @property
    def _coarse(self) -> tuple[str, ...]:
        return (*self.kinds, *self.families)

    def rows(self, batch: Batch) -> Matrix:
        """Return features ``(graphs, len(names))``; what has no column is still in the totals and paths."""
        parts = [_totals(batch)]
        if self.paths:
            parts.append(_longest_paths(batch))
        if self.kinds:
            parts.extend(self._coarse_parts(batch))
        if self.kernels:
            column = _columns((kernel.name for kernel in batch.kernels), self.kernels)
            parts.append(_tally(batch, batch.kernel_graphs, column[batch.kernel_numbers], len(self.kernels)))
        if self.pairs:
            parts.append(self._pair_part(batch))
        return np.hstack(parts)

    def _coarse_parts(self, batch: Batch) -> list[Matrix]:
        """Return counts and costs, then fan-outs, of kinds and of families."""
        counts, fans = [], []
        readers = np.minimum(batch.kernel_readers, MAX_READERS) - 2
        costs = (None, batch.cost("macs"), batch.cost("traffic_bytes"))
        grains = [(self.kinds, [kernel.kind for kernel in batch.kernels])]
        if self.families:
            grains.append((self.families, [kernel.family for kernel in batch.kernels]))
        for known, names in grains:
            column = _columns(names, known)[batch.kernel_numbers]
            counts.append([_tally(batch, batch.kernel_graphs, column, len(known), weights=cost) for cost in costs])
            fan = np.where((column >= 0) & (readers >= 0), column * (MAX_READERS - 1) + readers, -1)
            fans.append(_tally(batch, batch.kernel_graphs, fan, len(known) * (MAX_READERS - 1)))
        return [part for by_cost in zip(*counts, strict=True) for part in by_cost] + fans

    def _pair_part(self, batch: Batch) -> Matrix:
        number = {name: i for i, name in enumerate(self._coarse)}
        family = np.array([number.get(kernel.family, len(number)) for kernel in batch.kernels], dtype=np.int64)
        table = np.full((len(number) + 1, len(number) + 1), -1, dtype=np.int64)
        for i, (writer, reader) in enumerate(self.pairs):
            table[number[writer], number[reader]] = i
        column = table[family[batch.edge_writers], family[batch.edge_readers]]
        return _tally(batch, batch.edge_graphs, column, len(self.pairs))


def _totals(batch: Batch) -> Matrix:
    levels = batch.longest(np.ones((len(batch.kernels), 1)))[batch.kernel_ends, 0].astype(np.int64)
    deepest = int(levels.max(initial=0)) + 1
    side_by_side = np.bincount(batch.kernel_graphs * deepest + levels, minlength=len(batch) * deepest)
    one = np.zeros(len(batch.kernel_graphs), dtype=np.int64)
    return np.column_stack(
        [
            *(
                _tally(batch, batch.kernel_graphs, one, 1, weights=batch.cost(name))
                for name in ("macs", "params", "traffic_bytes")
            ),
            batch.whole,
            np.bincount(batch.kernel_graphs, minlength=len(batch)),
            side_by_side.reshape(len(batch), deepest).max(axis=1, initial=0),
        ]
    ).astype(np.float64)


def _longest_paths(batch: Batch) -> Matrix:
    """Return the longest path of each graph by each of :data:`PATHS`, ``(graphs, len(PATHS))``."""
    macs, traffic = (
        np.array([getattr(kernel, name) for kernel in batch.kernels], dtype=np.float64)
        for name in ("macs", "traffic_bytes")
    )
    ones = np.ones(len(batch.kernels))
    costs = [ones, macs, traffic, macs + 4 * traffic, macs + 16 * traffic, macs + 64 * traffic]
    reached = batch.longest(np.column_stack(costs))
    result: Matrix = np.zeros((len(batch), len(PATHS)))
    if len(reached):
        held = np.flatnonzero(batch.lengths)
        result[held] = np.maximum.reduceat(reached, batch.starts[held], axis=0)
    return result


def _tally(batch: Batch, graphs: Ints, columns: Ints, width: int, *, weights: Vector | None = None) -> Matrix:
    """Return sums of ``weights`` (or counts) by graph and column, ``(graphs, width)``; a column of -1 is left out."""
    known = columns >= 0
    place = graphs[known] * width + columns[known]
    summed = np.bincount(place, weights=None if weights is None else weights[known], minlength=len(batch) * width)
    return summed.reshape(len(batch), width).astype(np.float64)


def _columns(names: Iterable[str], known: Sequence[str]) -> Ints:
    """Return each name's place in ``known``, or -1."""
    place: Mapping[str, int] = {name: i for i, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in names], dtype=np.int64)


def _distinct(graphs: Ints, numbers: Ints) -> list[tuple[int, int]]:
    """Return the distinct pairs of graph and number."""
    width = int(numbers.max(initial=0)) + 1
    return [(int(both) // width, int(both) % width) for both in np.unique(graphs * width + numbers)]


def _widespread(found: Iterable[tuple[int, _Name]], at_least: int, at_most: int) -> tuple[_Name, ...]:
    """Return the names that most graphs have, sorted."""
    spread = Counter(item for _, item in set(found))
    common = sorted((item for item, n in spread.items() if n >= at_least), key=lambda item: (-spread[item], item))
    return tuple(sorted(common[:at_most]))
