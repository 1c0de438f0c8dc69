"""How fast a campaign was measured, over its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from leti.service.dashboard.figures.figure import Column, Figure
from leti.service.dashboard.figures.forms import axis, bars, chart
from leti.service.dashboard.words import digits, duration
from leti.service.store.times import utc

PIECES: Final = 60
"""Pieces of equal length that a campaign's time is cut into."""

SHORTEST_S: Final = 15.0
"""Least length of a piece: results come a lease at a time."""


def pace(times: Sequence[float]) -> Figure:
    """Return how many measurements came a minute; ``times`` are those of each, in seconds since the epoch, in order."""
    title = "Measurements a minute"
    if len(times) < 2:
        return Figure(title, "Nothing is measured yet.", (), remedy="An agent of the platform measures: leti agent.")
    begun, ended = times[0], times[-1]
    length = max((ended - begun) / PIECES, SHORTEST_S)
    edges = begun + length * np.arange(int((ended - begun) / length) + 2)
    counts = np.histogram(times, edges)[0]
    rates = counts * 60 / length
    columns = (
        Column("from", "From", [utc(at) for at in edges[:-1].tolist()]),
        Column("rate", "Measurements a minute", rates.tolist()),
        Column("count", "Measurements", counts.tolist()),
    )
    whole = 60 * len(times) / max(ended - begun, 1.0)
    says = (
        f"{len(times):,} measurements came in {duration(ended - begun)}, {digits(whole)} a minute on average; the most "
        f"were {digits(float(rates.max()))} a minute."
    )
    option = chart(axis("time", "time"), axis("a minute", min=0), [bars("from", "rate")])
    return Figure(title, says, columns, option, notes=(f"Each bar stands for {duration(length)}.",))
