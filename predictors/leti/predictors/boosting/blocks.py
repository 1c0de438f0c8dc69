"""Blocks: graphs cut where everything passes through one kernel, so that longest paths are looked for in small pieces.

No path leads around a kernel that no edge spans. Between two of those lies a block; the longest path of a graph is the
sum of the longest paths of its blocks. Networks repeat their cells, and searches repeat cells across networks: each
distinct block of a batch is looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

from leti.core.extras import needs
from leti.predictors.batch import Batch, Ints, Matrix, Vector

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse

_DENSE = 2**20
"""Sums over blocks that are kept in an array as they are: of more, nearly all are nothing."""

TICK_MS = 1e-9
NS_MS = 1e-6

if TYPE_CHECKING:
    Counts = Any  # a scipy.sparse.csr_array, which has no types


@final
class Schedule(NamedTuple):
    """When each of the t kernels of blocks ends, in its ``block``, and the one ``before`` that it waits for, or t."""

    block: Ints
    ends: Vector
    before: Ints


@final
@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The distinct blocks (b) of graphs, as arrays over all their kernels (t), and how often each stands in a graph.

    ``counts`` is ``(graphs, b)``. Block ``i`` has the kernels ``kernels[starts[i] : starts[i] + lengths[i]]``, numbers
    of distinct kernels of the batch in topological order. ``sources`` (t, most of any) lists what each reads: places
    among the t, or t for what comes into the block; padded with t + 1.
    """

    counts: Counts
    kernels: Ints
    starts: Ints
    lengths: Ints
    sources: Ints

    def __len__(self) -> int:
        """Return the number of graphs."""
        return int(self.counts.shape[0])

    def __getitem__(self, rows: Ints) -> Blocks:
        """Return the graphs with these numbers; the distinct blocks stay."""
        return Blocks(self.counts[rows], self.kernels, self.starts, self.lengths, self.sources)

    @classmethod
    def of(cls, batch: Batch) -> Blocks:
        """Cut the graphs of a batch."""
        total = len(batch.numbers)
        block = batch.blocks
        first = np.flatnonzero(np.diff(block, prepend=-1))
        readers = batch.readers
        written = batch.writers - first[block[readers]] + 1
        graphs = batch.kernel_graphs[first] if total else first
        offset = np.arange(total) - first[block] + 1  # 0 is what comes into the block
        names = _names(batch, block, offset, written, len(first))
        _, heads, kinds = np.unique(names, return_index=True, return_inverse=True)
        lengths = np.bincount(block, minlength=len(first))[heads]
        starts = lengths.cumsum() - lengths
        place = np.full(len(first), -1, dtype=np.int64)
        place[heads] = starts  # where the first of each sort of block begins; the others are not looked at
        nodes = np.repeat(first[heads] - starts, lengths) + np.arange(int(lengths.sum()))
        kept = place[block[readers]] >= 0
        base = place[block[readers[kept]]]
        reader = base + offset[readers[kept]] - 1
        source = np.where(written[kept] > 0, base + written[kept] - 1, len(nodes))
        counts = _counts(graphs, kinds, len(batch), len(heads))
        return cls(counts, batch.numbers[nodes], starts, lengths, _padded(reader, source, len(nodes)))

    def sums(self, blocks: Ints, columns: Ints, values: Vector, width: int) -> Matrix:
        """Return sums ``(graphs, width)`` of ``values`` that stand in these columns of these blocks, all ``(n,)``."""
        count = len(self.starts)
        if count * width <= _DENSE:
            flat = np.bincount(blocks * width + columns, weights=values, minlength=count * width)
            found: Matrix = self.counts @ flat.reshape(count, width)
            return found
        each = sparse.csr_array((values, (blocks, columns)), shape=(count, width))
        summed: Matrix = (self.counts @ each).toarray()
        return summed

    def sums_of(self, blocks: Ints, kernels: Ints, table: Matrix) -> Matrix:
        """Return sums ``(graphs, columns)`` of the rows of a ``table`` (distinct kernels, columns).

        ``kernels``, by their numbers, stand in these ``blocks``, both ``(n,)``. Sums of whole numbers are exact.
        """
        count, distinct = len(self.starts), len(table)
        if count * distinct <= _DENSE:
            flat = np.bincount(blocks * distinct + kernels, minlength=count * distinct)
            found: Matrix = self.counts @ (flat.reshape(count, distinct).astype(np.float64) @ table)
            return found
        each = sparse.csr_array((np.ones(len(blocks)), (blocks, kernels)), shape=(count, distinct))
        summed: Matrix = (self.counts @ (each @ sparse.csr_array(table))).toarray()
        return summed

    def schedule(self, costs: Vector) -> Schedule:
        """Run each block with every kernel beginning as soon as what it reads is there, as many at once as there are.

        ``costs`` (distinct kernels,) must not be negative.
        """
        total = len(self.kernels)
        reached = np.concatenate([costs[self.kernels], [0.0, -1.0]])
        before = np.full(total, total, dtype=np.int64)
        by_length = np.argsort(-self.lengths, kind="stable")
        starts, lengths = self.starts[by_length], self.lengths[by_length]
        lasting = np.searchsorted(-lengths, -np.arange(int(lengths.max(initial=0))), side="left")
        rows = np.arange(len(starts))
        for position, count in enumerate(lasting.tolist()):
            here = starts[:count] + position
            sources = self.sources[here]
            earlier = reached[sources]
            best = earlier.argmax(axis=1)
            reached[here] += earlier[rows[:count], best]
            before[here] = sources[rows[:count], best]
        return Schedule(np.repeat(np.arange(len(self.starts)), self.lengths), reached[:-2], before)

    def longest(self, schedule: Schedule) -> tuple[Ints, Ints]:
        """Return what a block waits for, one after the other: numbers of blocks and of kernels, both ``(p,)``."""
        total, block, before = len(self.kernels), schedule.block, schedule.before
        latest = np.flatnonzero(schedule.ends == np.maximum.reduceat(schedule.ends, self.starts)[block])
        here = np.zeros(len(self.starts), dtype=np.int64)
        here[block[latest]] = latest  # of those that end last, the last
        found = []
        while len(here):
            found.append(here)
            here = before[here]
            here = here[here < total]
        path = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        return block[path], self.kernels[path]

    def beside(self, schedule: Schedule, costs: Vector) -> Vector:
        """Return how long others run while each kernel of a block does, added up over the others, ``(t,)``.

        Costs are in ms, the result in whole ns: sums of it are exact, whatever stands beside it in the batch.
        """
        own = costs[self.kernels]
        times = np.rint(np.concatenate([schedule.ends - own, schedule.ends]) / TICK_MS).astype(np.int64)
        order = _in_time(np.concatenate([schedule.block, schedule.block]), times)
        running = np.where(order < len(own), 1, -1).cumsum()
        worked = np.zeros(len(times), dtype=np.int64)  # by all kernels up to each event; between blocks nothing runs
        events = times[order]
        worked[order[1:]] = (running[:-1] * (events[1:] - events[:-1])).cumsum()
        spent = times[len(own) :] - times[: len(own)]
        others = np.maximum(worked[len(own) :] - worked[: len(own)] - spent, 0)
        found: Vector = np.rint(others * (TICK_MS / NS_MS))
        return found


def _in_time(blocks: Ints, times: Ints) -> Ints:
    """Return the order by block, then by time; neither is negative."""
    span = int(times.max(initial=0)) + 1
    if span * (int(blocks.max(initial=0)) + 1) < 2**63:  # one number says both
        return np.argsort(blocks * span + times, kind="stable")
    return np.lexsort((times, blocks))


def _counts(graphs: Ints, blocks: Ints, many: int, distinct: int) -> Counts:
    """Return how often each block stands in each graph."""
    counts = sparse.csr_array((np.ones(len(blocks)), (graphs, blocks)), shape=(many, distinct), dtype=np.float64)
    counts.sum_duplicates()
    return counts


def _names(batch: Batch, block: Ints, offset: Ints, written: Ints, count: int) -> NDArray[np.uint64]:
    """Return a number for each block that says what it is: equal for equal blocks, wherever they stand."""
    kernels = _mixed(batch.numbers.astype(np.uint64) * np.uint64(65_537) + offset.astype(np.uint64))
    edges = _mixed(~(written.astype(np.uint64) * np.uint64(1 << 20) + offset[batch.readers].astype(np.uint64)))
    names = np.zeros(count, dtype=np.uint64)
    np.add.at(names, block, kernels)
    np.add.at(names, block[batch.readers], edges)
    return names


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread numbers over 64 bits (the finalizer of SplitMix64; Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _padded(readers: Ints, sources: Ints, count: int) -> Ints:
    """Return the sources of each reader as rows, ``(count, most of any)``; who has none reads what comes in."""
    each = np.bincount(readers, minlength=count)
    rows = np.full((count, max(int(each.max(initial=0)), 1)), count + 1, dtype=np.int64)
    rows[each == 0, 0] = count
    order = np.argsort(readers, kind="stable")
    column = np.arange(len(readers)) - (each.cumsum() - each).repeat(each)
    rows[readers[order], column] = sources[order]
    return rows
