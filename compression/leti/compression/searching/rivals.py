"""What the exact plan by latency stands beside: plans by multiply-accumulates, uniform plans, and general search.

Each answers the same question: make the network ``factor`` times as fast. Those that know nothing of latency cut
multiply-accumulates by that factor, as is done where there is no predictor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, final

from typing_extensions import override

from leti.compression.searching.candidates import Measure, Plan, Problem
from leti.compression.searching.solver import solve
from leti.compression.searching.studies import new_study
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np
    import optuna


@final
@dataclass(frozen=True, slots=True)
class Proposal:
    """What a planner proposes, and how many plans it had to look at; no plan where it found none within its budget."""

    planner: str
    plan: Plan | None
    evaluations: int


class Planner(ABC):
    """A way to choose a candidate of each group for a network that is ``factor`` times as fast. Stateless."""

    name: ClassVar[str]

    @abstractmethod
    def plan(self, problem: Problem, factor: float, *, evaluations: int, seed: int = 0) -> Proposal:
        """Return a plan; a search looks at ``evaluations`` of them, others at what they need.

        Raises :class:`~leti.core.errors.InvalidInput` for a factor below 1 and for no evaluations.
        """

    def _check(self, factor: float, evaluations: int) -> None:
        if not (np.isfinite(factor) and factor >= 1):
            raise InvalidInput(f"cannot be {factor!r}", field="factor", remedy="give 1 or more")
        if evaluations < 1:
            raise InvalidInput(f"cannot be {evaluations!r}", field="evaluations", remedy="give 1 or more")


@final
class Exact(Planner):
    """The plan of least harm whose upper bound of latency keeps the budget."""

    name = "latency"

    @override
    def plan(self, problem: Problem, factor: float, *, evaluations: int, seed: int = 0) -> Proposal:
        self._check(factor, evaluations)
        (found,) = solve(problem, [problem.dense().latency_ms / factor]).solved
        return Proposal(self.name, found.plan, 0)


@final
class ByMacs(Planner):
    """The plan of least harm that cuts multiply-accumulates by the factor: the same solver without a predictor."""

    name = "macs"

    @override
    def plan(self, problem: Problem, factor: float, *, evaluations: int, seed: int = 0) -> Proposal:
        self._check(factor, evaluations)
        (found,) = solve(problem, [problem.dense().macs / factor], measure="macs").solved
        return Proposal(self.name, found.plan, 0)


@final
class Uniform(Planner):
    """The plan that keeps one share of all groups, the largest that cuts multiply-accumulates by the factor.

    A group takes the widest of its candidates that keep no more than the share, or else its narrowest. "MobileNets"
    (Howard et al., 2017) calls the share the width multiplier.
    """

    name = "uniform"

    @override
    def plan(self, problem: Problem, factor: float, *, evaluations: int, seed: int = 0) -> Proposal:
        self._check(factor, evaluations)
        budget = problem.dense().macs / factor
        shares = sorted({float(share) for group in problem.groups for share in group.kept}, reverse=True)
        for count, share in enumerate(shares, 1):
            plan = problem.plan([_widest(group.kept, share) for group in problem.groups])
            if plan.macs <= budget:
                return Proposal(self.name, plan, count)
        return Proposal(self.name, None, len(shares))


def _widest(kept: Any, share: float) -> int:
    allowed = np.where(kept <= share, kept, -np.inf)
    return int(np.argmax(allowed)) if np.isfinite(allowed).any() else int(np.argmin(kept))


class _Search(Planner):
    """A search by Optuna, which is told of each plan's harm and of how far it is over the latency budget."""

    @abstractmethod
    def _sampler(self, evaluations: int, seed: int) -> optuna.samplers.BaseSampler:
        """Return what chooses the plans."""

    @override
    def plan(self, problem: Problem, factor: float, *, evaluations: int, seed: int = 0) -> Proposal:
        self._check(factor, evaluations)
        budget, measure = problem.dense().latency_ms / factor, _LIMITED
        sizes = [len(group.patches) for group in problem.groups]
        study = new_study(self._sampler(evaluations, seed))
        best: Plan | None = None
        for _ in range(evaluations):
            trial = study.ask()
            plan = problem.plan([trial.suggest_int(str(i), 0, size - 1) for i, size in enumerate(sizes)])
            trial.set_constraint(_OVER, plan.by(measure) - budget)
            study.tell(trial, plan.sensitivity)
            if plan.by(measure) <= budget and (best is None or plan.sensitivity < best.sensitivity):
                best = plan
        return Proposal(self.name, best, evaluations)


_LIMITED: Final[Measure] = "high_ms"
_OVER: Final = "over_ms"


@final
class NSGA2(_Search):
    """NSGA-II (Deb et al., 2002), plans over the budget behind all that keep it."""

    name = "nsga2"

    @override
    def _sampler(self, evaluations: int, seed: int) -> optuna.samplers.BaseSampler:
        size = max(10, min(50, evaluations // 10))
        return optuna.samplers.NSGAIISampler(population_size=size, seed=seed)


@final
class TPE(_Search):
    """The tree-structured Parzen estimator (Bergstra et al., 2011), with the budget as a constraint."""

    name = "tpe"

    @override
    def _sampler(self, evaluations: int, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed)


PLANNERS: Final[Mapping[str, Planner]] = MappingProxyType(
    {planner.name: planner for planner in (Exact(), ByMacs(), Uniform(), NSGA2(), TPE())}
)
"""Every planner, by name."""


def rival_plans(
    problem: Problem,
    factor: float,
    *,
    evaluations: int,
    seed: int = 0,
    names: Sequence[str] = tuple(PLANNERS),
    progress: Callable[[Proposal], None] | None = None,
) -> tuple[Proposal, ...]:
    """Return what each planner proposes for one factor, the searches at equal numbers of evaluations."""
    proposals = []
    for name in names:
        if name not in PLANNERS:
            raise InvalidInput(f"there is no planner {name!r}", field="names", remedy=", ".join(PLANNERS))
        proposals.append(PLANNERS[name].plan(problem, factor, evaluations=evaluations, seed=seed))
        if progress is not None:
            progress(proposals[-1])
    return tuple(proposals)
