"""Rows of features as sums over the parts of graphs, and over the borders between them.

A part reads one value and makes one, and all its operators lie between the two. So counts and costs add up over the
parts of a graph, and so do the longest paths, which lead through every part from one end to the other; how many kernels
run side by side is the most of any part. Two things reach over a border: the last kernel of a part is read by the first
ones of the next. They are told by the family of the one and the families of the others, and added up likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, final

from leti.core.extras import needs
from leti.core.parts import Part
from leti.predictors.batch import Batch
from leti.predictors.division import Division, Ints, Matrix, Table, added_up

with needs("boosting"):
    import numpy as np
    from scipy.sparse import csr_matrix

PEAK_COLUMN: Final = 4
INPUT_COLUMN: Final = 5
WIDTH_COLUMN: Final = 13
"""Columns of features that are no sums over parts: peak memory, elements of the inputs, most kernels side by side."""

_MOST_ENTRIES: Final = 2**32
_FULL: Final = 2**15
"""Ways to read what enters a part, after which what is remembered is begun anew: search spaces have far fewer."""


_FEW_KEYS: Final = 64
"""Keys that are faster sorted without NumPy."""


def in_two_ways(batch: Batch, divided: Callable[[Batch], Matrix], whole: Callable[[Batch], Matrix]) -> Matrix:
    """Return rows of graphs: those of known parts by ``divided``, the others by ``whole``, which takes none as well."""
    (known, first), (others, second) = batch.sorted_out
    if not len(known):
        return whole(second)
    added = divided(first)
    if not len(others):
        return added
    rows = np.empty((len(batch), added.shape[1]))
    rows[known], rows[others] = added, whole(second)
    return rows


def _numbered(keys: Ints) -> tuple[Ints, Ints]:
    """Return the distinct keys, ascending, and the place of each among them; without sorting where they lie dense."""
    if len(keys) <= _FEW_KEYS:
        listed = keys.tolist()
        distinct = sorted({*listed})
        number = dict(zip(distinct, range(len(distinct)), strict=True))
        return np.array(distinct, dtype=np.int64), np.array([number[key] for key in listed], dtype=np.int64)
    span = int(keys.max(initial=-1)) + 1
    if span > 8 * len(keys):
        return np.unique(keys, return_inverse=True)
    there = np.zeros(span, dtype=bool)
    there[keys] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[keys]


@final
class Borders(NamedTuple):
    """Where in a row of ``columns`` stands what reaches over a border.

    Families are numbered from 0 to ``coarse``, which is any other; those below ``kinds`` are no more than their kind.
    How many kernels there are of a kind or family, and what they cost, stands from ``sums`` on; how many of them have 2
    to ``most_readers`` readers from ``readers`` on; pairs of families from ``pairs`` on, by their numbers in
    ``pair_table`` (-1: without a column).
    """

    kinds: int
    coarse: int
    sums: int
    readers: int
    most_readers: int
    pairs: int
    pair_table: Ints
    columns: int

    def describe(self, kind: int, family: int, entry: Sequence[int]) -> dict[int, int]:
        """Return what a kernel of a kind and family that is read by those of ``entry`` adds to which columns."""
        found: dict[int, int] = {}
        for reader in entry:
            pair = int(self.pair_table[family, reader])
            if pair >= 0:
                found[self.pairs + pair] = found.get(self.pairs + pair, 0) + 1
        step, extra = self.most_readers - 1, min(len(entry), self.most_readers) - 2
        if extra >= 0:
            if kind < self.kinds:
                found[self.readers + kind * step + extra] = 1
            if self.kinds <= family < self.coarse:
                found[self.readers + family * step + extra] = 1
        return found


class Columns(Protocol):
    """What says which columns a row has."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of operator; none for totals alone."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""

    @property
    def borders(self) -> Borders:
        """Where stands what reaches over a border."""

    def coarse(self, batch: Batch) -> tuple[Ints, Ints]:
        """Return kind and family of each distinct kernel, as numbers."""

    def whole_rows(self, batch: Batch) -> Matrix:
        """Return features of graphs or parts, from all their operators."""


@final
class PartSums:
    """Rows of features by adding up what is remembered of parts and borders."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._width = len(columns.names)
        self._entries: dict[tuple[int, ...], int] = {}
        self._entry_list: list[tuple[int, ...]] = []
        self._parts: Table[Part] = Table(self._width, 3)
        self._borders: Table[int] = Table(self._width, 0)

    @property
    def is_full(self) -> bool:
        """Whether others should take its place."""
        return len(self._entries) > _FULL

    def rows(self, batch: Batch) -> Matrix:
        """Return features ``(graphs, columns)``."""
        return in_two_ways(batch, self._added, self._columns.whole_rows)

    def _added(self, batch: Batch) -> Matrix:
        division = batch.division
        table, marks, numbers = self._parts.look_up(division.parts, lambda parts: self._describe(batch.of_parts(parts)))
        placed = numbers[division.codes]
        first = division.starts[:-1]
        rows = added_up(table, placed, division.times, division.starts)
        rows[:, PEAK_COLUMN] = batch.peak_memory_bytes
        rows[:, INPUT_COLUMN] = batch.input_elements
        if self._columns.kinds:
            rows[:, WIDTH_COLUMN] = np.maximum.reduceat(marks[placed, 0], first)
            self._add_borders(rows, division, marks[placed, 1], marks[placed, 2])
        return rows

    def _add_borders(self, rows: Matrix, division: Division, exits: Ints, entries: Ints) -> None:
        """Add what reaches over the borders before each run of parts, and between the parts of a run."""
        runs = len(exits)
        many = len(self._entry_list)
        keys = np.empty((runs, 2), dtype=np.int64)
        keys[:, 1] = exits * many + entries
        keys[0, 0] = 0
        keys[1:, 0] = exits[:-1] * many + entries[1:]
        weights = np.ones((runs, 2), dtype=np.int64)
        weights[:, 1] = division.times - 1
        weights[division.starts[:-1], 0] = 0
        there = weights > 0
        distinct, codes = _numbered(keys[there])
        if not len(distinct):
            return
        known = distinct // many * _MOST_ENTRIES + distinct % many
        table, _, numbers = self._borders.look_up(known.tolist(), self._describe_borders)
        if len(rows) == 1:
            rows += added_up(table, numbers[codes], weights[there], np.array([0, len(codes)]))
            return
        counted = np.zeros(2 * runs + 1, dtype=np.int64)
        np.cumsum(there.ravel(), out=counted[1:])
        starts = counted[2 * division.starts]
        # A border adds to few columns of many.
        reached = np.flatnonzero(table[numbers].any(axis=0))
        adding = csr_matrix(table[numbers][:, reached])
        times = csr_matrix((weights[there].astype(np.float64), codes, starts), shape=(len(rows), len(distinct)))
        rows[:, reached] += (times @ adding).toarray()

    def _describe(self, batch: Batch) -> tuple[Matrix, Ints]:
        """Return what parts add to a row, and of each: width, last kernel, how it is entered."""
        rows = self._columns.whole_rows(batch)
        marks = np.zeros((len(batch), 3), dtype=np.int64)
        if self._columns.kinds:
            marks[:, 0] = rows[:, WIDTH_COLUMN]
            rows[:, WIDTH_COLUMN] = 0
            kind, family = self._columns.coarse(batch)
            last = batch.numbers[batch.starts + batch.lengths - 1]
            marks[:, 1] = kind[last] * (self._columns.borders.coarse + 1) + family[last]
            marks[:, 2] = self._entries_of(batch, family)
        return rows, marks

    def _entries_of(self, batch: Batch, family: Ints) -> list[int]:
        """Return the number of the way in which each part is entered: the families of the kernels that read."""
        part, reader = batch.kernel_graphs[batch.entered], family[batch.numbers[batch.entered]]
        order = np.lexsort((reader, part))
        ends = np.cumsum(np.bincount(part, minlength=len(batch))).tolist()
        readers, found, start = reader[order].tolist(), [], 0
        for end in ends:
            entry = tuple(readers[start:end])
            number = self._entries.get(entry)
            if number is None:
                number = self._entries[entry] = len(self._entry_list)
                self._entry_list.append(entry)
            found.append(number)
            start = end
        return found

    def _describe_borders(self, keys: Sequence[int]) -> tuple[Matrix, Ints]:
        borders = self._columns.borders
        rows = np.zeros((len(keys), self._width))
        for row, key in zip(rows, keys, strict=True):
            kind, family = divmod(key // _MOST_ENTRIES, borders.coarse + 1)
            for column, value in borders.describe(kind, family, self._entry_list[key % _MOST_ENTRIES]).items():
                row[column] = value
        return rows, np.empty((len(keys), 0), dtype=np.int64)
