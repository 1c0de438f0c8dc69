"""How well measurements repeat: the same networks again, later, in another order and other company.

Every protocol that is compared measures the same networks in the same rounds, one after the other within a round, so
that all of them see the same hours of the same machine. What a measurement says is its ``value``: the ratio to the
reference for LETI's protocol, milliseconds for those that have no reference.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import InvalidInput
from leti.core.measurement import Repeatability, calm_passes, ratio, reference_ms, repeatability
from leti.device_agents.backend import Session
from leti.device_agents.bench import Bench, Finding, Wanted

TOLERANCES: Final = (0.01, 0.02, 0.05, 0.1)
OWN: Final = "LETI"
"""The name of the bench's own protocol among those that are compared."""

TIMED: Final = ("candidates", "reference")
"""The parts of a bench's effort that are measuring itself …"""

GATES: Final = "gates"
"""… and the one that is waiting for the device. All others are overhead."""

CALM_LOAD: Final = 1.3
CALM_STEAL: Final = 0.02


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement of one network by one protocol; ``at_s`` counts from the study's start."""

    network: int
    round: int
    value: float
    latency_ms: float
    at_s: float
    noisy: bool = False


@final
@dataclass(frozen=True, slots=True)
class Weather:
    """What the machine was like around one batch, and the reference's latency in it."""

    at_s: float
    reference_ms: float
    load: float | None
    steal: float | None
    temperature_c: float | None

    @property
    def calm(self) -> bool:
        """Whether little else ran: load under :data:`CALM_LOAD`, stolen time under :data:`CALM_STEAL`."""
        return (self.load or 0.0) < CALM_LOAD and (self.steal or 0.0) < CALM_STEAL


@final
@dataclass(frozen=True, slots=True)
class Band:
    """Networks of a latency from ``low_ms`` on, under ``high_ms``: the median of their coefficients of variation."""

    low_ms: float
    high_ms: float
    networks: int
    cv: float


@final
@dataclass(frozen=True, slots=True)
class StudyReport:
    """What a study found: the trials of each protocol by its name, the bench's own first.

    ``failures`` are networks that could not be measured, with the reason. ``effort_s`` are the seconds of each part of
    the bench's measuring, ``measuring_s`` those of the whole of it, naive protocols apart.
    """

    trials: Mapping[str, tuple[Trial, ...]]
    weather: tuple[Weather, ...]
    failures: Mapping[int, str]
    effort_s: Mapping[str, float]
    measuring_s: float

    @property
    def overhead(self) -> float:
        """The share of measuring, waiting for the device apart, that was not timed samples."""
        timed_s = sum(self.effort_s.get(part, 0.0) for part in TIMED)
        working_s = self.measuring_s - self.effort_s.get(GATES, 0.0)
        return 1 - timed_s / working_s if working_s > 0 else 0.0

    @property
    def networks_per_minute(self) -> float:
        """Measurements by the bench in a minute of measuring."""
        count = len(self.trials[OWN])
        return 60 * count / self.measuring_s if self.measuring_s > 0 else 0.0

    @property
    def calm(self) -> bool:
        """Whether the machine was calm around every batch."""
        return all(each.calm for each in self.weather)


NaiveProtocol = Callable[[Session], float]
"""Takes a session that has run once; returns the latency in ms that the protocol would report."""


def runs_in_a_row(session: Session, *, runs: int = 50, warmup: int = 10) -> float:
    """Return the mean of ``runs`` invokes in a row, after some of warm-up: nn-Meter's protocol (tflite_profiler.py)."""
    for _ in range(warmup):
        session.invoke()
    return statistics.fmean(_invoke_ms(session) for _ in range(runs))


def benchmark_model(session: Session, *, runs: int = 50, least_s: float = 1.0, warmup_s: float = 0.5) -> float:
    """Return the mean as TFLite's ``benchmark_model`` finds it with its defaults.

    At least half a second of warm-up, then invokes until there are 50 of them and a second is over (LiteRT's
    tflite/tools/benchmark/benchmark_model.cc).
    """
    end = time.perf_counter() + warmup_s
    while time.perf_counter() < end:
        session.invoke()
    samples: list[float] = []
    end = time.perf_counter() + least_s
    while len(samples) < runs or time.perf_counter() < end:
        samples.append(_invoke_ms(session))
    return statistics.fmean(samples)


NAIVE: Final[Mapping[str, NaiveProtocol]] = {
    "50 runs in a row, mean": runs_in_a_row,
    "benchmark_model's": benchmark_model,
}


@final
class Study:
    """Measures each of ``models`` on ``bench`` again and again, beside ``reference``, in batches of ``batch``.

    With ``load``, which opens a session in this process, the naive protocols measure the same networks in each round.
    """

    def __init__(
        self,
        bench: Bench,
        models: Sequence[bytes],
        reference: bytes,
        *,
        batch: int = 8,
        seed: int = 0,
        load: Callable[[bytes], Session] | None = None,
        naive: Mapping[str, NaiveProtocol] = NAIVE,
    ) -> None:
        self._bench = bench
        self._models = models
        self._reference = reference
        self._batch = batch
        self._order = random.Random(seed)  # noqa: S311 - the order of a study, to be had again
        self._load = load
        self._naive = dict(naive) if load else {}
        self._began = time.monotonic()
        self._trials: dict[str, list[Trial]] = {name: [] for name in (OWN, *self._naive)}
        self._weather: list[Weather] = []
        self._failures: dict[int, str] = {}
        self._measuring_s = 0.0

    def run(self, rounds: int = 4, progress: Callable[[int], None] = lambda done: None) -> StudyReport:
        """Return what ``rounds`` rounds found, each in another order and other batches.

        ``progress`` is told how many measurements by the bench are done. Raises what the bench raises.
        """
        if rounds < 2:
            raise InvalidInput(f"must be 2 or more, not {rounds}", field="rounds")
        before = dict(self._bench.effort())
        for number in range(rounds):
            indices = list(range(len(self._models)))
            self._order.shuffle(indices)
            for start in range(0, len(indices), self._batch):
                part = indices[start : start + self._batch]
                self._measure(part, number)
                progress(number * len(indices) + start + len(part))
            self._measure_naively([index for index in indices if index not in self._failures], number)
        effort_s = {part: seconds - before.get(part, 0.0) for part, seconds in self._bench.effort().items()}
        trials = {name: tuple(found) for name, found in self._trials.items()}
        return StudyReport(trials, tuple(self._weather), self._failures, effort_s, self._measuring_s)

    def _measure(self, part: Sequence[int], number: int) -> None:
        started = time.monotonic()
        wanted = [Wanted(self._models[index]) for index in part]
        outcomes = self._bench.measure(wanted, self._reference, keep_going=lambda: True, waiting=lambda reason: None)
        self._measuring_s += time.monotonic() - started
        at_s = started - self._began
        found: list[Finding] = []
        for index, outcome in zip(part, outcomes or (), strict=True):
            if not isinstance(outcome, Finding):
                self._failures[index] = str(outcome)
                continue
            found.append(outcome)
            calm = [statistics.median(each.samples_ms) for each in calm_passes(outcome.passes)]
            trial = Trial(index, number, ratio(outcome.passes), statistics.median(calm), at_s, outcome.noisy)
            self._trials[OWN].append(trial)
        if found:
            after = found[0].recipe.after
            pace_ms = reference_ms([each for finding in found for each in finding.passes])
            self._weather.append(Weather(at_s, pace_ms, after.load, after.steal, after.temperature_c))

    def _measure_naively(self, indices: Sequence[int], number: int) -> None:
        for name, latency_of in self._naive.items():
            for index in indices:
                assert self._load is not None  # noqa: S101 - there are no naive protocols without it
                session = self._load(self._models[index])
                at_s = time.monotonic() - self._began
                try:
                    latency_ms = latency_of(session)
                finally:
                    session.close()
                self._trials[name].append(Trial(index, number, latency_ms, latency_ms, at_s))


def agreement(trials: Iterable[Trial]) -> Repeatability | None:
    """Return how far measurements of one network agree; ``None`` where no network was measured twice."""
    return repeatability(list(_values(trials).values()), TOLERANCES)


def bands(trials: Sequence[Trial]) -> tuple[Band, ...]:
    """Return the coefficient of variation by latency, in bands that double: 0.5–1 ms, 1–2 ms, …"""
    values = _values(trials)
    latencies: dict[int, list[float]] = {}
    for trial in trials:
        latencies.setdefault(trial.network, []).append(trial.latency_ms)
    found: dict[int, list[float]] = {}
    for network, of_network in values.items():
        if len(of_network) > 1:
            octave = math.floor(math.log2(statistics.median(latencies[network])))
            found.setdefault(octave, []).append(statistics.stdev(of_network) / statistics.fmean(of_network))
    return tuple(Band(2.0**o, 2.0 ** (o + 1), len(found[o]), statistics.median(found[o])) for o in sorted(found))


def deviations(trials: Sequence[Trial]) -> list[float]:
    """Return each trial's deviation from its network's pooled value, relative to it, in order."""
    pooled = {network: statistics.median(values) for network, values in _values(trials).items()}
    return [trial.value / pooled[trial.network] - 1 for trial in trials]


def _values(trials: Iterable[Trial]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for trial in trials:
        found.setdefault(trial.network, []).append(trial.value)
    return found


def _invoke_ms(session: Session) -> float:
    start_ns = time.perf_counter_ns()
    session.invoke()
    return max(time.perf_counter_ns() - start_ns, 1) / 1e6
