"""Plans of compression: python benchmarks/solver.py [--seeds 0 1 2] [--groups 50] [--widths 16] [--searches].

Convolutions in a chain, each of whose latencies is a staircase of the channels that it reads and makes, under ten
budgets from 1.2 to 4 times as fast: dynamic programming for all ten beside HiGHS for one of them, which must agree.
With ``--searches``, NSGA-II and TPE look for the same plan by 2,000 evaluations each.
"""

import argparse
import time

import numpy as np

from leti.compression.searching.candidates import Costs, Group, Pair, Problem
from leti.compression.searching.rivals import PLANNERS
from leti.compression.searching.solver import solve
from leti.core.patches import Patch

FACTORS = np.linspace(1.2, 4, 10)
EVALUATIONS = 2_000


def convolutions(groups: int, widths: int, seed: int, *, is_chain: bool = True) -> Problem:
    """Return a problem; one that is no chain has a pair of the first and the third group whose costs are nothing."""
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
    pairs = [Pair(i, i + 1, Costs.of(np.outer(stairs, stairs) * rng.uniform(0.5, 2))) for i in range(groups - 1)]
    if not is_chain:
        nothing = Costs.of(np.zeros((widths, widths)))
        pairs += [Pair(0, 2, nothing)]
    return Problem(made, tuple(pairs), Costs.of(1.0))


def main() -> None:
    """Print a line a seed: seconds, whether plans are proven best, and the harm that both solvers find."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--widths", type=int, default=16)
    parser.add_argument("--searches", action="store_true")
    asked = parser.parse_args()
    for seed in asked.seeds:
        chain = convolutions(asked.groups, asked.widths, seed)
        dense = chain.dense().latency_ms
        budgets = [dense / factor for factor in FACTORS]
        began = time.perf_counter()
        front = solve(chain, budgets)
        chain_s = time.perf_counter() - began
        began = time.perf_counter()
        (found,) = solve(convolutions(asked.groups, asked.widths, seed, is_chain=False), budgets[4:5]).solved
        program_s = time.perf_counter() - began
        same = next(other for other in front.solved if other.budget == found.budget)
        assert same.plan is not None
        assert found.plan is not None
        print(
            f"seed {seed}: ten budgets {chain_s:.2f} s, all exact {all(f.is_exact for f in front.solved)}, "
            f"{len(front.plans())} plans; HiGHS one budget {program_s:.2f} s; "
            f"harm {same.plan.sensitivity:.6f} and {found.plan.sensitivity:.6f}"
        )
        for name in ("nsga2", "tpe") if asked.searches else ():
            began = time.perf_counter()
            plan = PLANNERS[name].plan(chain, dense / same.budget, evaluations=EVALUATIONS, seed=seed).plan
            worse = "no plan" if plan is None else f"{plan.sensitivity / same.plan.sensitivity - 1:+.1%} harm"
            print(f"  {name}: {worse} by {EVALUATIONS} evaluations, {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
