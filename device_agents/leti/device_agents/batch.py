"""The jobs of one lease, measured together on one bench: from model files to results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final, get_args

from leti.core.errors import ArtifactError, DeviceFault, LetiError, MeasurementFailed, TooLarge
from leti.core.farm import DEVICE_FAULTS, Failure, FailureKind, Job, Lease, Result
from leti.core.measurement import Measurement
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted

DAMAGED: Final = (ArtifactError, TooLarge)
"""What is raised for model files that did not arrive as they were."""

MOST_MESSAGE: Final = 2000
"""Characters of a failure's message that travel."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A lease with the model files of its reference and its jobs (by job id), or why a file could not be had."""

    lease: Lease
    reference: bytes
    models: Mapping[int, bytes | LetiError]


@final
class BatchRunner:
    """Has batches measured on ``bench``."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def run(self, batch: Batch, *, keep_going: KeepGoing, waiting: Waiting) -> list[tuple[Job, Result]]:
        """Return each job with its result, in the order of the lease.

        Only jobs whose model file could not be had are among them if ``keep_going`` said no. Raises
        :class:`~leti.core.errors.DeviceFault` where the device is at fault, and
        :class:`~leti.core.errors.MeasurementFailed` where the reference network fails.
        """
        results: dict[int, Result] = {}
        jobs: list[Job] = []
        wanted: list[Wanted] = []
        for job in batch.lease.jobs:
            model = batch.models[job.id]
            if isinstance(model, LetiError):
                results[job.id] = failed(batch.lease, job, model)
            else:
                jobs.append(job)
                wanted.append(Wanted(model, job.profile))
        outcomes: tuple[Outcome, ...] | None = ()
        if wanted:
            outcomes = self._bench.measure(wanted, batch.reference, keep_going=keep_going, waiting=waiting)
        for job, outcome in zip(jobs, outcomes or (), strict=outcomes is not None):
            if isinstance(outcome, Finding):
                results[job.id] = measured(batch.lease, job, self._bench.platform.id, outcome)
            else:
                results[job.id] = failed(batch.lease, job, outcome)
        return [(job, results[job.id]) for job in batch.lease.jobs if job.id in results]


def measurement_of(finding: Finding, platform_id: str, reference: str, fingerprint: str) -> Measurement:
    """Return what a bench found of the network ``fingerprint`` as a measurement beside that of ``reference``."""
    return Measurement(
        fingerprint=fingerprint,
        platform_id=platform_id,
        reference=reference,
        passes=finding.passes,
        recipe=finding.recipe,
        grain=finding.grain,
        init_ms=finding.init_ms,
        first_inference_ms=finding.first_inference_ms,
        peak_memory_bytes=finding.peak_memory_bytes,
        noisy=finding.noisy,
        processes=finding.processes,
        operator_times=finding.operator_times,
    )


def measured(lease: Lease, job: Job, platform_id: str, finding: Finding) -> Result:
    """Return the result of a job that was measured."""
    measurement = measurement_of(finding, platform_id, lease.reference, job.fingerprint)
    return Result(lease.id, lease.token, job.id, job.repeat, measurement=measurement)


def failed(lease: Lease, job: Job, error: LetiError) -> Result:
    """Return the result of a job that ended in ``error``."""
    kind: FailureKind = "bad-model" if isinstance(error, DAMAGED) else "other"
    if isinstance(error, MeasurementFailed):
        stated = error.details.get("failure")
        kind = next((known for known in get_args(FailureKind) if known == stated), "other")
    if isinstance(error, DeviceFault) and kind not in DEVICE_FAULTS:
        kind = "device-gone"  # whatever it is that the device has, the network is not to blame
    return Result(lease.id, lease.token, job.id, job.repeat, failure=Failure(kind, str(error)[:MOST_MESSAGE]))
