"""The agent of one device: lease jobs, measure them, keep the results until the service has them.

One agent serves all platforms of its device in turn, never two at a time: they share its processor. Several devices at
one host have an agent each (:mod:`leti.device_agents.fleet`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, final

from leti.client import Backoff, LatencyClient
from leti.core.device import Device
from leti.core.errors import (
    DeviceFault,
    InvalidInput,
    LetiError,
    MeasurementFailed,
    NotFound,
    StorageError,
    VersionMismatch,
)
from leti.core.farm import Job, Lease, LeaseRequest, Result
from leti.device_agents.batch import Batch, failed
from leti.device_agents.bench import Bench
from leti.device_agents.heart import Heart
from leti.device_agents.models import Models
from leti.device_agents.outbox import Outbox, away, temporary
from leti.device_agents.reporter import Reporter
from leti.device_agents.rota import Rota, Stand

T = TypeVar("T")

log = logging.getLogger(__name__)

PATIENCE: Final = Backoff(first_s=0.5, most_s=15.0)
"""The pauses between tries to reach the service."""

DEVICE_PATIENCE: Final = Backoff(first_s=1.0, most_s=60.0)
"""The pauses between tries to reach the device."""

HELD: Final = 5
"""How many times ``poll_s`` an agent of one platform waits for jobs at the service: so long it may take to stop."""

MOST_TRIES: Final = 6
"""Failures in a row, of a device or a reference network, that end an agent which is to end by itself."""

Report = Callable[[Job, Result], None]
"""Called with each job that is finished, and what came of it, once it is safe on disk."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What an agent did: jobs measured (of them noisy), failed, given back because the device was at fault.

    ``refused`` are results that the service would not take.
    """

    measured: int = 0
    noisy: int = 0
    failed: int = 0
    refused: int = 0
    given_back: int = 0

    def __str__(self) -> str:
        """Return the numbers of jobs."""
        back = f"; {self.given_back} given back" if self.given_back else ""
        refused = f"; {self.refused} results refused by the service, and set aside in the spool" if self.refused else ""
        return f"{self.measured} measured ({self.noisy} noisy) and {self.failed} failed{back}{refused}"

    def __add__(self, other: Summary) -> Summary:
        """Return what two agents did together."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in Summary.__dataclass_fields__)
        return Summary(*(mine + yours for mine, yours in pairs))


@final
class Agent:
    """Measures what the service at the other end of ``client`` asks of the platforms of ``benches``, one device's all.

    ``max_jobs`` networks are leased and measured together. Results that the service has not acknowledged wait in the
    folder ``spool``, which no other agent uses. ``poll_s`` is the wait between questions while the queue is empty;
    an agent of one platform asks less often, and has its question held until there are jobs.
    Raises :class:`~leti.core.errors.InvalidInput` for benches of several devices, and for one platform twice.
    """

    def __init__(
        self,
        client: LatencyClient,
        benches: Sequence[Bench],
        *,
        spool: Path,
        name: str = "",
        max_jobs: int = 8,
        poll_s: float = 1.0,
        idle_s: float = 3.0,
        on_result: Report | None = None,
        backoff: Backoff = PATIENCE,
        device_backoff: Backoff = DEVICE_PATIENCE,
    ) -> None:
        if not 1 <= max_jobs <= 64:
            raise InvalidInput(f"must be from 1 to 64, not {max_jobs}", field="max_jobs")
        self.device = _only_device(benches)
        self.name = name or self.device.name
        self._client = client
        self._outbox = Outbox(client, spool)
        self._models = Models(client)
        self._reporter = Reporter(client, self.device.name)
        self._rota = Rota(benches, poll_s=poll_s, clock=time.monotonic)
        self._max_jobs = max_jobs
        self._held_s = poll_s * HELD
        self._idle_s = idle_s
        self._on_result = on_result
        self._stop = threading.Event()
        self._backoff = backoff
        self._device_backoff = device_backoff
        self._most_tries = float("inf")
        self._summary = Summary()

    def stop(self) -> None:
        """Ask the agent to end soon; may be called from any thread and from a signal handler."""
        self._stop.set()

    def run(self, stop: threading.Event | None = None, *, until_idle: bool = False) -> Summary:
        """Work until ``stop`` is set, or until the queue stays empty for ``idle_s``; return what was done.

        A batch that is being measured when the agent is stopped is given back to the queue. While the service cannot
        be reached, results are kept and everything is tried again; a disk that is full is waited for; while the device
        cannot measure, its jobs are given back and it is tried again. Raises
        :class:`~leti.core.errors.VersionMismatch` where agent and service cannot understand each other, what the
        service says where it will have none of the platforms, and, ``until_idle``, the failure that keeps the device
        from measuring.
        """
        self._stop = self._stop if stop is None else stop
        self._most_tries = MOST_TRIES if until_idle else float("inf")
        self._register()
        if self._going():
            self._reporter.tell("available")
        idle_at_s = self._idle_at(until_idle)
        while self._going():
            stand = self._rota.next()
            if stand is None:
                self._stop.wait(self._rota.wait_s())
                continue
            wait_s = self._wait_s(idle_at_s)
            next_s = time.monotonic() + wait_s if wait_s else None
            lease = self._patiently(lambda stand=stand, wait_s=wait_s: self._next_lease(stand, wait_s))  # type: ignore[misc]
            if lease is not None:
                self._work(stand, lease)
                idle_at_s = self._idle_at(until_idle)
                continue
            self._reporter.remind()  # an answer without jobs does not say why
            self._rota.empty(stand, by_s=idle_at_s, next_s=next_s)
            if self._rota.all_empty_since(idle_at_s):
                break
        self._outbox.flush_if_possible()
        return self._done()

    def _idle_at(self, until_idle: bool) -> float:
        return time.monotonic() + self._idle_s if until_idle else float("inf")

    def _done(self) -> Summary:
        return self._summary + Summary(refused=self._outbox.refused)

    def _going(self) -> bool:
        return not self._stop.is_set()

    def _register(self) -> None:
        """Make the platforms known; leave out those that the service will not have, unless that leaves none."""
        for stand in self._rota.stands():
            try:
                self._patiently(lambda stand=stand: self._client.register_platform(stand.platform))  # type: ignore[misc]
            except VersionMismatch:
                raise
            except LetiError as error:
                if len(self._rota.stands()) == 1:
                    raise
                log.warning("%s is left out: %s", stand.platform.id, error)
                self._rota.drop(stand)

    def _wait_s(self, idle_at_s: float) -> float:
        """Return how long the service may hold a question: not where other platforms would be kept waiting by it."""
        if len(self._rota.stands()) > 1:
            return 0.0
        return max(0.0, min(self._held_s, idle_at_s - time.monotonic()))

    def _next_lease(self, stand: Stand, wait_s: float) -> Lease | None:
        """Hand in what waits, then ask for jobs, and wait for some at the service."""
        self._outbox.flush()
        self._reporter.settle()
        request = LeaseRequest(self.name, stand.platform.id, self._max_jobs)
        try:
            return self._client.lease(request, wait_s=wait_s)
        except NotFound:
            # The service has another database than when this agent began.
            self._client.register_platform(stand.platform)
            return self._client.lease(request, wait_s=wait_s)

    def _work(self, stand: Stand, lease: Lease) -> None:
        """Measure the jobs of a lease, and end it. Return once the device can measure again."""
        try:
            gone = self._serve(stand, lease)
        except (LetiError, KeyboardInterrupt):
            self._end(lease)
            raise
        # Any other error is a mistake of LETI's own, over one of these jobs perhaps. The lease is left to run out then:
        # the service counts it, and sets aside what ends its agents again and again.
        self._end(lease)
        if gone is not None:
            self._await_device(stand, *gone)

    def _serve(self, stand: Stand, lease: Lease) -> tuple[bytes, DeviceFault] | None:
        """Measure the jobs of a lease; failures are results too. Return the reference and the device's fault if any."""
        reference = b""
        try:
            with Heart(self._client, lease) as heart:
                batch = self._patiently(lambda: self._batch(stand, lease))
                if batch is not None and not heart.lost.is_set():
                    reference = batch.reference
                    self._measure(stand, batch, heart)
                if stand.failures:
                    self._reporter.tell("available")
                self._rota.worked(stand)
        except DeviceFault as fault:
            self._give_back(lease, fault)
            self._rota.worked(stand)
            return reference, fault
        except MeasurementFailed as error:
            self._cannot(stand, error)
        return None

    def _measure(self, stand: Stand, batch: Batch, heart: Heart) -> None:
        """Measure until the agent is stopped, or the lease is known to be lost: what comes after that is late."""

        def going() -> bool:
            return self._going() and not heart.lost.is_set()

        for job, result in stand.runner.run(batch, keep_going=going, waiting=self._reporter.waiting):
            self._keep(job, result)

    def _batch(self, stand: Stand, lease: Lease) -> Batch:
        """Download the model files; raise what the service says where the reference network cannot be had."""
        model_format = stand.bench.model_format
        try:
            reference = self._models.get(lease.reference, model_format)
        except LetiError as error:
            if temporary(error) or isinstance(error, VersionMismatch):
                raise
            raise MeasurementFailed(f"its model file cannot be had: {error}", failure="other") from error
        models: dict[int, bytes | LetiError] = {}
        for job in lease.jobs:
            try:
                models[job.id] = self._models.get(job.fingerprint, model_format)
            except LetiError as error:
                if away(error) or isinstance(error, VersionMismatch):
                    raise
                models[job.id] = error
        return Batch(lease, reference, models)

    def _keep(self, job: Job, result: Result) -> None:
        if not self._put(result):
            return
        if result.measurement is None:
            self._summary += Summary(failed=1)
        else:
            self._summary += Summary(measured=1, noisy=int(result.measurement.noisy))
        if self._on_result is not None:
            self._on_result(job, result)

    def _give_back(self, lease: Lease, fault: DeviceFault) -> None:
        """Report the device's fault for every job of the lease: the service queues them again."""
        for job in lease.jobs:
            self._put(failed(lease, job, fault))
        self._summary += Summary(given_back=len(lease.jobs))

    def _put(self, result: Result) -> bool:
        """Write a result to the disk, once it has room; return false if the agent was stopped before."""
        for delay_s in self._backoff.delays():
            try:
                self._outbox.put(result)
            except StorageError as error:
                log.warning("the result of job %d waits for the disk: %s", result.job_id, error)
                if self._stop.wait(delay_s):
                    break
            else:
                return True
        return False

    def _cannot(self, stand: Stand, error: LetiError) -> None:
        """Leave a platform alone for a while whose reference network cannot be measured: its jobs stay queued."""
        self._rota.failed(stand)
        reason = f"{stand.platform.id} cannot be measured: the reference network fails: {error}"
        log.error("%s", reason)
        self._reporter.tell("available", reason)
        if stand.failures >= self._most_tries:
            raise error

    def _await_device(self, stand: Stand, reference: bytes, fault: DeviceFault) -> None:
        """Try the device with the reference network alone, jobs untouched, until it can measure again."""
        tries = 1
        for delay_s in self._device_backoff.delays():
            kind = fault.details.get("failure")
            log.warning("%s cannot measure, tried %d times: %s", self.device.name, tries, fault)
            self._reporter.tell("cooling" if kind == "too-hot" else "gone", f"{kind}: {fault}")
            self._outbox.flush_if_possible()
            if tries >= self._most_tries:
                raise fault
            if self._stop.wait(delay_s):
                return
            try:
                stand.bench.measure((), reference, keep_going=self._going, waiting=self._reporter.waiting)
            except DeviceFault as again:
                fault, tries = again, tries + 1
            except MeasurementFailed:
                break  # the device is there; the next lease finds out what becomes of the reference network
            else:
                break
        self._reporter.tell("available")

    def _end(self, lease: Lease) -> None:
        """Hand in what was found, then give the lease back.

        Not before: results that still wait would be late, and their jobs measured again.
        """
        if not self._outbox.flush_if_possible():
            return
        try:
            self._client.release(lease.id, lease.token)
        except LetiError as error:
            # It runs out by itself; and a lease whose jobs are all done may be gone already.
            log.info("lease %d not released: %s", lease.id, error)

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """Return what ``call`` returns, once the service can be reached; ``None`` if stopped before."""
        for delay_s in self._backoff.delays():
            if self._stop.is_set():
                return None
            try:
                return call()
            except LetiError as error:
                if not temporary(error):
                    raise
                log.warning("waiting for the service: %s", error)
            self._stop.wait(delay_s)
        return None


def _only_device(benches: Sequence[Bench]) -> Device:
    """Return the device of all benches."""
    if not benches:
        raise InvalidInput("must hold a bench", field="benches")
    device = benches[0].platform.device
    seen: set[str] = set()
    for i, bench in enumerate(benches):
        if bench.platform.device != device:
            raise InvalidInput("must all be of one device", field=f"benches[{i}]", remedy="an agent for each device")
        if bench.platform.id in seen:
            raise InvalidInput(f"{bench.platform.id} is there twice", field=f"benches[{i}]")
        seen.add(bench.platform.id)
    return device
