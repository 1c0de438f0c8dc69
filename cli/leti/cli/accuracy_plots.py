"""Pictures of accuracy: shares by table and predictor, learning curves, samples of a new device."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from leti.cli.protocols import ADAPTATION_KNOWN, GOALS, SHARES, TABLES
from leti.core.extras import needs

if TYPE_CHECKING:
    from leti.cli.accuracy_figures import Figures, Spread

_TITLES: Final = {table.id: table.title for table in TABLES}
_LABELS: Final = dict(zip(SHARES, ("±1 %", "±5 %", "±10 %"), strict=True))
_COLOURS: Final = {"±1 %": "#9ecae1", "±5 %": "#4292c6", "±10 %": "#08306b"}
_SCALE: Final = 1.3
"""Pixels a point: legible on a page, small as a file."""


def draw(figures: Figures, folder: Path) -> dict[str, Path]:
    """Write what can be drawn as PNG into a folder; return the files by what they show."""
    with needs("plot"):
        import altair
        import vl_convert  # noqa: F401  (altair's PNG needs it)

    charts: dict[str, Any] = {}
    if figures.tables:
        charts["tables"] = _tables(altair, figures)
    if any(table.curve for table in figures.tables):
        charts["curve"] = _curves(altair, figures)
    if len({row.n_samples for row in figures.adaptation}) > 1:
        charts["adaptation"] = _adaptation(altair, figures)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, chart in charts.items():
        written[name] = folder / f"accuracy-{name}.png"
        chart.save(str(written[name]), scale_factor=_SCALE)
        written[name].write_bytes(squeezed(written[name].read_bytes()))
    return written


def _tables(altair: Any, figures: Figures) -> Any:
    """Return dots by predictor for each table, with what was wanted as lines."""
    charts = []
    for table in figures.tables:
        rows = [
            {"predictor": row.kind, "share": 100 * row.metrics[name].mean, "within": _LABELS[name]}
            for row in table.rows
            for name in SHARES
        ]
        lines = [
            {"share": 100 * goal.wanted, "within": _LABELS[goal.metric]}
            for goal in GOALS
            if goal.table == table.id and not goal.kinds
        ]
        colour = altair.Color(
            "within:N",
            title="within",
            scale=altair.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
            legend=altair.Legend(orient="top"),
        )
        share = altair.X("share:Q", title="networks, % (dashed: wanted)", scale=altair.Scale(domain=[0, 100]))
        order = [row.kind for row in table.rows]
        dots = (
            altair.Chart(altair.Data(values=rows))
            .mark_point(filled=True, size=55, opacity=1)
            .encode(x=share, y=altair.Y("predictor:N", sort=order, title=None), color=colour)
        )
        wanted = altair.Chart(altair.Data(values=lines)).mark_rule(strokeDash=[4, 3]).encode(x=share, color=colour)
        layers = (wanted, dots) if lines else (dots,)
        charts.append(altair.layer(*layers).properties(width=290, height=18 * len(order), title=_TITLES[table.id]))
    return altair.concat(*charts, columns=2)


def _curves(altair: Any, figures: Figures) -> Any:
    """Return the share within 10 % and the median error by networks trained on, a row a table."""
    rows = []
    for table in figures.tables:
        kinds = list(dict.fromkeys(row.kind for row in table.curve))
        charts = []
        for metric, title in (("within_10", "within ±10 %, %"), ("mdape", "MdAPE, %")):
            points = [
                {"networks": row.n_train, "predictor": row.kind, **_band(row.metrics[metric], 100)}
                for row in table.curve
            ]
            kind = "linear" if metric == "within_10" else "log"
            scale = altair.Scale(type=kind, zero=False, nice=metric == "within_10")
            charts.append(_lines(altair, points, "networks", "networks trained on", "predictor", kinds, title, scale))
        if kinds:
            rows.append(altair.hconcat(*charts).properties(title=_TITLES[table.id]))
    return altair.vconcat(*rows)


def _adaptation(altair: Any, figures: Figures) -> Any:
    """Return Spearman by number of samples, a line a method, a panel a way to sample; dashed: what was known."""
    known = [{"value": value, "known": name} for name, value in ADAPTATION_KNOWN.items() if "10 samples" in name]
    ways = list(dict.fromkeys((row.sampling, row.sources) for row in figures.adaptation))
    methods = list(dict.fromkeys(row.method for row in figures.adaptation))
    scale = altair.Scale(zero=False)
    charts = []
    for way in ways:
        points = [
            {"samples": row.n_samples, "method": row.method, **_band(row.spearman, 1)}
            for row in figures.adaptation
            if (row.sampling, row.sources) == way
        ]
        lines = _lines(altair, points, "samples", "samples of the new device", "method", methods, "Spearman", scale)
        rule = (
            altair.Chart(altair.Data(values=known))
            .mark_rule(strokeDash=[4, 3], color="gray")
            .encode(y=altair.Y("value:Q", scale=scale))
        )
        charts.append(altair.layer(lines, rule).properties(title=f"{way[0]} samples, {way[1]} sources"))
    return altair.concat(*charts, columns=2)


def _band(spread: Spread, scale: float) -> Mapping[str, float]:
    std = spread.std or 0.0
    return {
        "value": scale * spread.mean,
        "low": scale * max(spread.mean - std, spread.mean / 10),
        "high": scale * (spread.mean + std),
    }


def _lines(
    altair: Any, points: list[dict[str, Any]], x: str, x_title: str, colour: str, order: list[str], y: str, scale: Any
) -> Any:
    """Return a line with points and error bars for each predictor or method, against a count on a log axis."""
    counts = sorted({point[x] for point in points})
    across = altair.X(
        f"{x}:Q", title=x_title, scale=altair.Scale(type="log", nice=False), axis=altair.Axis(values=counts)
    )
    base = altair.Chart(altair.Data(values=points)).encode(x=across, color=altair.Color(f"{colour}:N", sort=order))
    line = base.mark_line(point=True).encode(y=altair.Y("value:Q", title=y, scale=scale))
    bars = base.mark_rule().encode(y=altair.Y("low:Q", scale=scale), y2="high:Q")
    return altair.layer(line, bars).properties(width=290, height=190)


def squeezed(png: bytes) -> bytes:
    """Return the same picture, compressed as far as zlib goes: the renderer compresses in haste, to four times that."""
    at, chunks, pixels = 8, [], b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            pixels += content
        elif kind != b"IEND":
            chunks.append((kind, content))
        at += 12 + length
    chunks += [(b"IDAT", zlib.compress(zlib.decompress(pixels), 9)), (b"IEND", b"")]
    return png[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
