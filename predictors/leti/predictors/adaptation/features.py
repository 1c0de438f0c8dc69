"""Transfer features: what is known of a network on a new platform before it is measured there.

Three blocks of columns: its latencies on other platforms, as predicted; what it is made of (counts, MACs and bytes by
kind of operator and by family of kernel); and the choice at each position of its search space, where it has one. The
first says what platforms have in common, the others in what the new one may differ. Columns of the last two are brought
to one scale over a *population* of networks, so that one prior fits them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.extras import needs
from leti.core.graph import Graph
from leti.predictors.batch import Batch, Ints, Matrix, Vector
from leti.predictors.features import FeatureMap

with needs("boosting"):
    import numpy as np

_SUMS: Final = ("count: ", "macs: ", "traffic_bytes: ")
_CONSTANT: Final = 1e-9


@final
@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """Networks with the scaled columns of their parts ``(n, p)``, and of their positions ``(n, q)``."""

    graphs: tuple[Graph, ...]
    parts: Matrix
    positions: Matrix

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.graphs)

    def __getitem__(self, rows: Ints) -> Networks:
        """Return the networks with these numbers."""
        return Networks(tuple(self.graphs[i] for i in rows.tolist()), self.parts[rows], self.positions[rows])


@final
@dataclass(frozen=True, slots=True)
class Scale:
    """Chosen columns of a block with their means and what they are divided by, each ``(columns,)``."""

    columns: tuple[int, ...]
    means: tuple[float, ...]
    divisors: tuple[float, ...]

    @classmethod
    def of(cls, rows: Matrix) -> Scale:
        """Return the columns of ``rows`` that vary, to be brought to variances that add up to one."""
        deviations = rows.std(axis=0)
        chosen = np.flatnonzero(deviations > _CONSTANT * np.maximum(np.abs(rows).max(axis=0), 1e-300))
        divisors = deviations[chosen] * np.sqrt(max(len(chosen), 1))
        return cls(tuple(chosen.tolist()), tuple(rows.mean(axis=0)[chosen].tolist()), tuple(divisors.tolist()))

    def apply(self, rows: Matrix) -> Matrix:
        """Return the chosen columns, scaled."""
        scaled: Matrix = (rows[:, np.array(self.columns, dtype=np.intp)] - np.array(self.means)) / self.divisors
        return scaled


@final
@dataclass(frozen=True, slots=True)
class TransferFeatures:
    """Which columns a network's parts and positions give, and their scales over the population.

    ``options`` lists (position, choice) of the space ``space``; an empty name stands for a population of several
    spaces, or of none. A network of another space has the mean in each of these columns.
    """

    features: FeatureMap
    parts: Scale
    space: str
    options: tuple[tuple[int, int], ...]
    positions: Scale

    @classmethod
    def learn(cls, population: Sequence[Graph]) -> TransferFeatures:
        """Return columns that tell the networks of a population apart."""
        batch = Batch.of(population)
        features = FeatureMap.learn(batch, max_columns=0)
        spaces = {graph.encoding.space if graph.encoding else "" for graph in population}
        space = next(iter(spaces)) if len(spaces) == 1 else ""
        chosen = {
            pair for graph in population if space and graph.encoding for pair in enumerate(graph.encoding.choices)
        }
        options = tuple(sorted(chosen))
        placed = _one_hot(population, space, options)
        parts = Scale.of(_parts(features, batch, placed, options))
        return cls(features, parts, space, options, Scale.of(placed))

    def encode(self, batch: Batch) -> Networks:
        """Return the graphs of a batch with their columns."""
        graphs = tuple(graph for graph in batch.graphs if isinstance(graph, Graph))
        placed = _one_hot(graphs, self.space, self.options)
        parts = self.parts.apply(_parts(self.features, batch, placed, self.options))
        positions = self.positions.apply(placed)
        strange = [i for i, graph in enumerate(graphs) if not graph.encoding or graph.encoding.space != self.space]
        positions[strange] = 0.0
        if self.options:
            parts[strange] = 0.0
        return Networks(graphs, parts, positions)


def _parts(features: FeatureMap, batch: Batch, placed: Matrix, options: Sequence[tuple[int, int]]) -> Matrix:
    """Return how often each choice was made, where there is one space, and else sums over kinds and families.

    A runtime may run what a graph leaves out, because no output needs it: the choices count that too.
    """
    if options:
        choices = sorted({choice for _, choice in options})
        member = np.array([[choice == one for one in choices] for _, choice in options], dtype=np.float64)
        return placed @ member
    chosen = [i for i, name in enumerate(features.names) if name.startswith(_SUMS)]
    rows: Matrix = features.encode(batch)[:, chosen]
    return rows


def _one_hot(graphs: Sequence[Graph], space: str, options: Sequence[tuple[int, int]]) -> Matrix:
    """Return 1 where a network has an option, ``(graphs, options)``."""
    found = np.zeros((len(graphs), len(options)))
    place = {option: i for i, option in enumerate(options)}
    for row, graph in enumerate(graphs):
        if graph.encoding is not None and graph.encoding.space == space:
            held = [place[option] for option in enumerate(graph.encoding.choices) if option in place]
            found[row, held] = 1.0
    return found


@final
@dataclass(frozen=True, slots=True, eq=False)
class SourceScale:
    """How latencies on m platforms become blocks: their common part, and in what they differ.

    ``common`` ``(m,)`` and ``differences`` ``(m, m)`` are weights on latencies in ms. The common part is the mean of
    the standardised latencies; the differences are what it leaves of each. Both have mean square rows of one over the
    population, up to a constant that an intercept takes away.
    """

    common: Vector
    differences: Matrix

    @classmethod
    def of(cls, source_ms: Matrix) -> SourceScale:
        """Return the scale of latencies ``(population, m)``."""
        deviations = np.maximum(source_ms.std(axis=0), _CONSTANT * np.abs(source_ms).mean(axis=0))
        standard = (source_ms - source_ms.mean(axis=0)) / deviations
        spread = max(float(standard.mean(axis=1).std()), _CONSTANT)
        common = np.full(source_ms.shape[1], 1 / (source_ms.shape[1] * spread))
        level = standard @ common
        slopes = level @ standard / len(standard)
        differences = np.eye(len(common)) - np.outer(common, slopes)
        size = float(np.sqrt(np.mean(np.sum((standard @ differences) ** 2, axis=1))))
        differences = differences / size if size > 1e-6 else np.zeros_like(differences)
        return cls(common / deviations, differences / deviations[:, None])
