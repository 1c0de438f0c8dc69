"""Pruning in steps: how much by when, by what criterion, until what is met; as plain data.

A specification is a TOML or JSON object (:func:`read_spec`); :func:`prune` follows it. Every level is a share of what
the network had at first. Structured pruning removes channels, and the graph changes; element-wise pruning makes zeros,
and the graph stays.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, final

from leti.compression.pruning.criteria import CRITERIA, NOTHING_SEEN, Evidence, importance
from leti.compression.pruning.elementwise import global_masks, level_masks, masked, nonzero_masks, zero_share
from leti.compression.pruning.removing import removed
from leti.core.codec import from_json
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.compressing.groups import ChannelGroup, channel_groups
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

FineTune = Callable[[Imported], Imported]
"""Trains a network between two steps; its graph stays."""

_FINER: Final = 8
"""Into how many levels the last step is divided, so that no more is taken than has to be."""


def _agp(initial: float, final: float, share: float) -> float:
    return final + (initial - final) * (1 - share) ** 3


def _linear(initial: float, final: float, share: float) -> float:
    return initial + (final - initial) * share


def _exponential(initial: float, final: float, share: float) -> float:
    return 1 - (1 - initial) * math.pow((1 - final) / (1 - initial), share)


CURVES: Final[Mapping[str, Callable[[float, float, float], float]]] = MappingProxyType(
    {
        # "To prune, or not to prune", Zhu and Gupta, 2017: fast at first, slow at the end
        "agp": _agp,
        "linear": _linear,
        # The same share of what is left in every step
        "exponential": _exponential,
    }
)
"""The level after a share of the steps, between two levels."""


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """From level ``initial`` to level ``final`` in so many ``steps`` along a ``curve``; one step is one-shot."""

    final: float
    steps: int = 1
    curve: Literal["agp", "linear", "exponential"] = "agp"
    initial: float = 0.0

    def __post_init__(self) -> None:
        """Check levels and steps."""
        if not 0 <= self.initial < self.final < 1:
            raise InvalidInput(
                "must be below final, both of 0 to 1", field="initial", remedy="0 <= initial < final < 1"
            )
        if not 1 <= self.steps <= 10_000:
            raise InvalidInput(f"must be 1 to 10000, not {self.steps}", field="steps")

    def levels(self) -> tuple[float, ...]:
        """Return the level after each step, ascending, the last one ``final``."""
        curve = CURVES[self.curve]
        return tuple(curve(self.initial, self.final, step / self.steps) for step in range(1, self.steps + 1))


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """What is to be met; the schedule ends as soon as all that is said is, and runs to its end where nothing is.

    ``sparsity`` is the share of parameters that are gone (of single weights, the share of zeros in the filters),
    ``macs`` and ``latency_ms`` the most that the network may have.
    """

    sparsity: float | None = None
    macs: int | None = None
    latency_ms: float | None = None


@final
@dataclass(frozen=True, slots=True)
class PruningSpec:
    """What is pruned, by which criterion, when, and until what is met.

    ``granularity`` is ``"channels"`` (coupled groups, removed) or ``"elements"`` (single weights, made zero; by
    magnitude whatever the criterion). ``allocation`` is ``"uniform"``, the same share of every group or filter, or
    ``"global"``: the least important of all together, those of a group in units of its mean. Groups keep at least
    ``least_channels``, and a multiple of ``round_to``. ``protected`` operators, and what is coupled with them, stay.
    """

    schedule: Schedule
    stop: Stop = Stop()
    criterion: str = "l1"
    granularity: Literal["channels", "elements"] = "channels"
    allocation: Literal["uniform", "global"] = "uniform"
    round_to: int = 1
    least_channels: int = 1
    protected: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what goes with what."""
        if self.criterion not in CRITERIA:
            raise InvalidInput(f"there is no {self.criterion!r}", field="criterion", remedy=", ".join(CRITERIA))
        if self.round_to < 1 or self.least_channels < 1:
            raise InvalidInput("must be at least 1", field="round_to" if self.round_to < 1 else "least_channels")
        if self.granularity == "elements" and (self.stop.macs, self.stop.latency_ms) != (None, None):
            raise InvalidInput(
                "is never met by zeros: kernels are dense, the graph stays as it is",
                field="stop",
                remedy="stop at a sparsity, or prune channels",
            )


@final
@dataclass(frozen=True, slots=True)
class Step:
    """What a step left of the network; ``latency_ms`` is predicted, ``None`` where nobody was asked."""

    level: float
    sparsity: float
    macs: int
    params: int
    latency_ms: float | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    """The network after the last step, all steps, and whether what was to be met is."""

    imported: Imported
    steps: tuple[Step, ...]
    met: bool


def read_spec(text: str, form: Literal["toml", "json"] = "toml") -> PruningSpec:
    """Return the specification that a TOML or JSON text says; raise :class:`InvalidInput` naming the place at fault."""
    try:
        data = tomllib.loads(text) if form == "toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InvalidInput(f"is no {form.upper()}: {error}", field="spec") from error
    return from_json(PruningSpec, data, "spec")


def prune(
    imported: Imported,
    spec: PruningSpec,
    *,
    fine_tune: FineTune | None = None,
    latency_ms: Callable[[Graph], float] | None = None,
    evidence: Callable[[Imported], Evidence] | None = None,
) -> Pruned:
    """Return what a specification makes of a network, which it follows step by step until what is to be met is.

    ``fine_tune`` trains after each step, ``latency_ms`` predicts the latency of a graph, ``evidence`` looks at what the
    network, as it is then, does on data, for criteria that need it. The last step is divided, so that no more is taken
    than has to be. Raises :class:`InvalidInput` where the criterion needs what is not there, and where the stop is a
    latency that nobody predicts.
    """
    if spec.stop.latency_ms is not None and latency_ms is None:
        raise InvalidInput(
            "needs a prediction", field="stop.latency_ms", remedy="give latency_ms, graph to milliseconds"
        )
    run = _Run(imported, spec, latency_ms)
    current, steps, level_before = imported, list[Step](), spec.schedule.initial
    for level in spec.schedule.levels():
        take = run.taker(current, NOTHING_SEEN if evidence is None else evidence(current))
        current, step = run.first_that_meets(take, level_before, level)
        if fine_tune is not None:
            current = run.again(fine_tune(current), current)
        steps.append(step)
        level_before = level
        if run.stops and run.met(step):
            break
    return Pruned(current, tuple(steps), not run.stops or run.met(steps[-1]))


Take = Callable[[float], Imported]


@final
@dataclass(slots=True)
class _Run:
    """A network on its way through a specification."""

    base: Imported
    spec: PruningSpec
    latency_ms: Callable[[Graph], float] | None
    groups: tuple[ChannelGroup, ...] = field(init=False)
    stops: bool = field(init=False)

    def __post_init__(self) -> None:
        protected = set(self.spec.protected)
        every = channel_groups(self.base.graph)
        self.groups = tuple(g for g in every if not g.fixed and not protected.intersection(g.members))
        self.stops = self.spec.stop != Stop()
        if self.spec.granularity == "channels" and not self.groups:
            raise InvalidInput("has no channels that could be removed", field="graph", remedy="prune elements")

    def taker(self, current: Imported, evidence: Evidence) -> Take:
        """Return what takes a network as it is now to a level."""
        if self.spec.granularity == "elements":
            return lambda level: self._zeroed(current, level)
        scores = {
            group.number: importance(current, group, self.spec.criterion, evidence=evidence, seed=self.spec.seed)
            for group in channel_groups(current.graph)
            if group.number in {g.number for g in self.groups}
        }
        return lambda level: removed(current, self._kept(scores, level))

    def first_that_meets(self, take: Take, before: float, level: float) -> tuple[Imported, Step]:
        """Return the network at a level, or at the first one on the way there that meets what is to be met."""
        taken = take(level)
        step = self._step(taken, level)
        if self.stops and self.met(step):
            for part in range(1, _FINER):
                finer = before + (level - before) * part / _FINER
                candidate = take(finer)
                found = self._step(candidate, finer)
                if self.met(found):
                    return candidate, found
        return taken, step

    def again(self, trained: Imported, before: Imported) -> Imported:
        """Return a trained network, with zeros where there were zeros."""
        if self.spec.granularity == "channels":
            return trained
        return masked(trained, nonzero_masks(before))

    def met(self, step: Step) -> bool:
        stop = self.spec.stop
        return (
            (stop.sparsity is None or step.sparsity >= stop.sparsity)
            and (stop.macs is None or step.macs <= stop.macs)
            and (stop.latency_ms is None or (step.latency_ms is not None and step.latency_ms <= stop.latency_ms))
        )

    def _step(self, imported: Imported, level: float) -> Step:
        graph = imported.graph
        gone = 1 - graph.params / self.base.graph.params
        sparsity = zero_share(imported) if self.spec.granularity == "elements" else gone
        predicted = None if self.latency_ms is None else self.latency_ms(graph)
        return Step(level, sparsity, graph.macs, graph.params, predicted)

    def _zeroed(self, current: Imported, level: float) -> Imported:
        protected = self.spec.protected
        if self.spec.allocation == "global":
            return masked(current, global_masks(current, level, protected=protected))
        return masked(current, level_masks(current, level, protected=protected))

    def _kept(self, scores: Mapping[int, Array], level: float) -> dict[int, Array]:
        widths = self._uniform(level) if self.spec.allocation == "uniform" else self._global(scores, level)
        return {
            number: np.sort(np.argsort(-found, kind="stable")[: min(widths[number], len(found))])
            for number, found in scores.items()
        }

    def _uniform(self, level: float) -> dict[int, int]:
        return {group.number: self._width(group, (1 - level) * group.channels) for group in self.groups}

    def _global(self, scores: Mapping[int, Array], level: float) -> dict[int, int]:
        relative = {n: found / (found.mean() or 1.0) for n, found in scores.items()}
        every = np.sort(np.concatenate(list(relative.values())))[::-1]
        wanted = round((1 - level) * sum(group.channels for group in self.groups))
        threshold = every[min(max(wanted, 1), len(every)) - 1]
        return {g.number: self._width(g, float((relative[g.number] >= threshold).sum())) for g in self.groups}

    def _width(self, group: ChannelGroup, channels: float) -> int:
        wanted = max(round(channels), self.spec.least_channels)
        rounded = -(-wanted // self.spec.round_to) * self.spec.round_to
        return min(rounded, group.channels)
