"""Batch: graphs taken apart into flat arrays, so that what follows is NumPy over the whole batch.

Graphs share most of their operators, which :class:`~leti.core.graph.Op` interns: each distinct operator and kernel of a
batch is described once, and stands in the arrays by its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import final

from leti.core.extras import needs
from leti.core.graph import Encoding, Graph, Op
from leti.core.parts import Part
from leti.predictors.division import Division, Ints, Matrix, Memory, Vector
from leti.predictors.grouping import Outline, Placed, number_kernels, outlines
from leti.predictors.kernel import Kernel

with needs("boosting"):
    import numpy as np

__all__ = ["Batch", "Ints", "Kernel", "Matrix", "Vector"]


@final
class Batch:
    """Graphs as arrays over all their operators (o), kernels (k), and edges between kernels (e).

    ``ops`` and ``kernels`` are the distinct ones; ``codes`` (o,) and ``numbers`` (k,) say which stands where, and
    ``op_graphs`` (o,) and ``kernel_graphs`` (k,) in which graph, ``op_kernels`` (o,) in which kernel. Graph ``g`` has
    ``lengths[g]`` kernels from ``starts[g]`` on, in the order of their last operators. An edge leads from the kernel
    ``writers`` (e,) to the kernel ``readers`` (e,) that reads it; ``sources`` (k, most of any) lists the writers of
    each reader, padded with k. ``entered`` lists the kernels that read a graph input, once for each time. ``whole``
    (graphs, 3) holds peak memory in bytes, elements of the inputs, and operators; ``encodings`` (graphs,) what their
    search spaces say of them.

    Each array is made when it is first asked for. Parts of graphs can be taken apart in the same way.
    """

    def __init__(self, graphs: Sequence[Graph | Part]) -> None:
        self._graphs = tuple(graphs)

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self._graphs)

    @classmethod
    def of(cls, graphs: Sequence[Graph | Part]) -> Batch:
        """Take graphs apart."""
        return cls(graphs)

    @property
    def graphs(self) -> tuple[Graph | Part, ...]:
        """The graphs themselves."""
        return self._graphs

    @cached_property
    def division(self) -> Division:
        """The graphs as rows of parts; only of graphs whose parts are all known, see :meth:`sorted_out`."""
        return Division.of([graph for graph in self._graphs if isinstance(graph, Graph)])

    def of_parts(self, parts: tuple[Part, ...]) -> Batch:
        """Return parts as a batch, which is the same one for the same parts: taken apart once, whoever asks."""
        found = self._of_parts.get(parts)
        if found is None:
            found = self._of_parts[parts] = Batch(parts)
        return found

    @cached_property
    def _of_parts(self) -> dict[tuple[Part, ...], Batch]:
        return {}

    @cached_property
    def sorted_out(self) -> tuple[tuple[Ints, Batch], tuple[Ints, Batch]]:
        """The graphs whose parts are known, and the others, each as a batch with their numbers in this one."""
        known = np.array([isinstance(graph, Graph) and bool(graph.parts[0]) for graph in self._graphs], dtype=bool)
        chosen = np.flatnonzero(known), np.flatnonzero(~known)
        if len(chosen[0]) == len(self):
            return (chosen[0], self), (chosen[1], Batch(()))
        if len(chosen[1]) == len(self):
            return (chosen[0], Batch(())), (chosen[1], self)
        first, second = [(rows, Batch([self._graphs[i] for i in rows.tolist()])) for rows in chosen]
        return first, second

    @property
    def ops(self) -> tuple[Op, ...]:
        """The distinct operators."""
        return self._numbered[0]

    @property
    def codes(self) -> Ints:
        """Which operator stands where, ``(o,)``."""
        return self._numbered[1]

    @cached_property
    def op_graphs(self) -> Ints:
        """In which graph each operator stands, ``(o,)``."""
        return np.repeat(np.arange(len(self)), self._counts)

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The distinct kernels."""
        if self._placed is not None:
            return self._placed.kernels
        return self._numbered_kernels[0]

    @property
    def numbers(self) -> Ints:
        """Which kernel stands where, ``(k,)``."""
        return self._numbered_kernels[1] if self._placed is None else self._placed.numbers

    @cached_property
    def kernel_graphs(self) -> Ints:
        """In which graph each kernel stands, ``(k,)``."""
        return np.arange(len(self)).repeat(self.lengths)

    @cached_property
    def op_kernels(self) -> Ints:
        """In which kernel each operator is, ``(o,)``."""
        return self._moved([outline.place for outline in self.outlines], self.starts)

    @cached_property
    def lengths(self) -> Ints:
        """How many kernels each graph has, ``(graphs,)``."""
        if self._placed is not None:
            return self._placed.lengths
        return np.array([len(outline.kernels) for outline in self.outlines], dtype=np.int64)

    @cached_property
    def starts(self) -> Ints:
        """The first kernel of each graph, ``(graphs,)``."""
        return self.lengths.cumsum() - self.lengths

    @cached_property
    def writers(self) -> Ints:
        """The kernel that each edge comes from, ``(e,)``."""
        return self._moved([outline.writers for outline in self.outlines], self.starts)

    @cached_property
    def readers(self) -> Ints:
        """The kernel that each edge leads to, ``(e,)``."""
        return self._moved([outline.readers for outline in self.outlines], self.starts)

    @cached_property
    def entered(self) -> Ints:
        """The kernels that read a graph input, once for each time."""
        return self._moved([outline.entered for outline in self.outlines], self.starts)

    @cached_property
    def blocks(self) -> Ints:
        """The block of each kernel, ``(k,)``: what lies between kernels that no edge of its graph spans."""
        found = [outline.blocks for outline in self.outlines]
        many = np.array([int(blocks[-1]) + 1 if len(blocks) else 0 for blocks in found], dtype=np.int64)
        return self._moved(found, many.cumsum() - many)

    @cached_property
    def sources(self) -> Ints:
        """The writers of each kernel, ``(k, most of any)``, padded with k."""
        return _padded(self.readers, self.writers, len(self.numbers))

    @cached_property
    def whole(self) -> Matrix:
        """Peak memory in bytes, elements of the inputs, operators: ``(graphs, 3)``; of parts, the last alone."""
        whole = np.zeros((len(self), 3))
        whole[:, 2] = self._counts
        for i, graph in enumerate(self._graphs):
            if isinstance(graph, Graph):
                whole[i, :2] = graph.peak_memory_bytes, sum([t.elements for t in graph.inputs])
        return whole

    @cached_property
    def peak_memory_bytes(self) -> Vector:
        """Peak memory of each graph, ``(graphs,)``."""
        return np.array([graph.peak_memory_bytes for graph in self._graphs if isinstance(graph, Graph)], dtype=float)

    @cached_property
    def input_elements(self) -> Vector:
        """Elements of the inputs of each graph, whose parts are all known, ``(graphs,)``."""
        if len(self) <= FEW:
            return np.array([graph.inputs[0].elements for graph in self._graphs], dtype=np.float64)
        division = self.division
        first, codes = np.unique(division.codes[division.starts[:-1]], return_inverse=True)
        return np.array([division.parts[i].inputs[0].elements for i in first.tolist()], dtype=np.float64)[codes]

    @cached_property
    def macs(self) -> Vector:
        """Multiply-accumulates of each graph, ``(graphs,)``."""
        return np.array([graph.macs for graph in self._graphs if isinstance(graph, Graph)], dtype=np.float64)

    @cached_property
    def encodings(self) -> tuple[Encoding | None, ...]:
        """What the search spaces say of their graphs."""
        return tuple([graph.encoding if isinstance(graph, Graph) else None for graph in self._graphs])

    @cached_property
    def _numbered(self) -> tuple[tuple[Op, ...], Ints]:
        return _number_ops(self._graphs)

    @cached_property
    def _counts(self) -> Ints:
        return np.array([len(graph.ops) for graph in self._graphs], dtype=np.int64)

    @cached_property
    def outlines(self) -> list[Outline]:
        """How each graph runs in kernels."""
        return outlines(self._graphs)

    @cached_property
    def _numbered_kernels(self) -> tuple[tuple[Kernel, ...], Ints]:
        return number_kernels(self._graphs, self.outlines)

    def _moved(self, numbers: Sequence[Ints], by: Ints) -> Ints:
        """Return numbers of each graph in a row, each moved by as much as its graph is."""
        if not numbers:
            return np.empty(0, dtype=np.int64)
        return np.concatenate(numbers) + by.repeat(list(map(len, numbers)))

    @cached_property
    def _placed(self) -> Placed | None:
        """The kernels as the parts of graphs place them; nothing where the parts of any are not known."""
        (known, divided), _ = self.sorted_out
        if divided is not self or not len(known):
            return None
        of_parts = _KERNELS.look_up(self.division.parts, lambda parts: self.of_parts(parts)._sequences)
        return Placed.of(self.division, of_parts)

    @property
    def _sequences(self) -> list[tuple[Kernel, ...]]:
        """The kernels of each graph, in order."""
        every = [self.kernels[number] for number in self.numbers.tolist()]
        starts = self.starts.tolist()
        return [
            tuple(every[start : start + length]) for start, length in zip(starts, self.lengths.tolist(), strict=True)
        ]

    def cost(self, name: str) -> Vector:
        """Return the ``macs``, ``params`` or ``traffic_bytes`` of each distinct kernel."""
        found = self._costs.get(name)
        if found is None:
            costs = np.array([getattr(kernel, name) for kernel in self.kernels], dtype=np.float64)
            found = self._costs.setdefault(name, costs)
        return found

    @cached_property
    def _costs(self) -> dict[str, Vector]:
        return {}

    def longest(self, costs: Matrix) -> tuple[Matrix, Ints]:
        """Return the largest sum of costs along any path of each graph, ``(graphs, measures)``, and what stands on it.

        ``costs`` is ``(distinct kernels, measures)``. The second result are the kernels on the longest path of every
        graph by the *last* measure, in no order.
        """
        if len(self) > FEW:
            return self._longest_of_many(costs)
        routes = [outline.routes for outline in self.outlines if outline.routes is not None]
        return self._longest_of_few(costs) if len(routes) < len(self) else self._longest_of_routes(costs, routes)

    def _longest_of_routes(self, costs: Matrix, routes: Sequence[Matrix]) -> tuple[Matrix, Ints]:
        """Add up the costs of every path, which are listed."""
        most, found = np.zeros((len(self), costs.shape[1])), [np.empty(0, dtype=np.int64)]
        for i, (start, ways) in enumerate(zip(self.starts.tolist(), routes, strict=True)):
            if len(ways):
                sums = ways @ costs[self.numbers[start : start + ways.shape[1]]]
                most[i] = sums.max(axis=0)
                found.append(start + ways[sums[:, -1].argmax()].nonzero()[0])
        return most, np.concatenate(found)

    def _longest_of_many(self, costs: Matrix) -> tuple[Matrix, Ints]:
        """Work through all graphs at once, position by position."""
        total = len(self.numbers)
        reached = np.zeros((total + 1, costs.shape[1]))
        reached[:-1] = costs.take(self.numbers, axis=0)
        before = np.full(total, total, dtype=np.int64)
        by_length = np.argsort(-self.lengths, kind="stable")
        starts = self.starts[by_length]
        lasting = np.searchsorted(-self.lengths[by_length], -np.arange(self.lengths.max()), side="left")
        padded = np.ascontiguousarray(self.sources.T)
        for position, count in enumerate(lasting.tolist() if len(padded) else []):
            here = starts[:count] + position
            best = padded[0].take(here)
            last = reached.take(best, axis=0)
            for row in padded[1:]:
                other = row.take(here)
                if other.min() == total:  # writers stand first, padding behind them
                    break
                more = reached.take(other, axis=0)
                best = np.where(more[:, -1] > last[:, -1], other, best)
                np.maximum(last, more, out=last)
            reached[here] += last
            before[here] = best
        most = np.zeros((len(self), costs.shape[1]))
        held = self.lengths.nonzero()[0]
        if not len(held):
            return most, np.empty(0, dtype=np.int64)
        most[held] = np.maximum.reduceat(reached[:-1], self.starts[held])
        ends = np.flatnonzero(reached[:-1, -1] == most[self.kernel_graphs, -1])
        last_end = np.zeros(len(self), dtype=np.int64)
        np.maximum.at(last_end, self.kernel_graphs[ends], ends)
        here = last_end[held]
        found = [here]
        while len(here):
            here = before[here]
            here = here[here < total]
            found.append(here)
        return most, np.concatenate(found)

    def _longest_of_few(self, costs: Matrix) -> tuple[Matrix, Ints]:
        """Work through one graph after the other, kernel by kernel."""
        columns, most, found = costs.T[:, self.numbers].tolist(), [], list[int]()
        for start, outline in zip(self.starts.tolist(), self.outlines, strict=True):
            reached = [0.0]
            longest = []
            for column in columns:
                reached = column[start : start + len(outline.kernels)]
                for i, read in enumerate(outline.reads):
                    if len(read) == 1:
                        reached[i] += reached[read[0]]
                    elif read:
                        reached[i] += max([reached[writer] for writer in read])
                longest.append(max(reached, default=0.0))
            most.append(longest)
            here = len(reached) - 1
            while here >= 0 and reached[here] < longest[-1]:  # of those that are as far, the last
                here -= 1
            while here >= 0:
                found.append(start + here)
                here = max(outline.reads[here], key=reached.__getitem__, default=-1)
        return np.array(most).reshape(len(self), costs.shape[1]), np.array(found, dtype=np.int64)


_KERNELS: Memory[Part, tuple[Kernel, ...]] = Memory()
"""The kernels of parts, in order."""

FEW = 8
"""Graphs whose paths are followed one kernel after the other: for more, all graphs together are faster."""


def _number_ops(graphs: Sequence[Graph | Part]) -> tuple[tuple[Op, ...], Ints]:
    """Return the distinct operators, and the number of each operator of each graph."""
    every = list(chain.from_iterable([graph.ops for graph in graphs]))
    places = list(map(id, every))  # equal operators are one object, as long as it is needed
    objects = dict(zip(places, every, strict=True))
    number = dict(zip(objects, range(len(objects)), strict=True))
    codes = np.fromiter(map(number.__getitem__, places), dtype=np.int64, count=len(every))
    return tuple(objects.values()), codes


def _padded(readers: Ints, writers: Ints, count: int) -> Ints:
    """Return the writers of each reader as rows, ``(count, most of any)``, padded with ``count``."""
    order = np.argsort(readers, kind="stable")
    readers, writers = readers[order], writers[order]
    each = np.bincount(readers, minlength=count)
    column = np.arange(len(readers)) - (each.cumsum() - each).repeat(each)
    rows = np.full((count, int(each.max(initial=0))), count, dtype=np.int64)
    rows[readers, column] = writers
    return rows
