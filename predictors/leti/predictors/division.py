"""Division: graphs as rows of parts that they share, and tables of what has been found out about those.

Graphs of one search space are put together of few kinds of part (:mod:`leti.core.parts`). What is a sum over parts is
found for each part once, remembered, and added up: by one product of a sparse matrix with the table.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate, chain
from typing import Final, Generic, NamedTuple, TypeVar, final

from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.parts import Part

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Matrix = NDArray[np.float64]
    Vector = NDArray[np.float64]
    Ints = NDArray[np.int64]

REMEMBERED_BYTES: Final = 64 * 2**20
"""Most that a table holds, an item counted with :data:`ITEM_BYTES` beside its row; then it is begun anew."""

ITEM_BYTES: Final = 2_048
"""About what a part takes with its wiring and kernels; operators are shared."""

REMEMBERED: Final = 16_384
"""Most items that a memory holds."""

DESCRIBED_AT_ONCE: Final = 2_048

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Describe = Callable[[tuple[K, ...]], tuple[Matrix, Ints]]


@final
class Division(NamedTuple):
    """Graphs as runs (r) of parts: ``parts`` are the distinct ones, ``codes`` (r,) says which one stands in each run.

    Each stands ``times`` (r,) in succession. Graph ``g`` has the runs from ``starts[g]`` to ``starts[g + 1]``.
    """

    parts: tuple[Part, ...]
    codes: Ints
    times: Ints
    starts: Ints

    @classmethod
    def of(cls, graphs: Sequence[Graph]) -> Division:
        """Divide graphs whose parts are known, each of one part or more."""
        pairs = [graph.parts for graph in graphs]
        runs = list(chain.from_iterable([parts for parts, _ in pairs]))
        number = {part: i for i, part in enumerate(dict.fromkeys(runs))}
        return cls(
            tuple(number),
            np.fromiter(map(number.__getitem__, runs), dtype=np.int64, count=len(runs)),
            np.fromiter(chain.from_iterable([times for _, times in pairs]), dtype=np.int64, count=len(runs)),
            np.array([0, *accumulate([len(parts) for parts, _ in pairs])], dtype=np.int64),
        )


@final
class Table(Generic[K]):
    """Rows of numbers that describe items, each found once: float64 to be added up and whole numbers to be looked at.

    Threads may share a table.
    """

    def __init__(self, columns: int, marks: int) -> None:
        self._lock = threading.Lock()
        self._most = max(REMEMBERED_BYTES // (8 * (columns + marks) + ITEM_BYTES), 64)
        self._number: dict[K, int] = {}
        self._rows = np.empty((0, columns))
        self._marks = np.empty((0, marks), dtype=np.int64)

    def look_up(self, items: Sequence[K], describe: Describe[K]) -> tuple[Matrix, Ints, Ints]:
        """Return rows and marks of all items that are known, and the number in both of each item, ``(items,)``.

        ``describe`` returns rows ``(items, columns)`` and marks ``(items, marks)`` of those that are not known yet.
        """
        with self._lock:
            found = list(map(self._number.get, items))
            if None not in found:
                return self._rows, self._marks, np.array(found, dtype=np.int64)
            missing = [item for item, number in zip(items, found, strict=True) if number is None]
            if len(self._number) + len(missing) > self._most:
                missing = list(items)
                self._number = {}
                self._rows, self._marks = np.empty((0, self._rows.shape[1])), self._marks[:0]
            for first in range(0, len(missing), DESCRIBED_AT_ONCE):
                self._add(tuple(missing[first : first + DESCRIBED_AT_ONCE]), describe)
            numbers = np.fromiter(map(self._number.__getitem__, items), dtype=np.int64, count=len(items))
            return self._rows, self._marks, numbers

    def _add(self, items: tuple[K, ...], describe: Describe[K]) -> None:
        rows, marks = describe(items)
        known, count = len(self._number), len(self._number) + len(items)
        if count > len(self._rows):  # what others hold of the tables stays as it is
            # Beyond some, room for all that there may ever be: what is not written to takes no memory.
            capacity = max(count, 2 * len(self._rows) if count <= DESCRIBED_AT_ONCE else self._most)
            self._rows, old = np.empty((capacity, self._rows.shape[1])), self._rows
            self._rows[:known] = old[:known]
            self._marks, before = np.empty((capacity, self._marks.shape[1]), dtype=np.int64), self._marks
            self._marks[:known] = before[:known]
        self._rows[known:count], self._marks[known:count] = rows, marks
        self._number.update(zip(items, range(known, count), strict=True))


@final
class Memory(Generic[K, V]):
    """What has been found out about items, each once; of more than :data:`REMEMBERED` of them it is begun anew.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._known: dict[K, V] = {}

    def look_up(self, items: Sequence[K], describe: Callable[[tuple[K, ...]], Sequence[V]]) -> list[V]:
        """Return what is known of each item; ``describe`` finds it, never ``None``, for those not known yet."""
        known = self._known
        missing = tuple(dict.fromkeys([item for item in items if item not in known]))
        if not missing:
            return list(map(known.__getitem__, items))
        found = dict(zip(missing, describe(missing), strict=True))
        if len(known) + len(found) <= REMEMBERED:
            known.update(found)
        else:  # others may still read what was known
            self._known = found
        return [found[item] if item in found else known[item] for item in items]


def added_up(rows: Matrix, numbers: Ints, weights: Ints, starts: Ints) -> Matrix:
    """Return sums ``(graphs, columns)`` of the rows with these ``numbers`` times their ``weights``, both ``(r,)``.

    Those of graph ``g`` are the ones from ``starts[g]`` to ``starts[g + 1]``.
    """
    count = len(starts) - 1
    if count == 1:
        one: Matrix = (weights @ rows[numbers])[None, :]
        return one
    summed: Matrix = csr_matrix((weights.astype(np.float64), numbers, starts), shape=(count, len(rows))) @ rows
    return summed
