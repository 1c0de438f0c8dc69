"""This machine as a bench: real models in a process of their own, and models that do what they should not."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench_suite import BenchSuite, Files, Told
from mischief import MEGABYTE, install

from leti.core.errors import DeviceFault, InvalidInput, MeasurementFailed
from leti.device_agents.bench import Bench, Finding, Outcome, Wanted
from leti.device_agents.timing import Protocol

desktop = pytest.importorskip("leti.device_agents.desktop.bench", reason="the agent extra is not installed")
host = pytest.importorskip("leti.device_agents.desktop.host", reason="the agent extra is not installed")
keeper = pytest.importorskip("leti.device_agents.desktop.keeper", reason="the agent extra is not installed")

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to a limit of memory")

QUICK = Protocol(passes=3, retries=0)
ENDLESS = Protocol(passes=100_000, retries=0)

Make = Callable[..., Bench]


@pytest.fixture(scope="session")
def mischief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("mischief"))


@pytest.fixture
def make(mischief: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make benches with the backend of mischief, of which children know by the path that they inherit."""
    monkeypatch.setenv("PYTHONPATH", str(mischief), prepend=os.pathsep)
    made: list[Bench] = []

    def bench(backend: str = "mischief", **options: object) -> Bench:
        options = {"protocol": QUICK, "order": random.Random(1), **options}
        made.append(desktop.DesktopBench(backend, **options))
        return made[-1]

    yield bench
    for each in made:
        each.close()


def run(bench: Bench, *models: str, reference: str = "ok 200", profile: bool = False, told: Told | None = None):  # type: ignore[no-untyped-def]
    told = told or Told()
    wanted = [Wanted(model.encode(), profile) for model in models]
    return bench.measure(wanted, reference.encode(), keep_going=told.keep_going, waiting=told.reasons.append)


def is_failure(outcome: Outcome, kind: str, *words: str) -> bool:
    assert isinstance(outcome, MeasurementFailed), outcome
    assert not isinstance(outcome, DeviceFault)
    assert outcome.details["failure"] == kind, outcome
    for word in words:
        assert word in str(outcome)
    return True


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


# --- models that do what they should not ------------------------------------------------------------------------------

CRASHES = {
    "segfault load": ("crashed", "SIGSEGV", "loading"),
    "segfault run": ("crashed", "SIGSEGV", "running"),
    "abort run": ("crashed", "SIGABRT"),
    "exit run": ("crashed", "status 3"),
    "sys.exit load": ("crashed", "status 0"),
    "raise load": ("crashed", "ValueError: something that no backend may raise"),
    "garble run": ("crashed", "nonsense"),
    "kill run": ("out-of-memory", "killed from outside"),
}


@pytest.mark.parametrize("deed", CRASHES)
def test_a_model_that_ends_the_process_costs_its_own_outcome_alone(make: Make, deed: str) -> None:
    first, failure, last = run(make(), "ok 100", deed, "ok 300")
    assert isinstance(first, Finding)
    assert is_failure(failure, *CRASHES[deed])
    assert isinstance(last, Finding)
    assert len(last.passes) == QUICK.passes


def test_processes_that_a_model_leaves_behind_are_ended(make: Make) -> None:
    (failure,) = run(make(), "linger run")
    assert is_failure(failure, "crashed", "status 7", "left behind: ")
    left = int(str(failure).partition("left behind: ")[2].split()[0])
    deadline = time.monotonic() + 10
    while is_alive(left):
        assert time.monotonic() < deadline, "it outlives the model"
        time.sleep(0.05)


STANDSTILLS = {"hang load": "loading", "doze run": "running", "hang run": "running", "hang-up run": "running"}


@pytest.mark.parametrize("deed", STANDSTILLS)
def test_a_model_that_stands_still_costs_its_own_outcome_alone(make: Make, deed: str) -> None:
    first, failure, last = run(make(invoke_limit_s=1.5, load_limit_s=3.0), "ok 100", deed, "ok 300")
    assert isinstance(first, Finding)
    assert is_failure(failure, "timeout", STANDSTILLS[deed], "did not come to an end within")
    assert isinstance(last, Finding)


@linux
@pytest.mark.parametrize(
    "deed", ["allocate load", "allocate run", "allocate-in-c run", "share run", "take 200", "demand 120"]
)
def test_a_model_that_takes_too_much_memory_costs_its_own_outcome_alone(make: Make, deed: str) -> None:
    first, failure, last = run(make(memory_limit_bytes=96 * MEGABYTE), "ok 100", deed, "ok 300")
    assert isinstance(first, Finding)
    assert is_failure(failure, "out-of-memory")
    assert isinstance(last, Finding)


@linux
def test_models_that_are_too_large_together_are_measured_one_by_one(make: Make) -> None:
    found = run(make(memory_limit_bytes=160 * MEGABYTE), "take 70", "take 75", "take 80", "take 200")
    assert [type(outcome) for outcome in found[:3]] == [Finding] * 3
    assert is_failure(found[3], "out-of-memory")


def test_a_batch_that_takes_too_long_beside_its_runs_is_ended(make: Make) -> None:
    bench = make(protocol=ENDLESS, batch_limit_s=1.0)
    with pytest.raises(MeasurementFailed, match=r"the reference network.*took the batch 1 s") as caught:
        run(bench, "ok 100", reference="doze load")
    assert caught.value.details["failure"] == "timeout"


def test_what_runtimes_print_and_read_disturbs_nobody(make: Make) -> None:
    bench = make()
    found = run(bench, "print load", "print run", "read run", "ok 100")
    assert [type(outcome) for outcome in found] == [Finding] * 4
    assert set(bench.effort()) >= {"candidates"}


def test_last_words_come_with_the_failure(make: Make) -> None:
    (failure,) = run(make(), "raise run")
    assert is_failure(failure, "crashed", "last words", "ValueError: something that no backend may raise")
    assert len(str(failure)) < 2000


def test_refusals_are_values_and_cost_no_process(make: Make) -> None:
    bench = make()
    run(bench, "ok 100")
    start_s = bench.effort()["start"]
    found = run(bench, "refuse load", "refuse run", "nonsense", "ok 100")
    assert [is_failure(o, k) for o, k in zip(found, ("unsupported", "unsupported", "bad-model"), strict=False)]
    assert isinstance(found[3], Finding)
    assert bench.effort()["start"] == start_s


def test_who_crashes_in_company_only_is_measured_alone(make: Make) -> None:
    found = run(make(), "ok 100", "jealous", "ok 300")
    assert [type(outcome) for outcome in found] == [Finding] * 3


def test_several_culprits_are_all_found(make: Make) -> None:
    found = run(make(), "segfault run", "ok 100", "exit load", "refuse run")
    assert is_failure(found[0], "crashed", "SIGSEGV")
    assert isinstance(found[1], Finding)
    assert is_failure(found[2], "crashed", "status 3")
    assert is_failure(found[3], "unsupported")


@pytest.mark.parametrize("deed", ["segfault load", "exit run", "refuse load", "refuse run"])
def test_a_reference_that_fails_is_raised_as_such(make: Make, deed: str) -> None:
    bench = make()
    with pytest.raises(MeasurementFailed, match="the reference network") as caught:
        run(bench, "ok 100", reference=deed)
    assert caught.value.field == "reference"
    assert caught.value.details["failure"] in ("crashed", "unsupported")
    assert isinstance(run(bench, "ok 100")[0], Finding)


@pytest.mark.parametrize("when", ["load", "run"])
def test_a_fault_of_the_device_passes_through(make: Make, when: str) -> None:
    with pytest.raises(DeviceFault, match="fallen off the bus") as caught:
        run(make(), "ok 100", f"broken {when}")
    assert caught.value.details["failure"] == "device-gone"


@pytest.mark.parametrize("deed", ["segfault", "raise", "refuse", "doze"])
def test_a_profile_that_fails_loses_no_measurement(make: Make, deed: str, caplog: pytest.LogCaptureFixture) -> None:
    found = run(make(load_limit_s=3.0), f"{deed} profile", "ok 100", profile=True)
    assert [type(outcome) for outcome in found] == [Finding] * 2
    assert (found[0].operator_times, len(found[1].operator_times)) == ((), 1)
    assert "no operator times" in caplog.text


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
    assert bench.effort()["candidates"] > 1.2 * timed_s


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


# --- a process that stays ---------------------------------------------------------------------------------------------


def child(bench: Bench) -> int:
    return bench._keeper._child._process.pid  # type: ignore[attr-defined,no-any-return]


def test_the_process_stays_from_batch_to_batch(make: Make) -> None:
    bench = make()
    first = child(bench)
    for _ in range(3):
        assert isinstance(run(bench, "ok 100")[0], Finding)
    assert child(bench) == first
    assert list(bench._folder.glob("*.model")) == []  # type: ignore[attr-defined]


def test_a_process_that_dies_between_batches_is_replaced(make: Make) -> None:
    bench = make()
    os.kill(child(bench), signal.SIGKILL)
    time.sleep(0.2)
    assert isinstance(run(bench, "ok 100")[0], Finding)


def test_a_process_that_keeps_memory_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MOST_GROWTH_BYTES", 50 * MEGABYTE)
    bench = make()
    first = child(bench)
    run(bench, "ok 100")
    run(bench, "take 80")
    assert child(bench) == first
    run(bench, "leak 80")
    assert bench._keeper._child is None  # type: ignore[attr-defined]
    run(bench, "ok 100")
    assert child(bench) != first


def test_a_process_is_replaced_after_many_batches(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MOST_BATCHES", 2)
    bench = make()
    first = child(bench)
    for _ in range(3):
        assert isinstance(run(bench, "ok 100")[0], Finding)
    assert child(bench) != first


def test_closing_ends_the_process_and_leaves_no_files(make: Make) -> None:
    bench = make()
    pid, folder = child(bench), bench._folder  # type: ignore[attr-defined]
    bench.close()
    assert not is_alive(pid)
    assert not folder.exists()


@pytest.mark.parametrize("deed", ["ok 100", "doze run", "hang run", "hang load"])
def test_stopping_takes_moments_even_if_a_model_hangs(make: Make, deed: str) -> None:
    bench = make(protocol=ENDLESS)
    start_s = time.monotonic()
    until = start_s + 1.0

    def keep_going() -> bool:
        return time.monotonic() < until

    assert bench.measure([Wanted(deed.encode())], b"ok 100", keep_going=keep_going, waiting=lambda _: None) is None
    assert time.monotonic() - start_s < 30
    assert run(bench, "ok 100", told=Told(stop_after=1)) is None


def test_what_killed_agents_leave_behind_is_removed(
    make: Make, mischief: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(mischief), prepend=os.pathsep)
    monkeypatch.setattr(tempfile, "tempdir", None)
    in_use = make()
    foreign = tmp_path / "leti-bench-of-somebody"
    foreign.mkdir()
    doomed = subprocess.Popen([sys.executable, "-c", PARENT, "idle"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert doomed.stdin is not None
    assert doomed.stdout is not None
    with doomed.stdin, doomed.stdout:
        doomed.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 3
        doomed.kill()
        doomed.wait()
    make()
    left = set(tmp_path.iterdir())
    assert len(left) == 3
    assert {in_use._folder, foreign} < left  # type: ignore[attr-defined]
    assert isinstance(run(in_use, "ok 100")[0], Finding)


PARENT = """
import sys
from leti.device_agents.bench import Wanted
from leti.device_agents.desktop.bench import DesktopBench
from leti.device_agents.timing import Protocol
bench = DesktopBench("mischief", protocol=Protocol(passes=100_000, retries=0))
print(bench._keeper._child._process.pid, flush=True)
if sys.argv[1] != "idle":
    bench.measure([Wanted(sys.argv[1].encode())], b"ok 100", keep_going=lambda: True, waiting=print)
sys.stdin.read()
"""


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has died and waits to be noticed does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
@pytest.mark.parametrize("deed", ["idle", "ok 100", "hang run", "hang load"])
def test_the_process_ends_with_its_parent(mischief: Path, monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(mischief), prepend=os.pathsep)
    command = [sys.executable, "-c", PARENT, deed]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid = int(parent.stdout.readline())
        time.sleep(1.0)
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 20
        while is_alive(pid):
            assert time.monotonic() < deadline, "the child outlives its parent"
            time.sleep(0.05)
