"""Features: batches of graphs become rows of numbers, by the same code for training and for serving.

A graph is taken apart into *kernels* (:mod:`leti.predictors.batch`). Latency on one platform is close to a sum over
kernels, so a row counts them at three grains, beside the totals of the whole graph: the kind of operator (``conv2d``),
the family (kind and attributes of every operator in the kernel, shapes left out), and the kernel with all its shapes.
The coarse grains say something about a kernel that training never saw; the fine one is exact where it did.

What the sum misses is how kernels follow each other: a runtime that runs branches side by side is as slow as the
longest path, and a kernel whose input was just written finds it in the cache. So a row also has the longest paths by
several measures, what stands on the longest, which family reads from which, and how many readers an output has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from leti.core.extras import needs
from leti.predictors.batch import Batch, Ints, Kernel, Matrix, Vector
from leti.predictors.division import Table
from leti.predictors.part_sums import Borders, PartSums

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]

TOTALS = ("macs", "params", "traffic_bytes", "kernels", "peak_memory_bytes", "input_elements", "operators")
"""Columns of the whole graph, the first of every row."""

PATHS = (
    "path: kernels",
    "path: macs",
    "path: traffic_bytes",
    "path: macs + 4 bytes",
    "path: macs + 64 bytes",
    "path: macs + 16 bytes",
    "path: width",
)
"""Columns of longest paths, each the largest sum along any path; the kernels on the longest by ``macs + 16 bytes`` (a
byte moved costs as much as some multiplications) are counted too. ``width`` is the most kernels side by side."""

MAX_READERS = 4
"""Outputs read this often or more are counted together."""


@final
@dataclass(frozen=True)
class FeatureMap:
    """Which columns a row has beside :data:`TOTALS`: what training had, by name. Without arguments: the totals alone.

    A family that is no more than its kind stands among ``kinds``. ``pairs`` are two families, the second of which reads
    what the first writes.
    """

    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def learn(cls, batch: Batch, *, min_graphs: int = 3, max_columns: int = 512) -> FeatureMap:
        """Return columns for the kernels of a batch.

        A kernel or pair gets a column where at least ``min_graphs`` graphs have it (less tells nothing that its family
        does not): the most widespread first, at most ``max_columns`` of either.
        """
        families, family = _numbered([kernel.family for kernel in batch.kernels])
        names, name = _numbered([kernel.name for kernel in batch.kernels])
        kinds = {kernel.kind for kernel in batch.kernels}
        size = len(families)
        pair = family[batch.numbers[batch.writers]] * size + family[batch.numbers[batch.readers]]
        pairs = _widespread(batch.kernel_graphs[batch.writers], pair, min_graphs, max_columns)
        kernels = _widespread(batch.kernel_graphs, name[batch.numbers], min_graphs, max_columns)
        return cls(
            tuple(sorted(kinds)),
            tuple(sorted(set(families) - kinds)),
            tuple(sorted(names[i] for i in kernels)),
            tuple(sorted((families[i // size], families[i % size]) for i in pairs)),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""
        if not self.kinds:
            return TOTALS
        coarse = (*self.kinds, *self.families)
        per_kernel = [
            f"{what}: {name}"
            for known in (self.kinds, self.families)
            for what in ("count", "macs", "traffic_bytes")
            for name in known
        ]
        readers = [f"readers {n}: {name}" for name in coarse for n in range(2, MAX_READERS + 1)]
        return (
            *TOTALS,
            *PATHS,
            *(f"on path: {name}" for name in coarse),
            *per_kernel,
            *readers,
            *(f"count: {name}" for name in self.kernels),
            *(f"pair: {writer} > {reader}" for writer, reader in self.pairs),
        )

    def encode(self, batch: Batch) -> Matrix:
        """Return features ``(graphs, len(names))``; what has no column is still in the totals and paths."""
        sums = self._sums
        if sums.is_full:
            self.__dict__.pop("_sums", None)
        return sums.rows(batch)

    def whole_rows(self, batch: Batch) -> Matrix:
        """Return the same as :meth:`encode`, from all operators of every graph; also for parts of graphs."""
        if not self.kinds:
            return _totals(batch)
        kind, family, name = (column[batch.numbers] for column in self._told(batch))
        graphs, costs = batch.kernel_graphs, [batch.cost(cost)[batch.numbers] for cost in ("macs", "traffic_bytes")]
        readers = np.minimum(np.bincount(batch.writers, minlength=len(graphs)), MAX_READERS) - 2
        paths, on_path = _paths(batch)
        stands = np.zeros(len(graphs), dtype=bool)
        stands[on_path] = True
        rows = np.zeros((len(batch), self.borders.columns))
        tally = _Tally(rows)
        on, sums, read = len(TOTALS) + len(PATHS), self.borders.sums, self.borders.readers
        for column, width in ((kind, len(self.kinds)), (family - len(self.kinds), len(self.families))):
            known = ((column >= 0) & (column < width)).nonzero()[0]
            graph, column, several = graphs[known], column[known], readers[known]
            tally.add(graph[stands[known]], column[stands[known]] + on)
            for number, weights in enumerate((None, *costs)):
                tally.add(graph, column + sums + number * width, None if weights is None else weights[known])
            more = (several >= 0).nonzero()[0]
            tally.add(graph[more], column[more] * (MAX_READERS - 1) + several[more] + read)
            on, sums, read = on + width, sums + 3 * width, read + (MAX_READERS - 1) * width
        known = (name >= 0).nonzero()[0]
        tally.add(graphs[known], name[known] + read)
        pair = self._pair_table[family[batch.writers], family[batch.readers]]
        known = (pair >= 0).nonzero()[0]
        tally.add(graphs[batch.writers[known]], pair[known] + self.borders.pairs)
        rows[:, : len(TOTALS)] = _totals(batch)
        rows[:, len(TOTALS) : len(TOTALS) + len(PATHS)] = paths
        return rows

    @cached_property
    def borders(self) -> Borders:
        """What the columns say of two kernels of which one reads what the other writes."""
        kinds, coarse = len(self.kinds), len(self.kinds) + len(self.families)
        sums = len(TOTALS) + len(PATHS) + coarse
        readers = sums + 3 * coarse
        pairs = readers + (MAX_READERS - 1) * coarse + len(self.kernels)
        return Borders(kinds, coarse, sums, readers, MAX_READERS, pairs, self._pair_table, pairs + len(self.pairs))

    def coarse(self, batch: Batch) -> tuple[Ints, Ints]:
        """Return the kind and family of each distinct kernel, as numbers; the last number is of those not known."""
        kind, family, _ = self._told(batch)
        return kind, family

    def _told(self, batch: Batch) -> Ints:
        """Return the kind, the family and the name of each distinct kernel, ``(3, distinct)``: -1 for other names."""
        _, marks, numbers = self._kernels.look_up(batch.kernels, self._describe)
        return marks[numbers].T

    @cached_property
    def _kernels(self) -> Table[Kernel]:
        return Table(0, 3)

    def _describe(self, kernels: Sequence[Kernel]) -> tuple[Matrix, Ints]:
        kinds, families, names = self._places
        marks = [
            (kinds.get(of.kind, len(kinds)), families.get(of.family, len(families)), names.get(of.name, -1))
            for of in kernels
        ]
        return np.empty((len(marks), 0)), np.array(marks, dtype=np.int64)

    @cached_property
    def _places(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        return _places(self.kinds), _places((*self.kinds, *self.families)), _places(self.kernels)

    @cached_property
    def _sums(self) -> PartSums:
        return PartSums(self)

    @cached_property
    def _pair_table(self) -> Ints:
        """Return the number of each pair of families, -1 where there is none; the last of either is not known."""
        number = {name: i for i, name in enumerate((*self.kinds, *self.families))}
        table = np.full((len(number) + 1, len(number) + 1), -1, dtype=np.int64)
        for i, (writer, reader) in enumerate(self.pairs):
            table[number[writer], number[reader]] = i
        return table


@final
class _Tally:
    """Adds to ``rows`` (graphs, columns) as they are: arrays of all that is added would not fit into the cache."""

    def __init__(self, rows: Matrix) -> None:
        self._columns = rows.shape[1]
        self._flat = rows.reshape(-1)

    def add(self, graphs: Ints, columns: Ints, weights: Vector | None = None) -> None:
        """Add ``weights``, or 1, in these columns of these graphs, all ``(n,)``."""
        np.add.at(self._flat, graphs * self._columns + columns, 1.0 if weights is None else weights)


def _totals(batch: Batch) -> Matrix:
    kernels = batch.numbers
    costs = [_graph_sums(batch, batch.cost(cost)[kernels]) for cost in ("macs", "params", "traffic_bytes")]
    totals = np.empty((len(batch), len(TOTALS)))
    for column, values in enumerate((*costs, batch.lengths)):
        totals[:, column] = values
    totals[:, len(costs) + 1 :] = batch.whole
    return totals


def _paths(batch: Batch) -> tuple[Matrix, Ints]:
    """Return the columns :data:`PATHS` and the kernels that stand on the longest paths by the last measure."""
    macs, traffic = batch.cost("macs"), batch.cost("traffic_bytes")
    # Paths of one length over other kernels are common: a fraction of a MAC by name decides, not the order of nodes.
    tie = np.array([kernel.tie for kernel in batch.kernels])
    costs = [np.ones(len(macs)), macs, traffic, macs + 4 * traffic, macs + 64 * traffic, macs + 16 * traffic + tie]
    reached, before = batch.longest(np.array(costs).T)
    columns = np.zeros((len(batch), len(PATHS)))
    held = batch.lengths.nonzero()[0]
    if not len(held):
        return columns, np.empty(0, dtype=np.int64)
    columns[held, :-1] = np.maximum.reduceat(reached, batch.starts[held], axis=0)
    level = reached[:, 0].astype(np.int64)
    deepest = int(level.max()) + 1
    side_by_side = np.bincount(batch.kernel_graphs * deepest + level, minlength=len(batch) * deepest)
    columns[:, -1] = side_by_side.reshape(len(batch), deepest).max(axis=1)
    return columns, batch.followed(reached[:, -1], before)


def _graph_sums(batch: Batch, weights: Vector) -> Vector:
    sums = np.bincount(batch.kernel_graphs, weights=weights, minlength=len(batch))
    return sums.astype(np.float64)


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def _columns(names: Sequence[str], places: Mapping[str, int]) -> Ints:
    """Return each name's place, or -1."""
    return np.array([places.get(name, -1) for name in names], dtype=np.int64)


def _numbered(names: Sequence[str]) -> tuple[list[str], Ints]:
    """Return the distinct names, sorted, and each name's place among them."""
    distinct = sorted(set(names))
    return distinct, _columns(names, _places(distinct))


def _widespread(graphs: Ints, numbers: Ints, at_least: int, at_most: int) -> list[int]:
    """Return the numbers that stand in the most graphs."""
    if not len(numbers):
        return []
    width = int(numbers.max()) + 1
    spread = np.bincount(np.unique(graphs * width + numbers) % width, minlength=width)
    order = np.argsort(-spread, kind="stable")[:at_most]
    return [int(number) for number in order if spread[number] >= at_least]
