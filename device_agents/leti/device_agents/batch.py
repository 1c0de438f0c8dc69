"""The jobs of one lease, measured together on one backend: from model files to results."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Final, final, get_args

from leti.core.device import Platform
from leti.core.errors import ArtifactError, LetiError, MeasurementFailed, TooLarge
from leti.core.measurement import Conditions, Measurement, Recipe
from leti.core.wire import Failure, FailureKind, Job, Lease, Result
from leti.device_agents.backend import Backend, Session
from leti.device_agents.desktop.host import Monitor, scheduled
from leti.device_agents.timing import Clocked, Protocol, Timing, measure

DAMAGED: Final = (ArtifactError, TooLarge)


@dataclass(frozen=True, slots=True)
class Batch:
    """A lease with the model files of its reference and its jobs (by job id), or why a file could not be had."""

    lease: Lease
    reference: bytes
    models: Mapping[int, bytes | LetiError]


@dataclass(frozen=True, slots=True)
class _Loaded:
    job: Job
    model: bytes
    session: Session


@final
class BatchRunner:
    """Measures batches by ``protocol`` on ``backend``, pinned as ``platform`` says."""

    def __init__(
        self,
        backend: Backend,
        platform: Platform,
        protocol: Protocol,
        *,
        order: random.Random,
        realtime: bool = False,
    ) -> None:
        self._backend = backend
        self._platform = platform
        self._protocol = protocol
        self._order = order
        self._realtime = realtime
        self._monitor = Monitor()
        self._agent_version = metadata.version("leti")

    def run(self, batch: Batch, *, keep_going: Callable[[], bool]) -> list[tuple[Job, Result]]:
        """Return each job with its result, in the order of the lease; failures only, if ``keep_going`` said no.

        Raises :class:`~leti.core.errors.MeasurementFailed` where the reference network fails.
        """
        results: dict[int, Result] = {}
        with ExitStack() as stack:
            realtime = stack.enter_context(scheduled(self._platform.affinity, realtime=self._realtime))
            reference = self._open(stack, batch.reference)
            loaded = self._load(stack, batch, results)
            before = self._monitor.conditions()
            started_at = datetime.now(UTC).isoformat(timespec="seconds")
            timings = measure(
                [Clocked(each.session, time.perf_counter_ns) for each in loaded],
                Clocked(reference, time.perf_counter_ns),
                self._protocol,
                order=self._order,
                keep_going=keep_going,
            )
            around = (before, self._monitor.conditions())
        for each, timing in zip(loaded, timings.items if timings else (), strict=timings is not None):
            if timing.failure is not None:
                results[each.job.id] = failed(batch.lease, each.job, timing.failure)
                continue
            recipe = self._recipe(each.model, started_at, around, realtime)
            results[each.job.id] = self._measured(batch.lease, each, timing, recipe)
        return [(job, results[job.id]) for job in batch.lease.jobs if job.id in results]

    def _load(self, stack: ExitStack, batch: Batch, results: dict[int, Result]) -> list[_Loaded]:
        """Load every model that can be; put the failures of the others among ``results``."""
        loaded: list[_Loaded] = []
        for job in batch.lease.jobs:
            model = batch.models[job.id]
            try:
                if isinstance(model, LetiError):
                    raise model
                loaded.append(_Loaded(job, model, self._open(stack, model)))
            except LetiError as error:
                results[job.id] = failed(batch.lease, job, error)
        return loaded

    def _open(self, stack: ExitStack, model: bytes) -> Session:
        session = self._backend.load(model)
        stack.callback(session.close)
        return session

    def _recipe(self, model: bytes, started_at: str, around: tuple[Conditions, Conditions], realtime: bool) -> Recipe:
        return Recipe(
            agent_version=self._agent_version,
            runtime_version=self._backend.runtime_version,
            model_sha256=hashlib.sha256(model).hexdigest(),
            protocol=(*self._protocol.pairs(), ("realtime", float(realtime))),
            before=around[0],
            after=around[1],
            measured_at=started_at,
        )

    def _measured(self, lease: Lease, loaded: _Loaded, timing: Timing, recipe: Recipe) -> Result:
        measurement = Measurement(
            fingerprint=loaded.job.fingerprint,
            platform_id=self._platform.id,
            reference=lease.reference,
            passes=timing.passes,
            recipe=recipe,
            init_ms=loaded.session.init_ms,
            first_inference_ms=loaded.session.first_inference_ms,
            noisy=timing.noisy,
        )
        return Result(lease.id, lease.token, loaded.job.id, loaded.job.repeat, measurement=measurement)


def failed(lease: Lease, job: Job, error: LetiError) -> Result:
    """Return the result of a job that ended in ``error``."""
    kind: FailureKind = "bad-model" if isinstance(error, DAMAGED) else "other"
    if isinstance(error, MeasurementFailed):
        stated = error.details.get("failure")
        kind = next((known for known in get_args(FailureKind) if known == stated), "other")
    return Result(lease.id, lease.token, job.id, job.repeat, failure=Failure(kind, str(error)[:500]))
