"""A study of repeatability on a bench whose clock is under control: what it asks, and what its figures say."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from typing_extensions import override

from leti.core.device import Device, Platform
from leti.core.errors import InvalidInput, MeasurementFailed
from leti.core.measurement import Conditions, Pass, Recipe
from leti.device_agents.backend import Session
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted
from leti.device_agents.repeatability import (
    OWN,
    Study,
    StudyReport,
    Trial,
    agreement,
    bands,
    benchmark_model,
    deviations,
    runs_in_a_row,
)

MODELS = tuple(f"model {i}".encode() for i in range(10))


class Simulated(Bench):
    """A bench on which model ``i`` takes ``i + 1`` ms, with ``noise``; model 3 is broken if ``breaks``."""

    model_format = "tflite"
    platform = Platform(Device("simulated", "desktop", "none", 1), "none", "1")

    def __init__(self, noise: float, *, breaks: bool = False, steal: float = 0.0) -> None:
        self.noise, self.breaks, self.steal = noise, breaks, steal
        self.chance = random.Random(0)
        self.asked: list[tuple[bytes, ...]] = []
        self.seconds: Counter[str] = Counter(candidates=100.0)

    @override
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        self.asked.append(tuple(each.model for each in wanted))
        self.seconds.update(candidates=0.01, gates=1.0)
        return tuple(self._outcome(each.model) for each in wanted)

    def _outcome(self, model: bytes) -> Outcome:
        index = MODELS.index(model)
        if self.breaks and index == 3:
            return MeasurementFailed("it is broken", failure="crashed")
        ratio = (index + 1) * (1 + self.chance.uniform(-self.noise, self.noise))
        passes = (Pass((2 * ratio,), (2.0,)), Pass((99.0,), (3.0,), calm=False))
        return Finding(passes, False, Recipe("1", "1", "0" * 64, after=Conditions(load=1.0, steal=self.steal)))

    @override
    def effort(self) -> Mapping[str, float]:
        return self.seconds

    @override
    def close(self) -> None:
        pass


class Counted(Session):
    """A session that counts its runs."""

    def __init__(self, model: bytes) -> None:
        self.model, self.runs, self.closed = model, 0, False
        self.init_ms = self.first_inference_ms = 1.0

    @override
    def invoke(self) -> None:
        self.runs += 1

    @override
    def close(self) -> None:
        self.closed = True


def test_each_round_measures_every_network_once_in_another_order_and_other_batches() -> None:
    bench = Simulated(0.0)
    report = Study(bench, MODELS, b"reference", batch=4).run(3)
    assert [len(batch) for batch in bench.asked] == [4, 4, 2] * 3
    rounds = [sum(bench.asked[i : i + 3], ()) for i in range(0, 9, 3)]
    assert all(sorted(each) == sorted(MODELS) for each in rounds)
    assert len(set(rounds)) == 3
    assert Counter(trial.network for trial in report.trials[OWN]) == Counter(dict.fromkeys(range(10), 3))


def test_the_same_seed_asks_the_same() -> None:
    first, second, other = Simulated(0.0), Simulated(0.0), Simulated(0.0)
    Study(first, MODELS, b"reference", seed=1).run(2)
    Study(second, MODELS, b"reference", seed=1).run(2)
    Study(other, MODELS, b"reference", seed=2).run(2)
    assert first.asked == second.asked != other.asked


def test_values_are_those_of_calm_passes() -> None:
    report = Study(Simulated(0.0), MODELS, b"reference").run(2)
    assert {(trial.network, trial.value, trial.latency_ms) for trial in report.trials[OWN]} == {
        (i, i + 1.0, 2 * (i + 1.0)) for i in range(10)
    }
    assert {each.reference_ms for each in report.weather} == {2.0}


def test_agreement_tells_a_steady_bench_from_a_noisy_one() -> None:
    steady, noisy = (agreement(Study(Simulated(n), MODELS, b"reference").run(6).trials[OWN]) for n in (0.0, 0.2))
    assert steady is not None
    assert noisy is not None
    assert steady.measurements == noisy.measurements == 60
    assert steady.within["0.01"] == 1.0
    assert noisy.within["0.01"] < 0.5
    assert noisy.within["0.01"] < noisy.within["0.05"] < noisy.within["0.1"] < 0.9


def test_a_network_that_fails_is_named_and_left_out() -> None:
    loaded: list[Counted] = []

    def load(model: bytes) -> Session:
        loaded.append(Counted(model))
        return loaded[-1]

    report = Study(Simulated(0.0, breaks=True), MODELS, b"reference", load=load, naive={"one": lambda s: 1.0}).run(2)
    assert list(report.failures) == [3]
    assert "broken" in report.failures[3]
    assert {trial.network for trials in report.trials.values() for trial in trials} == set(range(10)) - {3}
    assert len(loaded) == 18
    assert all(each.closed for each in loaded)


def test_naive_protocols_run_as_those_whom_they_are_named_for() -> None:
    session = Counted(b"")
    assert runs_in_a_row(session) > 0
    assert session.runs == 60
    session = Counted(b"")
    assert benchmark_model(session, least_s=0.02, warmup_s=0.01) > 0
    assert session.runs > 50


def test_bands_double_and_hold_the_coefficient_of_variation() -> None:
    trials = [
        *(Trial(0, i, value, 0.7, 0.0) for i, value in enumerate((1.0, 1.0, 1.0))),
        *(Trial(1, i, value, 1.5, 0.0) for i, value in enumerate((9.0, 10.0, 11.0))),
        *(Trial(2, i, value, 1.9, 0.0) for i, value in enumerate((8.0, 10.0, 12.0))),
        Trial(3, 0, 1.0, 1.2, 0.0),
    ]
    assert [(b.low_ms, b.high_ms, b.networks) for b in bands(trials)] == [(0.5, 1.0, 1), (1.0, 2.0, 2)]
    assert [b.cv for b in bands(trials)] == pytest.approx([0.0, 0.15])
    assert deviations(trials)[3:6] == pytest.approx([-0.1, 0.0, 0.1])


def test_overhead_is_what_is_neither_timed_nor_waited_for() -> None:
    report = StudyReport({OWN: ()}, (), {}, {"candidates": 6.0, "reference": 2.0, "gates": 5.0, "load": 1.0}, 15.0)
    assert report.overhead == pytest.approx(0.2)


def test_a_machine_that_was_robbed_is_labelled() -> None:
    assert Study(Simulated(0.0), MODELS, b"reference").run(2).calm
    assert not Study(Simulated(0.0, steal=0.03), MODELS, b"reference").run(2).calm


def test_one_round_repeats_nothing() -> None:
    with pytest.raises(InvalidInput) as caught:
        Study(Simulated(0.0), MODELS, b"reference").run(1)
    assert caught.value.field == "rounds"
