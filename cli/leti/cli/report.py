"""How results are shown: the table of predictors, the table of predictions, the scatter plot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.measurement import Repeatability
from leti.core.prediction import Metrics
from leti.core.queries import PredictionItem
from leti.core.training import HoldoutPoint

FAR = 1.5
"""Distance from the training beyond which a prediction is remarked upon; 99 % of the training lie within 1."""


def new_console(width: int | None = None) -> Console:
    """Return a console that shows text as it is: names of files, layers and operators may look like its markup."""
    return Console(width=width, markup=False, emoji=False)


def new_bars(console: Console) -> Progress:
    """Return bars for tasks that take long, with the time that each has taken and may still take."""
    counts = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), *counts, console=console)


def new_table(title: str) -> Table:
    """Return an empty table in the style of all the others."""
    return Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))


def metrics_table(
    title: str, metrics: Mapping[str, Metrics], repeatability: Repeatability | None = None, active: str = ""
) -> Table:
    """Return predictors side by side, the simplest first, and the platform's repeatability beneath them."""
    coverage = next(iter(metrics.values())).coverage
    table = new_table(title)
    table.add_column("predictor", no_wrap=True)
    for name in ("±1 %", "±5 %", "±10 %", "MdAPE", "R²", "Spearman", f"in {coverage:.0%}", "µs"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, m in metrics.items():
        table.add_row(
            f"{kind} *" if kind == active else kind,
            *(f"{100 * share:.1f}" for share in (m.within_1, m.within_5, m.within_10)),
            f"{100 * m.mdape:.2f}",
            _number(m.r2),
            _number(m.spearman),
            f"{100 * m.interval_coverage:.1f}",
            f"{m.us_per_prediction:.1f}",
        )
    if repeatability is not None:
        table.add_section()
        table.add_row("repeatability", *(f"{100 * repeatability.within[key]:.1f}" for key in ("0.01", "0.05", "0.1")))
    return table


LEGEND = (
    "±x %: share of networks (in %) predicted within x % of the measured latency; MdAPE: median absolute percentage "
    "error; in x %: share of measured latencies inside their interval; µs: time of one prediction in a batch"
)
"""What the columns of :func:`metrics_table` are."""


def repeatability_line(repeatability: Repeatability) -> str:
    """Return what the row of repeatability counts."""
    return (
        f"repeatability: share of single measurements within x % of their network's pooled value "
        f"({repeatability.measurements} measurements of {repeatability.networks} networks): no predictor can be shown "
        "to be better"
    )


def predictions_table(title: str, names: Sequence[str], items: Sequence[PredictionItem]) -> Table:
    """Return one line a network: latency, interval, source, and what there is to say about it."""
    table = new_table(title)
    for column in ("network", "latency", "interval", "source", "remarks"):  # the answer stays whole, names may fold
        table.add_column(column, no_wrap=column in ("latency", "interval", "source"), overflow="fold")
    for name, item in zip(names, items, strict=True):
        source = f"measured ×{item.count}" if item.source == "measured" else f"{item.predictor} v{item.version}"
        table.add_row(
            name,
            f"{item.latency_ms:.3f} ms",
            f"{item.low_ms:.3f} … {item.high_ms:.3f}",
            source,
            ", ".join(_remarks(item)),
        )
    return table


def _remarks(item: PredictionItem) -> Iterator[str]:
    yield from item.unknown
    if item.distance > FAR:
        yield f"far from the training ({item.distance:.1f} times what is usual)"
    if item.degenerate:
        yield "degenerate cell"


def scatter(points: Mapping[str, Sequence[HoldoutPoint]], title: str, stem: Path) -> tuple[Path, Path]:
    """Write predicted against measured, with the ±10 % band, as ``stem.png`` and ``stem.html``; return both paths."""
    with needs("plot"):
        import altair
        import vl_convert  # noqa: F401  (altair's PNG and offline HTML need it)

    rows = [
        {"predictor": kind, "space": p.space, "measured": p.measured_ms, "predicted": p.latency_ms,
         "low": p.low_ms, "high": p.high_ms, "network": p.fingerprint[:12]}
        for kind, items in points.items()
        for p in items
    ]  # fmt: skip
    times = [ms for items in points.values() for p in items for ms in (p.measured_ms, p.latency_ms)]
    low, high = 0.9 * min(times), 1.1 * max(times)
    band = [{"x": x, "low": 0.9 * x, "high": 1.1 * x} for x in (low, high)]
    scale = altair.Scale(type="log", domain=[low, high], nice=False)
    ideal = altair.Chart(altair.Data(values=band)).encode(x=altair.X("x:Q", scale=scale, title="measured, ms"))
    dots = (
        altair.Chart(altair.Data(values=rows))
        .mark_point(filled=True, size=60, opacity=0.75)
        .encode(
            x=altair.X("measured:Q", scale=scale),
            y=altair.Y("predicted:Q", scale=scale, title="predicted, ms"),
            color=altair.Color("predictor:N", sort=list(points)),
            shape=altair.Shape("space:N"),
            tooltip=["network:N", "space:N", "predictor:N", "measured:Q", "predicted:Q", "low:Q", "high:Q"],
        )
    )
    layers = (
        ideal.mark_area(opacity=0.15, color="gray").encode(y=altair.Y("low:Q", scale=scale), y2="high:Q"),
        ideal.mark_line(color="gray", strokeDash=[4, 4]).encode(y=altair.Y("x:Q", scale=scale)),
        dots,
    )
    return save_chart(altair.layer(*layers).properties(width=560, height=560, title=title).interactive(), stem)


def save_chart(chart: Any, stem: Path) -> tuple[Path, Path]:
    """Write a chart of Altair's as ``stem.png`` and, with all that it needs, ``stem.html``; return both paths."""
    png, html = stem.with_suffix(".png"), stem.with_suffix(".html")
    png.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(png), scale_factor=2)
    chart.save(str(html), inline=True)
    return png, html


def write_json(path: Path | None, data: Any) -> None:
    """Write ``data`` to ``path`` where one is given; raise :class:`InvalidInput` where it can't be written."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot be written: {error.strerror}", field="--json") from None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
