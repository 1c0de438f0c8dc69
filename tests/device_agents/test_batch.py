"""From a lease to a bench, and from its outcomes to results."""

import random
from collections.abc import Mapping, Sequence

import pytest

from leti.core.codec import from_json, to_json
from leti.core.device import Device, ModelFormat, Platform
from leti.core.errors import ArtifactError, DeviceFault, LetiError, MeasurementFailed, NotFound, TooLarge
from leti.core.farm import Failure, Job, Lease, Result
from leti.core.measurement import OperatorTime, Pass, ProcessSummary, Recipe
from leti.device_agents.batch import Batch, BatchRunner, failed
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted

PLATFORM = Platform(Device("box", "desktop", "chip", 4), "runtime", "1.0")
REFERENCE = "f" * 64


class TableBench(Bench):
    """Knows beforehand what becomes of each model file."""

    platform = PLATFORM
    model_format: ModelFormat = "tflite"

    def __init__(self, outcomes: Mapping[bytes, Outcome], fault: MeasurementFailed | None = None) -> None:
        self.outcomes = outcomes
        self.fault = fault
        self.asked: list[Wanted] = []

    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        self.asked += wanted
        if self.fault is not None:
            raise self.fault
        return tuple(self.outcomes[each.model] for each in wanted) if keep_going() else None

    def effort(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        pass


def finding(seed: int) -> Finding:
    draw = random.Random(seed)
    passes = tuple(Pass((draw.uniform(1, 2),), (draw.uniform(1, 2),), draw.random() < 0.5) for _ in range(3))
    return Finding(
        passes=passes,
        noisy=draw.random() < 0.5,
        recipe=Recipe("1", "2", f"{seed:064x}", facts=(("kernel", "6"),)),
        grain="process",
        init_ms=draw.random(),
        first_inference_ms=draw.random(),
        peak_memory_bytes=draw.randrange(10**9),
        processes=tuple(ProcessSummary(50, 2.0, 1.0, 1.5, 3.0, 0.1) for _ in range(3)),
        operator_times=(OperatorTime("conv", "xnnpack", (10.0, 11.0)),),
    )


def lease(*profiles: bool) -> Lease:
    jobs = tuple(Job(10 + i, f"{i:064x}", i % 2, 1, profile) for i, profile in enumerate(profiles))
    return Lease(5, 7, PLATFORM.id, "agent", 60.0, REFERENCE, jobs)


def run(bench: Bench, batch: Batch, *, going: bool = True) -> list[tuple[Job, Result]]:
    return BatchRunner(bench).run(batch, keep_going=lambda: going, waiting=lambda _: None)


def test_everything_that_a_bench_finds_is_in_the_measurement() -> None:
    found = {b"a": finding(1), b"b": finding(2)}
    lent = lease(False, True)
    bench = TableBench(found)
    results = run(bench, Batch(lent, b"r", {10: b"a", 11: b"b"}))
    assert [job for job, _ in results] == list(lent.jobs)
    assert bench.asked == [Wanted(b"a"), Wanted(b"b", profile=True)]
    for (job, result), (_, expected) in zip(results, found.items(), strict=True):
        assert (result.lease_id, result.token, result.job_id, result.repeat) == (5, 7, job.id, job.repeat)
        assert result.failure is None
        measurement = result.measurement
        assert measurement is not None
        assert (measurement.fingerprint, measurement.reference) == (job.fingerprint, REFERENCE)
        assert measurement.platform_id == PLATFORM.id
        for name in Finding.__dataclass_fields__:
            assert getattr(measurement, name) == getattr(expected, name), name
        assert from_json(Result, to_json(result)) == result


FAILURES: list[tuple[LetiError, str]] = [
    (MeasurementFailed("died", failure="crashed"), "crashed"),
    (MeasurementFailed("slow", failure="timeout"), "timeout"),
    (MeasurementFailed("fat", failure="out-of-memory"), "out-of-memory"),
    (MeasurementFailed("odd", failure="unsupported"), "unsupported"),
    (MeasurementFailed("half", failure="partial-delegation"), "partial-delegation"),
    (MeasurementFailed("no model", failure="bad-model"), "bad-model"),
    (MeasurementFailed("who knows", failure="never heard of"), "other"),
    (MeasurementFailed("who knows"), "other"),
]


@pytest.mark.parametrize(("error", "kind"), FAILURES)
def test_a_failure_keeps_its_kind(error: MeasurementFailed, kind: str) -> None:
    results = run(TableBench({b"a": error, b"b": finding(1)}), Batch(lease(False, False), b"r", {10: b"a", 11: b"b"}))
    assert results[0][1].failure == Failure(kind, str(error))  # type: ignore[arg-type]
    assert results[1][1].measurement is not None


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ArtifactError("cut off"), "bad-model"), (TooLarge("900 GB"), "bad-model"), (NotFound("gone"), "other")],
)
def test_a_model_file_that_was_not_had_is_a_failure_and_the_bench_does_not_see_it(error: LetiError, kind: str) -> None:
    bench = TableBench({b"b": finding(1)})
    results = run(bench, Batch(lease(False, False), b"r", {10: error, 11: b"b"}))
    assert results[0][1].failure == Failure(kind, str(error))  # type: ignore[arg-type]
    assert results[1][1].measurement is not None
    assert bench.asked == [Wanted(b"b")]


def test_a_bench_is_left_alone_where_no_file_was_had() -> None:
    bench = TableBench({}, fault=MeasurementFailed("must not be asked"))
    results = run(bench, Batch(lease(False), b"r", {10: ArtifactError("cut off")}))
    assert [result.failure is not None for _, result in results] == [True]


def test_what_was_stopped_has_no_result() -> None:
    bench = TableBench({b"b": finding(1)})
    results = run(bench, Batch(lease(False, False), b"r", {10: ArtifactError("cut off"), 11: b"b"}), going=False)
    assert [job.id for job, _ in results] == [10]


@pytest.mark.parametrize("fault", [DeviceFault("hot", failure="too-hot"), MeasurementFailed("reference")])
def test_what_a_bench_raises_passes_through(fault: MeasurementFailed) -> None:
    with pytest.raises(type(fault)) as caught:
        run(TableBench({}, fault), Batch(lease(False), b"r", {10: b"a"}))
    assert caught.value is fault


def test_a_long_message_is_cut() -> None:
    (result,) = run(TableBench({b"a": MeasurementFailed("x" * 9999)}), Batch(lease(False), b"r", {10: b"a"}))
    assert result[1].failure is not None
    assert len(result[1].failure.message) == 2000


@pytest.mark.parametrize("details", [{}, {"failure": "other"}, {"failure": "crashed"}])
def test_a_fault_of_the_device_is_never_the_networks(details: dict[str, str]) -> None:
    lease = Lease(1, 1, PLATFORM.id, "agent", 60.0, REFERENCE, (Job(1, "a" * 64, 0, 1),))
    failure = failed(lease, lease.jobs[0], DeviceFault("it refuses", **details)).failure
    assert failure is not None
    assert failure.kind == "device-gone"
    known = failed(lease, lease.jobs[0], DeviceFault("it is hot", failure="too-hot")).failure
    assert known is not None
    assert known.kind == "too-hot"
