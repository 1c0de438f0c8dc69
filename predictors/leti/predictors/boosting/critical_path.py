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
from typing import NamedTuple, final

from leti.core.extras import needs
from leti.core.parts import Part
from leti.predictors.additive import CRITICAL_PATH, fit_ridge
from leti.predictors.batch import FEW, Batch, Ints, Kernel, Matrix, Vector
from leti.predictors.boosting.blocks import Blocks
from leti.predictors.boosting.timeline import Timeline
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
class Charges(NamedTuple):
    """What each of d distinct kernels is charged for, and in which groups.

    ``costs`` (d, :data:`COSTS`) are its own; ``by_group`` (d, groups * :data:`COSTS`) has them for its kind and for its
    family. ``groups`` (d, 2) are these, -1 where there is none; ``ties`` (d,) are fractions of 1 by name.
    """

    costs: Matrix
    by_group: Matrix
    groups: Ints
    ties: Vector

    def prices_ms(self, prices: Matrix) -> Vector:
        """Return what each kernel costs in ms by prices ``(groups, len(COSTS))``, never below zero."""
        padded = np.vstack([prices, np.zeros((1, prices.shape[1]))])  # what has no group reads the last row
        each = padded[self.groups].sum(axis=1)
        found: Vector = np.maximum((self.costs * each).sum(axis=1), 0.0) + _TIE_MS * self.ties
        return found

    def priced(self, prices: Matrix) -> Priced:
        """Return what each kernel costs by these prices, and in which group what runs beside it counts."""
        kind, family = self.groups.T
        return Priced(self.prices_ms(prices), self.by_group, np.where(family >= 0, family, kind))


@final
class Priced(NamedTuple):
    """What each of d distinct kernels costs: ``ms`` (d,), ``charges`` (d, groups * :data:`COSTS`) by group.

    ``group`` (d,) is its finest one, -1 where there is none.
    """

    ms: Vector
    charges: Matrix
    group: Ints


@final
class PathGraphs:
    """Graphs as rows of features ``(graphs, columns)``, and as blocks of kernels to find paths in.

    All but the rows is made when it is asked for: paths through known parts of graphs need not be looked for again.
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

    @cached_property
    def charges(self) -> Charges:
        """What the distinct kernels of the batch are charged for."""
        return self.encoder.charges(self._batch.kernels)


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

    def charges(self, kernels: Sequence[Kernel]) -> Charges:
        """Return what kernels are charged for."""
        kinds, families = self._places
        costs = np.array([(1.0, kernel.macs, kernel.traffic_bytes) for kernel in kernels], dtype=np.float64)
        groups = np.array(
            [(kinds.get(kernel.kind, -1), families.get(kernel.family, -1)) for kernel in kernels], dtype=np.int64
        )
        costs, groups = costs.reshape(-1, len(COSTS)), groups.reshape(-1, 2)
        by_group = np.zeros((len(costs), len(self.groups), len(COSTS)))
        for group in groups.T:
            known = (group >= 0).nonzero()[0]
            by_group[known, group[known]] = costs[known]
        ties = np.array([kernel.tie for kernel in kernels], dtype=np.float64)
        return Charges(costs, by_group.reshape(len(costs), len(self.groups) * len(COSTS)), groups, ties)

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
    return _of_many(graphs.blocks, graphs.charges.priced(prices))


def width(groups: int) -> int:
    """Return how many columns tell of the critical path."""
    return groups * (len(COSTS) + 1)


@final
class KnownPaths:
    """The same as :func:`on_path` by prices that stay: what is found of parts of graphs and of kernels is kept."""

    def __init__(self, prices: Matrix) -> None:
        groups = len(prices)
        self._prices = prices
        self._parts: Table[Part] = Table(width(groups), 0)
        self._kernels: Table[Kernel] = Table(1 + groups * len(COSTS), 1)

    def rows(self, graphs: PathGraphs) -> Matrix:
        """Return what stands on the critical path of each graph, and what runs beside: ``(graphs, width(groups))``."""
        if graphs.batch is None:
            return on_path(graphs, self._prices)
        encoder = graphs.encoder

        def divided(batch: Batch) -> Matrix:
            division = batch.division
            table, _, numbers = self._parts.look_up(
                division.parts, lambda parts: (self._found(batch.of_parts(parts), encoder), _no_marks(parts))
            )
            return added_up(table, numbers[division.codes], division.times, division.starts)

        return in_two_ways(graphs.batch, divided, lambda batch: self._found(batch, encoder))

    def _found(self, batch: Batch, encoder: PathEncoder) -> Matrix:
        def describe(kernels: Sequence[Kernel]) -> tuple[Matrix, Ints]:
            found = encoder.charges(kernels).priced(self._prices)
            return np.column_stack([found.ms, found.charges]), found.group[:, None]

        table, marks, numbers = self._kernels.look_up(batch.kernels, describe)
        known = table[numbers]
        priced = Priced(known[:, 0], known[:, 1:], marks[numbers, 0])
        return _of_few(batch, priced) if len(batch) <= FEW else _of_many(Blocks.of(batch), priced)


def learn_prices(graphs: PathGraphs, latencies_ms: Vector, groups: int) -> Matrix:
    """Return the prices ``(groups, len(COSTS))`` whose paths explain the latencies ``(n,)`` best."""
    blocks = graphs.blocks
    every = np.repeat(np.arange(len(blocks.starts)), blocks.lengths)
    charges = graphs.charges
    whole = blocks.sums_of(every, blocks.kernels, charges.by_group)
    used = np.flatnonzero(whole.any(axis=0))
    prices = np.zeros(whole.shape[1])
    prices[used] = fit_ridge(whole[:, used], latencies_ms, _STRENGTH).weights
    best, least = prices, np.inf
    for _ in range(_TURNS):
        schedule = blocks.schedule(charges.prices_ms(prices.reshape(groups, -1)))
        path = blocks.sums_of(*blocks.longest(schedule), charges.by_group)
        fitted = fit_ridge(np.hstack([path[:, used], whole[:, used]]), latencies_ms, _STRENGTH)
        if fitted.error < least:
            best, least = prices, fitted.error
        moved = prices.copy()
        moved[used] += 0.5 * (fitted.weights[: len(used)] - prices[used])
        prices = moved
    return best.reshape(groups, -1)


def _of_many(blocks: Blocks, priced: Priced) -> Matrix:
    schedule = blocks.schedule(priced.ms)
    path = blocks.sums_of(*blocks.longest(schedule), priced.charges)
    spent_ns, group = blocks.beside(schedule, priced.ms), priced.group[blocks.kernels]
    held = ((group >= 0) & (spent_ns > 0)).nonzero()[0]
    groups = priced.charges.shape[1] // len(COSTS)
    return np.hstack([path, blocks.sums(schedule.block[held], group[held], spent_ns[held], groups)])


def _of_few(batch: Batch, priced: Priced) -> Matrix:
    """Return the same for a batch of few graphs, one after the other."""
    costs_ms, path, beside_ns = priced.ms[batch.numbers].tolist(), list[int](), list[float]()
    for start, outline in zip(batch.starts.tolist(), batch.outlines, strict=True):
        timeline = Timeline.of(outline, costs_ms[start : start + len(outline.kernels)])
        path += [start + kernel for kernel in timeline.path]
        beside_ns += timeline.beside
    on, graphs, spent_ns = np.array(path, dtype=np.int64), batch.kernel_graphs, np.array(beside_ns)
    distinct, groups, count = len(priced.ms), priced.charges.shape[1] // len(COSTS), len(batch)
    times = np.bincount(graphs[on] * distinct + batch.numbers[on], minlength=count * distinct)
    group = priced.group[batch.numbers]
    held = ((group >= 0) & (spent_ns > 0)).nonzero()[0]
    beside = np.bincount(graphs[held] * groups + group[held], weights=spent_ns[held], minlength=count * groups)
    return np.hstack([times.reshape(count, distinct) @ priced.charges, beside.reshape(count, groups)])


def _no_marks(items: Sequence[object]) -> Ints:
    return np.empty((len(items), 0), dtype=np.int64)
