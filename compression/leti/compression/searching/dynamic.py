"""Exact plans where few groups are neighbours at a time: dynamic programming, bounded by what a millisecond is worth.

Groups choose one after another. What is still to be chosen depends on the candidates of the open groups alone, those
with neighbours that have not chosen yet: one at a time in a chain, two or three in a residual network, whatever its
length. The order is a path decomposition (Bodlaender, 1998; Kinnersley, 1992, on why the two are one). SPDY (Frantar
and Alistarh, 2022) plans so over layers and buckets of a budget. Here are no buckets: with a price on what plans cost,
programming without any budget bounds the harm of all that is ahead, and of the plans that are begun only those go on
that may be better than one that is known, and that no other one with the same open candidates beats in both cost and
harm. That is how shortest paths under a constraint are found: prices by Lagrange's dual, and the gap closed by looking
(Handler and Zang, 1980; Dumitrescu and Boland, 2003).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any, Final, final

from leti.compression.searching.candidates import Measure, Problem, Vector
from leti.core.extras import needs

with needs("compression"):
    import numpy as np

MAX_STATES: Final = 10_000_000
"""States of all groups together, a candidate of each with them: so many are some 300 MB, and six seconds."""

BEGINNINGS: Final = (300, 3_000, 30_000, 300_000)
"""Beginnings of plans that go on together: more where those that were left behind may be better than what was found."""

NEAR: Final = 2
"""Prices on either side of the best one whose bounds are looked at."""

_SAME: Final = 1e-10  # of a plan's harm: what another one has to be better by


def order_of(problem: Problem) -> tuple[int, ...] | None:
    """Return an order of the groups that keeps few of them open; ``None`` where any has more than MAX_STATES states.

    Groups without a choice come first: whatever they cost beside others is known, and they are never open.
    """
    neighbours = _neighbours(problem)
    order = [number for number, group in enumerate(problem.groups) if len(group.patches) == 1]
    states = len(order)
    for start in neighbours:
        if start in order:
            continue
        reached = [start]
        for number in reached:
            reached += neighbours[number] - set(reached)
        least, found = min(_grown(problem, neighbours, each) for each in sorted(reached))
        order += found
        states += least
    return tuple(order) if states <= MAX_STATES else None


def _neighbours(problem: Problem) -> dict[int, set[int]]:
    """Return the groups that cost something together with each, where both have a choice."""
    neighbours: dict[int, set[int]] = {number: set() for number in range(len(problem.groups))}
    for pair in problem.pairs:
        if min(len(problem.groups[number].patches) for number in (pair.first, pair.second)) > 1:
            neighbours[pair.first].add(pair.second)
            neighbours[pair.second].add(pair.first)
    return neighbours


def _grown(problem: Problem, neighbours: dict[int, set[int]], start: int) -> tuple[int, list[int]]:
    """Return how many states there are of the groups that are reached from one, and their order.

    The next group is the one that leaves the fewest states; among equals, one beside what has been open longest.
    """
    sizes = [len(group.patches) for group in problem.groups]
    order, opened, states = [start], [start] if neighbours[start] else [], sizes[start]
    while opened and states <= MAX_STATES:
        tried: list[tuple[int, int, int, list[int]]] = []
        for number in dict.fromkeys(other for group in opened for other in sorted(neighbours[group])):
            if number not in order:
                still = [group for group in [*opened, number] if neighbours[group] - {*order, number}]
                tried.append((prod(sizes[group] for group in still), len(tried), number, still))
        *_, number, still = min(tried)
        states += prod(sizes[group] for group in opened) * sizes[number]
        order.append(number)
        opened = still
    return states, order


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A group's choice: what each candidate harms, costs and leads to; states are candidates of the open groups.

    ``harm`` is ``(candidates,)``, ``costs`` and ``after``, the state of the next stage, ``(candidates, states)``.
    """

    harm: Vector
    costs: Vector
    after: Any


def _stages(problem: Problem, order: Sequence[int], measure: Measure) -> Iterator[_Stage]:
    sizes = [len(group.patches) for group in problem.groups]
    neighbours, opened, chosen = _neighbours(problem), list[int](), set[int]()
    for number in order:
        axes = [*opened, number]
        chosen.add(number)
        still = [group for group in axes if neighbours[group] - chosen]
        costs = np.zeros([sizes[axis] for axis in axes]) + problem.groups[number].costs.by(measure)
        for pair in problem.pairs:
            if number in (pair.first, pair.second) and {pair.first, pair.second} <= chosen:
                joint = pair.costs.by(measure)
                joint = joint if pair.second == number else joint.T
                costs += joint.reshape([sizes[axis] if axis in (pair.first, pair.second) else 1 for axis in axes])
        after = np.arange(prod(sizes[group] for group in still), dtype=np.int32)
        after = after.reshape([sizes[axis] if axis in still else 1 for axis in axes])
        yield _Stage(
            problem.groups[number].sensitivity,
            np.ascontiguousarray(costs.reshape(-1, sizes[number]).T),
            np.ascontiguousarray(np.broadcast_to(after, costs.shape).reshape(-1, sizes[number]).T),
        )
        opened = still


@final
@dataclass(frozen=True, slots=True)
class _Begun:
    """Candidates of groups in order, and their sums: a whole plan, without what is fixed."""

    cost: float
    harm: float
    candidates: tuple[int, ...]


@final
class Dynamic:
    """Dynamic programming over groups in an order; see the module's docstring."""

    def __init__(self, problem: Problem, order: Sequence[int], measure: Measure, time_limit_s: float) -> None:
        self._order, self._time_limit_s = order, time_limit_s
        self._stages = tuple(_stages(problem, order, measure))
        self._fixed = float(problem.fixed.by(measure))
        self._least = self._ahead(0.0, 1.0)
        self._bounds = {0.0: self._ahead(1.0, 0.0)}  # by the harm that a unit of cost is worth
        self._plans = [self._walked(self._least, 0.0, 1.0), self._walked(self._bounds[0.0], 1.0, 0.0)]

    def cheapest(self) -> tuple[int, ...]:
        """Return the candidates of least cost."""
        return self._by_group(self._plans[0])

    def solve(self, limit: float) -> tuple[tuple[int, ...] | None, bool]:
        """Return the candidates of least harm that cost no more than a limit, and whether that is certain."""
        room = limit - self._fixed
        if room < self._plans[0].cost:
            return None, True
        until = time.monotonic() + self._time_limit_s
        price, known = self._priced(room)
        prices = sorted(self._bounds)
        at = prices.index(price)
        bounds = [(each, self._bounds[each]) for each in prices[max(0, at - NEAR) : at + NEAR + 1]]
        for most in BEGINNINGS:
            known, left_behind = self._looked(room, bounds, known, most, until)
            if left_behind >= known.harm * (1 - _SAME):
                return self._by_group(known), True
        return self._by_group(known), False

    def _by_group(self, plan: _Begun) -> tuple[int, ...]:
        found = dict(zip(self._order, plan.candidates, strict=True))
        return tuple(found[number] for number in range(len(found)))

    def _ahead(self, harm: float, cost: float) -> list[Vector]:
        """Return the least weighted sum of what is ahead, by the states of each stage and of the end."""
        ahead = [np.zeros(1)]
        for stage in reversed(self._stages):
            sums = cost * stage.costs
            sums += harm * stage.harm[:, None]
            sums += ahead[-1].take(stage.after)
            ahead.append(sums.min(axis=0))
        return ahead[::-1]

    def _walked(self, ahead: Sequence[Vector], harm: float, cost: float) -> _Begun:
        """Return the plan whose weighted sum is what was found to be ahead at the beginning."""
        state, costs, harms, candidates = 0, 0.0, 0.0, []
        for stage, rest in zip(self._stages, ahead[1:], strict=True):
            after = stage.after[:, state]
            chosen = int(np.argmin(harm * stage.harm + cost * stage.costs[:, state] + rest[after]))
            costs += float(stage.costs[chosen, state])
            harms += float(stage.harm[chosen])
            candidates.append(chosen)
            state = int(after[chosen])
        return _Begun(costs, harms, tuple(candidates))

    def _priced(self, room: float) -> tuple[float, _Begun]:
        """Return the price that bounds the harm within a budget best, and the best plan that was met on the way.

        Plans of least harm and cost at a price lie on the convex hull of all plans. A price at which the two next to
        the budget, one within it and one beyond, are as good as each other finds a plan between them, or there is none.
        """
        while True:
            within = min((plan for plan in self._plans if plan.cost <= room), key=lambda plan: (plan.harm, plan.cost))
            beyond = min(
                (plan for plan in self._plans if plan.cost > room and plan.harm < within.harm),
                key=lambda plan: plan.cost, default=None,
            )  # fmt: skip
            if beyond is None:
                return 0.0, within
            price = (within.harm - beyond.harm) / (beyond.cost - within.cost)
            if price in self._bounds:
                return price, within
            self._bounds[price] = self._ahead(1.0, price)
            self._plans.append(self._walked(self._bounds[price], 1.0, price))

    def _looked(
        self, room: float, bounds: Sequence[tuple[float, Sequence[Vector]]], known: _Begun, most: int, until: float
    ) -> tuple[_Begun, float]:
        """Return the best plan that was found by so many beginnings at a time, and a bound of all left behind."""
        state, left, harm = np.zeros(1, np.int64), np.array([room]), np.zeros(1)
        trail: list[tuple[Any, Any]] = []
        left_behind = inf
        for place, stage in enumerate(self._stages, 1):
            if time.monotonic() > until:
                return known, -inf
            after = stage.after[:, state]
            rest = left - stage.costs[:, state]
            sums = harm + stage.harm[:, None]
            bound = sums + np.maximum.reduce([ahead[place][after] - price * rest for price, ahead in bounds])
            chosen, begun = np.nonzero((bound < known.harm * (1 - _SAME)) & (rest >= self._least[place][after]))
            kept = _unbeaten(after[chosen, begun], rest[chosen, begun], sums[chosen, begun])
            chosen, begun = chosen[kept], begun[kept]
            if len(kept) > most:
                first = np.argsort(bound[chosen, begun], kind="stable")
                left_behind = min(left_behind, float(bound[chosen, begun][first[most]]))
                chosen, begun = chosen[first[:most]], begun[first[:most]]
            state, left, harm = after[chosen, begun], rest[chosen, begun], sums[chosen, begun]
            trail.append((chosen, begun))
        if not len(harm):
            return known, left_behind
        at = best = int(np.argmin(harm))
        candidates = []
        for chosen, begun in reversed(trail):
            candidates.append(int(chosen[at]))
            at = int(begun[at])
        return _Begun(room - float(left[best]), float(harm[best]), tuple(reversed(candidates))), left_behind


def _unbeaten(state: Any, left: Vector, harm: Vector) -> Any:
    """Return the beginnings that no other one in the same state beats in what is left and harm."""
    order = np.lexsort((harm, -left, state))
    rank = np.empty(len(order), np.int64)
    rank[np.argsort(harm[order], kind="stable")] = np.arange(len(order))
    # ranks of each state lie below those of all states before it, so that one running minimum serves all
    rank -= np.cumsum(np.diff(state[order], prepend=state[order[:1]]) != 0) * len(order)
    return order[np.diff(np.minimum.accumulate(rank), prepend=len(order)) < 0]
