"""The agent: lease jobs, measure them, keep the results until the service has them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar, final

from leti.client import Backoff, LatencyClient
from leti.core.errors import Conflict, InvalidInput, LetiError, NotFound, StorageError, Unavailable
from leti.core.wire import Job, Lease, LeaseRequest, Result
from leti.device_agents.batch import Batch, BatchRunner
from leti.device_agents.bench import Bench
from leti.device_agents.heart import Heart
from leti.device_agents.models import Models
from leti.device_agents.spool import Spool

T = TypeVar("T")

log = logging.getLogger(__name__)

REFUSALS: Final = (InvalidInput, NotFound, Conflict)
"""Answers to a result that will not change when it is posted again."""

PATIENCE: Final = Backoff(first_s=0.5, most_s=15.0)

MOST_FAULTS: Final = 5
"""Times that the service may fail inside itself over one result before that result is set aside."""

Report = Callable[[Job, Result], None]
"""Called with each job that is finished, and what came of it, once it is safe on disk."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What an agent did: jobs measured (of them noisy), jobs failed, results that the service would not take."""

    measured: int = 0
    noisy: int = 0
    failed: int = 0
    refused: int = 0

    def __str__(self) -> str:
        """Return the numbers of jobs."""
        return f"{self.measured} measured ({self.noisy} noisy) and {self.failed} failed"


@final
class Agent:
    """Measures what the service at the other end of ``client`` asks of the platform of ``bench``.

    ``max_jobs`` networks are leased and measured together. Results that the service has not acknowledged wait in the
    folder ``spool``. ``poll_s`` is the wait between questions while the queue is empty.
    """

    def __init__(
        self,
        client: LatencyClient,
        bench: Bench,
        *,
        spool: Path,
        name: str = "",
        max_jobs: int = 8,
        poll_s: float = 1.0,
        idle_s: float = 3.0,
        on_result: Report | None = None,
        backoff: Backoff = PATIENCE,
    ) -> None:
        if not 1 <= max_jobs <= 64:
            raise InvalidInput(f"must be from 1 to 64, not {max_jobs}", field="max_jobs")
        self.name = name or bench.platform.device.name
        self.platform = bench.platform
        self._client = client
        self._spool = Spool(spool)
        self._models = Models(client)
        self._runner = BatchRunner(bench)
        self._max_jobs = max_jobs
        self._poll_s = poll_s
        self._idle_s = idle_s
        self._on_result = on_result
        self._stop = threading.Event()
        self._backoff = backoff
        self._summary = Summary()
        self._faults: Counter[Path] = Counter()

    def stop(self) -> None:
        """Ask the agent to end soon; may be called from any thread and from a signal handler."""
        self._stop.set()

    def run(self, stop: threading.Event | None = None, *, until_idle: bool = False) -> Summary:
        """Work until ``stop`` is set, or until the queue stays empty for ``idle_s``; return what was done.

        A batch that is being measured when the agent is stopped is given back to the queue. While the service cannot
        be reached, results are kept and everything is tried again. Raises
        :class:`~leti.core.errors.VersionMismatch` where agent and service cannot understand each other.
        """
        self._stop = self._stop if stop is None else stop
        idle_after_s = self._idle_s if until_idle else float("inf")
        self._patiently(lambda: self._client.register_platform(self.platform))
        idle_since = time.monotonic()
        while not self._stop.is_set():
            lease = self._patiently(self._next_lease)
            if lease is not None:
                self._work(lease)
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= idle_after_s:
                break
            else:
                self._stop.wait(min(self._poll_s, idle_after_s))
        self._flush_if_possible()
        return self._summary

    def _going(self) -> bool:
        return not self._stop.is_set()

    def _next_lease(self) -> Lease | None:
        """Hand in what waits, then ask for jobs."""
        self._flush()
        request = LeaseRequest(self.name, self.platform.id, self._max_jobs)
        try:
            return self._client.lease(request)
        except NotFound:
            # The service has another database than when this agent began.
            self._client.register_platform(self.platform)
            return self._client.lease(request)

    def _work(self, lease: Lease) -> None:
        """Measure the jobs of a lease; failures are results too."""
        try:
            with Heart(self._client, lease) as heart:
                batch = self._patiently(lambda: self._batch(lease))
                if batch is not None and not heart.lost.is_set():
                    for job, result in self._runner.run(batch, keep_going=self._going, waiting=log.info):
                        self._keep(job, result)
                self._flush_if_possible()
        finally:
            self._release(lease)

    def _batch(self, lease: Lease) -> Batch:
        reference = self._models.get(lease.reference)
        models: dict[int, bytes | LetiError] = {}
        for job in lease.jobs:
            try:
                models[job.id] = self._models.get(job.fingerprint)
            except LetiError as error:
                if away(error):
                    raise
                models[job.id] = error
        return Batch(lease, reference, models)

    def _keep(self, job: Job, result: Result) -> None:
        self._spool.put(result)
        done = self._summary
        if result.measurement is None:
            self._summary = replace(done, failed=done.failed + 1)
        else:
            self._summary = replace(done, measured=done.measured + 1, noisy=done.noisy + result.measurement.noisy)
        if self._on_result is not None:
            self._on_result(job, result)

    def _flush(self) -> None:
        """Hand in every result that waits, in order; raise where the service cannot be reached."""
        fault: LetiError | None = None
        for entry in self._spool.pending():
            try:
                receipt = self._client.post_result(entry.result)
            except LetiError as error:
                if not isinstance(error, REFUSALS) and not is_fault(error):
                    raise
                self._faults[entry.path] += 1
                if is_fault(error) and self._faults[entry.path] < MOST_FAULTS:
                    fault = error
                    continue
                log.error("result of job %d is refused: %s", entry.result.job_id, error)
                self._spool.refused(entry, error)
                self._summary = replace(self._summary, refused=self._summary.refused + 1)
            else:
                log.info("result of job %d: %s", entry.result.job_id, receipt.status)
                self._spool.acknowledged(entry)
        if fault is not None:
            raise fault

    def _flush_if_possible(self) -> None:
        try:
            self._flush()
        except LetiError as error:
            if not temporary(error):
                raise
            log.warning("%d results wait: %s", len(self._spool), error)

    def _release(self, lease: Lease) -> None:
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


def away(error: LetiError) -> bool:
    """Return whether the service, or its database, cannot be reached now."""
    return isinstance(error, Unavailable | StorageError)


def is_fault(error: LetiError) -> bool:
    """Return whether the service failed inside itself, over what may be this one request."""
    return type(error) is LetiError


def temporary(error: LetiError) -> bool:
    """Return whether the same request may succeed later."""
    return away(error) or is_fault(error)
