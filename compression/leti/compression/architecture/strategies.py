"""Strategies: which architectures to draw next, and which of those that fit to spend an evaluation on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import ClassVar, Final, final

from typing_extensions import override

from leti.compression.architecture.fronts import best, ranks
from leti.compression.architecture.screening import Screening
from leti.compression.architecture.surrogate import predicted
from leti.compression.architecture.variation import Architecture, Choices, Variation
from leti.compression.searching.studies import new_study
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import optuna

Judged = Mapping[int, Array | None]
"""What evaluations gave, by the numbers of a screening: the values (objectives,), nothing where one failed."""


class Strategy(ABC):
    """Draws a generation, chooses of it, and learns how the chosen ones did.

    Aims are what the front is of, more is better: latencies in ms, negative, and objectives.
    """

    name: ClassVar[str]
    draws: ClassVar[int] = 2_000
    """Architectures that a generation draws where the caller does not say."""

    def __init__(self, variation: Variation, population: int, seed: int) -> None:
        self._variation = variation
        self._population = population
        self._seed = seed

    def draw(self, count: int, known: Container[str]) -> list[Architecture]:
        """Return up to ``count`` architectures, none of the ``known`` kinds; by default at random."""
        return self._variation.distinct(count, self._variation.drawn, known)

    def choose(self, screening: Screening) -> list[int]:
        """Return the numbers of those to evaluate, all of them fitting; by default the first: drawn by chance."""
        return list(screening.fitting[: self._population])

    @abstractmethod
    def learn(self, screening: Screening, judged: Judged) -> None:
        """Hear how the chosen ones did."""


@final
class Random(Strategy):
    """Draws at random, and evaluates what fits: what every other strategy has to beat at equal evaluations."""

    name = "random"

    @override
    def learn(self, screening: Screening, judged: Judged) -> None:
        """Learn nothing."""


@final
class Evolution(Strategy):
    """Regularised evolution with a predicted front.

    "Regularized Evolution for Image Classifier Architecture Search" (Real et al., 2019): parents win small tournaments
    and the oldest die, however good they are; here by the front that a parent is on, and each lives for two
    generations. Children are mutants, half of them of two parents. Thousands are drawn, as their latencies cost next to
    nothing, and a few evaluated, as an evaluation costs much: those whose latencies and predicted objectives no other
    beats, spread over the front by crowding distance. That is the rule of "NSGANetV2: Evolutionary Multi-Objective
    Surrogate-Assisted Neural Architecture Search" (Lu et al., 2020), with a surrogate that needs few evaluations.
    """

    name = "evolution"

    def __init__(self, variation: Variation, population: int, seed: int) -> None:
        super().__init__(variation, population, seed)
        self._living: deque[tuple[Choices, Array]] = deque(maxlen=2 * population)
        self._known: list[tuple[Choices, Array]] = []
        self._nearest: list[Choices] = []

    @override
    def draw(self, count: int, known: Container[str]) -> list[Architecture]:
        """Return children of those that live; while none fitted, of those that came nearest."""
        parents = [choices for choices, _ in self._living] or self._nearest
        if not parents:
            return super().draw(count, known)
        rng = self._variation.rng
        fronts = ranks(np.array([aims for _, aims in self._living])) if self._living else np.zeros(len(parents), int)
        size = min(len(parents), max(2, len(parents) // 4))

        def parent() -> Choices:
            entered = rng.sample(range(len(parents)), size)
            return parents[min(entered, key=lambda i: int(fronts[i]))]

        def child() -> Architecture | None:
            choices = parent()
            if rng.random() < 0.5:
                choices = self._variation.crossed(choices, parent())
            return self._variation.read(self._variation.mutated(choices))

        return self._variation.distinct(count, child, known)

    @override
    def choose(self, screening: Screening) -> list[int]:
        """Return those on the predicted front; at first, when nothing is known to predict from, the first that fit."""
        fitting = screening.fitting
        if not self._known or not fitting:
            return super().choose(screening)
        drawn = np.array([screening.architectures[i].choices for i in fitting])
        values = predicted(drawn, np.array([c for c, _ in self._known]), np.array([v for _, v in self._known]))
        aims = np.column_stack([-screening.latency_ms[list(fitting)], values])
        return [fitting[i] for i in best(aims, self._population)]

    @override
    def learn(self, screening: Screening, judged: Judged) -> None:
        nearest = np.argsort(-screening.room, kind="stable")[: self._population]
        self._nearest = [screening.architectures[i].choices for i in nearest if np.isfinite(screening.room[i])]
        for number, values in judged.items():
            if values is not None:
                choices = screening.architectures[number].choices
                self._known.append((choices, values))
                self._living.append((choices, np.append(-screening.latency_ms[number], values)))


@final
class NSGA2(Strategy):
    """NSGA-II as Optuna has it, limits of latency as its constraint; the first generation is drawn at random.

    "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (Deb et al., 2002). Optuna proposes architectures one
    by one: a generation draws less than the others do. Where fewer fit than are to be evaluated, those that break their
    limits least are told too, as such, so that the next generation comes nearer.
    """

    name = "nsga2"
    draws = 200

    def __init__(self, variation: Variation, population: int, seed: int) -> None:
        super().__init__(variation, population, seed)
        self._study: optuna.Study | None = None
        self._asked: dict[str, optuna.Trial] = {}
        self._distributions: Mapping[str, optuna.distributions.BaseDistribution] = {
            str(place): optuna.distributions.CategoricalDistribution(options)
            for place, options in enumerate(variation.options)
        }

    @override
    def draw(self, count: int, known: Container[str]) -> list[Architecture]:
        if self._study is None:
            return super().draw(count, known)
        self._asked, found = {}, []
        for _ in range(count):
            trial = self._study.ask(dict(self._distributions))
            made = self._variation.read([trial.params[name] for name in self._distributions])
            if made is None or made.kind in known or made.kind in self._asked:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._asked[made.kind] = trial
                found.append(made)
        return found

    @override
    def learn(self, screening: Screening, judged: Judged) -> None:
        done = {number: values for number, values in judged.items() if values is not None}
        if self._study is None and done:
            aims = screening.latency_ms.shape[1] + len(next(iter(done.values())))
            sampler = optuna.samplers.NSGAIISampler(population_size=self._population, seed=self._seed)
            self._study = new_study(sampler, directions=["maximize"] * aims)
        if self._study is None:
            return
        aims = len(self._study.directions) - screening.latency_ms.shape[1]
        over = [int(i) for i in np.argsort(-screening.room, kind="stable") if -np.inf < screening.room[i] < 0]
        missing = dict.fromkeys(over[: max(0, self._population - len(done))], np.full(aims, -np.inf))
        for number, values in {**done, **missing}.items():
            trial = self._trial(self._study, screening.architectures[number])
            trial.set_constraint(_OVER, -float(screening.room[number]))
            self._study.tell(trial, [*map(float, -screening.latency_ms[number]), *map(float, values)])
        for trial in self._asked.values():
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        self._asked = {}

    def _trial(self, study: optuna.Study, architecture: Architecture) -> optuna.Trial:
        """Return the trial that an architecture was proposed in; for one that was drawn at random, a new one."""
        trial = self._asked.pop(architecture.kind, None)
        if trial is None:
            study.enqueue_trial({str(place): choice for place, choice in enumerate(architecture.choices)})
            trial = study.ask(dict(self._distributions))
        return trial


_OVER: Final = "over"

STRATEGIES: Final[Mapping[str, type[Strategy]]] = MappingProxyType(
    {strategy.name: strategy for strategy in (Evolution, Random, NSGA2)}
)
"""The strategies, by name."""
