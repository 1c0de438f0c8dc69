"""The picture of a study of repeatability: each protocol's deviations by latency, and the reference over time."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from leti.cli.report import save_chart
from leti.core.extras import needs

if TYPE_CHECKING:
    from leti.device_agents.repeatability import StudyReport

WIDEST = 0.3
"""Deviations beyond this are drawn at the edge: one that is lost would stretch the axis for all."""


def draw(report: StudyReport, title: str, stem: Path) -> tuple[Path, Path]:
    """Write the picture as ``stem.png`` and ``stem.html``; return both paths."""
    with needs("plot"):
        import altair
        import vl_convert  # noqa: F401  (altair's PNG and offline HTML need it)

    from leti.device_agents.repeatability import deviations

    rows = [
        {
            "protocol": name,
            "latency": trial.latency_ms,
            "deviation": max(-WIDEST, min(WIDEST, deviation)),
            "noisy": "noisy" if trial.noisy else "accepted",
            "round": trial.round + 1,
            "network": trial.network,
        }
        for name, trials in report.trials.items()
        for trial, deviation in zip(trials, deviations(trials), strict=True)
    ]
    dots = (
        altair.Chart(altair.Data(values=rows))
        .mark_point(filled=True, size=40, opacity=0.7)
        .encode(
            x=altair.X("latency:Q", scale=altair.Scale(type="log", nice=False), title="latency, ms"),
            y=altair.Y("deviation:Q", axis=altair.Axis(format="+.0%"), title="deviation from the pooled value"),
            color=altair.Color("noisy:N", title="", scale=altair.Scale(domain=["accepted", "noisy"])),
            tooltip=["network:Q", "round:Q", "latency:Q", altair.Tooltip("deviation:Q", format="+.2%")],
        )
        .properties(width=260, height=220)
        .facet(column=altair.Column("protocol:N", title="", sort=list(report.trials)))
    )
    middle = statistics.median(each.reference_ms for each in report.weather) if report.weather else 1.0
    drift = [
        {"minutes": each.at_s / 60, "drift": each.reference_ms / middle - 1, "load": each.load, "steal": each.steal}
        for each in report.weather
    ]
    line = (
        altair.Chart(altair.Data(values=drift))
        .mark_line(point=True)
        .encode(
            x=altair.X("minutes:Q", title="minutes since the start"),
            y=altair.Y("drift:Q", axis=altair.Axis(format="+.1%"), title="reference, against its median"),
            tooltip=["minutes:Q", "drift:Q", "load:Q", "steal:Q"],
        )
        .properties(width=560, height=160, title="Drift of the reference network")
    )
    return save_chart(altair.vconcat(dots, line).properties(title=title), stem)
