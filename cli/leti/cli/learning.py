"""How a learning curve is shown, and what it says about measuring more."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console

from leti.cli.report import new_table
from leti.core.training import CurvePoint, LearningCurve

WORTH: Final = 0.1
"""Share by which the error must fall from one size to the next for the networks between them to be worth measuring."""


def show_curve(console: Console, curve: LearningCurve, n_train: int, n_test: int) -> None:
    """Print the error by the networks trained on, what more should bring, and what follows from it."""
    table = new_table(f"Learning curve of {curve.kind}: MdAPE in cross-validation")
    for column in ("trained on", "MdAPE", "90 %", "measured more"):
        table.add_column(column, justify="right", no_wrap=True)
    for point in curve.measured:
        table.add_row(str(point.networks), _percent(point.mdape), _bounds(point), "")
    if curve.expected:
        table.add_section()
    for point in curve.expected:
        more = more_measurements(point, n_train, n_test)
        table.add_row(f"{point.networks} (expected)", _percent(point.mdape), _bounds(point), f"+{more}")
    if curve.measured:
        console.print(table)
    console.print(advice(curve, n_train, n_test), highlight=False)


def more_measurements(point: CurvePoint, n_train: int, n_test: int) -> int:
    """Return how many more networks must be measured to train on so many: a share of them goes to the holdout."""
    return max(0, round((point.networks - n_train) * (n_train + n_test) / n_train))


def worth_measuring(curve: LearningCurve) -> CurvePoint | None:
    """Return the last expected point that is still clearly better than the one before, or ``None``."""
    best = None
    for before, point in zip(curve.expected, curve.expected[1:], strict=False):
        if point.mdape > (1 - WORTH) * before.mdape:
            break
        best = point
    return best


def advice(curve: LearningCurve, n_train: int, n_test: int) -> str:
    """Return one sentence: how many more measurements would be worth it, as far as that can be told."""
    if not curve.expected:
        return f"How many more measurements would be worth it cannot be told yet: {curve.reason}."
    now, last = curve.expected[0], curve.expected[-1]
    point = worth_measuring(curve)
    if point is None:
        more = more_measurements(last, n_train, n_test)
        return (
            f"More networks of this kind would bring little: with {more} more, about {_percent(last.mdape)} % "
            f"({_bounds(last)}) instead of {_percent(now.mdape)} %."
        )
    more = more_measurements(point, n_train, n_test)
    return (
        f"{more} more would be worth measuring: with them about {_percent(point.mdape)} % ({_bounds(point)}) instead "
        f"of {_percent(now.mdape)} %. The platform's repeatability is the floor."
    )


def curve_json(curve: LearningCurve, n_train: int, n_test: int) -> dict[str, Any]:
    """Return the advice as data, beside the curve in the training's report."""
    point = worth_measuring(curve)
    return {
        "told": bool(curve.expected),
        "more_measurements": None if point is None else more_measurements(point, n_train, n_test),
        "expected_mdape": None if point is None else point.mdape,
        "text": advice(curve, n_train, n_test),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _bounds(point: CurvePoint) -> str:
    return f"{_percent(point.low)} to {_percent(point.high)}"
