"""The plots of a report, as SVG that stands in the page: its colours are the page's, light and dark.

Drawn by Vega-Lite, whose specifications these are, without a browser and without anything fetched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, final

from leti.compression.reporting import tables
from leti.compression.results import Compression
from leti.core.extras import needs

with needs("compression"):
    import vl_convert

_WIDTH, _HEIGHT = 420, 300
_LABEL: Final = 16  # letters of a layer's name: fonts differ in width, and a table has it whole
_BAR: Final = 26  # pixels of height a layer
_COLOURS: Final = tuple(f"var(--c{i})" for i in range(1, 9))
_SHAPES: Final = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "stroke")
_LEGEND: Final = {
    "orient": "top",
    "title": None,
    "columns": 2,
    "labelLimit": 200,
    "columnPadding": 28,
    "symbolOpacity": 1,
}
_CONFIG: Final[dict[str, Any]] = {
    "aria": False,
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)", "titleColor": "var(--ink)", "gridColor": "var(--rule)",
        "tickColor": "var(--rule)", "domainColor": "var(--rule)", "labelFontSize": 13, "titleFontSize": 13,
        "titleFontWeight": "normal", "labelLimit": 150, "tickCount": 5, "titlePadding": 14,
    },
    "legend": {"labelColor": "var(--ink)", "labelFontSize": 13, "symbolSize": 90},
}  # fmt: skip

Spec = dict[str, Any]


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, with its title and what it shows in words."""

    title: str
    description: str
    svg: str


def front(compression: Compression) -> Figure | None:
    """Return the rise of the loss against predicted latency: the front, the best plan and its rivals."""
    if not compression.front:
        return None
    line = [_point("front", one.predicted_ms, one.sensitivity) for one in compression.front]
    others = (*([compression.best] if compression.best else []), *compression.rivals)  # coloured as in `accuracy`
    plans = [_point(tables.network_label(compression, one), one.predicted_ms, one.sensitivity) for one in others]
    of = "predicted latency, ms", "rise of the loss, as added up"
    marks = [
        {"data": {"values": line}, "mark": {"type": "line", "color": _COLOURS[0]}, "encoding": _at(*of)},
        _dots([*line, *plans], *of),
        _budget(compression),
    ]
    text = (
        "Each point is a plan; the line is the front, on which no plan is both faster and less harmful than another. "
        "The dashed line is the budget."
    )
    return _figure("Latency against harm", text, marks, _HEIGHT)


def accuracy(compression: Compression) -> Figure | None:
    """Return accuracy against measured latency, of what was both measured and judged."""
    found = tables.candidates_with_accuracy(compression)
    if len(found) < 2:
        return None
    reading = compression.baseline.reading
    unit_ms = reading.latency_ms if reading else 0.0
    rows = [
        {
            **_point(tables.network_label(compression, one), one.reading.latency_ms, 100 * one.accuracy),
            "low": one.reading.low_ratio * unit_ms,
            "high": one.reading.high_ratio * unit_ms,
        }
        for one in found
        if one.reading is not None and one.accuracy is not None
    ]
    of = "measured latency, ms", "accuracy, %"
    at = _at(*of)
    span = {"x": {**at["x"], "field": "low"}, "x2": {"field": "high"}, "y": at["y"]}
    marks = [
        {"data": {"values": rows}, "mark": {"type": "rule", "color": "var(--muted)"}, "encoding": span},
        _dots(rows, *of),
        _budget(compression),
    ]
    text = (
        "Networks after fine-tuning: left of the dashed line, which is the budget, they keep it. "
        "Bars are the 90 % intervals of the latency."
    )
    return _figure("Latency against accuracy", text, marks, _HEIGHT)


def layers(compression: Compression) -> Figure | None:
    """Return each layer's predicted latency before and after; its MACs where latencies are unknown."""
    made = compression.layers
    if not made:
        return None
    is_timed = all(None not in (one.predicted_ms_before, one.predicted_ms_after) for one in made)
    what, names, scale = (
        ("predicted latency, ms", ("predicted_ms_before", "predicted_ms_after"), 1.0)
        if is_timed
        else ("million multiply-accumulates", ("macs_before", "macs_after"), 1e-6)
    )
    labels = [_short(tables.layer_label(i, one)) for i, one in enumerate(made, 1)]
    rows = [
        {"layer": label, "state": state, "value": scale * float(getattr(layer, name))}
        for label, layer in zip(labels, made, strict=True)
        for state, name in zip(("before", "after"), names, strict=True)
    ]
    states = {"domain": ["before", "after"]}
    marks = {
        "data": {"values": rows},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "layer", "type": "nominal", "sort": labels, "title": None},
            "yOffset": {"field": "state", "type": "nominal", "scale": states},
            "x": {"field": "value", "type": "quantitative", "title": what},
            "color": {
                "field": "state", "type": "nominal", "legend": _LEGEND,
                "scale": {**states, "range": ["var(--pale)", _COLOURS[0]]},
            },
        },
    }  # fmt: skip
    text = f"Two bars a layer: {what} before the compression, and after."
    return _figure("Layer by layer, before and after", text, [marks], 90 + _BAR * len(made))


def rounds(compression: Compression) -> Figure | None:
    """Return predicted against measured latency, round by round, in the band of ±10 %."""
    rows = [
        _point(f"round {number}", one.reading.latency_ms, one.predicted_ms)
        for number, made in enumerate(compression.rounds, 1)
        for one in made.candidates
        if one.reading is not None
    ]
    if not rows:
        return None
    every = [row[axis] for row in rows for axis in ("x", "y")]
    low, high = 0.85 * min(every), 1.1 * max(every)
    band = [{"x": x, "y": x, "low": 0.9 * x, "high": 1.1 * x} for x in (low, high)]
    of = "measured latency, ms", "predicted latency, ms"
    at, scale = _at(*of), {"domain": [low, high], "nice": False}
    for axis in at.values():
        axis["scale"] = scale
    area = {**at, "y": {**at["y"], "field": "low"}, "y2": {"field": "high"}}
    drawn = {"type": "area", "color": "var(--pale)", "opacity": 0.35, "clip": True}
    equal = {"type": "line", "color": "var(--muted)", "strokeDash": [4, 4], "clip": True}
    marks = [
        {"data": {"values": band}, "mark": drawn, "encoding": area},
        {"data": {"values": band}, "mark": equal, "encoding": at},
        _dots(rows, *of),
    ]
    text = (
        "Each point is a network that was measured; on the dashed line prediction and measurement agree, in the band "
        "they are within ±10 %. Each is as predicted when its round proposed it: in the first before what its networks "
        "took set the table right, later after."
    )
    return _figure("Predicted against measured", text, marks, _WIDTH)


def _short(label: str) -> str:
    """Return a label that fits beside an axis; of a path of scopes its end tells more than its middle."""
    return label if len(label) <= _LABEL else f"{label[:4]}…{label[5 - _LABEL :]}"


def _point(series: str, x: float, y: float) -> dict[str, Any]:
    return {"series": series, "x": x, "y": y}


def _at(x: str, y: str) -> Spec:
    return {
        axis: {"field": axis, "type": "quantitative", "title": title, "scale": {"zero": False, "padding": 12}}
        for axis, title in (("x", x), ("y", y))
    }


def _dots(rows: Sequence[dict[str, Any]], x: str, y: str) -> Spec:
    """Return points told apart by colour and by shape."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    by: Spec = {"field": "series", "type": "nominal", "legend": _LEGEND}
    colours, shapes = ([values[i % len(values)] for i in range(len(names))] for values in (_COLOURS, _SHAPES))
    return {
        "data": {"values": list(rows)},
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {
            **_at(x, y),
            "color": {**by, "scale": {"domain": names, "range": colours}},
            "shape": {**by, "scale": {"domain": names, "range": shapes}},
        },
    }


def _budget(compression: Compression) -> Spec:
    at = {"x": {"field": "x", "type": "quantitative"}}
    mark = {"type": "rule", "color": "var(--bad)", "strokeDash": [6, 4], "strokeWidth": 1.5}
    return {"data": {"values": [{"x": compression.budget_ms}]}, "mark": mark, "encoding": at}


def _figure(title: str, description: str, layers: list[Spec], height: int) -> Figure:
    spec = {
        "width": _WIDTH,
        "height": height,
        "padding": {"left": 14, "right": 10, "top": 5, "bottom": 5},
        "autosize": {"type": "fit", "contains": "padding"},
        "config": _CONFIG,
        "layer": layers,
    }
    return Figure(title, description, _inline(vl_convert.vegalite_to_svg(spec), title, description))


def _inline(svg: str, title: str, description: str) -> str:
    """Return a drawing that may stand in a page beside others: as wide as there is room, named, with names of its own.

    What it was drawn of stands in it as text, escaped by who drew it.
    """
    name = re.sub(r"[^a-z]+", "-", title.lower())
    view = re.search(r'viewBox="[0-9. ]+"', svg)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{name}-title {name}-desc" '
        f"{view[0] if view else ''}>"
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    body = re.sub(r'(id="|url\(#)(clip|gradient)', rf"\1{name}-\2", re.sub(r"^<svg[^>]*>", "", svg))
    return head + re.sub(r' (?:role="graphics[a-z-]*"|aria-[a-z]+="[^"]*")', "", body)
