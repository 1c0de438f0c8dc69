"""Forms of figures: what ECharts is told, without data and without colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

Option = dict[str, Any]
Scale = Literal["value", "log", "category", "time"]

GRID: Final[Option] = {"left": 12, "right": 24, "top": 40, "bottom": 12, "outerBoundsMode": "same"}


def axis(title: str, scale: Scale = "value", **more: Any) -> Option:
    """Return an axis; ``more`` goes to ECharts as it is."""
    return {"type": scale, "name": title, "nameLocation": "middle", "scale": scale in ("value", "time"), **more}


def chart(x: Option, y: Option, series: Sequence[Option], **more: Any) -> Option:
    """Return an option of two axes."""
    return {"grid": GRID, "xAxis": x, "yAxis": y, "series": list(series), **more}


def points(x: str, y: str, name: str = "", **more: Any) -> Option:
    """Return a series of points at two columns."""
    return {"type": "scatter", "name": name, "encode": {"x": x, "y": y}, "symbolSize": 7, **more}


def line(x: str, y: str, name: str = "", **more: Any) -> Option:
    """Return a series of joined points at two columns."""
    return {"type": "line", "name": name, "encode": {"x": x, "y": y}, "symbolSize": 7, **more}


def bars(x: str, y: str, name: str = "", **more: Any) -> Option:
    """Return a series of bars over a column of names."""
    return {"type": "bar", "name": name, "encode": {"x": x, "y": y}, **more}


def boxes(x: str, quantiles: Sequence[str], name: str = "", **more: Any) -> Option:
    """Return a series of boxes over a column of names, of five columns: whisker, box, middle, box, whisker."""
    form: Option = {"type": "boxplot", "boxWidth": [8, 48], "itemStyle": {"color": "transparent"}}
    return {**form, "name": name, "encode": {"x": x, "y": list(quantiles)}, **more}


def whiskers(place: str, low: str, high: str, *, across: bool = False) -> Option:
    """Return a series of lines from a column to another, up or ``across``: between them the truth lies."""
    encode = {"x": [low, high], "y": place} if across else {"x": place, "y": [low, high]}
    return {
        "type": "custom",
        "name": "",
        "encode": encode,
        "whiskers": [place, low, high],
        "across": across,
        "z": 1,
    }


def mark(name: str, ends: Sequence[tuple[float, float]], *, dashed: bool = False) -> Option:
    """Return a line of its own data that guides the eye; nothing of it is in the table."""
    return {
        "type": "line",
        "name": name,
        "data": [list(end) for end in ends],
        "symbol": "none",
        "silent": True,
        "lineStyle": {"width": 1, "type": "dashed" if dashed else "solid"},
        "mark": True,
    }


def level(name: str, at: float, *, dashed: bool = False, upright: bool = False) -> Option:
    """Return a line across the whole figure at a value of the y axis, ``upright`` of the x axis, with its name."""
    line = {"width": 1, "type": "dashed" if dashed else "solid"}
    where = [{"xAxis" if upright else "yAxis": at}]
    label = {"show": bool(name), "formatter": name, "position": "insideEndTop"}
    drawn = {"symbol": "none", "silent": True, "lineStyle": line, "label": label, "data": where}
    return {"type": "line", "name": name, "data": [], "markLine": drawn, "mark": True}


def band(low: float, high: float, share: float) -> list[Option]:
    """Return the diagonal from ``low`` to ``high``, and the lines that are off by ``share`` on both sides of it."""
    return [
        mark("equal", [(low, low), (high, high)]),
        mark(f"±{share:.0%}", [(low, low * (1 + share)), (high, high * (1 + share))], dashed=True),
        mark(f"±{share:.0%}", [(low, low * (1 - share)), (high, high * (1 - share))], dashed=True),
    ]


def shaded(key: str, low: float, high: float, title: str) -> Mapping[str, Any]:
    """Return what colours a series by a column, from few to many."""
    return {"type": "continuous", "dimension": key, "min": low, "max": high, "text": [title, ""], "calculable": False}


def kinds(key: str, names: Sequence[str]) -> Mapping[str, Any]:
    """Return what colours and shapes a series by a column of names; ``names`` are those that stand in it."""
    return {"type": "piecewise", "dimension": key, "categories": list(names)}
