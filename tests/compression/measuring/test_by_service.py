"""Networks behind a real service, beside the baseline: on a machine that drifts as it is told, and on a real one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

for module, extra in (("fastapi", "service"), ("flatbuffers", "export")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.client import Backoff, LatencyClient
from leti.compression.measuring.by_service import ServiceMeter
from leti.compression.measuring.meter import Reading, Subject
from leti.core.device import Device, ModelPrecision, Platform
from leti.core.errors import InvalidInput, MeasurementFailed
from leti.core.farm import Failure, LeaseRequest, Result
from leti.core.graph import Graph, TensorType
from leti.core.measurement import Measurement, Pass, Recipe
from leti.generator.builder import GraphBuilder
from leti.generator.precision import quantize
from leti.service.server import running
from leti.service.settings import Settings

AT_ONCE = Backoff(0.0, 0.0)
RECIPE = Recipe("0.1.0", "2.3.0", "ab" * 32)
REFERENCE_MS = 1.25


def network(channels: int, layers: int = 2, size: int = 8) -> Graph:
    builder = GraphBuilder(TensorType((1, size, size, 3), "float32"))
    value = 0
    for _ in range(layers):
        value = builder.relu(builder.conv(value, channels, 3))
    return builder.graph(builder.fully_connected(builder.global_mean(value), 10))


@dataclass
class Machine:
    """An agent of one platform whose networks take as long as their MACs say, times what the machine has in a lease."""

    client: LatencyClient
    platform: Platform
    drifts: Sequence[float] = (1.0, 1.4, 0.8)
    max_jobs: int = 8
    broken: str = ""
    noisy_leases: frozenset[int] = frozenset()
    leases: int = 0

    def work(self, leases: int = 1_000) -> None:
        for _ in range(leases):
            lease = self.client.lease(LeaseRequest("agent", self.platform.id, self.max_jobs))
            if lease is None:
                return
            drift = self.drifts[self.leases % len(self.drifts)]
            noisy = self.leases in self.noisy_leases
            self.leases += 1
            for job in lease.jobs:
                if job.fingerprint == self.broken:
                    failure = Failure("unsupported", "it has no kernel for this")
                    self.client.post_result(Result(lease.id, lease.token, job.id, job.repeat, failure=failure))
                    continue
                taken_ms = REFERENCE_MS * drift * self.client.network(job.fingerprint).macs / 1e5
                taken_ms *= 3 if noisy else 1
                passes = tuple(Pass((taken_ms * (1 + 0.01 * i),), (REFERENCE_MS,)) for i in (-1, 0, 1))
                made = Measurement(
                    job.fingerprint, self.platform.id, lease.reference, passes, RECIPE, noisy=noisy and job.id % 2 == 0
                )
                self.client.post_result(Result(lease.id, lease.token, job.id, job.repeat, made))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LatencyClient]:
    settings = Settings(tmp_path_factory.mktemp("service"), auth=False)
    with running(settings) as url, LatencyClient(url) as client:
        yield client


Make = Callable[..., tuple[Machine, dict[ModelPrecision, str]]]


@pytest.fixture
def machine(client: LatencyClient, request: pytest.FixtureRequest) -> Make:
    """Add a machine of the test's own, and say which platform runs its precision."""

    def make(precision: ModelPrecision = "float32", **options: object) -> tuple[Machine, dict[ModelPrecision, str]]:
        device = Device(request.node.name[:60], "desktop", "soc", 2)
        platform = Platform(device, "litert", "2.3.0", "xnnpack", model_precision=precision)
        client.register_platform(platform)
        return Machine(client, platform, **options), {precision: platform.id}  # type: ignore[arg-type]

    return make


def measure(machine: Machine, meter: ServiceMeter, baseline: Graph, *graphs: Graph) -> tuple[Reading, ...]:
    subjects = [Subject(graph) for graph in graphs]
    return meter.measure(Subject(baseline), subjects, progress=lambda done, total: machine.work())


BASELINE = network(32)
SMALLER = tuple(network(channels) for channels in range(8, 26, 2))


def test_ratios_hold_although_the_machine_drifts_from_lease_to_lease(client: LatencyClient, machine: Make) -> None:
    one, ids = machine()
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        one.work(1)

    meter = ServiceMeter(client, ids, "a search", polls=AT_ONCE)
    first, *others = meter.measure(Subject(BASELINE), [Subject(graph) for graph in SMALLER], progress=progress)
    (campaign,) = client.campaigns(ids["float32"])
    assert (campaign.networks, campaign.baseline) == (10, BASELINE.fingerprint())
    assert one.leases == 3  # each network twice, 7 in a lease
    assert campaign.done == 2 * 9 + one.leases
    assert told[0] == (0, 10)
    assert told[-1] == (10, 10)
    assert told == sorted(told)
    rows = client.measurements(campaign_id=campaign.id).items
    own = [row.latency_ms for row in rows if row.fingerprint == BASELINE.fingerprint()]
    assert min(own) <= first.latency_ms <= max(own)
    assert max(own) > 1.5 * min(own)  # what it would be without turns
    for graph, reading in zip(SMALLER, others, strict=True):
        assert reading.ratio == pytest.approx(graph.macs / BASELINE.macs)
        assert reading.latency_ms == pytest.approx(reading.ratio * first.latency_ms)
        assert reading.ratio * 0.98 < reading.low_ratio < reading.ratio < reading.high_ratio < reading.ratio * 1.03
        assert reading.is_interleaved
        assert not reading.noisy


def test_another_precision_has_a_campaign_of_its_own_and_is_not_interleaved(
    client: LatencyClient, machine: Make
) -> None:
    one, ids = machine(drifts=(1.0,))
    other, more = machine("full_integer", drifts=(0.25,))
    integers = quantize(network(16), "full_integer")
    meter = ServiceMeter(client, ids | more, "two precisions", polls=AT_ONCE)

    def work(done: int, total: int) -> None:
        one.work()
        other.work()

    _, float_, integer = meter.measure(Subject(BASELINE), [Subject(network(16)), Subject(integers)], progress=work)
    assert float_.is_interleaved
    assert not integer.is_interleaved
    assert integer.ratio == pytest.approx(float_.ratio / 4)
    assert integer.low_ratio < integer.ratio < integer.high_ratio
    (campaign,) = client.campaigns(more["full_integer"])
    assert (campaign.networks, campaign.baseline) == (1, "")
    with pytest.raises(InvalidInput, match="no platform of full_integer") as caught:
        measure(one, ServiceMeter(client, ids, "one precision"), BASELINE, network(16), integers)
    assert caught.value.field == "subjects[1]"


def test_the_same_call_goes_on_from_what_is_measured_and_another_one_is_another(
    client: LatencyClient, machine: Make
) -> None:
    one, ids = machine()
    meter = ServiceMeter(client, ids, "interrupted", repeats=1, polls=AT_ONCE)

    def interrupted(done: int, total: int) -> None:
        one.work(1)
        if done:
            raise KeyboardInterrupt

    subjects = [Subject(graph) for graph in SMALLER]
    with pytest.raises(KeyboardInterrupt):
        meter.measure(Subject(BASELINE), subjects, progress=interrupted)
    before = one.leases
    readings = measure(one, meter, BASELINE, *SMALLER)
    assert len(readings) == 10
    assert one.leases == before == 2
    assert meter.measure(Subject(BASELINE), subjects) == readings
    (alone,) = measure(one, meter, BASELINE)
    assert alone.ratio == 1
    assert len(client.campaigns(ids["float32"])) == 2


def test_noisy_measurements_are_passed_over_where_there_are_others(client: LatencyClient, machine: Make) -> None:
    one, ids = machine(noisy_leases=frozenset({1}))
    meter = ServiceMeter(client, ids, "noisy", repeats=2, polls=AT_ONCE)
    _, *others = measure(one, meter, BASELINE, *SMALLER[:3])
    assert one.leases == 2
    for graph, reading in zip(SMALLER, others, strict=False):
        assert reading.ratio == pytest.approx(graph.macs / BASELINE.macs)
        assert not reading.noisy


def test_leases_of_one_job_leave_ratios_of_two_measurements(client: LatencyClient, machine: Make) -> None:
    one, ids = machine(max_jobs=1, drifts=(1.0,))
    meter = ServiceMeter(client, ids, "one by one", repeats=1, polls=AT_ONCE)
    _, reading = measure(one, meter, BASELINE, SMALLER[0])
    assert reading.ratio == pytest.approx(SMALLER[0].macs / BASELINE.macs)
    assert not reading.is_interleaved


def test_what_is_not_measured_is_named(client: LatencyClient, machine: Make) -> None:
    one, ids = machine(broken=SMALLER[1].fingerprint())
    meter = ServiceMeter(client, ids, "broken", repeats=1, polls=AT_ONCE)
    with pytest.raises(MeasurementFailed, match="no kernel for this") as caught:
        measure(one, meter, BASELINE, *SMALLER[:3])
    assert (caught.value.field, caught.value.details["failure"]) == ("subjects[1]", "unsupported")
    assert "leti jobs retry" in caught.value.remedy
    with pytest.raises(MeasurementFailed) as caught:
        measure(replace(one, broken=BASELINE.fingerprint()), meter, BASELINE, SMALLER[4])
    assert caught.value.field == "baseline"


def test_a_device_that_measures_nothing_is_not_waited_for(client: LatencyClient, machine: Make) -> None:
    one, ids = machine()
    client.quarantine(one.platform.device.name, "its fan is broken")
    meter = ServiceMeter(client, ids, "quarantined", patience_s=0.0, polls=AT_ONCE)
    with pytest.raises(MeasurementFailed, match="its fan is broken") as caught:
        measure(one, meter, BASELINE, SMALLER[0])
    assert caught.value.details["failure"] == "device-gone"


def test_a_real_agent_measures_real_networks_beside_each_other(client: LatencyClient, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the agent extra is not installed")
    from leti.device_agents.desktop.bench import DesktopBench
    from leti.device_agents.timing import Protocol
    from leti.device_agents.worker import Agent

    bench = DesktopBench("litert", name="real", protocol=Protocol(passes=3, retries=0), order=random.Random(1))
    try:
        meter = ServiceMeter(client, {"float32": bench.platform.id}, "for real", repeats=1, polls=AT_ONCE)
        client.register_platform(bench.platform)
        subjects = [Subject(network(32, layers, 32)) for layers in (24, 3)]

        def work(done: int, total: int) -> None:
            agent = Agent(client, [bench], spool=tmp_path / "spool", poll_s=0.05, idle_s=0.05)
            assert agent.run(until_idle=True).failed == 0

        first, deep, shallow = meter.measure(Subject(network(32, 2, 32)), subjects, progress=work)
    finally:
        bench.close()
    assert first.latency_ms > 0
    assert deep.ratio > 4  # twelve times the work
    assert deep.ratio > 2 * shallow.ratio
    assert deep.is_interleaved
    assert shallow.is_interleaved
