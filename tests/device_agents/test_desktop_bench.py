"""This machine as a bench: it keeps the promise of benches, says what it is, and waits while it is hot."""

from collections.abc import Iterator

import pytest
from bench_suite import BenchSuite, Files, Told
from desktop_benches import QUICK, Make, is_failure, run

from leti.core.errors import DeviceFault, InvalidInput
from leti.device_agents.bench import Bench, Finding

pytest.importorskip("psutil", reason="the agent extra is not installed")
desktop = pytest.importorskip("leti.device_agents.desktop.bench", reason="the agent extra is not installed")
host = pytest.importorskip("leti.device_agents.desktop.host", reason="the agent extra is not installed")


class TestLiteRT(BenchSuite):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
        bench = desktop.DesktopBench("litert", protocol=QUICK, name="bench-1")
        yield bench
        bench.close()

    @pytest.fixture
    def files(self, models: dict[str, bytes]) -> Files:
        return Files(models["small"], models["small"], models["large"])


class TestMischief(BenchSuite):
    @pytest.fixture
    def bench(self, make: Make) -> Bench:
        return make()

    @pytest.fixture
    def files(self) -> Files:
        return Files(b"ok 200", b"ok 100", b"ok 900", (b"", b"nonsense"))


# --- the backend ------------------------------------------------------------------------------------------------------


def test_a_backend_that_cannot_be_created_says_why_itself(make: Make) -> None:
    with pytest.raises(InvalidInput, match="there is no backend 'none'") as caught:
        make("none")
    assert caught.value.field == "backend"
    with pytest.raises(InvalidInput, match="no such chip"):
        make(delegate="absent")
    with pytest.raises(InvalidInput) as caught:
        make(threads=0)
    assert caught.value.field == "threads"


def test_a_backend_that_crashes_when_it_is_created_is_no_models_fault(make: Make) -> None:
    with pytest.raises(DeviceFault, match=r"SIGSEGV.*no such chip") as caught:
        make(delegate="segfault")
    assert caught.value.details["failure"] == "tool-missing"


def test_the_platform_is_what_the_backend_says(make: Make) -> None:
    bench = make(threads=1, precision="fp16", model_precision="float16", name="box")
    platform = bench.platform
    assert (platform.runtime, platform.runtime_version, platform.delegate) == ("mischief", "1.0", "none")
    assert (platform.precision, platform.model_precision, platform.device.name) == ("fp16", "float16", "box")
    assert platform.affinity == host.measuring_cores(1)
    assert make(pin=False).platform.affinity == ()


# --- a hot processor --------------------------------------------------------------------------------------------------


class Thermometer:
    """Tells the temperatures of a list, and the last of them from then on."""

    def __init__(self, *readings_c: float | None) -> None:
        self.readings_c = list(readings_c)

    def __call__(self) -> float | None:
        return self.readings_c.pop(0) if len(self.readings_c) > 1 else self.readings_c[0]


def gate(*readings_c: float | None, patience_s: float = 600.0):  # type: ignore[no-untyped-def]
    return host.Gate(85.0, read=Thermometer(*readings_c), poll_s=0.05, patience_s=patience_s)


def test_a_hot_processor_is_waited_for(make: Make) -> None:
    told = Told()
    bench = make(gate=gate(90.0, 91.0, 88.0, 84.0))
    (found,) = run(bench, "ok 100", told=told)
    assert isinstance(found, Finding)
    assert not found.noisy
    assert told.reasons == ["the processor has 90 °C, above 85 °C", ""]
    assert bench.effort()["gates"] >= 0.05


def test_a_batch_that_heats_the_processor_is_measured_again_once_it_is_cool(make: Make) -> None:
    told = Told()
    bench = make(gate=gate(60.0, 95.0, 95.0, 70.0, 80.0))
    (found,) = run(bench, "ok 100", told=told)
    assert not found.noisy
    assert len(found.passes) == QUICK.passes
    assert told.reasons == ["the processor has 95 °C, above 85 °C", ""]
    timed_s = sum(sum(p.samples_ms) for p in found.passes) / 1000
    assert bench.effort()["candidates"] >= timed_s + QUICK.passes * 0.1 / 1000, "a run takes 100 µs at least"


def test_what_is_hot_again_is_noisy(make: Make) -> None:
    found = run(make(gate=gate(60.0, 95.0, 70.0, 95.0)), "ok 100", "refuse load")
    assert found[0].noisy
    assert is_failure(found[1], "unsupported")


def test_a_processor_that_stays_hot_is_a_fault_of_the_device(make: Make) -> None:
    with pytest.raises(DeviceFault, match="stayed above 85 °C") as caught:
        run(make(gate=gate(99.0, patience_s=0.2)), "ok 100")
    assert caught.value.details["failure"] == "too-hot"


def test_waiting_can_be_stopped_and_an_unknown_temperature_is_not_waited_for(make: Make) -> None:
    assert run(make(gate=gate(99.0)), "ok 100", told=Told(stop_after=3)) is None
    told = Told()
    assert isinstance(run(make(gate=gate(None)), "ok 100", told=told)[0], Finding)
    assert told.reasons == []
