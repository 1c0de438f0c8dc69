"""The loop of a search: draw, screen, choose, evaluate, learn, generation by generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

from leti.compression.architecture.objectives import Evaluation, Evaluations
from leti.compression.architecture.results import Counts
from leti.compression.architecture.screening import Screener, Screening
from leti.compression.architecture.strategies import Strategy
from leti.compression.architecture.variation import Architecture
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np


@final
@dataclass(frozen=True, slots=True)
class Step:
    """How far a search is: its generation of how many, from 1 on; what it drew; its evaluations of how many."""

    generation: int
    generations: int
    drawn: int
    fitting: int
    evaluated: int
    chosen: int


@final
@dataclass(frozen=True, slots=True)
class Evaluated:
    """An architecture, what it takes (one number a limit) and what the objective said."""

    architecture: Architecture
    generation: int
    latencies_ms: tuple[float, ...]
    bounds_ms: tuple[float, ...]
    evaluation: Evaluation


@final
class Generations:
    """A search while it goes on: what was evaluated so far, and what that took."""

    def __init__(self, screener: Screener, evaluations: Evaluations, strategy: Strategy) -> None:
        self._screener: Final = screener
        self._evaluations: Final = evaluations
        self._strategy: Final = strategy
        self._known: dict[str, Evaluated] = {}
        self._drawn = self._fitting = 0
        self._seconds = dict.fromkeys(("drawing", "service", "objective"), 0.0)
        self._least: Array | None = None
        self.objectives: tuple[str, ...] = ()

    @property
    def evaluated(self) -> tuple[Evaluated, ...]:
        """What was evaluated, in that order."""
        return tuple(self._known.values())

    @property
    def least_ms(self) -> dict[str, float]:
        """The least bound that anything drawn had, by platform."""
        if self._least is None:
            return {}
        return dict(zip(self._screener.platform_ids, map(float, self._least), strict=True))

    def run(self, generations: int, draws: int, progress: Callable[[Step], None] | None) -> None:
        """Go through so many generations of so many draws; ``progress`` hears of each evaluation."""
        for generation in range(1, generations + 1):
            with self._timed("drawing"):
                drawn = self._strategy.draw(draws, self._known)
            with self._timed("service"):
                screening = self._screener.screen(drawn)
            with self._timed("drawing"):
                chosen = self._strategy.choose(screening)
            self._note(screening)
            judged: dict[int, Array | None] = {}
            for done, number in enumerate([None, *chosen]):
                if number is not None:
                    judged[number] = self._judge(screening, number, generation)
                if progress is not None:
                    fitting = len(screening.fitting)
                    progress(Step(generation, generations, len(drawn), fitting, done, len(chosen)))
            with self._timed("drawing"):
                self._strategy.learn(screening, judged)

    def counts(self) -> Counts:
        """Return what the search took so far."""
        return Counts(
            drawn=self._drawn,
            fitting=self._fitting,
            unpriced=self._screener.unpriced,
            latencies=self._screener.latencies,
            requests=self._screener.requests,
            evaluated=self._evaluations.made,
            reused=len(self._known) - self._evaluations.made,
            failed=sum(bool(one.evaluation.failure) for one in self._known.values()),
            seconds={name: round(spent, 3) for name, spent in self._seconds.items()},
        )

    def notes(self) -> tuple[str, ...]:
        """Return what went amiss, a sentence each."""
        failures = [one.evaluation.failure for one in self._known.values() if one.evaluation.failure]
        said = (
            (not self._drawn, "no network was drawn"),
            (self._drawn and not self._fitting, "nothing that was drawn keeps every limit"),
            (self._screener.unpriced, f"{self._screener.unpriced} had no latency: {self._screener.why}"),
            (failures, f"the objective failed {len(failures)} times: {failures[0] if failures else ''}"),
        )
        return tuple(text for is_so, text in said if is_so)

    def _judge(self, screening: Screening, number: int, generation: int) -> Array | None:
        """Return the objectives of an architecture, nothing where it has none; keep them."""
        architecture = screening.architectures[number]
        with self._timed("objective"):
            evaluation = self._evaluations.of(architecture)
        if not evaluation.failure and not self.objectives:
            self.objectives = tuple(evaluation.values)
        if not evaluation.failure and set(evaluation.values) != set(self.objectives):
            names = f"{', '.join(evaluation.values)}, not {', '.join(self.objectives)} as before"
            evaluation = Evaluation({}, f"the objective returned {names}", evaluation.duration_s)
        latencies, bounds = (tuple(map(float, row[number])) for row in (screening.latency_ms, screening.bound_ms))
        self._known[architecture.kind] = Evaluated(architecture, generation, latencies, bounds, evaluation)
        return None if evaluation.failure else np.array([evaluation.values[name] for name in self.objectives])

    def _note(self, screening: Screening) -> None:
        self._drawn += len(screening.architectures)
        self._fitting += len(screening.fitting)
        priced = screening.bound_ms[np.isfinite(screening.room)]
        if len(priced):
            least = priced.min(axis=0)
            self._least = least if self._least is None else np.minimum(self._least, least)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - started
