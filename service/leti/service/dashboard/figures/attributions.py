"""What a predictor's latencies are made of: which of its features, or of the operators, matter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from leti.core.training import PredictorInfo
from leti.service.dashboard.figures.figure import MOST_ROWS, Column, Figure
from leti.service.dashboard.figures.forms import axis, bars, chart
from leti.service.dashboard.words import latency, share
from leti.service.searching.attributions import Attributed

DRAWN: Final = 20
"""Largest shares that are drawn; all are in the table."""

LONGEST: Final = 36
"""Characters of a name that are drawn: its beginning and its end."""

NAMED: Final = 3
"""Largest shares that the sentence names."""

TITLE: Final = "What its latencies are made of"


def attributions(info: PredictorInfo, found: Attributed) -> Figure:
    """Return the shares of a predictor's latencies, the largest first."""
    items = found.items[:MOST_ROWS]
    columns = (
        Column("name", "Share", [item.name for item in items]),
        Column("label", "Label", _labels([item.name for item in items]), hidden=True),
        Column("size", "Mean size (ms)", [item.size_ms for item in items]),
        Column("mean", "Mean (ms)", [item.mean_ms for item in items]),
        Column("part", "Mean, of the latency (%)", [100 * item.mean_ms / found.latency_ms for item in items]),
        Column("networks", "In networks", [item.networks for item in items]),
    )
    names = axis("", "category", inverse=True, max=min(DRAWN, len(items)) - 1)
    names["axisLabel"] = {"width": 190, "overflow": "truncate", "interval": 0, "fontSize": 10}
    option = chart(axis("mean size of the share (ms)", min=0), names, [bars("size", "label")])
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


def _labels(names: Sequence[str]) -> list[str]:
    """Return names that fit beside a bar, each once: one label is one bar."""
    found: dict[str, int] = {}
    labels = []
    for name in names:
        label = _short(name)
        if len(label) > LONGEST:
            label = f"{label[: LONGEST // 2]}…{label[-LONGEST // 2 :]}"
        found[label] = found.get(label, 0) + 1
        labels.append(label if found[label] == 1 else f"{label} ({found[label]})")
    return labels


def _short(name: str) -> str:
    """Return a name without those of its attributes: ``conv2d[3x3,same]``."""
    return re.sub(r"\b\w+=", "", name)


def _says(info: PredictorInfo, found: Attributed) -> str:
    if not found.items:
        return f"{info.kind} names no share."
    largest = found.items[:NAMED]
    whole = sum(item.size_ms for item in found.items)
    named = ", ".join(f"{_short(item.name)} ({latency(item.size_ms)})" for item in largest)
    part = sum(item.size_ms for item in largest) / whole if whole else 0.0
    few = "the largest is" if len(largest) == 1 else f"the {len(largest)} largest are"
    return f"Of {len(found.items):,} shares, {few} {named}: {share(part)} of the size of all."
