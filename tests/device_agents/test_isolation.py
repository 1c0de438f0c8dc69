"""Models that crash, hang, starve and lie: each costs its own outcome alone."""

import pytest
from desktop_benches import ENDLESS, QUICK, Make, await_end, is_failure, linux, run
from mischief import MEGABYTE

from leti.core.errors import DeviceFault, MeasurementFailed
from leti.device_agents.bench import Finding

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
    await_end(int(str(failure).partition("left behind: ")[2].split()[0]))


STANDSTILLS = {"hang load": "loading", "doze run": "running", "hang run": "running", "hang-up run": "running"}


@pytest.mark.parametrize("deed", STANDSTILLS)
def test_a_model_that_stands_still_costs_its_own_outcome_alone(make: Make, deed: str) -> None:
    failure, last = run(make(invoke_limit_s=1.5, load_limit_s=3.0), deed, "ok 300")
    assert is_failure(failure, "timeout", STANDSTILLS[deed], "did not come to an end within")
    assert isinstance(last, Finding)


def test_the_start_of_the_process_is_no_loading(make: Make) -> None:
    assert make(load_limit_s=0.01).platform.runtime == "mischief"


@linux
@pytest.mark.parametrize(
    "deed", ["allocate load", "allocate run", "allocate-in-c run", "share run", "take 200", "demand 120"]
)
def test_a_model_that_takes_too_much_memory_costs_its_own_outcome_alone(make: Make, deed: str) -> None:
    failure, last = run(make(memory_limit_bytes=96 * MEGABYTE), deed, "ok 300")
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
