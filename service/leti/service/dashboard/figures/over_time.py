"""A platform over time: its reference network, measurements that do not count, and predictions held against truths."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from leti.core.searching import Drift, Verdict
from leti.service.dashboard.figures.figure import Column, Figure
from leti.service.dashboard.figures.forms import Option, axis, chart, line, mark
from leti.service.dashboard.words import latency, share
from leti.service.store.truth_columns import TimeColumns

SPANS: Final[Mapping[str, float]] = {"hour": 3_600.0, "day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0}
"""Lengths of time in seconds that measurements are put together by."""

MOST: Final = 200
FEWEST: Final = 10
"""The shortest span is taken that gives at most so many points in time, of at least so many measurements on average."""

MEASURE: Final = "Start a campaign for this platform, and an agent on its device."

_SAID: Final[Mapping[str, str]] = {
    "worse": "that is worse than on the holdout, and not by chance",
    "no-worse": "that is no worse than on the holdout, chance allowed for",
    "too-few": "too few are scored to say whether that is chance",
}


def reference_over_time(times: TimeColumns) -> Figure:
    """Return the reference network's latency, span by span, with the versions of the pooled one."""
    counted = ~(times.noisy | times.late)
    at, found = times.at[counted], times.reference_ms[counted]
    span, start, inverse = _spans(at)
    of_spans = [found[inverse == i] for i in range(len(start))]
    low, half, high = np.array([np.quantile(one, (0.1, 0.5, 0.9)) for one in of_spans]).reshape(-1, 3).T
    columns = (
        Column("at", f"{span} (UTC)", _named(start)),
        Column("median", "median, ms", half.tolist()),
        Column("low", "10 % are below, ms", low.tolist()),
        Column("high", "10 % are above, ms", high.tolist()),
        Column("measurements", "measurements", np.bincount(inverse, minlength=len(start)).tolist()),
    )
    versions = times.versions
    says = ""
    if len(start):
        says = f"By {span}, the reference network's median lies between {latency(half.min())} and {latency(half.max())}"
        if versions:
            now = versions[-1]
            says += (
                f"; the newest {span} is {_signed(half[-1] / now.latency_ms - 1)} against the pooled "
                f"{latency(now.latency_ms)} (version {now.version})"
            )
        says += ". Latencies are ratios to it: what slows the whole device down shows here and in no latency."
    series = [
        line("at", "median", "median"),
        line("at", "low", "10 % are below", lineStyle={"type": "dotted"}, symbol="triangle", symbolSize=5),
        line("at", "high", "10 % are above", lineStyle={"type": "dotted"}, symbol="rect", symbolSize=4),
        *_pooled(times, start),
    ]
    option = chart(axis("", "time"), axis("latency of the reference, ms"), series)
    return Figure("The reference network over time", says, columns, option, remedy=MEASURE)


def _pooled(times: TimeColumns, start: NDArray[np.float64]) -> list[Option]:
    """Return a line for each version of the pooled latency, from when it was pooled to when the next one was."""
    found = []
    until = [*(one.at for one in times.versions[1:]), float(start[-1]) if len(start) else 0.0]
    for one, end in zip(times.versions, until, strict=False):
        ends = [(1e3 * at, one.latency_ms) for at in (one.at, max(end, one.at))]
        found.append(
            mark(f"pooled, version {one.version}", ends)
            | {"symbol": "emptyCircle", "symbolSize": 6, "endLabel": {"show": True, "formatter": f"v{one.version}"}}
        )
    return found


def left_out(times: TimeColumns) -> Figure:
    """Return which share of measurements does not count, span by span: noisy ones, and late ones."""
    span, start, inverse = _spans(times.at)
    count = np.bincount(inverse, minlength=len(start))
    noisy, late = (np.bincount(inverse, of, minlength=len(start)) for of in (times.noisy, times.late))
    columns = (
        Column("at", f"{span} (UTC)", _named(start)),
        Column("noisy", "noisy, %", (100 * noisy / np.maximum(count, 1)).tolist()),
        Column("late", "late, %", (100 * late / np.maximum(count, 1)).tolist()),
        Column("measurements", "measurements", count.tolist()),
    )
    says = ""
    if len(times.at):
        says = (
            f"Of {len(times.at):,} measurements, {share(times.noisy.mean())} are noisy (the reference drifted in them) "
            f"and {share(times.late.mean())} came late (the lease was lost): these do not count."
        )
    series = [line("at", "noisy", "noisy"), line("at", "late", "late", symbol="rect")]
    option = chart(axis("", "time"), axis("of the measurements, %", min=0), series)
    return Figure("Measurements that do not count", says, columns, option, remedy=MEASURE)


def drift_over_time(drift: Drift) -> Figure:
    """Return how predictions fared that were made before their networks were measured, week by week."""
    weeks, found = drift.weeks, drift.summary
    columns = (
        Column("week", "week from", [one.week for one in weeks]),
        Column("mdape", "median error, %", [_percent(one.summary.mdape) for one in weeks]),
        Column("within_10", "within ±10 %, %", [_percent(one.summary.within_10) for one in weeks]),
        Column("bias", "measured against predicted, %", [_percent(one.summary.bias) for one in weeks]),
        Column("networks", "networks", [one.summary.networks for one in weeks]),
    )
    says = ""
    if found.networks:
        says = (
            f"Of {found.networks:,} networks measured after {drift.predictor} {drift.version} had predicted them, half "
            f"are off by at most {share(found.mdape)}, and {share(found.within_10)} lie within ±10 %: "
            f"{_judged(drift.verdict)}."
        )
    held = drift.verdict.holdout_mdape
    series = [line("week", "mdape", "median error"), line("week", "bias", "measured against predicted", symbol="rect")]
    if held is not None and weeks:
        ends = [(one.week, 100 * held) for one in (weeks[0], weeks[-1])]
        series.append(mark("median error on the holdout", ends, dashed=True))  # type: ignore[arg-type]
    option = chart(axis("", "time"), axis("%"), series)
    remedy = "Ask for predictions, and have the same networks measured later: POST /v1/predictions, then a campaign."
    return Figure("Predictions against later measurements", says, columns, option, remedy=remedy)


def no_predictor() -> Figure:
    """Return the figure of predictions on a platform that no predictor serves."""
    remedy = "No predictor serves this platform yet: train one once enough networks are measured."
    return Figure("Predictions against later measurements", "", (), remedy=remedy)


def _judged(verdict: Verdict) -> str:
    said = _SAID[verdict.verdict]
    if verdict.p is None or verdict.holdout_mdape is None:
        return said
    chance = f"p = {verdict.p:.2g}" if verdict.p >= 1e-4 else "p below 0.0001"
    return f"{said} ({share(verdict.holdout_mdape)} there; {verdict.test.partition(',')[0]}, {chance})"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _signed(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f} %"  # never -0.0


def _spans(at: NDArray[np.float64]) -> tuple[str, NDArray[np.float64], NDArray[np.int64]]:
    """Return what times are put together by, when each span begins, and the number of each time's span."""
    if not len(at):
        return "day", at, np.empty(0, np.int64)
    found: tuple[str, NDArray[np.float64], NDArray[np.int64]]
    for name, seconds in SPANS.items():
        number, inverse = np.unique(np.floor(at / seconds), return_inverse=True)
        found = name, number * seconds, inverse
        if len(number) <= min(MOST, len(at) / FEWEST):
            break
    return found


def _named(start: NDArray[np.float64]) -> list[str]:
    return [datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ") for at in start.tolist()]
