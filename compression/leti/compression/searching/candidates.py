"""What a compression may choose: for each coupled group or layer some candidates, what they cost, what they harm.

Latency is a sum: a part that nothing changes, a part of each candidate, and a part of each pair of candidates of
neighbouring groups, as a convolution's latency depends on the channels that it reads and on those that it makes. That
is the model of MDP (Sun et al., 2025), the successor of HALP (Shen et al., 2022), whose table knows the pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final, Literal, Self, final

from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.patches import Patch

with needs("compression"):
    import numpy as np

Precision = ModelPrecision | Literal[""]

Vector = np.ndarray[Any, np.dtype[np.float64]]
Measure = Literal["latency_ms", "high_ms", "macs"]
"""What a budget is of: the latency that is predicted, its upper bound, or multiply-accumulates."""

_ALL: Final[tuple[Measure, ...]] = ("latency_ms", "high_ms", "macs")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What candidates cost, one number each: ``(candidates,)`` of a group, ``(candidates, candidates)`` of a pair.

    ``high_ms`` is the upper bound of the latency's interval: plans keep their budget with it. Parts may be negative, as
    where one is what a choice saves.
    """

    latency_ms: Vector
    high_ms: Vector
    macs: Vector

    @classmethod
    def of(cls, latency_ms: Any, high_ms: Any = None, macs: Any = None) -> Self:
        """Return costs of anything that is a number or numbers; the upper bound is the latency unless it is said."""
        latency = np.asarray(latency_ms, np.float64)
        high = latency if high_ms is None else np.asarray(high_ms, np.float64)
        return cls(latency, high, np.zeros_like(latency) if macs is None else np.asarray(macs, np.float64))

    def by(self, measure: Measure) -> Vector:
        """Return the costs by one measure."""
        costs: Vector = getattr(self, measure)
        return costs

    def __getitem__(self, index: Any) -> Costs:
        """Return the costs of some candidates."""
        return Costs(self.latency_ms[index], self.high_ms[index], self.macs[index])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The candidates of a coupled group of channels, or of a layer; the first is the unchanged one.

    ``sensitivity`` is the rise of the loss by each candidate alone, ``kept`` the share of channels that it keeps.
    """

    patches: tuple[Patch, ...]
    costs: Costs
    sensitivity: Vector
    kept: Vector

    def __post_init__(self) -> None:
        """Check that there is one number for each candidate, and that nothing is better than to change nothing."""
        shapes = {self.costs.latency_ms.shape, self.costs.high_ms.shape, self.costs.macs.shape}
        if shapes | {self.sensitivity.shape, self.kept.shape} != {(len(self.patches),)} or not self.patches:
            raise InvalidInput(f"must be one number for each of {len(self.patches)} candidates", field="costs")
        if not np.isfinite(self.sensitivity).all() or self.sensitivity.min() < 0 or self.sensitivity[0] != 0:
            raise InvalidInput("must be 0 of the unchanged candidate and not below", field="sensitivity",
                               remedy="take what a measurement's noise has below 0 for 0")  # fmt: skip

    @classmethod
    def of(
        cls,
        patches: Sequence[Patch],
        costs: Costs,
        sensitivity: Sequence[float] | Vector,
        kept: Sequence[float] | Vector | None = None,
    ) -> Self:
        """Return a group; rises of the loss below 0, which are noise, count as none."""
        rises = np.maximum(np.asarray(sensitivity, np.float64), 0)
        shares = np.ones(len(patches)) if kept is None else np.asarray(kept, np.float64)
        return cls(tuple(patches), costs, rises, shares)

    def __getitem__(self, kept: Sequence[int]) -> Group:
        """Return the group with some of its candidates."""
        chosen = list(kept)
        patches = tuple(self.patches[i] for i in chosen)
        return replace(self, patches=patches, costs=self.costs[chosen], sensitivity=self.sensitivity[chosen],
                       kept=self.kept[chosen])  # fmt: skip


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """What two neighbouring groups' candidates cost together: ``costs`` are ``(of first, of second)``."""

    first: int
    second: int
    costs: Costs


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """One candidate of each group, and the sums."""

    choices: tuple[int, ...]
    latency_ms: float
    high_ms: float
    macs: float
    sensitivity: float

    def by(self, measure: Measure) -> float:
        """Return what the plan costs by one measure."""
        cost: float = getattr(self, measure)
        return cost


Fit = Callable[[Patch], Patch]
"""Makes of the changes of several candidates together a patch that fits the network."""


def _as_it_is(patch: Patch) -> Patch:
    return patch


@final
@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """All groups, the pairs of neighbours, and what no candidate changes.

    ``precision`` is that of all plans, and ``fit`` what makes one patch of the candidates' together.
    """

    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]
    fixed: Costs
    precision: Precision = ""
    fit: Fit = _as_it_is

    def __post_init__(self) -> None:
        """Check that pairs are of two groups each, and have a number for each two of their candidates."""
        for i, pair in enumerate(self.pairs):
            if pair.first == pair.second or not {pair.first, pair.second} <= set(range(len(self.groups))):
                raise InvalidInput("must be of two groups", field=f"pairs[{i}]")
            expected = (len(self.groups[pair.first].patches), len(self.groups[pair.second].patches))
            for measure in _ALL:
                if getattr(pair.costs, measure).shape != expected:
                    raise InvalidInput(f"must be of the shape {expected}", field=f"pairs[{i}].{measure}")

    def plan(self, choices: Sequence[int]) -> Plan:
        """Return the plan of one candidate of each group."""
        harm = sum(float(group.sensitivity[c]) for group, c in zip(self.groups, choices, strict=True))
        return Plan(
            choices=tuple(int(c) for c in choices),
            latency_ms=self._sum(choices, "latency_ms"),
            high_ms=self._sum(choices, "high_ms"),
            macs=self._sum(choices, "macs"),
            sensitivity=harm,
        )

    def beside(self, choices: Sequence[int], number: int, measure: Measure) -> Vector:
        """Return what each candidate of a group costs, alone and with its neighbours, where others choose as told."""
        costs = self.groups[number].costs.by(measure)
        for pair in self.pairs:
            if pair.first == number:
                costs = costs + pair.costs.by(measure)[:, choices[pair.second]]
            elif pair.second == number:
                costs = costs + pair.costs.by(measure)[choices[pair.first]]
        return costs

    def dense(self) -> Plan:
        """Return the plan that changes nothing."""
        return self.plan((0,) * len(self.groups))

    def patch(self, plan: Plan) -> Patch:
        """Return all that a plan changes."""
        chosen = (group.patches[c] for group, c in zip(self.groups, plan.choices, strict=True))
        return self.fit(reduce(_joined, chosen, Patch(precision=self.precision)))

    def scaled(self, factor: float, more_ms: float) -> Problem:
        """Return the problem with every latency times a factor, and ``more_ms`` more of what nothing changes."""
        groups = tuple(replace(group, costs=_scaled(group.costs, factor)) for group in self.groups)
        pairs = tuple(replace(pair, costs=_scaled(pair.costs, factor)) for pair in self.pairs)
        return replace(self, groups=groups, pairs=pairs, fixed=_scaled(self.fixed, factor, more_ms))

    def without_dominated(self) -> Problem:
        """Return the problem without candidates that another of their group beats, whatever the neighbours choose.

        A candidate is beaten by one that harms no more and costs no more by any measure and beside any neighbour. What
        is unchanged stays, so that there is a plan that changes nothing.
        """
        kept = [self._undominated(number) for number in range(len(self.groups))]
        groups = tuple(group[chosen] for group, chosen in zip(self.groups, kept, strict=True))
        pairs = tuple(
            replace(pair, costs=pair.costs[np.ix_(kept[pair.first], kept[pair.second])]) for pair in self.pairs
        )
        return replace(self, groups=groups, pairs=pairs)

    def _sum(self, choices: Sequence[int], measure: Measure) -> float:
        alone = sum(float(group.costs.by(measure)[c]) for group, c in zip(self.groups, choices, strict=True))
        joint = sum(float(pair.costs.by(measure)[choices[pair.first], choices[pair.second]]) for pair in self.pairs)
        return float(self.fixed.by(measure)) + alone + joint

    def _undominated(self, number: int) -> list[int]:
        group = self.groups[number]
        columns = [group.sensitivity[:, None]]
        for measure in _ALL:
            columns.append(getattr(group.costs, measure)[:, None])
            columns += [getattr(pair.costs, measure) for pair in self.pairs if pair.first == number]
            columns += [getattr(pair.costs, measure).T for pair in self.pairs if pair.second == number]
        rows = np.concatenate(columns, axis=1)
        kept = [0]
        for i in range(1, len(rows)):
            beats = (rows <= rows[i]).all(axis=1) & ((rows < rows[i]).any(axis=1) | (np.arange(len(rows)) < i))
            if not beats.any():
                kept.append(i)
        return kept


@final
@dataclass(frozen=True, slots=True)
class Candidates:
    """What may become of a group: patches, the unchanged first, what each harms alone, and the share that it keeps."""

    patches: tuple[Patch, ...]
    sensitivity: tuple[float, ...]
    kept: tuple[float, ...]


def priced(
    candidates: Sequence[Candidates],
    neighbours: Sequence[tuple[int, int]],
    price: Callable[[Sequence[Patch]], Costs],
    *,
    precision: Precision = "",
    fit: Fit = _as_it_is,
) -> Problem:
    """Return the problem of groups of which these pairs are neighbours, all priced in one call.

    ``price`` gives the costs of the whole network under each of many patches, as a predictor does; all are in one
    ``precision``, and ``fit`` makes patches of two candidates fit the network. A candidate costs
    what it changes alone; a pair what both change together beyond that. Sums are exact where no three groups meet in
    one kernel and the predictor is additive; of patches of one group or of two neighbours they are
    in any case what the predictor says.
    """
    base = Patch(precision=precision)
    alone = [fit(_joined(base, patch)) for group in candidates for patch in group.patches]
    joint = [
        fit(_joined(_joined(base, one), other))
        for first, second in neighbours
        for one in candidates[first].patches
        for other in candidates[second].patches
    ]
    costs = price([base, *alone, *joint])
    if costs.latency_ms.shape != (1 + len(alone) + len(joint),):
        raise InvalidInput(f"must be {1 + len(alone) + len(joint)} prices", field="costs")
    fixed, at = costs[0], 1
    groups: list[Group] = []
    for group in candidates:
        own = _less(costs[at : at + len(group.patches)], fixed)
        groups.append(Group.of(group.patches, own, group.sensitivity, group.kept))
        at += len(group.patches)
    pairs = []
    for first, second in neighbours:
        rows, columns = groups[first].costs, groups[second].costs
        shape = len(rows.latency_ms), len(columns.latency_ms)
        both = _less(costs[at : at + shape[0] * shape[1]], fixed)
        both = Costs(*(getattr(both, m).reshape(shape) - getattr(rows, m)[:, None] - getattr(columns, m) for m in _ALL))
        pairs.append(Pair(first, second, both))
        at += shape[0] * shape[1]
    return Problem(tuple(groups), tuple(pairs), fixed, precision, fit)


def _less(costs: Costs, base: Costs) -> Costs:
    return Costs(*(getattr(costs, measure) - getattr(base, measure) for measure in _ALL))


def _scaled(costs: Costs, factor: float, more_ms: float = 0.0) -> Costs:
    return replace(costs, latency_ms=costs.latency_ms * factor + more_ms, high_ms=costs.high_ms * factor + more_ms)


def _joined(patch: Patch, other: Patch) -> Patch:
    """Return the changes of both; the precision is the one that either says, and the later where both do."""
    return Patch(patch.widths | other.widths, patch.ranks | other.ranks, other.precision or patch.precision)
