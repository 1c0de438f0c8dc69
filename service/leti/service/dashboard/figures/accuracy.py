"""How close predictions come: each network of a holdout, and all predictors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from leti.core.measurement import Repeatability
from leti.core.training import PredictorInfo
from leti.service.dashboard.figures.density import thin
from leti.service.dashboard.figures.figure import Column, Figure
from leti.service.dashboard.figures.forms import GRID, Scale, axis, band, bars, chart, level, points, shaded
from leti.service.dashboard.words import latency, share
from leti.service.store.holdouts import HoldoutColumns

NETWORK: Final = "/dashboard/networks/{}"

WORST: Final = 50
"""Worst predictions that are drawn as themselves, however many points lie around them."""

FEW: Final = 400
"""So many networks, and fewer, are drawn as themselves."""

WIDE: Final = 3.0
"""Latencies that span more than this factor are drawn on logarithmic axes."""

NO_POINTS: Final = "A training holds networks out and predicts them: train predictors of this platform."


def errors_of(holdout: HoldoutColumns) -> NDArray[np.float64]:
    """Return the relative error ``(n,)`` of each prediction: above 0 where it is too slow."""
    found: NDArray[np.float64] = np.asarray(holdout.latency_ms) / np.asarray(holdout.measured_ms) - 1
    return found


def worst_first(holdout: HoldoutColumns) -> NDArray[np.int64]:
    """Return the numbers ``(n,)`` of the networks, the worst predicted first."""
    return np.argsort(-np.abs(errors_of(holdout)), kind="stable")


def scatter(info: PredictorInfo, holdout: HoldoutColumns, *, whole: bool = False, small: bool = False) -> Figure:
    """Return predicted against measured latency of a holdout.

    ``whole`` has every network, as the file does; a ``small`` one is for comparing at a glance, and says less.
    """
    title = f"{info.kind} {info.version}" if small else f"{info.kind}: predicted against measured"
    if not holdout.fingerprint:
        return Figure(title, "There is no network in its holdout.", (), remedy=NO_POINTS)
    error, order = errors_of(holdout), worst_first(holdout)
    measured, predicted = np.asarray(holdout.measured_ms), np.asarray(holdout.latency_ms)
    kept = min(WORST, max(len(order) // 20, 1))
    drawn, count = order, np.ones(len(order), np.int64)
    if not whole and len(order) > FEW:
        thinned = thin(measured[order], predicted[order], log=True, keep=kept)
        drawn, count = order[thinned.index], thinned.count
    columns = (
        Column("fingerprint", "Network", [holdout.fingerprint[i] for i in drawn], links=NETWORK),
        Column("space", "Space", [holdout.space[i] or "none" for i in drawn]),
        Column("measured_ms", "Measured (ms)", measured[drawn].tolist()),
        Column("latency_ms", "Predicted (ms)", predicted[drawn].tolist()),
        Column("low_ms", "Interval from (ms)", [holdout.low_ms[i] for i in drawn]),
        Column("high_ms", "Interval to (ms)", [holdout.high_ms[i] for i in drawn]),
        Column("error", "Error (%)", (100 * error[drawn]).tolist()),
        Column("networks", "Networks here", count.tolist()),
        Column("worst_ms", "Predicted (ms), the worst", _worst(predicted[drawn], kept), hidden=True),
    )
    option = _plot(measured, predicted, count, small=small)
    if small:
        metrics = info.metrics
        says = f"{share(metrics.within_10)} within ±10 %, median error {share(metrics.mdape)}."
        return Figure(title, says, columns, option)
    notes = [f"The worst predictions, {kept} of them, are diamonds: each stands for itself."]
    if len(drawn) < len(order):
        notes.append(f"{len(drawn):,} points stand for {len(order):,} networks; the file has each of them.")
    return Figure(title, _told(info, error, holdout), columns, option, notes=tuple(notes))


def _told(info: PredictorInfo, error: NDArray[np.float64], holdout: HoldoutColumns) -> str:
    worst = int(np.argmax(np.abs(error)))
    bias = float(np.median(error))
    leaning = f"{share(abs(bias))} too {'slow' if bias > 0 else 'fast'}"
    return (
        f"{share(info.metrics.within_10)} of {len(error):,} networks are predicted within ±10 %, "
        f"{share(info.metrics.within_5)} within ±5 %; half of the errors are below "
        f"{share(info.metrics.mdape)}, typically {leaning}. "
        f"The worst is {latency(holdout.latency_ms[worst])} for {latency(holdout.measured_ms[worst])}."
    )


def _worst(predicted: NDArray[np.float64], kept: int) -> list[float | None]:
    return [*predicted[:kept].tolist(), *[None] * (len(predicted) - kept)]


def _plot(
    measured: NDArray[np.float64], predicted: NDArray[np.float64], count: NDArray[np.int64], *, small: bool
) -> dict[str, Any]:
    low = float(min(measured.min(), predicted.min())) / 1.05
    high = float(max(measured.max(), predicted.max())) * 1.05
    log = high / low > WIDE
    ends: dict[str, Any] = {"min": float(f"{low:.2g}"), "max": float(f"{high:.2g}")}
    if log:
        ends["logBase"] = 10 if high / low > 50 else 2
    scale: Scale = "log" if log else "value"
    more: dict[str, Any] = {"legend": {"show": False}}
    if count.max() > 1:
        more["visualMap"] = {**shaded("networks", 1, int(count.max()), "networks"), "seriesIndex": 0, "show": not small}
    if small:
        more["grid"] = {**GRID, "top": 12}
    return chart(
        axis("measured (ms)", scale, **ends),
        axis("predicted (ms)", scale, **ends),
        [
            points("measured_ms", "latency_ms", "networks", symbolSize=6),
            points("measured_ms", "worst_ms", "the worst", symbol="diamond", symbolSize=9),
            *band(ends["min"], ends["max"], 0.1),
        ],
        **more,
    )


def shares(infos: Sequence[PredictorInfo], names: Sequence[str], ceiling: Repeatability | None) -> Figure:
    """Return the shares within ±5 and ±10 % of predictors of one dataset, under how well measurements repeat."""
    title = "Within ±5 % and ±10 % of the measured latency"
    if not infos:
        return Figure(title, "There is no predictor.", (), remedy=NO_POINTS)
    columns = [
        Column("name", "Predictor", list(names)),
        Column("within_5", "Within ±5 % (%)", [100 * one.metrics.within_5 for one in infos]),
        Column("within_10", "Within ±10 % (%)", [100 * one.metrics.within_10 for one in infos]),
    ]
    series = [bars("within_5", "name", "within ±5 %"), bars("within_10", "name", "within ±10 %")]
    most = max(one.metrics.within_10 for one in infos)
    best = [name for name, one in zip(names, infos, strict=True) if one.metrics.within_10 == most]
    among = f"{best[0]}, the simplest of {len(best)} alike," if len(best) > 1 else best[0]
    says = f"{among} is most often within ±10 %: {share(most)}."
    notes: tuple[str, ...] = ()
    if ceiling is not None:
        five, ten = 100 * ceiling.within["0.05"], 100 * ceiling.within["0.1"]
        series += [level("", five, dashed=True, upright=True), level("", ten, upright=True)]
        notes = ("The lines are the ceiling: how often single measurements repeat within ±5 % (dashed) and ±10 %.",)
        columns += [
            Column("ceiling_5", "Repeatability ±5 % (%)", [five] * len(infos)),
            Column("ceiling_10", "Repeatability ±10 % (%)", [ten] * len(infos)),
        ]
        says += f" Single measurements repeat within ±10 % in {share(ceiling.within['0.1'])}, the ceiling."
    x = axis("share of the holdout (%)", min=0, max=100)
    y = axis("", "category", inverse=True)
    return Figure(title, says, tuple(columns), chart(x, y, series), notes=notes)
