"""What stands beside the exact plan, and tables that are set right by a few measurements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.compression.searching.calibrating import Measured, calibrate, errors, next_step
from leti.compression.searching.candidates import Costs, Group, Pair, Problem
from leti.compression.searching.rivals import PLANNERS, rival_plans
from leti.core.errors import InvalidInput
from leti.core.patches import Patch


def staircase(groups: int = 8, widths: int = 8, step: int = 2) -> Problem:
    """Return convolutions whose latency is a staircase of the channels, ``step`` candidates to a step."""
    rng = np.random.default_rng(0)
    kept = np.linspace(1, 1 / widths, widths)
    stairs = kept[np.arange(widths) // step * step]
    patches = [[Patch({i: c}) for c in range(widths)] for i in range(groups)]
    made = tuple(
        Group.of(own, Costs.of(np.zeros(widths)), [0, *np.cumsum(rng.exponential(1, widths - 1))], kept)
        for own in patches
    )
    pairs = tuple(
        Pair(i, i + 1, Costs.of(np.outer(stairs, stairs), macs=100 * np.outer(kept, kept))) for i in range(groups - 1)
    )
    return Problem(made, pairs, Costs.of(0.1, macs=5))


def test_each_planner_keeps_the_budget_that_it_knows_of_and_none_harms_less_than_the_exact_one():
    problem = staircase()
    dense = problem.dense()
    told = []
    proposals = {p.planner: p for p in rival_plans(problem, 2.0, evaluations=120, seed=1, progress=told.append)}
    assert list(proposals) == list(PLANNERS) == [p.planner for p in told]
    exact = proposals["latency"].plan
    assert exact.high_ms <= dense.latency_ms / 2
    for name in ("nsga2", "tpe"):
        assert proposals[name].evaluations == 120
        assert proposals[name].plan.high_ms <= dense.latency_ms / 2
        assert proposals[name].plan.sensitivity >= exact.sensitivity
    for name in ("macs", "uniform"):
        assert proposals[name].plan.macs <= dense.macs / 2
    assert proposals["macs"].plan.sensitivity <= proposals["uniform"].plan.sensitivity
    assert proposals["macs"].plan.high_ms > dense.latency_ms / 2  # stairs are not seen by who counts MACs
    assert len({problem.groups[0].kept[c] for c in proposals["uniform"].plan.choices}) == 1


def test_searches_are_seeded_and_say_when_they_found_nothing():
    problem = staircase(3, 3)
    one, other = (PLANNERS["nsga2"].plan(problem, 1.5, evaluations=40, seed=2) for _ in range(2))
    assert one == other
    for planner in PLANNERS.values():
        assert planner.plan(problem, 1e6, evaluations=5).plan is None
        with pytest.raises(InvalidInput, match="factor"):
            planner.plan(problem, 0.5, evaluations=5)
    with pytest.raises(InvalidInput, match="no planner"):
        rival_plans(problem, 2, evaluations=1, names=("amc",))


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0.2, 3),
    st.floats(0, 2),
    st.lists(st.floats(0.5, 50), min_size=3, max_size=12, unique_by=lambda value: round(value, 2)),
)
def test_a_line_is_found_whatever_it_is(factor, offset, predicted):
    measured = [factor * value + offset for value in predicted]
    found = calibrate(predicted, measured)
    assert (found.factor, found.offset_ms) == (pytest.approx(factor, rel=1e-5), pytest.approx(offset, abs=1e-4))
    assert found.after.mape < 1e-6
    assert found.held_out.within_10 == 1
    np.testing.assert_allclose(found.apply(predicted), measured, rtol=1e-5)


def test_few_networks_and_lines_that_would_fall_give_a_factor_alone():
    assert calibrate([2.0], [3.0]).offset_ms == 0
    assert calibrate([2.0], [3.0]).factor == pytest.approx(1.5)
    assert calibrate([2.0, 2.0, 2.0], [3.0, 3.1, 2.9]).offset_ms == 0
    falling = calibrate([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    assert falling.factor > 0
    assert falling.offset_ms == 0
    found = errors([1.0, 1.04, 0.92, 1.2], [1.0, 1.0, 1.0, 1.0])
    assert (found.mape, found.within_5, found.within_10) == (pytest.approx(0.08), 0.5, 0.75)
    assert (found.worst, found.bias) == (pytest.approx(0.2), pytest.approx(0.04))
    for wrong in ([0.0], [float("nan")], []):
        with pytest.raises(InvalidInput):
            calibrate(wrong, wrong)


@pytest.mark.parametrize("offset", [0, 5])
def test_few_noisy_networks_do_not_bend_a_good_table(offset):
    rng = np.random.default_rng(0)
    off: list[list[float]] = [[], []]
    for _ in range(200):
        predicted = rng.uniform(70, 250, 14)
        measured = (0.9 * predicted + offset) * rng.normal(1, 0.02, 14)
        known, held_out = slice(0, 4), slice(4, None)
        rows = np.stack([predicted[known], np.ones(4)], axis=1) / measured[known, None]
        line = np.linalg.lstsq(rows, np.ones(4))[0]
        found = calibrate(predicted[known].tolist(), measured[known].tolist())
        for told, values in zip(off, (found.apply(predicted), line[0] * predicted + line[1]), strict=True):
            told.append(float(np.abs(values[held_out] / measured[held_out] - 1).mean()))
    assert np.mean(off[0]) < 0.85 * np.mean(off[1])
    assert np.max(off[0]) < 0.6 * np.max(off[1])


def test_a_calibrated_problem_predicts_what_the_line_says():
    problem = staircase(3, 4)
    plan = problem.plan((1, 2, 0))
    again = problem.scaled(1.3, 0.2).plan((1, 2, 0))
    assert again.latency_ms == pytest.approx(1.3 * plan.latency_ms + 0.2)
    assert (again.macs, again.sensitivity) == (plan.macs, plan.sensitivity)


@pytest.mark.parametrize(
    ("rounds", "measured", "step"),
    [
        (1, [Measured(9.8, 9.9)], "done"),
        (1, [Measured(9.8, 10.4)], "again"),  # over the budget of 10
        (2, [Measured(9.8, 9.0)], "again"),  # kept, but the table does not hold yet
        (3, [Measured(9.8, 9.0)], "done"),
        (3, [Measured(9.8, 10.4), Measured(9.0, 9.9)], "done"),
        (3, [Measured(9.8, 10.4)], "missed"),
    ],
)
def test_rounds_end_where_predictions_hold_or_after_the_third(rounds, measured, step):
    assert next_step(rounds, measured, 10.0) == step
