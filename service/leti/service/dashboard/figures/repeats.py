"""Run 1 against run 2: how far a measurement of the same network repeats (figure 3.4 of the LETI paper)."""

from __future__ import annotations

import numpy as np

from leti.core.measurement import Repeatability
from leti.service.dashboard.figures.clouds import Axis, Spacing, cloud
from leti.service.dashboard.figures.figure import Column, Figure
from leti.service.dashboard.figures.forms import band
from leti.service.dashboard.words import share
from leti.service.store.truth_columns import RunColumns

WIDTH = 0.05
"""Half the band, as a share."""


def repeats(known: RunColumns, found: Repeatability | None, spacing: Spacing) -> Figure:
    """Return the first measurement of each network against its second one, in a band of ±5 %."""
    count = len(known.fingerprint)
    ends = [float(end(column)) for column in (known.first_ms, known.second_ms) for end in (np.min, np.max) if count]
    drawn = cloud(
        known.fingerprint,
        np.full(count, "", np.object_),
        Axis("first", "first measurement, ms", known.first_ms),
        Axis("second", "second measurement, ms", known.second_ms),
        scales=(spacing, spacing),
        marks=band(min(ends), max(ends), WIDTH) if ends else (),
    )
    apart = 100 * (known.second_ms[drawn.index] / known.first_ms[drawn.index] - 1)
    columns = (
        *(column for column in drawn.columns if column.key != "space"),
        Column("apart", "second against first, %", apart.tolist()),
    )
    says = ""
    if found is not None:
        within, pairs = (_shares(of) for of in (found.within, found.pairs_within))
        says = (
            f"Of {found.measurements:,} measurements of {found.networks:,} networks measured more than once, {within} "
            f"of their network's median: that is the repeatability, the ceiling of every accuracy here. Of the pairs, "
            f"{pairs} of each other."
        )
    remedy = "Measure networks more than once: give a campaign 2 repeats or more."
    return Figure("Run 1 against run 2", says, columns, drawn.option, remedy=remedy, notes=drawn.notes)


def _shares(within: dict[str, float]) -> str:
    said = [f"{share(of)} within ±{100 * float(tolerance):g} %" for tolerance, of in within.items()]
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)
