"""Plans of compression: python benchmarks/solver.py [--seeds 0 1 2] [--groups 50] [--widths 16] [--highs] [--searches].

Convolutions each of whose latencies is a staircase of the channels that it reads and makes, under ten budgets from 1.2
to 4 times as fast: in a chain, in one with a pair more, in a residual network, and with three groups open at a time.
With ``--highs``, HiGHS solves the program of one of the budgets of each, which must agree. With ``--searches``, NSGA-II
and TPE look for the plan of that budget in a chain by 2,000 evaluations each. Seconds are of the processor.
"""

import argparse
import time
from collections.abc import Callable, Mapping

import numpy as np

from leti.compression.searching.candidates import Costs, Group, Pair, Problem
from leti.compression.searching.program import Program
from leti.compression.searching.rivals import PLANNERS
from leti.compression.searching.solver import Solved, solve
from leti.core.patches import Patch

FACTORS = np.linspace(1.2, 4, 10)
COMPARED = 5
"""Which of the budgets, from the smallest, HiGHS and the searches are given."""

EVALUATIONS = 2_000
TIME_LIMIT_S = 60.0

GRAPHS: Mapping[str, Callable[[int], list[tuple[int, int]]]] = {
    "chain": lambda groups: [],
    "chain and one pair": lambda groups: [(0, 2)],
    "residual": lambda groups: [(i - 3, i) for i in range(3, groups, 3)],
    "three open": lambda groups: [(i - 3, i) for i in range(3, groups)],
}
"""Pairs of groups beside those of each and the next."""


def convolutions(groups: int, widths: int, seed: int, more: list[tuple[int, int]]) -> Problem:
    """Return a problem of groups each coupled with the next, and of ``more`` pairs."""
    rng = np.random.default_rng(seed)
    kept = np.linspace(1, 1 / widths, widths)
    made = tuple(
        Group.of(
            [Patch({i: c} if c else {}) for c in range(widths)],
            Costs.of(np.zeros(widths)),
            np.concatenate([[0], np.cumsum(rng.exponential(1, widths - 1))]) * rng.uniform(0.2, 3),
            kept,
        )
        for i in range(groups)
    )
    stairs = np.ceil(kept * 4) / 4 + rng.uniform(0, 0.1, widths)
    links = [*((i, i + 1) for i in range(groups - 1)), *more]
    pairs = tuple(Pair(a, b, Costs.of(np.outer(stairs, stairs) * rng.uniform(0.5, 2))) for a, b in links)
    return Problem(made, pairs, Costs.of(1.0))


def compare(problem: Problem, solved: Solved) -> None:
    """Print what HiGHS finds within one budget, and how long it takes."""
    assert solved.plan is not None
    began = time.process_time()
    choices, is_exact = Program(problem, "high_ms", TIME_LIMIT_S).solve(solved.budget)
    harm = float("nan") if choices is None else problem.plan(choices).sensitivity
    assert not is_exact or np.isclose(harm, solved.plan.sensitivity)
    print(
        f"  HiGHS, one budget: {time.process_time() - began:.2f} s, exact {is_exact}, "
        f"harm {harm:.6f} beside {solved.plan.sensitivity:.6f}"
    )


def search(problem: Problem, solved: Solved, seed: int) -> None:
    """Print how much worse plans are that searches find within one budget, and how long they take."""
    assert solved.plan is not None
    for name in ("nsga2", "tpe"):
        began = time.process_time()
        factor = problem.dense().latency_ms / solved.budget
        plan = PLANNERS[name].plan(problem, factor, evaluations=EVALUATIONS, seed=seed).plan
        worse = "no plan" if plan is None else f"{plan.sensitivity / solved.plan.sensitivity - 1:+.1%} harm"
        print(f"  {name}: {worse} by {EVALUATIONS} evaluations, {time.process_time() - began:.1f} s")


def main() -> None:
    """Print a line a seed and graph: seconds for all budgets, and whether plans are proven best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--widths", type=int, default=16)
    parser.add_argument("--highs", action="store_true")
    parser.add_argument("--searches", action="store_true")
    asked = parser.parse_args()
    for name, more in GRAPHS.items():
        for seed in asked.seeds:
            problem = convolutions(asked.groups, asked.widths, seed, more(asked.groups))
            dense = problem.dense().latency_ms
            began = time.process_time()
            front = solve(problem, [dense / factor for factor in FACTORS])
            print(
                f"{name}, seed {seed}: ten budgets {time.process_time() - began:.2f} s, "
                f"all exact {all(found.is_exact for found in front.solved)}, {len(front.plans())} plans"
            )
            if asked.highs:
                compare(problem, front.solved[COMPARED])
            if asked.searches and name == "chain":
                search(problem, front.solved[COMPARED], seed)


if __name__ == "__main__":
    main()
