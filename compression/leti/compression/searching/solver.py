"""Exact plans under budgets: dynamic programming where groups are chains, a mixed-integer program where they are not.

Dynamic programming over layers and buckets of a budget is SPDY's (Frantar and Alistarh, 2022), with the candidate of
the layer before in the state, as neighbours cost together. The program has a variable for each two candidates of
neighbours, tied to both by its sums over either (Sherali and Adams, 1990), and is solved by HiGHS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from leti.compression.searching.candidates import Measure, Plan, Problem, Vector
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

BUCKETS: Final = 10_000
"""Buckets of the smallest budget: with 2,000, plans are up to 3 % worse."""

MAX_BUCKETS: Final = 40_000
"""Buckets of the largest budget, where budgets lie far apart."""

MAX_BEGINNINGS: Final = 300_000
"""Beginnings of plans that are looked at together before the plan that is known is taken for good enough."""

_KEPT: Final = 1e-12  # of a budget: what the order of a sum may be off by
_SLACK: Final = 1e-9  # of a bucket: what a division may be off by

_TIMED_OUT: Final = 1  # HiGHS's status as scipy has it
_INFEASIBLE: Final = 2


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
    buckets: int = BUCKETS,
    time_limit_s: float = 60.0,
) -> Front:
    """Return the plan of least harm within each budget; one that costs no more than it has to among equals.

    Chains are solved by one pass for all budgets, ``buckets`` for the smallest of them; other graphs by a program for
    each, within ``time_limit_s``. In no plan does going back to another candidate of a group that harms no more, such
    as the unchanged one, cost less: a candidate that is slower than the unchanged one beside the same neighbours is
    never taken. Raises :class:`~leti.core.errors.InvalidInput` for a budget that is no positive number.
    """
    if not budgets or not all(np.isfinite(budget) and budget > 0 for budget in budgets):
        raise InvalidInput("must be positive numbers", field="budgets")
    order = chain_of(problem)
    asked = sorted({float(budget) for budget in budgets})
    if order is not None:
        chain = _Chain(problem, order, measure)
        cheapest = problem.plan(chain.cheapest())
        found = chain.solve(asked, buckets)
    else:
        program = _Program(problem, measure)
        cheapest = problem.plan(program.cheapest(time_limit_s))
        found = [program.solve(budget, time_limit_s) for budget in asked]
    solved = []
    for budget, (choices, is_exact) in zip(asked, found, strict=True):
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


def chain_of(problem: Problem) -> tuple[int, ...] | None:
    """Return the groups in an order in which all pairs are of one and the next; ``None`` where there is none."""
    neighbours: dict[int, set[int]] = {number: set() for number in range(len(problem.groups))}
    for pair in problem.pairs:
        neighbours[pair.first].add(pair.second)
        neighbours[pair.second].add(pair.first)
    if any(len(others) > 2 for others in neighbours.values()):
        return None
    order: dict[int, None] = {}
    for end in neighbours:
        if len(neighbours[end]) > 1:
            continue
        reached: int | None = end
        while reached is not None and reached not in order:
            order[reached] = None
            reached = next((other for other in neighbours[reached] if other not in order), None)
    return tuple(order) if len(order) == len(neighbours) else None  # what is left are rings


@final
class _Chain:
    """Dynamic programming over groups in order, each coupled with the one before."""

    def __init__(self, problem: Problem, order: Sequence[int], measure: Measure) -> None:
        self._order = order
        self._harm = [problem.groups[number].sensitivity for number in order]
        self._fixed = float(problem.fixed.by(measure))
        # costs[i][b, c]: candidate c of group i where the one before it has taken b
        self._costs: list[Vector] = []
        for place, number in enumerate(order):
            alone = problem.groups[number].costs.by(measure)
            before = order[place - 1] if place else None
            rows = 1 if before is None else len(problem.groups[before].patches)
            costs = np.repeat(alone[None], rows, axis=0)
            for pair in problem.pairs:
                if {pair.first, pair.second} == {before, number}:
                    joint = pair.costs.by(measure)
                    costs = costs + (joint if pair.first == before else joint.T)
            self._costs.append(costs)

    def cheapest(self) -> tuple[int, ...]:
        """Return the candidates of least cost (Viterbi's way)."""
        least, steps = np.zeros(1), []
        for costs in self._costs:
            sums = least[:, None] + costs
            steps.append(np.argmin(sums, axis=0))
            least = sums.min(axis=0)
        return self._walked(int(np.argmin(least)), lambda place, c: int(steps[place][c]))

    def solve(self, budgets: Sequence[float], buckets: int) -> list[tuple[tuple[int, ...] | None, bool]]:
        """Return the candidates of least harm within each budget.

        A group's least cost is taken off beforehand: it is paid in any case. With costs rounded up to buckets there is
        a plan that keeps its budget, with costs rounded down a bound for every plan that is begun: between the two lie
        few enough plans to look at each.
        """
        floors = [float(costs.min()) for costs in self._costs]
        room = np.asarray(budgets) * (1 + _KEPT) - self._fixed - sum(floors)
        if room.max() <= 0:
            return [(None, True)] * len(budgets)
        costs = [costs - floor for costs, floor in zip(self._costs, floors, strict=True)]
        unit = max(float(room[room > 0].min()) / buckets, float(room.max()) / MAX_BUCKETS)
        found = self._rounded_up(costs, room, unit)
        bounds = self._rounded_down(costs, int(room.max() / unit) + 1, unit)
        return [
            (None, True) if amount < 0 else self._between(costs, bounds, float(amount), unit, choices)
            for amount, choices in zip(room, found, strict=True)
        ]

    def _rounded_up(self, costs: Sequence[Vector], room: Vector, unit: float) -> list[tuple[int, ...] | None]:
        least, steps, shifts = np.zeros((1, int(room.max() / unit) + 1)), [], []
        for cost, harm in zip(costs, self._harm, strict=True):
            shifts.append(np.ceil(cost / unit).astype(np.int64))
            least, step = _relaxed(least, shifts[-1], harm)
            steps.append(step)
        found: list[tuple[int, ...] | None] = []
        for amount in room:
            last = int(max(amount, 0.0) / unit)
            left = [last]

            def before(place: int, c: int, left: list[int] = left) -> int:
                b = int(steps[place][c, left[0]])
                left[0] -= int(shifts[place][b, c])
                return b

            has_plan = amount >= 0 and bool(np.isfinite(least[:, last]).any())
            found.append(self._walked(int(np.argmin(least[:, last])), before) if has_plan else None)
        return found

    def _rounded_down(self, costs: Sequence[Vector], size: int, unit: float) -> list[Any]:
        """Return for each group what its and all earlier groups' harm is at least: ``(candidates, buckets left)``."""
        least, bounds = np.zeros((1, size)), []
        for cost, harm in zip(costs, self._harm, strict=True):
            least = _least(least, np.floor(cost / unit - _SLACK).clip(0).astype(np.int64), harm)
            bounds.append((least * (1 - 1e-6)).astype(np.float32))
        return bounds

    def _between(
        self, costs: Sequence[Vector], bounds: Sequence[Any], room: float, unit: float, known: tuple[int, ...] | None
    ) -> tuple[tuple[int, ...] | None, bool]:
        """Return the best plan, from the last group to the first, of all that may be better than one that is known.

        Of beginnings that end in the same candidate, one that costs more and harms more than another goes no further.
        """
        most = np.inf if known is None else sum(float(self._harm[i][known[n]]) for i, n in enumerate(self._order))
        place = len(costs) - 1
        harm = self._harm[place]
        chosen = np.flatnonzero(bounds[place][:, _bucket(np.asarray(room), unit, bounds[place])] < most)
        left, harm = np.full(len(chosen), room), harm[chosen]
        trail = [(chosen, chosen)]
        for place in range(len(costs) - 1, 0, -1):
            rest = left[:, None] - costs[place].T[chosen]  # (beginnings, candidates of the group before)
            bound = bounds[place - 1]
            ahead = bound[np.arange(len(bound)), _bucket(rest, unit, bound)] + harm[:, None]
            begun, chosen = np.nonzero((rest >= 0) & (ahead < most))
            left, harm = rest[begun, chosen], harm[begun] + self._harm[place - 1][chosen]
            kept = _unbeaten(chosen, left, harm)
            if len(kept) > MAX_BEGINNINGS:
                return known, False
            begun, chosen, left, harm = begun[kept], chosen[kept], left[kept], harm[kept]
            trail.append((chosen, begun))
        harm = np.where(left >= costs[0][0, chosen], harm, np.inf)
        if not (harm < most).any():
            return known, True
        at, found = int(np.argmin(harm)), {}
        for number, (candidates, begun) in zip(self._order, reversed(trail), strict=True):
            found[number], at = int(candidates[at]), int(begun[at])
        return tuple(found[number] for number in range(len(found))), True

    def _walked(self, last: int, before: Any) -> tuple[int, ...]:
        """Return the candidates by the groups' numbers, walked back from that of the last group."""
        chosen = {}
        for place in reversed(range(len(self._order))):
            chosen[self._order[place]] = last
            last = before(place, last)
        return tuple(chosen[number] for number in range(len(self._order)))


def _relaxed(least: Vector, shift: Any, harm: Vector) -> tuple[Vector, Any]:
    """Return the least harm for each candidate and bucket after one more group, and the candidates before.

    ``least`` is ``(candidates before, buckets)``, ``shift`` ``(candidates before, candidates)`` in buckets.
    """
    size = least.shape[1]
    made = np.full((len(harm), size), np.inf)
    steps = np.zeros((len(harm), size), np.int16)
    for c, rise in enumerate(harm):
        row, step = made[c], steps[c]
        for b, skip in enumerate(shift[:, c]):
            if skip < size:
                tried, into = least[b, : size - skip], row[skip:]
                better = tried < into
                np.copyto(into, tried, where=better)
                np.copyto(step[skip:], b, where=better)
        row += rise
    return made, steps


def _least(least: Vector, shift: Any, harm: Vector) -> Vector:
    """Return what :func:`_relaxed` does, without the candidates before."""
    size = least.shape[1]
    made = np.full((len(harm), size), np.inf)
    for row, rise, skips in zip(made, harm, shift.T, strict=True):
        for before, skip in zip(least, skips, strict=True):
            if skip < size:
                np.minimum(row[skip:], before[: size - skip], out=row[skip:])
        row += rise
    return made


def _bucket(left: Vector, unit: float, bounds: Any) -> Any:
    """Return the bucket of what is left, the next where it lies a rounding below it."""
    return np.minimum((left.clip(0) / unit + _SLACK).astype(np.int64), bounds.shape[1] - 1)


def _unbeaten(chosen: Any, left: Vector, harm: Vector) -> Any:
    """Return the beginnings that no other one with the same candidate at the front beats in what is left and harm."""
    order = np.lexsort((harm, -left, chosen))
    kept = []
    for part in np.split(order, np.flatnonzero(np.diff(chosen[order])) + 1):
        so_far = np.minimum.accumulate(harm[part])
        kept.append(part[np.concatenate([[True], harm[part][1:] < so_far[:-1]])[: len(part)]])
    return np.concatenate(kept)


@final
class _Program:
    """A mixed-integer program: a binary a candidate, and a share of each two candidates of neighbours."""

    def __init__(self, problem: Problem, measure: Measure) -> None:
        self._problem, self._measure = problem, measure
        self._sizes = [len(group.patches) for group in problem.groups]
        self._starts = np.cumsum([0, *self._sizes])
        binaries = int(self._starts[-1])
        costs = [group.costs.by(measure) for group in problem.groups]
        costs += [pair.costs.by(measure).reshape(-1) for pair in problem.pairs]
        self._costs = np.concatenate(costs)
        self._fixed = float(problem.fixed.by(measure))
        harm = np.concatenate([group.sensitivity for group in problem.groups])
        self._harm = np.concatenate([harm, np.zeros(len(self._costs) - binaries)])
        self._is_whole = np.arange(len(self._costs)) < binaries
        rows = [sparse.block_diag([np.ones((1, size)) for size in self._sizes])]
        tied = sparse.hstack([rows[0], sparse.csr_array((len(self._sizes), len(self._costs) - binaries))])
        self._ties: list[Any] = [LinearConstraint(tied, 1, 1)]
        start = binaries
        for pair in problem.pairs:
            shares = self._sizes[pair.first], self._sizes[pair.second]
            over_second = sparse.kron(sparse.eye_array(shares[0]), np.ones((1, shares[1])))
            over_first = sparse.kron(np.ones((1, shares[0])), sparse.eye_array(shares[1]))
            for number, sums in ((pair.first, over_second), (pair.second, over_first)):
                parts = sparse.coo_array(sums)
                own = sparse.eye_array(self._sizes[number]).tocoo()
                row = np.concatenate([parts.row, own.row])
                column = np.concatenate([parts.col + start, own.col + self._starts[number]])
                value = np.concatenate([parts.data, -own.data])
                matrix = sparse.csr_array((value, (row, column)), shape=(self._sizes[number], len(self._costs)))
                self._ties.append(LinearConstraint(matrix, 0, 0))
            start += shares[0] * shares[1]

    def cheapest(self, time_limit_s: float) -> tuple[int, ...]:
        """Return the candidates of least cost."""
        choices, _ = self._run(self._costs, [], time_limit_s)
        if choices is None:
            raise InvalidInput("the least cost was not found in time", field="time_limit_s", remedy="give more time")
        return choices

    def solve(self, budget: float, time_limit_s: float) -> tuple[tuple[int, ...] | None, bool]:
        """Return the candidates of least harm within a budget, which HiGHS keeps to a millionth or so: a bit less."""
        choices, is_exact = None, True
        for margin in (0.0, 2e-6):
            limit = LinearConstraint(self._costs[None] / budget, -np.inf, 1 - margin - self._fixed / budget)
            choices, is_exact = self._run(self._harm, [limit], time_limit_s)
            if choices is None or self._cost(choices) <= budget * (1 + _KEPT):
                break
        return choices, is_exact

    def _cost(self, choices: Sequence[int]) -> float:
        return self._problem.plan(choices).by(self._measure)

    def _run(self, aim: Vector, more: list[Any], time_limit_s: float) -> tuple[tuple[int, ...] | None, bool]:
        scale = float(np.abs(aim).max()) or 1.0  # tolerances of HiGHS are absolute
        found = milp(
            aim / scale,
            constraints=[*self._ties, *more],
            integrality=self._is_whole,
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
        )
        if found.x is None:
            return None, found.status == _INFEASIBLE
        choices = tuple(
            int(np.argmax(found.x[start : start + size]))
            for start, size in zip(self._starts[:-1], self._sizes, strict=True)
        )
        return choices, found.status != _TIMED_OUT
