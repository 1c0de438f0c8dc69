"""The plot of an architecture search: each objective over the latency on each platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from leti.cli.report import save_chart
from leti.core.extras import needs

if TYPE_CHECKING:
    from leti.compression.architecture.results import SearchResult


def plot_search(found: SearchResult, stem: Path) -> tuple[Path, Path]:
    """Write what was evaluated, the front in a colour of its own, as ``stem.png`` and ``stem.html``; return both."""
    with needs("plot"):
        import altair
        import vl_convert  # noqa: F401  (altair's PNG and offline HTML need it)

    front = {point.choices for point in found.front}
    rows = [
        {"network": point.text, "generation": point.generation, "on": _ON[point.choices in front],
         "platform": latency.platform_id, "latency": latency.latency_ms, "bound": latency.bound_ms,
         "objective": name, "value": value}
        for point in found.points
        for latency in point.latencies
        for name, value in point.values.items()
    ]  # fmt: skip
    chart = (
        altair.Chart(altair.Data(values=rows))
        .mark_point(filled=True, size=60, opacity=0.75)
        .encode(
            x=altair.X("latency:Q", title="latency, ms", scale=altair.Scale(zero=False)),
            y=altair.Y("value:Q", title=None, scale=altair.Scale(zero=False)),
            color=altair.Color("on:N", title=None, sort=list(_ON.values())),
            row=altair.Row("objective:N", title=None),
            column=altair.Column("platform:N", title=None),
            tooltip=["network:N", "generation:Q", "latency:Q", "bound:Q", "objective:N", "value:Q"],
        )
        .properties(width=420, height=320, title=f"{found.space}, {found.strategy}: {len(found.points)} evaluations")
        .resolve_scale(x="independent", y="independent")
    )
    return save_chart(chart, stem)


_ON = {True: "on the front", False: "behind it"}
