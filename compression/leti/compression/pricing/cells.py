"""Cells: each kernel of a network as a network of its own, so that what it takes can be measured once for many.

Compressed forms of a network consist of few distinct kernels: a convolution between two widths stands in thousands of
them. What LiteRT executes as one kernel inside the network it executes as one kernel in the cell too, in the same data
types. Two kernels share a cell where a file has them in one operator and LiteRT would run them otherwise apart: a ReLU
after an addition of whole numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple, final

from leti.core.graph import Graph, Op, TensorType
from leti.core.parts import Part
from leti.generator.builder import GraphBuilder
from leti.generator.fusion import fuse
from leti.predictors.profiles.runtime_names import kernels_of

Run = tuple[Part, ...]
"""Parts one after the other."""

REMEMBERED: Final = 65_536
"""Cells that are remembered."""


_ARITHMETIC: Final = frozenset({"add", "sub", "mul", "div", "scale", "shift", "zero", "batch_norm"})
_ACTIVATIONS: Final = frozenset({"relu", "relu6", "relu_n1"})


@final
class Cut(NamedTuple):
    """A kernel cut out of its network: the parts of a :class:`~leti.core.graph.Graph`, which it is the key of."""

    inputs: tuple[TensorType, ...]
    ops: tuple[Op, ...]
    wiring: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]


def cuts(graph: Graph) -> tuple[tuple[tuple[int, ...], Cut], ...]:
    """Return the kernels of a graph, each cut out, with the numbers of its operators, in the order of the last ones.

    A cell reads what its kernel reads from outside, and returns what others read of it. An operator in no group is a
    kernel by itself. A constant stands in the cell of every kernel that reads it, and is none alone.
    """
    cutting = _Cutting(graph)
    return tuple([(tuple(operators), cutting.cut(operators)) for operators in cutting.operators()])


def cells(graph: Graph) -> tuple[Graph, ...]:
    """Return the cell of each kernel of a graph, in the order of :func:`cuts`."""
    return tuple([cell(cut) for _, cut in cuts(graph)])


@final
class _Cutting:
    """A graph whose values are followed once, to cut its kernels out."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        first = graph.first_values()
        self._made = [tuple(range(value, value + len(op.outputs))) for value, op in zip(first, graph.ops, strict=True)]
        self._maker = {value: i for i, made in enumerate(self._made) for value in made}
        self._readers: list[set[int]] = [set() for _ in graph.value_types]
        for i, sources in enumerate(graph.wiring):
            for value in sources:
                self._readers[value].add(i)
        for value in graph.outputs:
            self._readers[value].add(len(graph.ops))

    def operators(self) -> list[list[int]]:
        """Return the operators of each cell, without constants."""
        ops = self._graph.ops
        kernels = [[i for i in kernel if ops[i].kind != "constant"] for kernel in kernels_of(self._graph)]
        ending = {kernel[-1]: kernel for kernel in kernels if kernel}
        for kernel in kernels:
            before = ending.get(self._shares_operator(kernel))
            if before is not None:
                kernel[:0] = before
                before.clear()
        return [kernel for kernel in kernels if kernel]

    def _shares_operator(self, kernel: Sequence[int]) -> int:
        """Return the operator before a kernel that a file has in one with it, -1 for none."""
        graph = self._graph
        if len(kernel) != 1 or graph.ops[kernel[0]].kind not in _ACTIVATIONS:
            return -1
        (value,) = graph.wiring[kernel[0]]
        before = self._maker.get(value, -1)
        is_shared = self._readers[value] == {kernel[0]} and graph.value_types[value].dtype == "int8"
        return before if is_shared and before >= 0 and graph.ops[before].kind in _ARITHMETIC else -1

    def cut(self, operators: Sequence[int]) -> Cut:
        """Return operators cut out, with the constants that they read."""
        graph, types = self._graph, self._graph.value_types
        read = dict.fromkeys(chain.from_iterable(graph.wiring[i] for i in operators))
        makers = [self._maker[value] for value in read if value in self._maker]
        inside = [*(i for i in makers if graph.ops[i].kind == "constant"), *operators]
        own = list(chain.from_iterable(self._made[i] for i in inside))
        entering = [value for value in read if value not in own]
        numbers = {value: number for number, value in enumerate((*entering, *own))}
        made = [value for i in operators for value in self._made[i]]
        left = [value for value in made if not self._readers[value] <= {*operators}]
        return Cut(
            tuple([types[value] for value in entering]),
            tuple([graph.ops[i] for i in inside]),
            tuple([tuple([numbers[value] for value in graph.wiring[i]]) for i in inside]),
            tuple([numbers[value] for value in left or self._made[operators[-1]]]),
        )


def runs(graph: Graph) -> tuple[tuple[Run, int], ...]:
    """Return the parts of a graph, those together that share a cell, and how many times each stands in succession.

    There are none where the parts are not known.
    """
    found: list[tuple[Run, int]] = []
    for part, times in zip(*graph.parts, strict=True):
        if found and part.ops[0].kind in _ACTIVATIONS and part.inputs[0].dtype == "int8":
            before, count = found.pop()
            if count > 1:
                found.append((before, count - 1))
            found.append(((*before, *(part,) * times), 1))
        else:
            found.append(((part,), times))
    return tuple(found)


def joined(run: Run) -> Graph:
    """Return parts that follow each other as a graph."""
    ops: list[Op] = []
    wiring: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    for part in run:
        offset = len(ops)
        wiring += [tuple([source + offset for source in sources]) for sources in part.wiring]
        kernels += [tuple([i + offset for i in kernel]) for kernel in part.kernels]
        ops += part.ops
    return Graph.assembled(run[0].inputs, tuple(ops), tuple(wiring), (len(ops),), 0, tuple(kernels), None)


@functools.lru_cache(maxsize=REMEMBERED)
def cell(cut: Cut) -> Graph:
    """Return a kernel that was cut out as a graph, with LiteRT's kernels: the one that it is."""
    return fuse(Graph(*cut))


def distinct_cells(graphs: Iterable[Graph]) -> tuple[Graph, ...]:
    """Return the distinct cells of graphs, by fingerprint, in the order in which they first stand there."""
    found: dict[Graph, None] = {}
    done: set[Run] = set()
    for graph in graphs:
        placed = runs(graph)
        new = [run for run, _ in placed if run not in done]
        done.update(new)
        for whole in map(joined, new) if placed else (graph,):
            found.update(dict.fromkeys(cells(whole)))
    return tuple(found)


@functools.cache
def idle_network() -> Graph:
    """Return a network that does next to nothing: it takes as long as an invoke does beside its kernels."""
    builder = GraphBuilder(TensorType((1, 1, 1, 1)))
    return builder.graph(builder.relu(0))
