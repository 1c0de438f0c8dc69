"""Metrics for Prometheus: what this process did, and what the farm looks like, read when they are asked for."""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, Final, final

from typing_extensions import override

from leti.core.errors import LetiError
from leti.core.extras import needs
from leti.core.wire import PROTOCOL_VERSION
from leti.service.store import Store
from leti.service.store.metrics import FarmState

with needs("service"):
    from prometheus_client import (
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        ProcessCollector,
        disable_created_metrics,
        generate_latest,
    )
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

log = logging.getLogger(__name__)
disable_created_metrics()  # type: ignore[no-untyped-call]  # when each counter began: as many series again

FRESH_S: Final = 5.0
"""Seconds for which the farm is not read again."""

REQUEST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PREDICT_S: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


@final
class Metrics:
    """The metrics of one process that serves ``store``, in a registry of their own."""

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        among: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter(
            "leti_requests", "Requests by route and status.", ("method", "route", "status"), **among
        )
        self._request_s = Histogram(
            "leti_request_duration_seconds", "From the request's head to its answer's end.", ("method", "route"),
            buckets=REQUEST_S, **among,
        )  # fmt: skip
        self._counted: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # labels take longer than counting
        self.in_flight: Final = Gauge("leti_requests_in_flight", "Requests being handled.", **among)
        networks = Counter(
            "leti_networks_answered",
            "Networks whose latency was answered, measured or predicted.",
            ("source",),
            **among,
        )
        self._predict_s = Histogram(
            "leti_predict_duration_seconds", "One call of a predictor.", buckets=PREDICT_S, **among
        )
        self._problems = Counter("leti_problems", "Problems that were answered, by kind.", ("kind",), **among)
        build = Gauge("leti_build_info", "Which release serves.", ("version", "protocol"), **among)
        build.labels(metadata.version("leti"), str(PROTOCOL_VERSION)).set(1)
        self._answered = {source: networks.labels(source) for source in ("measured", "predicted")}
        ProcessCollector(registry=self._registry)
        self._registry.register(_Farm(store))

    def request(self, method: str, route: str, status: int, duration_s: float, facts: Mapping[str, Any]) -> None:
        """Count a request that has ended, with what was noted of it (:func:`leti.service.logs.note`)."""
        counted = self._counted.get((method, route, status))
        if counted is None:
            bound = self._requests.labels(method, route, str(status)), self._request_s.labels(method, route)
            counted = self._counted[method, route, status] = bound
        counted[0].inc()
        counted[1].observe(duration_s)
        for source in self._answered:
            if facts.get(source):
                self._answered[source].inc(facts[source])
        if "predict_s" in facts:
            self._predict_s.observe(facts["predict_s"])
        if "problem" in facts:
            self._problems.labels(facts["problem"]).inc()

    def text(self) -> bytes:
        """Return every metric in Prometheus's text format."""
        return generate_latest(self._registry)


@final
class _Farm(Collector):
    """Reads the farm from the database, at most every :data:`FRESH_S` seconds, and the pool of connections."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._state: FarmState | None = None
        self._read_at = -math.inf

    def describe(self) -> Iterable[Metric]:
        """Say nothing: names are known without a question to the database."""
        return ()

    @override
    def collect(self) -> Iterable[Metric]:
        """Yield the gauges; those of the farm are left out while the database cannot be read."""
        state = self._fresh()
        up = GaugeMetricFamily("leti_database_up", "Whether the database could be read.")
        up.add_metric((), state is not None)
        yield up
        yield from self._pool()
        if state is not None:
            yield from _jobs(state)
            yield from _devices(state)
            yield from _tasks(state)
            yield from _errors(state)

    def _fresh(self) -> FarmState | None:
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_S:
                try:
                    self._state = self._store.metrics.read()
                except LetiError as error:
                    log.error("the farm cannot be read: %s", error)
                    self._state = None
                self._read_at = time.monotonic()
            return self._state

    def _pool(self) -> Iterable[Metric]:
        pool = self._store.pool()
        yield GaugeMetricFamily("leti_database_connections_in_use", "Connections in use.", pool.checked_out)
        yield GaugeMetricFamily("leti_database_connections_kept", "Connections kept open at most.", pool.size)
        yield GaugeMetricFamily("leti_database_connections_overflow", "Connections opened beyond.", pool.overflow)
        yield CounterMetricFamily("leti_database_checkouts", "Times that a connection was asked for.", pool.waits)
        yield CounterMetricFamily("leti_database_wait_seconds", "Time that threads waited for one.", pool.waited_s)


def _jobs(state: FarmState) -> Iterable[Metric]:
    count = GaugeMetricFamily("leti_jobs", "Jobs of a platform by state.", labels=("platform", "state"))
    lent = GaugeMetricFamily("leti_leases", "Leases in force.", labels=("platform",))
    oldest = GaugeMetricFamily("leti_lease_oldest_age_seconds", "Age of the oldest lease.", labels=("platform",))
    overdue = GaugeMetricFamily(
        "leti_lease_overdue_seconds", "For how long a lease has run out, not taken back.", labels=("platform",)
    )
    for one in state.platforms:
        for name, jobs in one.jobs.items():
            count.add_metric((one.platform_id, name), jobs)
        lent.add_metric((one.platform_id,), one.leases)
        oldest.add_metric((one.platform_id,), one.oldest_lease_s)
        overdue.add_metric((one.platform_id,), one.overdue_s)
    return count, lent, oldest, overdue


def _devices(state: FarmState) -> Iterable[Metric]:
    silent = GaugeMetricFamily(
        "leti_device_silent_seconds", "Seconds since an agent last spoke for a device.", labels=("device",)
    )
    quarantined = GaugeMetricFamily("leti_device_quarantined", "Whether it is quarantined.", labels=("device",))
    for one in state.devices:
        silent.add_metric((one.device,), one.silent_s)
        quarantined.add_metric((one.device,), one.quarantined)
    return silent, quarantined


def _tasks(state: FarmState) -> Iterable[Metric]:
    labels = ("kind", "state")
    count = GaugeMetricFamily("leti_tasks", "Tasks of workers, such as trainings, by state.", labels=labels)
    oldest = GaugeMetricFamily(
        "leti_task_oldest_age_seconds", "Time since the oldest of them was asked for.", labels=labels
    )
    for one in state.tasks:
        count.add_metric((one.kind, one.state), one.count)
        oldest.add_metric((one.kind, one.state), one.oldest_s)
    present = sum(one.present for one in state.workers)
    return count, oldest, GaugeMetricFamily("leti_workers", "Workers that are there.", present)


def _errors(state: FarmState) -> Iterable[Metric]:
    labels = ("platform", "kind", "version")
    scored = GaugeMetricFamily(
        "leti_predictions_scored", "Recent measurements of networks that had been predicted.", labels=labels
    )
    median = GaugeMetricFamily(
        "leti_prediction_error_median", "Their median relative error |predicted / measured - 1|.", labels=labels
    )
    worst = GaugeMetricFamily("leti_prediction_error_p90", "The error that nine in ten keep below.", labels=labels)
    for one in state.scored:
        values = one.platform_id, one.kind, str(one.version)
        errors = sorted(one.errors)
        scored.add_metric(values, len(errors))
        median.add_metric(values, statistics.median(errors))
        worst.add_metric(values, errors[math.ceil(0.9 * len(errors)) - 1])
    return scored, median, worst
