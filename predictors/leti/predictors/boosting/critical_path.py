"""Critical path: which way through a network takes longest, by prices of kernels that are learnt from latencies.

A runtime that executes branches side by side is as slow as the longest path through the graph (Kelley and Walker,
"Critical-Path Planning and Scheduling", 1959), plus a share of all the work where branches compete. What a kernel costs
on the path is not known beforehand; so prices and paths are found in turns: the longest path of each network by the
prices of the last turn, then prices by a robust regression of latency on what stands on those paths, beside what stands
in the whole network. Each turn moves the prices halfway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from leti.core.extras import needs
from leti.core.parts import Part
from leti.predictors.additive import CRITICAL_PATH, fit_ridge
from leti.predictors.batch import Batch, Ints, Kernel, Matrix, Vector
from leti.predictors.boosting.blocks import Blocks
from leti.predictors.division import Table, added_up
from leti.predictors.features import FeatureMap
from leti.predictors.part_sums import in_two_ways

with needs("boosting"):
    import numpy as np

COSTS = ("count", "macs", "traffic_bytes")
"""What a kernel is charged for on the path."""

MAX_FAMILIES = 40
"""Families with prices of their own, the most widespread; the others are priced by their kind."""

_TIE_MS = 1e-10
"""Paths of one length over other kernels are common: less than this by name decides, not the order of nodes."""

_TURNS = 12
_STRENGTH = 1e-4


@final
class PathGraphs:
    """Graphs as rows of features ``(graphs, columns)``, and as blocks of kernels to find paths in.

    ``costs`` (distinct, :data:`COSTS`) and ``groups`` (distinct, 2) tell what each distinct kernel is charged for, and
    in which groups, -1 where in none; ``ties`` (distinct,) are fractions of 1 by name. All but the rows is made when it
    is asked for: paths through known parts of graphs need not be looked for again.
    """

    def __init__(self, rows: Matrix, batch: Batch, encoder: PathEncoder, blocks: Blocks | None = None) -> None:
        self.rows = rows
        self.encoder = encoder
        self._batch = batch
        self._part = blocks

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.rows)

    def __getitem__(self, rows: Ints) -> PathGraphs:
        """Return the graphs with these numbers."""
        return PathGraphs(self.rows[rows], self._batch, self.encoder, self.blocks[rows])

    @property
    def batch(self) -> Batch | None:
        """The batch, where these are all graphs of one."""
        return self._batch if self._part is None else None

    @cached_property
    def blocks(self) -> Blocks:
        """The graphs as blocks of kernels."""
        return Blocks.of(self._batch) if self._part is None else self._part

    @property
    def costs(self) -> Matrix:
        """What each distinct kernel is charged for, ``(distinct, COSTS)``."""
        return self._told[0][:, :-1]

    @property
    def groups(self) -> Ints:
        """The groups of each distinct kernel, ``(distinct, 2)``."""
        return self._told[1]

    @property
    def ties(self) -> Vector:
        """A fraction of each distinct kernel, ``(distinct,)``."""
        return self._told[0][:, -1]

    @cached_property
    def _told(self) -> tuple[Matrix, Ints]:
        return self.encoder.tell(self._batch.kernels)

    def charges(self, groups: int) -> Matrix:
        """Return what each distinct kernel is charged for by group, ``(distinct, groups * COSTS)``."""
        many = len(COSTS)
        found = np.zeros((len(self.costs), groups * many))
        for group in self.groups.T:
            known = (group >= 0).nonzero()[0]
            found[known[:, None], group[known][:, None] * many + np.arange(many)] = self.costs[known]
        return found


@final
@dataclass(frozen=True)
class PathEncoder:
    """The features of a graph, and the families of kernels that have prices of their own on the critical path."""

    features: FeatureMap
    families: tuple[str, ...]

    @classmethod
    def learn(cls, batch: Batch) -> PathEncoder:
        """Return the features of a batch, and its most widespread families."""
        features = FeatureMap.learn(batch)
        place = {name: i for i, name in enumerate(features.families)}
        family = np.array([place.get(kernel.family, -1) for kernel in batch.kernels], dtype=np.int64)[batch.numbers]
        known = family >= 0
        span = max(len(place), 1)
        pairs = np.unique(batch.kernel_graphs[known] * span + family[known]) % span
        order = np.argsort(-np.bincount(pairs, minlength=span), kind="stable")[:MAX_FAMILIES]
        return cls(features, tuple(sorted(features.families[i] for i in order.tolist() if i < len(place))))

    @property
    def groups(self) -> tuple[str, ...]:
        """The kinds and families that have a price."""
        return (*self.features.kinds, *self.families)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column that a model reads: the features, then what stands on the critical path and beside."""
        path = [f"{CRITICAL_PATH}{cost}: {group}" for group in self.groups for cost in COSTS]
        return (*self.features.names, *path, *(f"{CRITICAL_PATH}beside: {group}" for group in self.groups))

    def encode(self, batch: Batch) -> PathGraphs:
        """Return the graphs of a batch, encoded."""
        return PathGraphs(self.features.encode(batch), batch, self)

    def tell(self, kernels: Sequence[Kernel]) -> tuple[Matrix, Ints]:
        """Return :data:`COSTS` and a fraction by name of each kernel, ``(kernels, COSTS + 1)``, and its groups."""
        table, marks, numbers = self._kernels.look_up(kernels, self._describe)
        return table[numbers], marks[numbers]

    @cached_property
    def _kernels(self) -> Table[Kernel]:
        return Table(len(COSTS) + 1, 2)

    def _describe(self, kernels: Sequence[Kernel]) -> tuple[Matrix, Ints]:
        kinds, families = self._places
        rows = [(1.0, kernel.macs, kernel.traffic_bytes, kernel.tie) for kernel in kernels]
        marks = [(kinds.get(kernel.kind, -1), families.get(kernel.family, -1)) for kernel in kernels]
        return np.array(rows, dtype=np.float64), np.array(marks, dtype=np.int64)

    @cached_property
    def _places(self) -> tuple[dict[str, int], dict[str, int]]:
        kinds = self.features.kinds
        families = {name: i for i, name in enumerate(self.families, len(kinds))}
        return {name: i for i, name in enumerate(kinds)}, families


def on_path(graphs: PathGraphs, prices: Matrix) -> Matrix:
    """Return what stands on the critical path of each graph, and what runs beside: ``(graphs, width(groups))``.

    ``prices`` is ``(groups, len(COSTS))``, ms for each unit of cost; a kernel pays those of its kind and its family.
    First come the costs on the path by group, then for each group the ns that others run while its kernels do.
    """
    costs = _kernel_prices(graphs, prices)
    schedule = graphs.blocks.schedule(costs)
    blocks, kernels = graphs.blocks.longest(schedule)
    path = _sums(graphs, blocks, kernels, len(prices))
    return np.hstack([path, _beside(graphs, schedule.block, graphs.blocks.beside(schedule, costs), len(prices))])


def width(groups: int) -> int:
    """Return how many columns tell of the critical path."""
    return groups * (len(COSTS) + 1)


def remembered_on_path(graphs: PathGraphs, prices: Matrix, known: Table[Part]) -> Matrix:
    """Return the same as :func:`on_path`; what stands on it in parts of graphs is ``known`` for these prices."""
    if graphs.batch is None:
        return on_path(graphs, prices)

    def look_for(batch: Batch) -> Matrix:
        return on_path(PathGraphs(np.empty((len(batch), 0)), batch, graphs.encoder), prices)

    def divided(batch: Batch) -> Matrix:
        division = batch.division
        table, _, numbers = known.look_up(
            division.parts, lambda parts: (look_for(batch.of_parts(parts)), np.empty((len(parts), 0), dtype=np.int64))
        )
        return added_up(table, numbers[division.codes], division.times, division.starts)

    return in_two_ways(graphs.batch, divided, look_for)


def learn_prices(graphs: PathGraphs, latencies_ms: Vector, groups: int) -> Matrix:
    """Return the prices ``(groups, len(COSTS))`` whose paths explain the latencies ``(n,)`` best."""
    blocks = graphs.blocks
    every = np.repeat(np.arange(len(blocks.starts)), blocks.lengths)
    whole = _sums(graphs, every, blocks.kernels, groups)
    used = np.flatnonzero(whole.any(axis=0))
    prices = np.zeros(whole.shape[1])
    prices[used] = fit_ridge(whole[:, used], latencies_ms, _STRENGTH).weights
    best, least = prices, np.inf
    for _ in range(_TURNS):
        schedule = blocks.schedule(_kernel_prices(graphs, prices.reshape(groups, -1)))
        path = _sums(graphs, *blocks.longest(schedule), groups)
        fitted = fit_ridge(np.hstack([path[:, used], whole[:, used]]), latencies_ms, _STRENGTH)
        if fitted.error < least:
            best, least = prices, fitted.error
        moved = prices.copy()
        moved[used] += 0.5 * (fitted.weights[: len(used)] - prices[used])
        prices = moved
    return best.reshape(groups, -1)


def _kernel_prices(graphs: PathGraphs, prices: Matrix) -> Vector:
    """Return what each distinct kernel costs in ms, never below zero."""
    padded = np.vstack([prices, np.zeros((1, prices.shape[1]))])  # what has no group reads the last row
    each = padded[graphs.groups].sum(axis=1)
    found: Vector = np.maximum((graphs.costs * each).sum(axis=1), 0.0) + _TIE_MS * graphs.ties
    return found


def _sums(graphs: PathGraphs, blocks: Ints, kernels: Ints, groups: int) -> Matrix:
    """Return the costs of these kernels of these blocks by group, summed over each graph."""
    return graphs.blocks.sums_of(blocks, kernels, graphs.charges(groups))


def _beside(graphs: PathGraphs, blocks: Ints, spent_ns: Vector, groups: int) -> Matrix:
    """Return ns of the kernels of these blocks by their finest group, summed over each graph."""
    kind, family = graphs.groups[graphs.blocks.kernels].T
    group = np.where(family >= 0, family, kind)
    held = (group >= 0) & (spent_ns > 0)
    return graphs.blocks.sums(blocks[held], group[held], spent_ns[held], groups)
