"""Operator graphs: a batch as flat arrays of nodes and weighted edges, equal nodes of one graph collapsed into one.

Nodes that no graph convolution of k layers can tell apart, those of one colour after k rounds of Weisfeiler-Leman
refinement in both directions, get equal embeddings in every layer: one of them stands for all, with their count. The
repeated cells of a network shrink to a few (colour refinement as compression: Bollen, Steegmans, Van den Bussche and
Vansummeren, "Learning Graph Neural Networks using Exact Compression", 2023). The result is the same up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from leti.core.extras import needs
from leti.predictors.batch import Ints, Matrix, Vector

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray


@final
@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """What each node gathers: from ``sources`` (e,) to ``targets`` (e,), times ``weights`` (e,); targets ascend."""

    sources: Ints
    targets: Ints
    weights: Vector


@final
@dataclass(frozen=True, slots=True, eq=False)
class OperatorGraphs:
    """Graphs as nodes (n) and what each node gathers from others, once for each of the ``ways`` of looking.

    ``kinds`` and ``families`` (n,) are places in a vocabulary, 0 for a word that it lacks; ``numbers`` (n, columns) and
    ``costs`` (n, 2: macs and bytes) describe a node, ``counts`` (n,) says how many it stands for, ``readout`` (n,) how
    much of it the readout adds up. Graph ``g`` has ``lengths[g]`` nodes from ``starts[g]`` on. ``whole`` (graphs,
    columns) describes graphs; ``strange`` (graphs,) says which of them the encoder could not read.
    """

    kinds: Ints
    families: Ints
    numbers: Matrix
    costs: Matrix
    counts: Vector
    readout: Vector
    starts: Ints
    lengths: Ints
    ways: tuple[Edges, ...]
    whole: Matrix
    strange: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.lengths)

    def __getitem__(self, rows: Ints) -> OperatorGraphs:
        """Return the graphs with these numbers, in their order."""
        chosen = np.arange(len(self))[rows]
        lengths = self.lengths[chosen]
        nodes = self.nodes(chosen)
        starts = np.cumsum(lengths) - lengths
        ways = tuple(self._edges(way, chosen, starts) for way in self.ways)
        return OperatorGraphs(
            self.kinds[nodes],
            self.families[nodes],
            self.numbers[nodes],
            self.costs[nodes],
            self.counts[nodes],
            self.readout[nodes],
            starts,
            lengths,
            ways,
            self.whole[chosen],
            self.strange[chosen],
        )

    def _edges(self, way: Edges, chosen: Ints, starts: Ints) -> Edges:
        before = self.starts[chosen]
        first = np.searchsorted(way.targets, before, side="left")
        each = np.searchsorted(way.targets, before + self.lengths[chosen], side="left") - first
        rows = ranges(first, each)
        shift = np.repeat(starts - before, each)
        return Edges(way.sources[rows] + shift, way.targets[rows] + shift, way.weights[rows])

    def nodes(self, rows: Ints) -> Ints:
        """Return the numbers of the nodes of some graphs, graph by graph."""
        return ranges(self.starts[rows], self.lengths[rows])

    @property
    def graph_of(self) -> Ints:
        """Number of the graph of each node, ``(n,)``."""
        return np.repeat(np.arange(len(self)), self.lengths)


def ranges(first: Ints, each: Ints) -> Ints:
    """Return ``first[0], first[0] + 1, …`` (``each[0]`` of them), then those of the next, in one array."""
    before = np.cumsum(each) - each
    return np.repeat(first - before, each) + np.arange(int(each.sum()))


def collapsed(
    types: Ints, graphs: Ints, writers: Ints, readers: Ints, rounds: int
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Return a node for each class of equal ones, the class of each node, and how many nodes each class has.

    ``types`` and ``graphs`` (k,) say what each node is and where, ascending by graph; an edge leads from a node of
    ``writers`` to one of ``readers`` (e,). The first result ascends: classes stand in the order of their first nodes.
    """
    colours = _scrambled(types.astype(np.uint64))
    for _ in range(rounds):
        before, after = np.zeros_like(colours), np.zeros_like(colours)
        salted = _scrambled(colours ^ _SALT)
        np.add.at(before, readers, salted[writers])  # a sum of scrambled colours names a multiset
        np.add.at(after, writers, salted[readers])
        colours = _scrambled(colours + _scrambled(before ^ _BEFORE) + _scrambled(after ^ _AFTER))
    keys = _scrambled(colours + _scrambled(graphs.astype(np.uint64) ^ _SALT))
    _, first, which, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return first[order], place[which], counts[order].astype(np.float64)


def gathered(representatives: Ints, which: Ints, sources: Ints, targets: Ints, weights: Vector) -> Edges:
    """Return what the node that stands for each class gathers, parallel edges added up."""
    place = np.full(len(which), -1, dtype=np.int64)
    place[representatives] = np.arange(len(representatives))
    kept = place[targets] >= 0
    width = max(len(representatives), 1)
    pairs, inverse = np.unique(place[targets[kept]] * width + which[sources[kept]], return_inverse=True)
    summed = np.bincount(inverse, weights=weights[kept], minlength=len(pairs))
    return Edges(pairs % width, pairs // width, summed.astype(np.float64))


_SALT = np.uint64(0x9E3779B97F4A7C15)
_BEFORE = np.uint64(0xC2B2AE3D27D4EB4F)
_AFTER = np.uint64(0x165667B19E3779F9)


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return values spread over 64 bits (the finaliser of SplitMix64: Steele, Lea and Flood, 2014)."""
    mixed = values + _SALT
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
