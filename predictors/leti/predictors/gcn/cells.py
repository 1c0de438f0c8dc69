"""Cells: graphs of a search space whose positions form one fixed cell, told by what was chosen at each position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from leti.core.extras import needs
from leti.predictors.batch import Batch
from leti.predictors.gcn.graphs import Edges, OperatorGraphs

with needs("boosting"):
    import numpy as np

POSITIONS: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType(
    {"nasbench201": ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))}
)
"""For each such space, the node that each position of its encoding begins at, and the one that it ends at."""

_ENDS = ("(input)", "(output)", "(graph)")


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """The space that training graphs come from, and how many operations its positions choose from."""

    space: str
    choices: int

    @classmethod
    def of(cls, batch: Batch) -> Cell | None:
        """Return the cell that all graphs of a batch are made of, or ``None`` where they are not.

        A cell does not say how often it is stacked, on which input, or how wide: graphs that differ there are none.
        """
        spaces = {encoding.space if encoding else "" for encoding in batch.encodings}
        inputs = {graph.inputs for graph in batch.graphs}
        positions = POSITIONS.get(next(iter(spaces), ""), ())
        if len(spaces) != 1 or len(inputs) != 1 or not positions:
            return None
        choices = [encoding.choices for encoding in batch.encodings if encoding]
        if any(len(of_one) != len(positions) for of_one in choices):
            return None
        return cls(next(iter(spaces)), 1 + max(max(of_one) for of_one in choices))

    @property
    def words(self) -> tuple[str, ...]:
        """What a node may be."""
        return (*_ENDS, *(f"choice {number}" for number in range(self.choices)))


def encode_cells(cell: Cell, batch: Batch) -> OperatorGraphs:
    """Return each graph as input, positions, output and a node that reads all; 0 for what the cell does not have."""
    positions = POSITIONS[cell.space]
    nodes = len(positions) + 3
    kinds = np.zeros((len(batch), nodes), dtype=np.int64)
    strange = np.ones(len(batch), dtype=bool)
    kinds[:, 0], kinds[:, -2], kinds[:, -1] = 1, 2, 3
    for graph, encoding in enumerate(batch.encodings):
        if encoding and encoding.space == cell.space and len(encoding.choices) == len(positions):
            chosen = np.array(encoding.choices)
            known = (chosen >= 0) & (chosen < cell.choices)
            kinds[graph, 1:-2] = np.where(known, chosen + len(_ENDS) + 1, 0)
            strange[graph] = not known.all()
    way = _wires(cell)
    shift = np.arange(len(batch)) * nodes
    total = len(batch) * nodes
    readout = np.zeros((len(batch), nodes))
    readout[:, -1] = 1.0
    return OperatorGraphs(
        kinds.reshape(-1),
        np.zeros(total, dtype=np.int64),
        np.zeros((total, 0)),
        np.zeros((total, 2)),
        np.ones(total),
        readout.reshape(-1),
        shift,
        np.full(len(batch), nodes, dtype=np.int64),
        (
            Edges(
                (way.sources + shift[:, None]).reshape(-1),
                (way.targets + shift[:, None]).reshape(-1),
                np.tile(way.weights, len(batch)),
            ),
        ),
        np.zeros((len(batch), 0)),
        strange,
    )


def _wires(cell: Cell) -> Edges:
    """Return what each node of one cell gathers: the mean over what it reads and itself."""
    positions = POSITIONS[cell.space]
    last, output, everything = max(end for _, end in positions), len(positions) + 1, len(positions) + 2
    reads = [(0, i) for i, (begin, _) in enumerate(positions, 1) if begin == 0]
    reads += [
        (j, i) for i, (begin, _) in enumerate(positions, 1) for j, (_, end) in enumerate(positions, 1) if end == begin
    ]
    reads += [(j, output) for j, (_, end) in enumerate(positions, 1) if end == last]
    reads += [(node, everything) for node in range(everything)]
    reads += [(node, node) for node in range(everything + 1)]
    sources, targets = np.array(sorted(reads, key=lambda pair: pair[1])).T
    return Edges(sources, targets, 1 / np.bincount(targets)[targets])
