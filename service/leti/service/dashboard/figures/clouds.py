"""Clouds: a point for each network, coloured by how many lie there or by the space that they are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from leti.service.dashboard.figures.density import CELLS, thin
from leti.service.dashboard.figures.figure import Column
from leti.service.dashboard.figures.forms import Option, Scale, axis, chart, kinds, points, shaded

Colour = Literal["density", "space"]
Spacing = Literal["value", "log"]

WHOLE: Final = 2_000
"""Networks up to which each one is drawn by itself."""

SPECLESS: Final = "no space"
"""What networks are of that came without a spec."""


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """A column that an axis of a cloud stands for: its key, its heading with the unit, and values ``(networks,)``."""

    key: str
    title: str
    values: NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Cloud:
    """Points that are drawn, as columns and as ECharts is told of them; ``index`` says which networks they are."""

    index: NDArray[np.int64]
    columns: tuple[Column, ...]
    option: Option
    notes: tuple[str, ...]


def cloud(
    fingerprint: NDArray[np.object_],
    space: NDArray[np.object_],
    x: Axis,
    y: Axis,
    *,
    colour: Colour = "density",
    scales: tuple[Scale, Scale] = ("value", "value"),
    first: Sequence[int] = (),
    marks: Sequence[Option] = (),
    series: str = "networks",
    opens: str = "/dashboard/networks/{}",
) -> Cloud:
    """Return at most some thousand points of many networks, each of a cell of a grid standing for those around it.

    Where an axis goes by factors, networks at 0 are left out. The networks numbered in ``first`` are drawn whatever
    lies beside them.
    """
    above = np.ones(len(fingerprint), np.bool_)
    for scale, one in zip(scales, (x, y), strict=True):
        above &= one.values > 0 if scale == "log" else True
    chosen = np.flatnonzero(above)
    index, count = _thinned(chosen, _spaces(space) if colour == "space" else None, x, y, scales, first)
    names = sorted({_space(name) for name in space[index]})
    drawn: dict[str, Any] = {}
    if colour == "space" and len(names) > 1:
        drawn = {"visualMap": {**kinds("space", names), "seriesIndex": 0}}
    elif len(count) and count.max() > 1:
        most = float(np.quantile(count, 0.98))
        drawn = {"visualMap": {**shaded("networks", 1, most, "networks"), "seriesIndex": 0}}
    notes = []
    if len(index) < len(chosen):
        notes.append(
            f"Where networks lie close, one stands for those around it: {len(index):,} of {len(chosen):,} are drawn."
        )
    if len(chosen) < len(fingerprint):
        notes.append(f"Networks at 0 have no place on an axis of factors: {len(fingerprint) - len(chosen):,} left out.")
    columns = (
        Column("fingerprint", "network", fingerprint[index].tolist(), links=opens),
        Column("space", "space", [_space(name) for name in space[index]]),
        Column(x.key, x.title, x.values[index].tolist()),
        Column(y.key, y.title, y.values[index].tolist()),
        Column("networks", "networks here", count.tolist()),
    )
    option = chart(
        _axis(x, index, scales[0]),
        _axis(y, index, scales[1]),
        [points(x.key, y.key, series), *marks],
        **drawn,
    )
    return Cloud(index, columns, option, tuple(notes))


def _thinned(
    chosen: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    x: Axis,
    y: Axis,
    scales: tuple[Scale, Scale],
    first: Sequence[int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which networks are drawn and how many each stands for: thinned group by group, each with a fair grid."""
    numbers = np.array(first, np.int64)
    kept = numbers[np.isin(numbers, chosen)]
    rest = np.setdiff1d(chosen, kept)
    parts = [(kept, len(kept))]
    if groups is None:
        parts.append((rest, 0))
    else:
        parts += [(rest[groups[rest] == group], 0) for group in np.unique(groups[rest])]
    cells = round(CELLS / np.sqrt(max(len(parts) - 1, 1)))  # in all as many, however many groups
    found, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for part, keep in parts:
        if len(part):
            few = thin(
                _placed(x, part, scales[0]),
                _placed(y, part, scales[1]),
                cells=cells,
                keep=max(keep, len(part) if len(chosen) <= WHOLE else 0),
            )
            found.append(part[few.index])
            counts.append(few.count)
    return np.concatenate(found), np.concatenate(counts)


def _placed(one: Axis, index: NDArray[np.int64], scale: Scale) -> NDArray[np.float64]:
    values = one.values[index]
    return np.log(values) if scale == "log" else values


def _spaces(space: NDArray[np.object_]) -> NDArray[np.int64]:
    numbers = {name: i for i, name in enumerate(sorted(set(space)))}
    return np.array([numbers[name] for name in space], np.int64)


def _space(name: str) -> str:
    return name or SPECLESS


def _axis(one: Axis, index: NDArray[np.int64], scale: Scale) -> Option:
    if scale != "log" or not len(index):
        return axis(one.title, scale)
    values = one.values[index]
    return axis(one.title, "log", min=_rounded(values.min() / 1.1, np.floor), max=_rounded(values.max() * 1.1, np.ceil))


def _rounded(value: float, to: Callable[[float], float]) -> float:
    """Return a number above 0 with two digits, rounded down or up: it stands at the end of an axis."""
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{to(value / unit) * unit:.2g}")
