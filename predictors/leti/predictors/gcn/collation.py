"""Collation: operator graphs as tensors, dense for small graphs and by torch-geometric for any size.

A dense batch pads every graph to the largest one's nodes, and gathers neighbours by a batched matrix product, n² work a
graph; torch-geometric's message passing works edge by edge. The numbers are the same.
"""

from __future__ import annotations

import warnings
from typing import Protocol, final

from typing_extensions import override

from leti.core.extras import needs
from leti.predictors.batch import Ints
from leti.predictors.gcn.graphs import Edges, OperatorGraphs

with needs("gcn"):
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch-geometric compiles with what torch will drop
        from torch_geometric.nn import MessagePassing, global_add_pool

DENSE_NODES = 32
"""Largest graph, in collapsed nodes, that is batched densely.

A training step of ``gcn`` on 32 graphs of 4, 8, 16, 32, 48, 64, 96 nodes, one core: torch-geometric takes 1.4, 1.4,
1.2, 1.07, 0.96, 0.89, 0.77 times as long. Several members in one row leave less to gain than a single network has.
"""


class Collated(Protocol):
    """Graphs as tensors, nodes in rows; padding counts for nothing. Columns of one number have a dimension for it."""

    kinds: Tensor
    families: Tensor
    numbers: Tensor
    base: Tensor
    counts: Tensor
    readout: Tensor
    whole: Tensor

    def gather(self, way: int, hidden: Tensor) -> Tensor:
        """Return for each node the weighted sum over its neighbours of one way, ``(rows, columns)``."""
        ...

    def pool(self, rows: Tensor) -> Tensor:
        """Return the sum over the nodes of each graph, ``(graphs, columns)``."""
        ...


def collate(graphs: OperatorGraphs, base_ms: NDArray[np.float64], dtype: torch.dtype = torch.float32) -> Collated:
    """Return graphs as tensors, in the form that suits their size; ``base_ms`` (n,) prices each node."""
    small = int(graphs.lengths.max(initial=0)) <= DENSE_NODES
    return (DenseGraphs if small else SparseGraphs)(graphs, base_ms, dtype)


@final
class DenseGraphs(Collated):
    """Graphs padded to the nodes of the largest, with matrices of adjacency ``(graphs, nodes, nodes)``."""

    def __init__(self, graphs: OperatorGraphs, base_ms: NDArray[np.float64], dtype: torch.dtype) -> None:
        self._graphs, self._nodes = len(graphs), int(graphs.lengths.max(initial=0))
        graph_of = graphs.graph_of
        place = torch.from_numpy(graph_of * self._nodes + np.arange(len(graph_of)) - graphs.starts[graph_of])
        rows = self._graphs * self._nodes

        def padded(column: NDArray[np.float64] | Ints, kind: torch.dtype) -> Tensor:
            filled = torch.zeros((rows, *column.shape[1:]), dtype=kind)
            filled[place] = torch.from_numpy(column).to(kind)
            return filled

        self.kinds, self.families = padded(graphs.kinds, torch.int64), padded(graphs.families, torch.int64)
        self.numbers = padded(graphs.numbers, dtype)
        self.base, self.counts, self.readout = (
            padded(column[:, None], dtype) for column in (base_ms, graphs.counts, graphs.readout)
        )
        self.whole = torch.from_numpy(graphs.whole).to(dtype)
        self._adjacency = [self._matrix(way, place, dtype) for way in graphs.ways]

    def _matrix(self, way: Edges, place: Tensor, dtype: torch.dtype) -> Tensor:
        matrix = torch.zeros(self._graphs * self._nodes * self._nodes, dtype=dtype)
        row, column = place[torch.from_numpy(way.targets)], place[torch.from_numpy(way.sources)]
        matrix[row * self._nodes + column % self._nodes] = torch.from_numpy(way.weights).to(dtype)
        return matrix.view(self._graphs, self._nodes, self._nodes)

    @override
    def gather(self, way: int, hidden: Tensor) -> Tensor:
        return torch.bmm(self._adjacency[way], hidden.view(self._graphs, self._nodes, -1)).flatten(0, 1)

    @override
    def pool(self, rows: Tensor) -> Tensor:
        return rows.view(self._graphs, self._nodes, -1).sum(1)


class _WeightedSum(MessagePassing):  # type: ignore[misc]  # torch-geometric has no types here
    """What a node gathers: the sum over its edges of the source's row times the edge's weight."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        """Return the sums, ``(nodes, columns)``."""
        gathered: Tensor = self.propagate(edge_index, x=x, weight=weight)
        return gathered

    @override
    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return x_j * weight


@final
class SparseGraphs(Collated):
    """Graphs side by side as one large graph, as in torch-geometric's batches."""

    def __init__(self, graphs: OperatorGraphs, base_ms: NDArray[np.float64], dtype: torch.dtype) -> None:
        def column(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values).to(dtype)

        self.kinds, self.families = torch.from_numpy(graphs.kinds), torch.from_numpy(graphs.families)
        self.numbers = column(graphs.numbers)
        self.base, self.counts, self.readout = (
            column(values)[:, None] for values in (base_ms, graphs.counts, graphs.readout)
        )
        self.whole = column(graphs.whole)
        self._graphs, self._graph_of = len(graphs), torch.from_numpy(graphs.graph_of)
        self._edges = [
            (torch.from_numpy(np.stack([way.sources, way.targets])), column(way.weights)[:, None])
            for way in graphs.ways
        ]
        self._sum = _WeightedSum()

    @override
    def gather(self, way: int, hidden: Tensor) -> Tensor:
        gathered: Tensor = self._sum(hidden, *self._edges[way])
        return gathered

    @override
    def pool(self, rows: Tensor) -> Tensor:
        pooled: Tensor = global_add_pool(rows, self._graph_of, self._graphs)
        return pooled
