"""Grouping: operators that run as one, how these read each other, and kernels as the parts of graphs place them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, final

from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.parts import Part
from leti.predictors.division import Division, Ints, Matrix, Memory
from leti.predictors.kernel import Kernel, kernel_of

with needs("boosting"):
    import numpy as np

MOST_ROUTES: Final = 16
"""Paths through a part that are listed."""


@final
class Outline(NamedTuple):
    """How the operators (o) of a graph run in kernels (k), and how these read each other: its wiring says all of it.

    ``kernels`` are groups of operator numbers in the order of their last operators, ``place`` (o,) is the kernel of
    each operator. An edge leads from the kernel ``writers`` (e,) to the kernel ``readers`` (e,) that reads it;
    ``entered`` lists the kernels that read a graph input, once for each time. ``blocks`` (k,) numbers what lies between
    kernels that no edge spans; such a kernel is the last of its block.

    ``keys`` pick what belongs to each kernel out of a sequence over operators; ``reads`` lists the writers of each.
    ``depth`` is the most kernels on any path, ``breadth`` the most that are equally far along theirs: that may run side
    by side. ``routes`` (r, k) says which kernels stand on each path from one end to the other; of more than
    :data:`MOST_ROUTES` there is none.
    """

    kernels: tuple[tuple[int, ...], ...]
    place: Ints
    writers: Ints
    readers: Ints
    entered: Ints
    blocks: Ints
    keys: tuple[itemgetter[Any], ...]
    reads: tuple[tuple[int, ...], ...]
    depth: int
    breadth: int
    routes: Matrix | None

    @classmethod
    def of(
        cls, inputs: int, makers: Sequence[int], wiring: Sequence[tuple[int, ...]], kernels: Sequence[tuple[int, ...]]
    ) -> Outline:
        """Return the outline of a graph with so many ``inputs``; ``makers`` are the operators of all other values."""
        alone = set(range(len(wiring))).difference(*kernels)
        groups = sorted([*kernels, *[(i,) for i in alone]], key=max)
        place = [0] * len(wiring)
        for number, group in enumerate(groups):
            for i in group:
                place[i] = number
        writers, readers, entered = list[int](), list[int](), list[int]()
        for reader, sources in zip(place, wiring, strict=True):
            for source in sources:
                writer = -1 if source < inputs else place[makers[source - inputs]]
                if writer < 0:
                    entered.append(reader)
                elif writer != reader:
                    writers.append(writer)
                    readers.append(reader)
        reads: list[list[int]] = [[] for _ in groups]
        for writer, reader in zip(writers, readers, strict=True):
            reads[reader].append(writer)
        depths = list[int]()
        for read in reads:
            depths.append(1 + max([depths[writer] for writer in read], default=0))
        return cls(
            tuple(groups),
            np.array(place, dtype=np.int64),
            np.array(writers, dtype=np.int64),
            np.array(readers, dtype=np.int64),
            np.array(entered, dtype=np.int64),
            np.array(_blocks(len(groups), writers, readers, entered), dtype=np.int64),
            tuple([itemgetter(*group) for group in groups]),
            tuple(map(tuple, reads)),
            max(depths, default=0),
            max(Counter(depths).values(), default=0),
            _routes(reads),
        )


def _routes(reads: Sequence[Sequence[int]]) -> Matrix | None:
    """Return every path through kernels with these writers as a row of 0 and 1, or nothing where they are many.

    Of two that cost the same the one that stands first is taken: the one that a search would find that goes back from
    the last kernel of those that are as far, each time to the first writer of those that are.
    """
    read = {writer for each in reads for writer in each}
    ways = [[end] for end in range(len(reads)) if end not in read]  # the last is followed first
    found: list[list[int]] = []
    while ways:
        way = ways.pop()
        while writers := list(dict.fromkeys(reads[way[-1]])):
            ways += [[*way, writer] for writer in reversed(writers[1:])]
            way.append(writers[0])
            if len(found) + len(ways) >= MOST_ROUTES:
                return None
        found.append(way)
    routes = np.zeros((len(found), len(reads)))
    for row, way in zip(routes, found, strict=True):
        row[way] = 1.0
    return routes


def _blocks(count: int, writers: Sequence[int], readers: Sequence[int], entered: Sequence[int]) -> list[int]:
    """Return the block of each kernel. Paths begin where a graph input is read, or nothing is."""
    reaches = [0] * count
    for writer, reader in zip(writers, readers, strict=True):
        reaches[writer] = max(reaches[writer], reader)
    farthest = max([*set(range(count)).difference(readers), *entered], default=0)
    found, block = [], 0
    for kernel in range(count):
        found.append(block)
        block += farthest <= kernel
        farthest = max(farthest, reaches[kernel])
    return found


def outlines(graphs: Sequence[Graph | Part]) -> list[Outline]:
    """Return the outline of each graph; those of parts, many of which are wired alike, are remembered."""
    if all(isinstance(graph, Part) for graph in graphs):
        return _OUTLINES.look_up([(part.wiring, part.kernels) for part in graphs], _of_parts)
    return [
        Outline.of(
            len(graph.inputs),
            [i for i, op in enumerate(graph.ops) for _ in op.outputs],
            graph.wiring,
            graph.kernels,
        )
        for graph in graphs
    ]


def _of_parts(wired: Sequence[_Wired]) -> list[Outline]:
    return [Outline.of(1, range(len(wiring)), wiring, kernels) for wiring, kernels in wired]


_Wired = tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]
_OUTLINES: Memory[_Wired, Outline] = Memory()
"""Outlines by wiring and kernels."""


def number_kernels(graphs: Sequence[Graph | Part], of: Sequence[Outline]) -> tuple[tuple[Kernel, ...], Ints]:
    """Return the distinct kernels of graphs with these outlines, and which of them stands where ``(k,)``."""
    number: dict[int | tuple[int, ...], int] = {}
    kernels: list[Kernel] = []
    numbers: list[int] = []
    for graph, outline in zip(graphs, of, strict=True):
        ops = graph.ops
        places = list(map(id, ops))  # equal operators are one object, as long as it is needed
        keys = [key_of(places) for key_of in outline.keys]
        if not all(map(number.__contains__, keys)):
            for key, group in zip(keys, outline.kernels, strict=True):
                if key not in number:
                    number[key] = len(kernels)
                    kernels.append(kernel_of(key, tuple([ops[i] for i in group])))
        numbers += map(number.__getitem__, keys)
    return tuple(kernels), np.array(numbers, dtype=np.int64)


@final
class Placed(NamedTuple):
    """Distinct kernels, which of them stands where ``(k,)``, and how many each graph has ``(graphs,)``."""

    kernels: tuple[Kernel, ...]
    numbers: Ints
    lengths: Ints

    @classmethod
    def of(cls, division: Division, of_parts: Sequence[tuple[Kernel, ...]]) -> Placed:
        """Place the kernels of each distinct part, in order, where the part stands."""
        number: dict[Kernel, int] = {}
        objects = {id(kernel): kernel for kernels in of_parts for kernel in kernels}  # few, and hashed once each
        places = {key: number.setdefault(kernel, len(number)) for key, kernel in objects.items()}
        coded = [[places[id(kernel)] for kernel in kernels] for kernels in of_parts]
        numbers: list[int] = []
        for code, times in zip(division.codes.tolist(), division.times.tolist(), strict=True):
            numbers += coded[code] * times
        sizes = np.array([len(kernels) for kernels in of_parts], dtype=np.int64)
        lengths = np.add.reduceat(sizes[division.codes] * division.times, division.starts[:-1])
        return cls(tuple(number), np.array(numbers, dtype=np.int64), lengths)
