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
from typing import NamedTuple, final

from leti.core.extras import needs
from leti.predictors.batch import FEW, Batch, Ints, Kernel, Matrix, Vector
from leti.predictors.division import Table
from leti.predictors.part_sums import Borders, PartSums

with needs("boosting"):
    import numpy as np
    from scipy.sparse import csr_matrix

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

_WHOLE = slice(4, 7)
"""Columns of :data:`TOTALS` that are no sums over kernels: those of :attr:`~leti.predictors.batch.Batch.whole`."""

_SHARES = 11
"""Columns that a kernel adds to: four totals, what three costs of its kind and of its family add up to, its count."""


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
        told = self._told(batch)
        paths, on_path = _paths(batch)
        rows = _summed(batch, told.weights, told.columns, self.borders.columns)
        rows[:, _WHOLE] = batch.whole
        rows[:, len(TOTALS) : len(TOTALS) + len(PATHS)] = paths
        coarse, steps = self.borders.coarse, MAX_READERS - 1
        groups, graphs = told.groups[batch.numbers], batch.kernel_graphs
        rows[:, len(TOTALS) + len(PATHS) : self.borders.sums] = _counts(graphs[on_path], groups[on_path], rows, coarse)
        extra = np.bincount(batch.writers, minlength=len(graphs)) - 2
        read = (extra >= 0).nonzero()[0]
        several = groups[read] * steps + np.minimum(extra[read], steps - 1)[:, None]
        readers = slice(self.borders.readers, self.borders.readers + coarse * steps)
        rows[:, readers] = _counts(graphs[read], several, rows, coarse * steps)
        if self.pairs:
            family = told.family[batch.numbers]
            pair = self._pair_table[family[batch.writers], family[batch.readers]]
            known = (pair >= 0).nonzero()[0]
            pairs = _counts(graphs[batch.writers[known]], pair[known, None], rows, len(self.pairs))
            rows[:, self.borders.pairs :] = pairs
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
        told = self._told(batch)
        return told.kind, told.family

    def _told(self, batch: Batch) -> _Told:
        rows, marks, numbers = self._kernels.look_up(batch.kernels, self._describe)
        marks = marks[numbers]
        return _Told(rows[numbers], marks[:, :_SHARES], marks[:, _SHARES:-2], marks[:, -2], marks[:, -1])

    @cached_property
    def _kernels(self) -> Table[Kernel]:
        return Table(_SHARES, _SHARES + 4)

    def _describe(self, kernels: Sequence[Kernel]) -> tuple[Matrix, Ints]:
        """Return what a kernel adds, and to which columns, then its groups, kind and family, see :class:`_Told`."""
        kinds, families, names = self._places
        borders, none, own = self.borders, self.borders.columns, len(self.kinds)
        named = borders.readers + (MAX_READERS - 1) * borders.coarse
        rows, marks = [], []
        for of in kernels:
            kind, family = kinds.get(of.kind, own), families.get(of.family, borders.coarse)
            costs = of.macs, of.traffic_bytes
            rows.append((of.macs, of.params, of.traffic_bytes, 1, 1, *costs, 1, *costs, 1))
            place, step = (borders.sums + kind, own) if kind < own else (none, 0)
            columns = [0, 1, 2, 3, place, place + step, place + 2 * step]
            finer = own <= family < borders.coarse
            place, step = (borders.sums + 2 * own + family, len(self.families)) if finer else (none, 0)
            columns += [place, place + step, place + 2 * step]
            columns.append(named + names[of.name] if of.name in names else none)
            groups = kind if kind < own else borders.coarse, family if finer else borders.coarse
            marks.append((*columns, *groups, kind, family))
        return np.array(rows, dtype=np.float64), np.array(marks, dtype=np.int64)

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


class _Told(NamedTuple):
    """What there is to say of each of d distinct kernels, wherever it stands.

    It adds ``weights`` to these ``columns``, both ``(d, 11)``; one column too far is that of what has none. ``groups``
    (d, 2) are its kind and its family among all coarse names, or their number. ``kind`` and ``family`` (d,) are numbers
    of their own; the last one of either is not known, and a family may be no more than its kind.
    """

    weights: Matrix
    columns: Ints
    groups: Ints
    kind: Ints
    family: Ints


def _summed(batch: Batch, weights: Matrix, columns: Ints, width: int) -> Matrix:
    """Return ``(graphs, width)``: what the kernels of each graph add; see :class:`_Told`. All are whole numbers."""
    distinct, count = len(weights), len(batch)
    if count <= FEW:
        flat = np.zeros(distinct * (width + 1))
        flat[columns + np.arange(0, len(flat), width + 1)[:, None]] = weights
        times = np.bincount(batch.kernel_graphs * distinct + batch.numbers, minlength=count * distinct)
        few: Matrix = times.reshape(count, distinct) @ flat.reshape(distinct, width + 1)
        return few[:, :width]
    ends = np.append(batch.starts, len(batch.numbers))
    times = csr_matrix((np.ones(len(batch.numbers)), batch.numbers, ends), shape=(count, distinct))
    starts = np.arange(0, columns.size + 1, columns.shape[1])
    added = csr_matrix((weights.ravel(), columns.ravel(), starts), shape=(distinct, width + 1))
    many: Matrix = (times @ added).toarray()[:, :width]
    return many


def _counts(graphs: Ints, columns: Ints, like: Matrix, width: int) -> Ints:
    """Return how often each of ``width`` columns (n, some) is named of each graph (n,), as many as ``like`` has rows.

    What is named beyond the last column is not counted.
    """
    most = int(columns.max(initial=width)) + 1
    flat = np.bincount((graphs[:, None] * most + columns).ravel(), minlength=len(like) * most)
    return flat.reshape(len(like), most)[:, :width]


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
    costs = [macs, traffic, macs + 4 * traffic, macs + 64 * traffic, macs + 16 * traffic + tie]
    columns = np.empty((len(batch), len(PATHS)))
    columns[:, 1:-1], on_path = batch.longest(np.array(costs).T)
    columns[:, 0] = [outline.depth for outline in batch.outlines]
    columns[:, -1] = [outline.breadth for outline in batch.outlines]
    return columns, on_path


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
