"""What more measurements would bring: how the error falls with the networks trained on."""

from __future__ import annotations

from typing import Any

from leti.core.training import LearningCurve
from leti.service.dashboard.figures.figure import Cell, Column, Figure
from leti.service.dashboard.figures.forms import axis, chart, line, whiskers
from leti.service.dashboard.words import share


def learning_curve(curve: LearningCurve) -> Figure:
    """Return the median error by the number of networks trained on, as measured and as it should go on."""
    title = f"{curve.kind}: learning curve"
    points = (*curve.measured, *curve.expected)
    if not points:
        return Figure(title, curve.reason or "There is no curve.", (), remedy=curve.reason)
    told: list[Cell] = [*["measured"] * len(curve.measured), *["expected"] * len(curve.expected)]

    def cells(which: str, of: tuple[float, ...]) -> list[Cell]:
        return [100 * value if one == which else None for one, value in zip(told, of, strict=True)]

    mdape = tuple(point.mdape for point in points)
    columns = (
        Column("networks", "Networks trained on", [point.networks for point in points]),
        Column("told", "Known from", told),
        Column("mdape", "Median absolute error (%)", [100 * value for value in mdape]),
        Column("low", "At least (%)", [100 * point.low for point in points]),
        Column("high", "At most (%)", [100 * point.high for point in points]),
        Column("measured", "Measured (%)", cells("measured", mdape), hidden=True),
        Column("expected", "Expected (%)", cells("expected", mdape), hidden=True),
    )
    series: list[dict[str, Any]] = [
        whiskers("networks", "low", "high"),
        line("networks", "measured", "measured, in cross-validation"),
    ]
    if curve.expected:
        series.append(line("networks", "expected", "expected", symbol="emptyCircle", lineStyle={"type": "dashed"}))
    option = chart(axis("networks trained on"), axis("median absolute error (%)", min=0), series)
    notes = ("Whiskers hold 90 %.", *((curve.reason,) if curve.reason else ()))
    return Figure(title, _told(curve), columns, option, notes=notes)


def _told(curve: LearningCurve) -> str:
    parts = []
    if curve.measured:
        first, last = curve.measured[0], curve.measured[-1]
        parts.append(
            f"With {first.networks} networks the median error is {share(first.mdape)}, with {last.networks} it "
            f"is {share(last.mdape)}."
        )
    if curve.expected:
        most = curve.expected[-1]
        parts.append(
            f"With {most.networks} it should be {share(most.mdape)} ({share(most.low)} to {share(most.high)})."
        )
    return " ".join(parts) or curve.reason
