"""Exact plans under budgets: dynamic programming where few groups are neighbours at a time, else a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.compression.searching.candidates import Measure, Plan, Problem
from leti.compression.searching.dynamic import Dynamic, order_of
from leti.compression.searching.program import Program
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np

_KEPT: Final = 1e-12  # of a budget: what the order of a sum may be off by


@final
@dataclass(frozen=True, slots=True)
class Solved:
    """The plan of least harm within a budget; ``None`` where no plan is within it.

    ``is_exact`` says that no plan within the budget harms less.
    """

    budget: float
    plan: Plan | None
    is_exact: bool = True


@final
@dataclass(frozen=True, slots=True)
class Front:
    """What was solved, by ascending budget, and the plan that costs least: the minimum that can be reached."""

    solved: tuple[Solved, ...]
    cheapest: Plan

    def plans(self) -> tuple[Plan, ...]:
        """Return the plans, each once, none that another beats in both harm and upper bound of latency."""
        plans = {found.plan.choices: found.plan for found in self.solved if found.plan is not None}.values()
        return tuple(
            plan for plan in plans
            if not any(
                (other.sensitivity, other.high_ms) != (plan.sensitivity, plan.high_ms)
                and other.sensitivity <= plan.sensitivity and other.high_ms <= plan.high_ms
                for other in plans
            )
        )  # fmt: skip


def solve(
    problem: Problem,
    budgets: Sequence[float],
    *,
    measure: Measure = "high_ms",
    time_limit_s: float = 60.0,
) -> Front:
    """Return the plan of least harm within each budget; one that costs no more than it has to among equals.

    Each budget takes ``time_limit_s`` at most; where that is not enough, the best plan that was found is not said to be
    exact. In no plan does going back to another candidate of a group that harms no more, such as the unchanged one,
    cost less: a candidate that is slower than the unchanged one beside the same neighbours is never taken. Raises
    :class:`~leti.core.errors.InvalidInput` for a budget that is no positive number.
    """
    if not budgets or not all(np.isfinite(budget) and budget > 0 for budget in budgets):
        raise InvalidInput("must be positive numbers", field="budgets")
    order = order_of(problem)
    solver: Dynamic | Program
    if order is None:
        solver = Program(problem, measure, time_limit_s)
    else:
        solver = Dynamic(problem, order, measure, time_limit_s)
    cheapest = problem.plan(solver.cheapest())
    solved = []
    for budget in sorted({float(budget) for budget in budgets}):
        choices, is_exact = solver.solve(budget * (1 + _KEPT))
        if choices is None and cheapest.by(measure) <= budget * (1 + _KEPT):
            choices = cheapest.choices
        plan = None if choices is None else _settled(problem, choices, measure)
        solved.append(Solved(budget, plan, is_exact))
    return Front(tuple(solved), cheapest)


def _settled(problem: Problem, choices: Sequence[int], measure: Measure) -> Plan:
    """Return a plan in which no change of one group costs less and harms no more."""
    chosen, is_settled = list(choices), False
    while not is_settled:
        is_settled = True
        for number, group in enumerate(problem.groups):
            costs = problem.beside(chosen, number, measure)
            allowed = np.where(group.sensitivity <= group.sensitivity[chosen[number]], costs, np.inf)
            if allowed.min() < costs[chosen[number]] - _KEPT * abs(costs[chosen[number]]):
                chosen[number], is_settled = int(np.argmin(allowed)), False
    return problem.plan(chosen)
