"""Plans under budgets: both exact solvers against all plans there are and each other, and what no plan may do."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.compression.searching import dynamic
from leti.compression.searching.candidates import Candidates, Costs, Group, Pair, Problem, priced
from leti.compression.searching.dynamic import Dynamic, order_of
from leti.compression.searching.program import Program
from leti.compression.searching.solver import solve
from leti.core.errors import InvalidInput
from leti.core.patches import Patch

MEASURES = ("latency_ms", "high_ms", "macs")


def drawn(rng: np.random.Generator, sizes: list[int], neighbours: list[tuple[int, int]]) -> Problem:
    """Return a problem whose latency goes up and down with width; costs are whole numbers, often alike, or not.

    What two groups cost together may be less than nothing, as it is where a candidate saves what its neighbour costs.
    """
    noise = rng.choice([0.0, 0.3])
    least = int(rng.choice([0, -6]))

    def costs(*shape: int) -> Costs:
        latency = rng.integers(least if len(shape) == 2 else 0, 12, shape) + noise * rng.random(shape)
        return Costs.of(latency, latency + rng.integers(0, 3, shape), rng.integers(0, 9, shape))

    groups = tuple(
        Group.of([Patch({i: c + 1}) for c in range(n)], costs(n), [0, *rng.integers(0, 20, n - 1)], rng.random(n))
        for i, n in enumerate(sizes)
    )
    pairs = tuple(Pair(a, b, costs(sizes[a], sizes[b])) for a, b in neighbours)
    return Problem(groups, pairs, Costs.of(3.0 - 10 * least, 4.0 - 10 * least, 5.0))


def everything(problem: Problem):
    return [problem.plan(c) for c in itertools.product(*(range(len(group.patches)) for group in problem.groups))]


@st.composite
def problems(draw, *, chain: bool):
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    names = draw(st.permutations(range(len(sizes))))
    if chain:
        linked = [pair for pair in itertools.pairwise(names) if draw(st.booleans())]
        linked = [pair if draw(st.booleans()) else pair[::-1] for pair in linked]
    else:
        linked = [pair for pair in itertools.combinations(names, 2) if draw(st.booleans())]
    return drawn(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), sizes, linked)


def check(problem: Problem, measure: str) -> None:
    plans = everything(problem)
    costs = sorted({plan.by(measure) for plan in plans})
    budgets = [max(costs[0] / 2, 0.5), costs[0], costs[len(costs) // 3], costs[len(costs) // 2], costs[-1] + 1]
    front = solve(problem, budgets, measure=measure)
    assert front.cheapest.by(measure) == costs[0]
    assert [found.budget for found in front.solved] == sorted(set(budgets))
    for found in front.solved:
        least = min(
            (plan.sensitivity for plan in plans if plan.by(measure) <= found.budget * (1 + 1e-12)), default=None
        )
        assert found.is_exact
        assert (found.plan is None) == (least is None)
        if found.plan is not None:
            assert found.plan == problem.plan(found.plan.choices)
            assert found.plan.by(measure) <= found.budget * (1 + 1e-9)
            assert found.plan.sensitivity == pytest.approx(least, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(problems(chain=True), st.sampled_from(MEASURES))
def test_chains_are_solved_as_by_looking_at_all_plans(problem, measure):
    check(problem, measure)


@settings(max_examples=100, deadline=None)
@given(problems(chain=False), st.sampled_from(MEASURES))
def test_graphs_are_solved_as_by_looking_at_all_plans(problem, measure):
    check(problem, measure)


@settings(max_examples=25, deadline=None)
@given(problems(chain=False), st.sampled_from(MEASURES))
def test_graphs_of_too_many_states_are_solved_as_by_looking_at_all_plans(problem, measure):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dynamic, "MAX_STATES", 0)
        assert order_of(problem) is None
        check(problem, measure)


@settings(max_examples=40, deadline=None)
@given(problems(chain=True))
def test_dominated_candidates_are_in_no_plan_that_is_lost(problem):
    fewer = problem.without_dominated()
    budgets = [plan.high_ms for plan in everything(problem)][::7]
    for found, again in zip(solve(problem, budgets).solved, solve(fewer, budgets).solved, strict=True):
        assert found.plan.sensitivity == pytest.approx(again.plan.sensitivity, rel=1e-9)
    assert fewer.patch(fewer.dense()) == problem.patch(problem.dense())


@settings(max_examples=40, deadline=None)
@given(problems(chain=True), st.integers(4, 80))
def test_no_plan_has_a_candidate_slower_than_the_unchanged_one_beside_the_same_neighbours(problem, budget):
    (found,) = solve(problem, [budget]).solved
    if found.plan is not None:
        for i in range(len(problem.groups)):
            dense = problem.plan((*found.plan.choices[:i], 0, *found.plan.choices[i + 1 :]))
            assert found.plan.choices[i] == 0 or found.plan.high_ms <= dense.high_ms


def test_low_ranks_that_int8_makes_slower_are_not_taken_even_where_they_seemed_to_do_good():
    """Tucker-2 of a 64-channel layer in int8 was slower than dense at every rank, at 4 % of the MACs."""
    patches = [Patch(precision="int8"), *(Patch(ranks={3: (r, r)}, precision="int8") for r in (8, 16, 32))]
    costs = Costs.of([1.0, 1.2, 1.3, 1.5], macs=[100, 4, 12, 40])
    problem = Problem((Group.of(patches, costs, [0, -0.2, -0.3, -0.1]),), (), Costs.of(0.5))
    assert problem.without_dominated().groups[0].patches == (patches[0], patches[1])  # worth something by MACs …
    front = solve(problem, [1.4, 3.0])
    assert [found.plan and found.plan.choices for found in front.solved] == [None, (0,)]
    assert front.cheapest.high_ms == pytest.approx(1.5)
    assert solve(problem, [60.0], measure="macs").solved[0].plan.choices == (1,)  # … which is the rival's to find out


def test_sums_are_what_a_predictor_says_of_the_whole_network_where_only_neighbours_meet():
    """A chain of convolutions: each costs a staircase of what it reads and makes; one call prices all."""
    widths = [(32, 24, 16), (64, 48), (16, 12, 8, 4)]
    calls = []

    def price(patches):
        calls.append(len(patches))
        made = []
        for patch in patches:
            channels = [patch.widths.get(i, own[0]) for i, own in enumerate(widths)]
            sizes = [3, *channels, 10]
            macs = [a * b for a, b in itertools.pairwise(sizes)]
            made.append([sum(-(-a // 32) * b for a, b in itertools.pairwise(sizes)) + 5, sum(macs)])
        latency, macs = np.array(made, float).T
        return Costs.of(latency, 1.1 * latency + 1, macs)

    candidates = [
        Candidates(
            tuple(Patch({i: n} if n != own[0] else {}) for n in own),
            tuple(range(len(own))),
            tuple(n / own[0] for n in own),
        )
        for i, own in enumerate(widths)
    ]
    problem = priced(candidates, [(0, 1), (1, 2)], price)
    assert calls == [1 + 9 + 6 + 8]
    for plan in everything(problem):
        costs = price([problem.patch(plan)])
        assert [plan.latency_ms, plan.high_ms, plan.macs] == pytest.approx(
            [costs.latency_ms[0], costs.high_ms[0], costs.macs[0]]
        )


def test_budgets_are_kept_by_the_upper_bound_of_the_latency():
    costs = Costs.of([10.0, 6.0, 5.0], [10.5, 9.0, 5.5])
    problem = Problem((Group.of([Patch(), Patch({0: 4}), Patch({0: 2})], costs, [0, 1, 2]),), (), Costs.of(0.0))
    assert solve(problem, [7.0]).solved[0].plan.choices == (2,)
    assert solve(problem, [7.0], measure="latency_ms").solved[0].plan.choices == (1,)


def test_budgets_that_are_none_and_sizes_that_do_not_fit_are_refused():
    group = Group.of([Patch(), Patch({0: 4})], Costs.of([2.0, 1.0]), [0, 1])
    problem = Problem((group,), (), Costs.of(0.0))
    for budgets in ([], [0.0], [float("nan")]):
        with pytest.raises(InvalidInput, match="budgets"):
            solve(problem, budgets)
    with pytest.raises(InvalidInput, match=r"pairs\[0\]"):
        Problem((group, group), (Pair(0, 1, Costs.of(np.zeros((2, 3)))),), Costs.of(0.0))
    with pytest.raises(InvalidInput, match="sensitivity"):
        Group((Patch(), Patch({0: 4})), Costs.of([2.0, 1.0]), np.array([0.1, 1.0]), np.ones(2))


def staircase(groups: int, widths: int, seed: int, links: list[tuple[int, int]]) -> Problem:
    """Return a problem of convolutions whose latency is a staircase of the widths that they read and make."""
    rng = np.random.default_rng(seed)
    kept = np.linspace(1, 1 / widths, widths)
    made = []
    for _ in range(groups):
        harm = np.concatenate([[0], np.cumsum(rng.exponential(1, widths - 1))]) * rng.uniform(0.2, 3)
        made.append(Group.of([Patch()] * widths, Costs.of(np.zeros(widths)), harm, kept))
    steps = np.ceil(kept * 4) / 4 + rng.uniform(0, 0.1, widths)
    pairs = [Pair(a, b, Costs.of(np.outer(steps, steps) * rng.uniform(0.5, 2))) for a, b in links]
    return Problem(tuple(made), tuple(pairs), Costs.of(1.0))


def chain(groups: int) -> list[tuple[int, int]]:
    return list(itertools.pairwise(range(groups)))


GRAPHS = {
    "ring": [*chain(12), (0, 11)],
    "residual": [*chain(14), *((i, i + 3) for i in range(0, 11, 3))],
    "tree": [((i - 1) // 2, i) for i in range(1, 15)],
    "forest of trees and rings": [*chain(5), (0, 4), (6, 7), (6, 8), (6, 9), *((i, i + 1) for i in range(10, 13))],
    "each with three before": [(i, j) for j in range(10) for i in range(max(0, j - 3), j)],
}


@pytest.mark.parametrize("links", GRAPHS.values(), ids=GRAPHS)
def test_dynamic_programming_and_the_program_find_plans_of_the_same_harm(links):
    problem = staircase(1 + max(map(max, links)), 6, 1, links)
    order = order_of(problem)
    assert sorted(order) == list(range(len(problem.groups)))
    own, other = Dynamic(problem, order, "high_ms", 60), Program(problem, "high_ms", 60)
    assert problem.plan(own.cheapest()).high_ms == pytest.approx(problem.plan(other.cheapest()).high_ms)
    for factor in (1.5, 2.5):
        budget = problem.dense().high_ms / factor
        plans = []
        for choices, is_exact in (own.solve(budget), other.solve(budget)):
            assert is_exact
            plans.append(problem.plan(choices))
        assert plans[0].sensitivity == pytest.approx(plans[1].sensitivity)
        assert max(plan.high_ms for plan in plans) <= budget


@pytest.mark.parametrize(
    ("links", "opened"),
    [
        (chain(50), 1),
        ([(0, i) for i in range(1, 50)], 1),
        ([*chain(50), (0, 2)], 2),
        ([*chain(50), *((i, i + 3) for i in range(0, 47, 3))], 2),
        ([*chain(50), *((i, i + 3) for i in range(47))], 3),
    ],
    ids=["chain", "star", "one more pair", "residual", "each with the third before"],
)
def test_few_groups_are_open_at_a_time_in_whatever_order_they_are_named(links, opened):
    names = np.random.default_rng(0).permutation(50)
    problem = staircase(50, 2, 0, [(int(names[a]), int(names[b])) for a, b in links])
    chosen, most = set(), 0
    for number in order_of(problem):
        chosen.add(number)
        pairs = [{pair.first, pair.second} for pair in problem.pairs]
        most = max(most, len({group for pair in pairs if pair & chosen and pair - chosen for group in pair & chosen}))
    assert most == opened


def test_groups_without_a_choice_are_never_open():
    """Seventy groups, all neighbours of each other, are more than an array has axes."""
    sizes = [2 if number in (3, 30) else 3 if number == 60 else 1 for number in range(70)]
    problem = drawn(np.random.default_rng(0), sizes, list(itertools.combinations(range(70), 2)))
    check(replace(problem, fixed=Costs.of(20_000.0)), "high_ms")


def test_plans_that_are_not_proven_best_are_not_said_to_be_exact(monkeypatch):
    """Where what candidates harm is what they save, all plans near the budget are as good as each other."""
    costs = -np.sort(-np.random.default_rng(0).random((30, 12)), axis=1)
    groups = tuple(Group.of([Patch()] * 12, Costs.of(row), row[0] - row) for row in costs)
    problem = Problem(groups, (), Costs.of(1.0))
    budget = problem.dense().high_ms / 2
    (first,) = solve(problem, [budget], time_limit_s=0.0).solved
    monkeypatch.setattr(dynamic, "BEGINNINGS", (300,))
    (found,) = solve(problem, [budget]).solved
    assert not first.is_exact
    assert not found.is_exact
    assert first.plan.high_ms <= budget
    assert 0.99 * budget < found.plan.high_ms <= budget


@pytest.mark.parametrize("more", [[], [(i, i + 3) for i in range(0, 47, 3)]], ids=["chain", "residual"])
def test_fifty_groups_of_sixteen_widths_are_solved_for_ten_budgets(more):
    problem = staircase(50, 16, 0, chain(50) + more)
    dense = problem.dense().high_ms
    began = time.perf_counter()
    front = solve(problem, [dense / factor for factor in np.linspace(1.2, 4, 10)])
    assert time.perf_counter() - began < 60  # for a machine that does much else; benchmarks say what it takes
    harms = [found.plan.sensitivity for found in front.solved]
    assert harms == sorted(harms, reverse=True)
    assert all(found.is_exact for found in front.solved)
    assert all(0.99 < found.plan.high_ms / found.budget <= 1 for found in front.solved)
    assert len(front.plans()) == 10
