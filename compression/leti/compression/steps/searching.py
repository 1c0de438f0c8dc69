"""Rounds of a search: plans are solved, the best few measured beside their rivals, and the table set right by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from leti.compression.measuring.meter import Reading, Subject
from leti.compression.results import Candidate, Round
from leti.compression.searching.calibrating import Calibration, Errors, Measured, calibrate, errors, next_step
from leti.compression.searching.candidates import Plan, Problem
from leti.compression.searching.rivals import Proposal, rival_plans
from leti.compression.searching.solver import solve
from leti.compression.steps.run import Run
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.compressing.patching import Patching

with needs("compression"):
    import numpy as np

FRONT: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1, 1.25, 1.5)
"""Budgets that are solved for, in budgets asked for: the front."""

TRIED: Final = (0.9, 0.95, 1.0, 1.04, 1.08)
"""Budgets whose plans are measured."""

LEAST_USED: Final = 0.85
"""Of the budget: what a plan shall use, or something was lost for nothing."""

MARGIN: Final = 0.01
"""Of the budget: a plan nearer to it than that is taken where no other keeps it, as readings repeat no better."""

_BY_MACS: Final = ("macs", "uniform")
_CONFIRMED: Final = 3  # plans measured once more before one is trained
_HELD_OUT: Final = (0.7, 1.6)  # in budgets: between what latencies networks are drawn to judge predictions by
_DRAWS: Final = 2000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """What the rounds came to.

    ``plans`` are those of the exact solver that keep the budget, the least harmful first; where none does, the fastest
    alone, and where none can, none. ``is_feasible`` says whether any may. ``problem`` is set right by ``calibration``.
    """

    plans: tuple[Candidate, ...]
    rivals: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    rounds: tuple[Round, ...]
    problem: Problem
    calibration: Calibration | None
    held_out: Errors | None
    reachable_ms: float
    is_feasible: bool


@final
class Search:
    """The rounds of one problem under one budget, in one precision."""

    def __init__(
        self,
        run: Run,
        problem: Problem,
        *,
        dense_ms: float,
        budget_ms: float,
    ) -> None:
        """Search among the plans of a ``problem``, whose unchanged one takes ``dense_ms`` as measured."""
        self._run, self._raw = run, problem
        self._budget_ms = budget_ms
        self._dense_ms = dense_ms
        self._patching = Patching(run.asked.network.graph)
        self._known: list[tuple[float, float]] = [(problem.dense().latency_ms, dense_ms)]
        self._rounds: list[Round] = []
        self._rivals: tuple[Candidate, ...] = ()
        self._drawn: tuple[Plan, ...] = ()
        self._readings: tuple[Reading, ...] = ()

    def searched(self) -> Searched:
        """Return what at most three rounds come to."""
        if self._run.asked.target.meter is None:
            return self._predicted()
        measured: list[Candidate] = []
        is_done, number = False, 0
        while not is_done:
            number += 1
            own = self._round(number)
            measured += own
            beside = [Measured(c.predicted_ms, c.reading.latency_ms) for c in own if c.reading is not None]
            step = next_step(number, beside, self._budget_ms)
            is_used = any(LEAST_USED * self._budget_ms <= _latency(c) <= self._budget_ms for c in measured)
            is_last = number == 3 or self._is_beyond_reach(measured)
            is_done = is_last or (step == "done" and is_used)
        return self._chosen(measured)

    # --- one round ---------------------------------------------------------------------------------------------------

    def _round(self, number: int) -> list[Candidate]:
        """Return the exact solver's plans, measured; rivals, and networks to judge by, are measured beside them."""
        run, problem = self._run, self._problem()
        run.tell("plans", number - 1, 3)
        own = self._plans(problem)
        proposals = self._proposals(problem)
        rivals = [self._candidate(problem, p.plan, p.planner, self._budget_ms) for p in proposals if p.plan is not None]
        drawn = self._draw(problem) if number == 1 else ()
        graphs = [self._graph(c) for c in (*own, *rivals)] + [self._graph_of(plan) for plan in drawn]
        readings = run.measured("measuring", [Subject(graph) for graph in graphs], occasion=f"round {number}")
        assert readings is not None  # noqa: S101 - there is a meter
        found = [replace(c, reading=r) for c, r in zip((*own, *rivals), readings, strict=False)]
        if drawn:
            self._drawn, self._readings = drawn, readings[len(found) :]
        own, self._rivals = found[: len(own)], tuple(found[len(own) :])
        factor, offset_ms = self._line()
        self._known += [((c.predicted_ms - offset_ms) / factor, _latency(c)) for c in found]
        calibration = self._calibration()
        self._rounds.append(Round(tuple(found), calibration))
        run.notes.append(_said_of(number, own, self._budget_ms))
        return own

    def _plans(self, problem: Problem) -> list[Candidate]:
        """Return the plans for budgets about the one asked, each once; the fastest of all where none may keep it."""
        front = solve(problem, [share * self._budget_ms for share in TRIED])
        plans = {solved.plan.choices: solved for solved in front.solved if solved.plan is not None}
        own = [self._candidate(problem, s.plan, "latency", s.budget) for s in plans.values() if s.plan is not None]
        if not any(candidate.predicted_ms <= self._budget_ms for candidate in own):
            own.append(self._candidate(problem, front.cheapest, "fastest", self._budget_ms))
        return own

    def _proposals(self, problem: Problem) -> tuple[Proposal, ...]:
        """Return the rivals' plans: fewer multiply-accumulates by the factor asked of latency, and searches."""
        asked = self._run.asked
        found: tuple[Proposal, ...] = ()
        by_macs = tuple(name for name in asked.rivals if name in _BY_MACS)
        others = tuple(name for name in asked.rivals if name not in _BY_MACS)
        for names, dense_ms in ((by_macs, self._dense_ms), (others, problem.dense().latency_ms)):
            factor = max(dense_ms / self._budget_ms, 1.0)
            found += rival_plans(problem, factor, evaluations=asked.evaluations, seed=asked.seed, names=names)
        return found

    def _draw(self, problem: Problem) -> tuple[Plan, ...]:
        """Return plans drawn at random that take about as long as what is searched for, to judge predictions by."""
        rng = np.random.default_rng((self._run.asked.seed, 4))
        low, high = (share * self._budget_ms for share in _HELD_OUT)
        found: dict[tuple[int, ...], Plan] = {}
        for _ in range(_DRAWS):
            if len(found) == self._run.asked.held_out:
                break
            plan = problem.plan([int(rng.integers(len(group.patches))) for group in problem.groups])
            if low <= plan.latency_ms <= high:
                found[plan.choices] = plan
        return tuple(found.values())

    # --- what is known -----------------------------------------------------------------------------------------------

    def _calibration(self) -> Calibration:
        predicted, measured = zip(*self._known, strict=True)
        return calibrate(predicted, measured)

    def _line(self) -> tuple[float, float]:
        calibration = self._calibration()
        return calibration.factor, calibration.offset_ms

    def _problem(self) -> Problem:
        """Return the problem as the device has it, by all that is measured."""
        return self._raw.scaled(*self._line())

    def _is_beyond_reach(self, measured: Sequence[Candidate]) -> bool:
        """Return whether the fastest plan of all was measured, and is too slow."""
        fastest = [candidate for candidate in measured if candidate.planner == "fastest"]
        return bool(fastest) and all(_latency(candidate) > self._budget_ms for candidate in measured)

    def _candidate(self, problem: Problem, plan: Plan, planner: str, budget_ms: float) -> Candidate:
        patch = problem.patch(plan)
        graph = self._patching.patched(patch).graph
        return Candidate(
            planner=planner,
            patch=patch,
            budget_ms=budget_ms,
            macs=plan.macs,
            params=graph.params,
            predicted_ms=plan.latency_ms,
            high_ms=plan.high_ms,
            sensitivity=plan.sensitivity,
        )

    def _graph(self, candidate: Candidate) -> Graph:
        return self._patching.patched(candidate.patch).graph

    def _graph_of(self, plan: Plan) -> Graph:
        return self._graph(self._candidate(self._raw, plan, "drawn", self._budget_ms))

    # --- the answer --------------------------------------------------------------------------------------------------

    def _chosen(self, measured: Sequence[Candidate]) -> Searched:
        """Return what is best of all that was measured, of which the best few are measured once more."""
        problem = self._problem()
        slowest = {repr(c.patch): c for c in sorted(measured, key=_latency)}  # of readings of equal plans
        within = sorted((c for c in slowest.values() if _latency(c) <= self._budget_ms), key=lambda c: c.sensitivity)
        kept = self._confirmed(within)
        is_feasible = bool(within) or not self._is_beyond_reach(measured)
        plans = kept or ((min(measured, key=_latency),) if measured else ())
        front = solve(problem, [share * self._budget_ms for share in FRONT])
        factor, offset_ms = self._line()
        held_out = None
        if self._drawn:
            predicted = [factor * self._raw.plan(plan.choices).latency_ms + offset_ms for plan in self._drawn]
            held_out = errors(predicted, [reading.latency_ms for reading in self._readings])
        return Searched(
            plans=tuple(replace(plan, planner="latency", budget_ms=self._budget_ms) for plan in plans),
            rivals=self._rivals,
            front=self._front(problem, front.plans()),
            rounds=tuple(self._rounds),
            problem=problem,
            calibration=self._calibration(),
            held_out=held_out,
            reachable_ms=min([front.cheapest.latency_ms, *(_latency(c) for c in measured)]),
            is_feasible=is_feasible,
        )

    def _confirmed(self, within: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the plans that keep the budget when they are measured again as well; those not measured again last."""
        first = within[:_CONFIRMED]
        if not first:
            return ()
        readings = self._run.measured("measuring", [Subject(self._graph(c)) for c in first], occasion="confirmation")
        assert readings is not None  # noqa: S101 - there is a meter
        again = [replace(c, reading=_slower(c.reading, r)) for c, r in zip(first, readings, strict=True)]
        kept = [c for c in again if _latency(c) <= self._budget_ms]
        kept.sort(key=lambda c: _latency(c) > (1 - MARGIN) * self._budget_ms)  # sound ones first
        return (*kept, *within[_CONFIRMED:]) or tuple(again)

    def _front(self, problem: Problem, plans: Sequence[Plan]) -> tuple[Candidate, ...]:
        made = [self._candidate(problem, plan, "latency", plan.high_ms) for plan in plans]
        return tuple(sorted(made, key=lambda candidate: candidate.predicted_ms))

    def _predicted(self) -> Searched:
        """Return the plan for the budget as it is predicted: there is no meter."""
        problem = self._problem()
        front = solve(problem, [share * self._budget_ms for share in FRONT])
        (solved,) = (found for found in front.solved if found.budget == self._budget_ms)
        own = () if solved.plan is None else (self._candidate(problem, solved.plan, "latency", self._budget_ms),)
        proposals = self._proposals(problem)
        rivals = (self._candidate(problem, p.plan, p.planner, self._budget_ms) for p in proposals if p.plan is not None)
        return Searched(
            plans=own,
            rivals=tuple(rivals),
            front=self._front(problem, front.plans()),
            rounds=(),
            problem=problem,
            calibration=None,
            held_out=None,
            reachable_ms=front.cheapest.high_ms,
            is_feasible=bool(own),
        )


def _latency(candidate: Candidate) -> float:
    """Return what a candidate takes as measured; it was."""
    assert candidate.reading is not None  # noqa: S101
    return candidate.reading.latency_ms


def _slower(one: Reading | None, other: Reading) -> Reading:
    return other if one is None or one.latency_ms <= other.latency_ms else one


def _said_of(number: int, own: Sequence[Candidate], budget_ms: float) -> str:
    off = [abs(c.predicted_ms / _latency(c) - 1) for c in own]
    kept = sum(_latency(c) <= budget_ms for c in own)
    return (
        f"Round {number}: of {len(own)} plans measured {kept} keep {budget_ms:.4g} ms; "
        f"predictions were off by {max(off):.1%} at most."
    )
