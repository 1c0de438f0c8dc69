"""Networks beside the baseline: what is asked of a bench, what becomes of its answers, and a real one."""

import random
from collections.abc import Iterator, Mapping, Sequence

import pytest

from leti.compression.measuring.at_hand import BenchMeter
from leti.compression.measuring.meter import Subject
from leti.core.device import Device, ModelFormat, Platform
from leti.core.errors import DeviceFault, MeasurementFailed
from leti.core.graph import Graph, Op, TensorType
from leti.core.measurement import Pass, Recipe
from leti.device_agents.bench import Bench, Finding, Outcome, Wanted
from leti.device_agents.timing import Protocol
from leti.generator.builder import GraphBuilder
from leti.generator.precision import quantize

VECTOR = TensorType((1, 4), "float32")
RECIPE = Recipe(agent_version="0", runtime_version="0", model_sha256="")


def network(layers: int, channels: int = 8, size: int = 8) -> Graph:
    builder = GraphBuilder(TensorType((1, size, size, 3), "float32"))
    value = 0
    for _ in range(layers):
        value = builder.relu(builder.conv(value, channels, 3))
    return builder.graph(builder.fully_connected(builder.global_mean(value), 10))


def finding(*ratios: float, reference_ms: float = 2.0, restless: Sequence[float] = (), noisy: bool = False) -> Finding:
    """Return calm passes of some ratios, and restless ones of others."""
    passes = [
        Pass((ratio * reference_ms,), (reference_ms,), calm)
        for calm, given in ((True, ratios), (False, restless))
        for ratio in given
    ]
    return Finding(tuple(passes), noisy, RECIPE)


class GivenBench(Bench):
    """Answers with what it is given for each file; keeps what it was asked."""

    platform = Platform(Device("given", "desktop", "none", 1), "litert", "0")
    model_format: ModelFormat = "tflite"

    def __init__(self, outcomes: Mapping[bytes, Outcome], refusal: MeasurementFailed | None = None) -> None:
        self.asked: list[tuple[bytes, ...]] = []
        self._outcomes = outcomes
        self._refusal = refusal

    def measure(self, wanted: Sequence[Wanted], reference: bytes, **_: object) -> tuple[Outcome, ...]:
        if self._refusal is not None:
            raise self._refusal
        self.asked.append((reference, *(each.model for each in wanted)))
        return tuple(self._outcomes[each.model] for each in wanted)

    def effort(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        """Nothing is held."""


def subject(name: str) -> Subject:
    return Subject(network(1), name.encode())


def test_a_reading_is_the_median_of_calm_passes_and_the_baseline_is_pooled_over_all_batches() -> None:
    twelve = [0.5 + 0.01 * i for i in range(12)]
    bench = GivenBench(
        {
            b"a": finding(*twelve, restless=[9.0] * 20),
            b"b": finding(0.25, 0.26, 0.24, reference_ms=4.0, noisy=True),
        }
    )
    first, a, b = BenchMeter(bench, batch=1).measure(subject("base"), [subject("a"), subject("b")])
    assert bench.asked == [(b"base", b"a"), (b"base", b"b")]
    # Twelve calm passes in which the baseline took 2 ms, three of 4 ms: their median is the baseline's latency.
    assert (first.latency_ms, first.ratio, first.low_ratio, first.high_ratio) == (2.0, 1.0, 1.0, 1.0)
    assert a.ratio == pytest.approx(0.555)
    assert (a.low_ratio, a.high_ratio) == (pytest.approx(0.52), pytest.approx(0.59))
    assert a.latency_ms == pytest.approx(1.11)
    assert not a.noisy
    assert (b.ratio, b.low_ratio, b.high_ratio) == (0.25, 0.24, 0.26)
    assert b.latency_ms == 0.5
    assert b.noisy
    assert all(reading.is_interleaved for reading in (first, a, b))


def test_many_subjects_make_batches_of_one_size_each_with_the_baseline() -> None:
    names = [f"n{i}" for i in range(9)]
    bench = GivenBench({name.encode(): finding(1.0 + i) for i, name in enumerate(names)})
    told: list[tuple[int, int]] = []
    readings = BenchMeter(bench).measure(
        subject("base"), [subject(name) for name in names], progress=lambda done, total: told.append((done, total))
    )
    assert [len(asked) for asked in bench.asked] == [5, 6]
    assert {asked[0] for asked in bench.asked} == {b"base"}
    assert [reading.ratio for reading in readings] == [1.0, *(1.0 + i for i in range(9))]
    assert told == [(5, 10), (10, 10)]


def test_without_subjects_the_baseline_is_measured_beside_itself() -> None:
    bench = GivenBench({b"base": finding(1.02, 0.98, 1.0, reference_ms=3.0)})
    (reading,) = BenchMeter(bench).measure(subject("base"), [])
    assert bench.asked == [(b"base", b"base")]
    assert (reading.latency_ms, reading.ratio) == (3.0, 1.0)


def test_what_fails_is_named() -> None:
    broken = MeasurementFailed("crashed: SIGSEGV", failure="crashed")
    bench = GivenBench({b"a": finding(1.0), b"b": broken})
    with pytest.raises(MeasurementFailed, match="SIGSEGV") as caught:
        BenchMeter(bench).measure(subject("base"), [subject("a"), subject("b")])
    assert (caught.value.field, caught.value.details["failure"]) == ("subjects[1]", "crashed")

    of_reference = MeasurementFailed("the reference network: no model", field="reference", failure="bad-model")
    with pytest.raises(MeasurementFailed, match="no model") as caught:
        BenchMeter(GivenBench({}, of_reference)).measure(subject("base"), [subject("a")])
    assert (caught.value.field, caught.value.details["failure"]) == ("baseline", "bad-model")

    with pytest.raises(DeviceFault, match="unplugged"):
        BenchMeter(GivenBench({}, DeviceFault("unplugged"))).measure(subject("base"), [subject("a")])

    odd = Graph((VECTOR,), (Op("mystery", (), (VECTOR,), (VECTOR,), 0, 0, 0),), ((0,),), (1,))
    with pytest.raises(MeasurementFailed, match="mystery") as caught:
        BenchMeter(bench).measure(subject("base"), [Subject(odd)])
    assert (caught.value.field, caught.value.details["failure"]) == ("subjects[0]", "unsupported")


@pytest.fixture
def litert() -> Iterator[Bench]:
    """This machine with LiteRT, in few passes."""
    pytest.importorskip("ai_edge_litert", reason="the agent extra is not installed")
    desktop = pytest.importorskip("leti.device_agents.desktop.bench")
    bench = desktop.DesktopBench("litert", protocol=Protocol(passes=5, retries=1), order=random.Random(1))
    yield bench
    bench.close()


def test_real_networks_of_two_precisions_are_told_apart(litert: Bench) -> None:
    baseline, deep = network(2, 32, 32), network(24, 32, 32)
    told: list[int] = []
    meter = BenchMeter(litert, batch=2)
    subjects = [Subject(deep), Subject(quantize(baseline, "full_integer")), Subject(network(2, 32, 32))]
    readings = meter.measure(Subject(baseline), subjects, progress=lambda done, _: told.append(done))
    assert told == [2, 4]
    own, deeper, integer, twin = readings
    assert own.ratio == 1
    assert own.latency_ms > 0
    assert deeper.ratio > 4  # twelve times the work: nothing that disturbs one network alone makes up for it
    assert deeper.ratio > 2 * max(integer.ratio, twin.ratio)
    for reading in readings[1:]:
        assert reading.low_ratio <= reading.ratio <= reading.high_ratio
        assert reading.latency_ms == pytest.approx(reading.ratio * own.latency_ms)
