"""What a learning curve says about measuring more, in a sentence that can be relied on."""

import io

from rich.console import Console

from leti.cli.learning import advice, curve_json, more_measurements, show_curve, worth_measuring
from leti.core.training import CurvePoint, LearningCurve

TRAIN, TEST = 90, 30


def curve(*errors: float, reason: str = "") -> LearningCurve:
    sizes = [round(factor * TRAIN) for factor in (1, 1.5, 2, 4)]
    expected = tuple(
        CurvePoint(size, error, error / 2, error * 1.5) for size, error in zip(sizes, errors, strict=False)
    )
    return LearningCurve(
        "xgboost", (CurvePoint(36, 0.06, 0.05, 0.07), CurvePoint(72, 0.05, 0.04, 0.06)), expected, reason
    )


def test_what_goes_to_the_holdout_must_be_measured_too() -> None:
    assert more_measurements(CurvePoint(2 * TRAIN, 0.1, 0.1, 0.1), TRAIN, TEST) == TRAIN + TEST
    assert more_measurements(CurvePoint(TRAIN, 0.1, 0.1, 0.1), TRAIN, TEST) == 0


def test_measuring_is_worth_it_as_long_as_the_error_falls_clearly() -> None:
    falling = curve(0.05, 0.04, 0.03, 0.029)
    point = worth_measuring(falling)
    assert point is not None
    assert point.networks == 180
    said = advice(falling, TRAIN, TEST)
    assert said.startswith("120 more would be worth measuring: with them about 3.00 % (1.50 to 4.50) instead of 5.00 %")
    assert "repeatability is the floor" in said
    data = curve_json(falling, TRAIN, TEST)
    assert (data["told"], data["more_measurements"], data["expected_mdape"], data["text"]) == (True, 120, 0.03, said)


def test_a_flat_curve_says_that_more_bring_little() -> None:
    flat = curve(0.05, 0.0495, 0.049, 0.048)
    assert worth_measuring(flat) is None
    assert advice(flat, TRAIN, TEST).startswith(
        "More networks of this kind would bring little: with 360 more, about 4.80"
    )
    assert curve_json(flat, TRAIN, TEST)["more_measurements"] is None


def test_what_cannot_be_told_is_not() -> None:
    unknown = curve(reason="20 networks are too few")
    assert "cannot be told yet: 20 networks are too few." in advice(unknown, TRAIN, TEST)
    assert curve_json(unknown, TRAIN, TEST)["told"] is False


def test_the_table_shows_what_was_found_and_what_is_expected() -> None:
    text = io.StringIO()
    show_curve(Console(file=text, width=120, markup=False), curve(0.05, 0.04, 0.03, 0.029), TRAIN, TEST)
    lines = text.getvalue().splitlines()
    assert any(line.split()[:2] == ["72", "5.00"] for line in lines)
    assert any("180 (expected)" in line and line.rstrip().endswith("+120") for line in lines)
