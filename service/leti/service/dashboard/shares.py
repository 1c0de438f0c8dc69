"""What a predicted latency is made of, as a figure: kernel by kernel, beside what a profile measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

from leti.core.searching import BreakdownRequest, BreakdownResponse, NetworkBreakdown
from leti.core.wire import NetworkInput, Zero
from leti.service.dashboard.figures import Column, Figure
from leti.service.dashboard.figures.figure import MOST_ROWS
from leti.service.dashboard.figures.forms import axis, bars, chart
from leti.service.dashboard.words import latency, share
from leti.service.routes.parts import Parts

COSTLIEST: Final = 3
"""Kernels that the sentence names."""


def shares_figure(parts: Parts, platform_id: str, network: NetworkInput, zero: Zero) -> Figure:
    """Return what the latency of a network on a platform is made of.

    Raises what :meth:`~leti.service.searching.breakdowns.Explainer.explain` raises, and what it says of the network.
    """
    answer = parts.searching.explainer.explain(BreakdownRequest(platform_id, (network,), zero=zero))
    if not answer.items:
        raise answer.failures[0].problem.error()
    return _figure(answer, answer.items[0])


def _figure(answer: BreakdownResponse, item: NetworkBreakdown) -> Figure:
    kept = item.shares
    notes: list[str] = []
    if len(kept) > MOST_ROWS:
        dearest = sorted(range(len(kept)), key=lambda i: -abs(kept[i].latency_ms))[:MOST_ROWS]
        notes.append(f"Of {len(kept):,} shares, the {MOST_ROWS:,} largest are shown.")
        kept = tuple(kept[i] for i in sorted(dearest))
    profiled = any(one.measured_ms is not None for one in kept)
    if profiled:
        notes.append("Profiling costs time: measured times of operators add up to more than the network takes.")
    if item.served_ms is not None:
        notes.append(f"The service answers {latency(item.served_ms)} ({item.source}) for the whole network.")
    what = "kernel" if answer.grain == "operators" else "feature"
    series = [bars("number", "predicted", f"predicted by {answer.predictor} {answer.version}", large=True)]
    columns = [
        Column("number", what, list(range(1, len(kept) + 1))),
        Column("name", "what it is", [one.described or one.name for one in kept]),
        Column("predicted", "predicted, ms", [one.latency_ms for one in kept]),
        Column("share", "share, %", [100 * one.latency_ms / item.latency_ms for one in kept]),
    ]
    if profiled:
        series.append(bars("number", "measured", "measured in a profile"))
        columns.append(Column("measured", "measured, ms", [one.measured_ms for one in kept]))
    return Figure(
        f"What its latency on {answer.platform_id} is made of",
        _says(answer, item),
        tuple(columns),
        chart(axis(f"{what}s in the order of execution", "category"), axis("ms"), series),
        remedy="Train a predictor that can tell: lookup_table or kernel_sum.",
        notes=tuple(notes),
    )


def _says(answer: BreakdownResponse, item: NetworkBreakdown) -> str:
    whole = f"{answer.predictor} {answer.version} predicts {latency(item.latency_ms)}"
    if not answer.active:
        whole += " (it is not the active predictor, which cannot tell)"
    alike: defaultdict[str, float] = defaultdict(float)
    count = Counter(one.described or one.name for one in item.shares)
    for one in item.shares:
        alike[one.described or one.name] += one.latency_ms
    named = "; ".join(
        f"{count[what]} × {what} ({share(cost / item.latency_ms)} together)"
        if count[what] > 1
        else f"{what} ({share(cost / item.latency_ms)})"
        for what, cost in sorted(alike.items(), key=lambda one: -one[1])[:COSTLIEST]
    )
    return f"{whole}. The most takes {named}."
