"""What a predictor's latencies are made of: which of its features, or of the operators, matter."""

from __future__ import annotations

from typing import Final

from leti.core.training import PredictorInfo
from leti.service.dashboard.figures.figure import MOST_ROWS, Column, Figure
from leti.service.dashboard.figures.forms import axis, bars, chart
from leti.service.dashboard.words import latency, share
from leti.service.searching.attributions import Attributed

DRAWN: Final = 20
"""Largest shares that are drawn; all are in the table."""

NAMED: Final = 3
"""Largest shares that the sentence names."""

TITLE: Final = "What its latencies are made of"


def attributions(info: PredictorInfo, found: Attributed) -> Figure:
    """Return the shares of a predictor's latencies, the largest first."""
    items = found.items[:MOST_ROWS]
    columns = (
        Column("name", "Share", [item.name for item in items]),
        Column("size", "Mean size (ms)", [item.size_ms for item in items]),
        Column("mean", "Mean (ms)", [item.mean_ms for item in items]),
        Column("part", "Mean, of the latency (%)", [100 * item.mean_ms / found.latency_ms for item in items]),
        Column("networks", "In networks", [item.networks for item in items]),
    )
    names = axis("", "category", inverse=True, max=min(DRAWN, len(items)) - 1)
    names["axisLabel"] = {"width": 170, "overflow": "truncate", "interval": 0}
    option = chart(axis("mean size of the share (ms)", min=0), names, [bars("size", "name")])
    notes = (
        f"Mean over {found.networks} networks that it was not trained on, from the fastest to the slowest, which take "
        f"{latency(found.latency_ms)} on average. The size counts what a share adds and what it takes away alike.",
        *((f"The {DRAWN} largest of {len(found.items):,} are drawn.",) if len(found.items) > DRAWN else ()),
    )
    return Figure(TITLE, _says(info, found), columns, option, notes=notes)


def untold(info: PredictorInfo, reason: str) -> Figure:
    """Return an empty figure of a predictor that cannot tell."""
    return Figure(
        TITLE,
        f"{info.kind} tells nothing of it: {reason}.",
        (),
        remedy="linear, lookup_table, kernel_sum and the boosted kinds can say what a latency is made of.",
    )


def _says(info: PredictorInfo, found: Attributed) -> str:
    if not found.items:
        return f"{info.kind} names no share."
    largest = found.items[:NAMED]
    whole = sum(item.size_ms for item in found.items)
    named = ", ".join(f"{item.name} ({latency(item.size_ms)})" for item in largest)
    part = sum(item.size_ms for item in largest) / whole if whole else 0.0
    few = "the largest share is" if len(largest) == 1 else f"the {len(largest)} largest shares are"
    return f"Of {len(found.items):,} shares, {few} {named}: {share(part)} of the size of all."
