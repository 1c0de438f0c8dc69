"""Where errors lie: by latency, by search space, by kind of network, and inside or outside of the interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from leti.core.training import PredictorInfo
from leti.core.wire import NetworkSource
from leti.service.dashboard.figures.accuracy import NO_POINTS, errors_of
from leti.service.dashboard.figures.figure import Column, Figure
from leti.service.dashboard.figures.forms import axis, boxes, chart, level, points, whiskers
from leti.service.dashboard.words import digits, share
from leti.service.store.holdouts import HoldoutColumns

BANDS: Final = 5
"""Bands of latency, with as many networks in each."""

FEWEST: Final = 10
"""Networks that a band must hold: of fewer, quantiles tell little."""

MOST_SPACES: Final = 30
"""Search spaces that are shown, those with the most networks."""

KINDS: Final[Mapping[NetworkSource, str]] = {
    "spec": "of a search space",
    "patch": "compressed",
    "upload": "uploaded",
    "graph": "given as a graph",
}
"""What networks are called by where they came from."""

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)

Z: Final = 1.96
"""Standard errors on each side of an interval that holds 95 %."""


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Some networks of a holdout: what they have in common, and their numbers."""

    name: str
    rows: NDArray[np.int64]


def by_latency(info: PredictorInfo, holdout: HoldoutColumns) -> Figure:
    """Return how errors spread in bands of the measured latency with as many networks each."""
    return _spread(f"{info.kind}: errors by latency", "measured latency (ms)", "Latency (ms)", holdout, bands(holdout))


def by_space(info: PredictorInfo, holdout: HoldoutColumns) -> Figure:
    """Return how errors spread in each search space."""
    count = Counter(holdout.space)
    of = np.asarray(holdout.space)
    parts = [Part(name or "none", np.flatnonzero(of == name)) for name, _ in count.most_common(MOST_SPACES)]
    return _spread(f"{info.kind}: errors by search space", "search space", "Space", holdout, parts)


def by_kind(info: PredictorInfo, holdout: HoldoutColumns) -> Figure:
    """Return how errors spread in networks of each origin: compressed ones are what a compression search asks for."""
    of = np.asarray(holdout.source)
    parts = [Part(name, np.flatnonzero(of == source)) for source, name in KINDS.items() if source in holdout.source]
    return _spread(f"{info.kind}: errors by kind of network", "kind of network", "Kind", holdout, parts)


def coverage(info: PredictorInfo, holdout: HoldoutColumns) -> Figure:
    """Return how often the measured latency lies inside the interval, in bands of latency, beside what is promised."""
    title, promised = f"{info.kind}: interval coverage", info.metrics.coverage
    parts = bands(holdout)
    if not parts:
        return Figure(title, "There is no network in its holdout.", (), remedy=NO_POINTS)
    measured = np.asarray(holdout.measured_ms)
    inside = (np.asarray(holdout.low_ms) <= measured) & (measured <= np.asarray(holdout.high_ms))
    width = (np.asarray(holdout.high_ms) - np.asarray(holdout.low_ms)) / np.asarray(holdout.latency_ms)
    found = [(int(inside[part.rows].sum()), len(part.rows)) for part in parts]
    low, high = zip(*(wilson(*one) for one in found), strict=True)
    off = [part.name for part, a, b in zip(parts, low, high, strict=True) if not a <= promised <= b]
    says = f"{share(info.metrics.interval_coverage)} lie inside intervals that promise {share(promised)}. "
    says += f"Beyond chance it is another share in {', '.join(off)} ms." if off else "No band differs beyond chance."
    columns = (
        Column("band", "Latency (ms)", [part.name for part in parts]),
        Column("inside", "Inside (%)", [100 * hits / of for hits, of in found]),
        Column("low", "At least (%)", [100 * one for one in low]),
        Column("high", "At most (%)", [100 * one for one in high]),
        Column("promised", "Promised (%)", [100 * promised] * len(parts)),
        Column("width", "Median width (%)", [100 * float(np.median(width[part.rows])) for part in parts]),
        Column("networks", "Networks", [of for _, of in found]),
    )
    series = [
        whiskers("band", "low", "high"),
        points("band", "inside", "inside", symbolSize=10),
        level("promised", 100 * promised, dashed=True),
    ]
    x = axis("measured latency (ms)", "category")
    y = axis("inside the interval (%)", max=100)
    return Figure(title, says, columns, chart(x, y, series), notes=("Whiskers hold the true share with 95 %.",))


def bands(holdout: HoldoutColumns) -> list[Part]:
    """Return the networks in :data:`BANDS` bands of measured latency, fewer where they are few."""
    measured = np.asarray(holdout.measured_ms)
    if not len(measured):
        return []
    parts = np.array_split(np.argsort(measured, kind="stable"), min(BANDS, max(len(measured) // FEWEST, 1)))
    ends = [(digits(float(measured[rows[0]])), digits(float(measured[rows[-1]]))) for rows in parts]
    names = [f"{low} – {high}" for low, high in ends]
    return [
        Part(name if names.count(name) == 1 else f"{name} ({i})", rows)
        for i, (name, rows) in enumerate(zip(names, parts, strict=True), 1)
    ]


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return between which shares the true one lies with 95 % probability, after so many hits.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    middle = (hits + Z**2 / 2) / (of + Z**2)
    error = Z * math.sqrt(hits * (of - hits) / of + Z**2 / 4) / (of + Z**2)
    return max(middle - error, 0.0), min(middle + error, 1.0)


def _spread(title: str, x: str, heading: str, holdout: HoldoutColumns, parts: Sequence[Part]) -> Figure:
    if not parts:
        return Figure(title, "There is no network in its holdout.", (), remedy=NO_POINTS)
    error = errors_of(holdout)
    size = np.abs(error)
    spread = np.asarray([np.quantile(error[part.rows], QUANTILES) for part in parts])
    median = [float(np.median(size[part.rows])) for part in parts]
    within = [float((size[part.rows] <= 0.1).mean()) for part in parts]
    names = [part.name for part in parts]
    keys = ("q05", "q25", "bias", "q75", "q95")
    titles = ("5 % below (%)", "Quarter below (%)", "Bias: median error (%)", "Quarter above (%)", "5 % above (%)")
    columns = (
        Column("part", heading, names),
        Column("networks", "Networks", [len(part.rows) for part in parts]),
        Column("mdape", "Median absolute error (%)", [100 * one for one in median]),
        Column("within_10", "Within ±10 % (%)", [100 * one for one in within]),
        *(
            Column(key, title, (100 * column).tolist())
            for key, title, column in zip(keys, titles, spread.T, strict=True)
        ),
    )
    worst = int(np.argmax(median))
    least = int(np.argmin(median))
    says = f"The median absolute error is {share(median[worst])} in {names[worst]}"
    says += f" ({len(parts[worst].rows):,} networks)" + (
        f", the largest, and {share(median[least])} in {names[least]}, the smallest." if len(parts) > 1 else "."
    )
    series = [
        boxes("part", keys),
        level("", 0),
        level("+10 %", 10, dashed=True),
        level("−10 %", -10, dashed=True),
    ]
    note = "Boxes hold the middle half of the errors, whiskers nine tenths; above 0 the prediction is too slow."
    option = chart(axis(x, "category"), axis("error (%)"), series)
    return Figure(title, says, columns, option, notes=(note,))
