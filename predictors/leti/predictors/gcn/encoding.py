"""Encoding: what a graph convolutional network is told of an operator graph, learnt from the training part.

A node is a kernel (operators that run as one). It says its kind and its family (kind and attributes of all operators in
the kernel) by their place in a vocabulary, 0 for what training never had, and its costs and shapes as standardised
logarithms. The whole graph has such numbers too: totals, and the largest sums along any path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

from leti.core.extras import needs
from leti.predictors.batch import Batch, Ints, Kernel, Matrix, Vector
from leti.predictors.gcn.cells import Cell, encode_cells
from leti.predictors.gcn.graphs import Edges, OperatorGraphs, collapsed, gathered

with needs("boosting"):
    import numpy as np

Wiring = Literal["directed", "symmetric", "global"]
"""What a node gathers. ``directed``: the sum over the kernels that it reads, and apart from it over those that read it.
``symmetric``: over both and itself, weighted by degrees (Kipf and Welling). ``global``: the mean over what it reads and
itself; a further node reads all and adds them up, and alone is read out (BRP-NAS)."""

_BYTES_PER_MAC = 16
"""A byte moved costs as much as some multiplications."""

_BOUND = 8.0
"""Standardised numbers are drawn in beyond this: what lies so far outside training is not extrapolated without end."""

_GLOBAL_KIND = "(graph)"
"""Kind of the node that reads all others."""


@final
@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and deviation of columns, ``(columns,)`` each."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, columns: Matrix, weights: Vector | None = None) -> Scale:
        """Return the scale of ``columns`` (n, columns), each row counted ``weights`` (n,) times."""
        share = np.ones(len(columns)) if weights is None else weights
        share = share / max(float(share.sum()), 1e-12)
        mean = share @ columns
        deviation = np.sqrt(share @ (columns - mean) ** 2)
        return cls(tuple(map(float, mean)), tuple(float(d) if d > 1e-6 else 1.0 for d in deviation))

    def applied(self, columns: Matrix) -> Matrix:
        """Return standardised columns, bounded."""
        scaled: Matrix = np.clip((columns - np.array(self.mean)) / np.array(self.deviation), -_BOUND, _BOUND)
        return scaled


@final
@dataclass(frozen=True, slots=True)
class GraphEncoder:
    """How graphs are told. Where there is a ``cell``, its positions are the nodes; else the kernels are.

    ``rounds`` is the number of layers for which collapsing equal nodes is exact; ``typical`` the mean number of
    kernels, the unit in which the readout counts.
    """

    kinds: tuple[str, ...]
    families: tuple[str, ...]
    numbers: Scale
    whole: Scale
    wiring: Wiring
    rounds: int
    typical: float = 1.0
    cell: Cell | None = None

    @classmethod
    def learn(cls, batch: Batch, wiring: Wiring, rounds: int, cell: Cell | None = None) -> GraphEncoder:
        """Return the vocabulary and scales of a batch."""
        if cell is not None:
            return cls(cell.words, (), Scale((), ()), Scale((), ()), wiring, rounds, 1.0, cell)
        used = np.bincount(batch.numbers, minlength=len(batch.kernels)).astype(np.float64)
        kinds = {kernel.kind for kernel in batch.kernels}
        return cls(
            tuple(sorted(kinds | {_GLOBAL_KIND} if wiring == "global" else kinds)),
            tuple(sorted({kernel.family for kernel in batch.kernels})),
            Scale.of(_numbers(batch.kernels), used),
            Scale.of(_whole(batch)),
            wiring,
            rounds,
            max(len(batch.numbers) / max(len(batch), 1), 1.0),
        )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """How many kinds, families, columns of nodes and columns of graphs there are."""
        return len(self.kinds), len(self.families), len(self.numbers.mean), len(self.whole.mean)

    def encode(self, batch: Batch) -> OperatorGraphs:
        """Return the graphs of a batch."""
        if self.cell is not None:
            return encode_cells(self.cell, batch)
        graphs = batch.kernel_graphs
        first, which, counts = collapsed(batch.numbers, graphs, batch.writers, batch.readers, self.rounds)
        ways = [gathered(first, which, *way) for way in _WAYS[self.wiring](batch.writers, batch.readers, len(which))]
        number = batch.numbers[first]
        lengths = np.bincount(graphs[first], minlength=len(batch))
        encoded = OperatorGraphs(
            _places((kernel.kind for kernel in batch.kernels), self.kinds)[number],
            _places((kernel.family for kernel in batch.kernels), self.families)[number],
            self.numbers.applied(_numbers(batch.kernels))[number],
            np.column_stack([batch.cost("macs"), batch.cost("traffic_bytes")])[number],
            counts,
            counts / self.typical,
            np.cumsum(lengths) - lengths,
            lengths,
            tuple(ways),
            self.whole.applied(_whole(batch)),
            np.zeros(len(batch), dtype=bool),
        )
        return self._with_global(encoded) if self.wiring == "global" else encoded

    def classes(self, batch: Batch) -> Ints:
        """Return the node that stands for each kernel of a batch, ``(k,)``."""
        return collapsed(batch.numbers, batch.kernel_graphs, batch.writers, batch.readers, self.rounds)[1]

    def _with_global(self, graphs: OperatorGraphs) -> OperatorGraphs:
        """Add to each graph a last node that gathers all, counted as in the readout, and is read out alone."""
        graph_of, n = graphs.graph_of, len(graphs.kinds)
        ends = graphs.starts + graphs.lengths
        place, added = np.arange(n) + graph_of, ends + np.arange(len(graphs))
        (way,) = graphs.ways
        sources = np.concatenate([place[way.sources], place, added])
        targets = np.concatenate([place[way.targets], added[graph_of], added])
        weights = np.concatenate([way.weights, graphs.counts / self.typical, np.ones(len(graphs))])
        order = np.argsort(targets, kind="stable")
        (kind,) = _places([_GLOBAL_KIND], self.kinds)
        return OperatorGraphs(
            np.insert(graphs.kinds, ends, kind),
            np.insert(graphs.families, ends, 0),
            np.insert(graphs.numbers, ends, 0.0, axis=0),
            np.insert(graphs.costs, ends, 0.0, axis=0),
            np.insert(graphs.counts, ends, 1.0),
            np.insert(np.zeros(n), ends, 1.0),
            graphs.starts + np.arange(len(graphs)),
            graphs.lengths + 1,
            (Edges(sources[order], targets[order], weights[order]),),
            graphs.whole,
            graphs.strange,
        )


_Way = tuple[Ints, Ints, Vector]
"""Sources, targets and weights of edges."""


def _directed(writers: Ints, readers: Ints, nodes: int) -> tuple[_Way, ...]:
    ones = np.ones(len(writers))
    return (writers, readers, ones), (readers, writers, ones)


def _symmetric(writers: Ints, readers: Ints, nodes: int) -> tuple[_Way, ...]:
    itself = np.arange(nodes)
    sources = np.concatenate([writers, readers, itself])
    targets = np.concatenate([readers, writers, itself])
    degree = np.bincount(targets, minlength=nodes).astype(np.float64)
    return ((sources, targets, 1 / np.sqrt(degree[sources] * degree[targets])),)


def _mean_of_read(writers: Ints, readers: Ints, nodes: int) -> tuple[_Way, ...]:
    itself = np.arange(nodes)
    sources, targets = np.concatenate([writers, itself]), np.concatenate([readers, itself])
    return ((sources, targets, 1 / np.bincount(targets, minlength=nodes)[targets]),)


_WAYS: Mapping[Wiring, Callable[[Ints, Ints, int], tuple[_Way, ...]]] = MappingProxyType(
    {"directed": _directed, "symmetric": _symmetric, "global": _mean_of_read}
)


def _places(words: Iterable[str], vocabulary: Sequence[str]) -> Ints:
    """Return each word's place in a vocabulary, counted from 1; 0 for one that it lacks."""
    place = {word: i for i, word in enumerate(vocabulary, start=1)}
    return np.array([place.get(word, 0) for word in words], dtype=np.int64)


def _numbers(kernels: Sequence[Kernel]) -> Matrix:
    """Return logarithms of costs and of the last output's shape, ``(distinct kernels, 6)``."""
    rows = [(k.macs, k.params, k.traffic_bytes, k.macs / (k.traffic_bytes + 1), *_sizes(k)) for k in kernels]
    numbers: Matrix = np.log1p(np.array(rows, dtype=np.float64).reshape(len(kernels), 6))
    return numbers


def _sizes(kernel: Kernel) -> tuple[int, int]:
    """Return how many positions the last output has, and how many channels."""
    shape = kernel.ops[-1].outputs[0].shape if kernel.ops and kernel.ops[-1].outputs else ()
    return math.prod(shape[1:-1]), shape[-1] if shape else 1


def _whole(batch: Batch) -> Matrix:
    """Return logarithms of what describes whole graphs, ``(graphs, 10)``: sums, shares on the longest path, memory."""
    macs, traffic, params = (batch.cost(name) for name in ("macs", "traffic_bytes", "params"))
    measures = np.column_stack([np.ones(len(macs)), macs, traffic, macs + _BYTES_PER_MAC * traffic])
    longest, _ = batch.longest(measures)
    sums = np.column_stack(
        [
            np.bincount(batch.kernel_graphs, weights=cost[batch.numbers], minlength=len(batch))
            for cost in (*measures.T, params)
        ]
    )
    share = longest / np.maximum(sums[:, :-1], 1.0)
    return np.hstack([np.log1p(sums), np.log(np.maximum(share, 1e-6)), np.log1p(batch.whole[:, :1])])
