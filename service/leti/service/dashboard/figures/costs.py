"""Latency against what a network costs and what it reaches, and how latencies are spread.

Figures 3.3, 3.5 and 3.6 of the LETI paper.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from leti.service.dashboard.figures.clouds import Axis, Colour, Spacing, cloud
from leti.service.dashboard.figures.figure import Column, Figure
from leti.service.dashboard.figures.forms import axis, bars, chart, mark
from leti.service.dashboard.figures.statistics import pearson, spearman
from leti.service.dashboard.words import digits, latency, share
from leti.service.store.truth_columns import AccuracyColumns, TruthColumns

BINS: Final = 40
FACTOR: Final = 20.0
"""Where latencies differ by more, they are counted in steps of equal factors."""

MEASURE: Final = "Start a campaign for this platform, and an agent on its device."


def against_macs(known: TruthColumns, colour: Colour, spacing: Spacing) -> Figure:
    """Return latency against multiply-accumulates."""
    macs = Axis("macs", "multiply-accumulates, millions", known.macs / 1e6)
    return _against("Latency against MACs", "MACs", known, macs, colour, spacing)


def against_memory(known: TruthColumns, colour: Colour, spacing: Spacing) -> Figure:
    """Return latency against peak memory."""
    memory = Axis("peak_memory", "peak memory, MiB", known.peak_memory_bytes / 2**20)
    return _against("Latency against peak memory", "peak memory", known, memory, colour, spacing)


def _against(title: str, what: str, known: TruthColumns, cost: Axis, colour: Colour, spacing: Spacing) -> Figure:
    drawn = cloud(
        known.fingerprint,
        known.space,
        cost,
        Axis("latency", "latency, ms", known.latency_ms),
        colour=colour,
        scales=(spacing, spacing),
    )
    rank, line = spearman(cost.values, known.latency_ms), pearson(cost.values, known.latency_ms)
    says = f"The networks are too few, or too much alike, to say how latency goes with {what}."
    if rank is not None and line is not None:
        says = (
            f"Over {len(known.latency_ms):,} networks, latency goes with {what} by a Spearman correlation of "
            f"{rank:.3f}; a straight line through them explains {share(line**2)} of the variance (R² {line**2:.3f})."
        )
    return Figure(title, says, drawn.columns, drawn.option, remedy=MEASURE, notes=drawn.notes)


def against_accuracy(known: AccuracyColumns, task: str, colour: Colour, spacing: Spacing) -> Figure:
    """Return latency against accuracy on a task, with the front of networks that none is faster and better than."""
    front = pareto_front(known.latency_ms, known.accuracy)
    ends = [(float(known.latency_ms[i]), 100 * float(known.accuracy[i])) for i in front]
    drawn = cloud(
        known.fingerprint,
        known.space,
        Axis("latency", "latency, ms", known.latency_ms),
        Axis("accuracy", f"accuracy on {task}, %", 100 * known.accuracy),
        colour=colour,
        scales=(spacing, "value"),
        first=front.tolist(),
        marks=[mark("Pareto front", ends) | {"step": "end"}],
    )
    on_front = np.isin(drawn.index, front)
    columns = (*drawn.columns, Column("front", "on the front", ["yes" if one else "no" for one in on_front]))
    says = ""
    if ends:
        says = (
            f"Of {len(known.accuracy):,} networks with an accuracy on {task}, {len(front):,} are on the Pareto front: "
            f"from {digits(ends[0][1])} % in {latency(ends[0][0])} to {digits(ends[-1][1])} % in "
            f"{latency(ends[-1][0])}."
        )
    remedy = "Say what networks reached once trained: PUT /v1/networks/{fingerprint}/accuracies/{task}."
    return Figure("Latency against accuracy", says, columns, drawn.option, remedy=remedy, notes=drawn.notes)


def pareto_front(latency_ms: NDArray[np.float64], accuracy: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the numbers of those that none is faster and better than, the fastest first; columns ``(n,)``."""
    order: NDArray[np.int64] = np.lexsort((-accuracy, latency_ms)).astype(np.int64)
    if not len(order):
        return order
    best = np.maximum.accumulate(accuracy[order])
    front: NDArray[np.int64] = order[np.concatenate([[True], best[1:] > best[:-1]])]
    return front


def histogram(known: TruthColumns) -> Figure:
    """Return how many networks have which latency."""
    values = known.latency_ms
    columns: tuple[Column, ...] = ()
    says = ""
    if len(values):
        low, high = values.min(), values.max()
        wide = high > FACTOR * low
        edges = np.geomspace(low, high, BINS + 1) if wide else np.linspace(low, high, BINS + 1)
        count, edges = np.histogram(values, edges) if low < high else (np.array([len(values)]), np.array([low, high]))
        columns = (
            Column("range", "latency, ms", [f"{digits(a)} to {digits(b)}" for a, b in pairwise(edges.tolist())]),
            Column("networks", "networks", count.tolist()),
        )
        tenth, half, most = np.quantile(values, (0.1, 0.5, 0.9))
        says = (
            f"{len(values):,} networks take from {latency(low)} to {latency(high)}: half of them at most "
            f"{latency(half)}, four in five between {latency(tenth)} and {latency(most)}."
        )
    option = chart(axis("latency, ms", "category"), axis("networks"), [bars("range", "networks", barCategoryGap="5%")])
    return Figure("Latencies", says, columns, option, remedy=MEASURE)
