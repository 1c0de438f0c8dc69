"""The agent and the real service, each of which may die at any moment."""

import contextlib
import hashlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from leti.client import Backoff, LatencyClient
from leti.core.errors import VersionMismatch
from leti.core.farm import Campaign, CampaignRequest, Failure, Job, MeasurementRow, Result, Sample
from leti.core.wire import PROTOCOL_VERSION
from leti.device_agents.spool import Spool
from leti.device_agents.timing import Protocol

pytest.importorskip("psutil", reason="the agent extra is not installed")
worker = pytest.importorskip("leti.device_agents.worker", reason="the agent extra is not installed")
desktop = pytest.importorskip("leti.device_agents.desktop.bench", reason="the agent extra is not installed")

Start = Callable[[float], object]

QUICK = Protocol(passes=3, retries=0)
ENDLESS = Protocol(passes=100_000, retries=0)
SOON = Backoff(0.05, 0.2)


class Bench:
    """A service, a client of it, and agents of one platform, which is named as its folder."""

    def __init__(self, service: object, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.bench = desktop.DesktopBench("litert", name=folder.name, protocol=QUICK)
        self.platform = self.bench.platform
        self.client = LatencyClient(service.url, retries=5)  # type: ignore[attr-defined]
        self.client.register_platform(self.platform)
        self.results: list[tuple[Job, Result]] = []

    def campaign(self, networks: int = 3) -> Campaign:
        samples = (Sample("nasbench201", networks, seed=1),)
        return self.client.create_campaign(
            CampaignRequest("test", self.platform.id, samples, repeats=1, repeat_share=0.0)
        )

    def agent(self, client: LatencyClient | None = None, **options: object):  # type: ignore[no-untyped-def]
        protocol = options.pop("protocol", None)
        if protocol is not None:
            self.bench.close()
            self.bench = desktop.DesktopBench("litert", name=self.folder.name, protocol=protocol)
        options = {"backoff": SOON, "poll_s": 0.1, "idle_s": 0.3, **options}
        return worker.Agent(
            client or self.client,
            [self.bench],
            spool=self.folder / "spool",
            on_result=lambda job, result: self.results.append((job, result)),
            **options,
        )

    def rows(self) -> tuple[MeasurementRow, ...]:
        return self.client.measurements(platform_id=self.platform.id, limit=100).items


@pytest.fixture
def bench(service: Start, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Bench]]:
    """Make a bench over the service that lasts, or over one of its own with leases of so many seconds."""
    made: list[Bench] = []

    def make(lease_s: float | None = None) -> Bench:
        serving = request.getfixturevalue("lasting_service") if lease_s is None else service(lease_s)
        made.append(Bench(serving, tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.client.close()
        each.bench.close()


class Tapped(httpx.BaseTransport):
    """The real network, with a hand on the wire."""

    def __init__(self, hand: Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response]) -> None:
        self.wire = httpx.HTTPTransport()
        self.hand = hand

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        def send() -> httpx.Response:
            response = self.wire.handle_request(request)
            response.read()
            return response

        return self.hand(request, send)

    def close(self) -> None:
        self.wire.close()


def wait_until(condition: Callable[[], bool], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_a_campaign_is_measured_by_the_protocol(bench: Callable[..., Bench]) -> None:
    at = bench()
    campaign = at.campaign()
    summary = at.agent().run(until_idle=True)
    assert (summary.measured, summary.failed, summary.refused) == (3, 0, 0)
    after = at.client.campaign(campaign.id)
    assert (after.done, after.finished) == (3, True)
    assert len({job.fingerprint for job, _ in at.results}) == 3
    assert len(Spool(at.folder / "spool")) == 0

    for row in at.rows():
        measurement = at.client.measurement(row.id)
        assert len(measurement.passes) == QUICK.passes
        assert measurement.first_inference_ms is not None
        assert measurement.init_ms is not None
        assert dict(measurement.recipe.protocol)["passes"] == QUICK.passes
        assert measurement.recipe.runtime_version == at.platform.runtime_version
        model = at.client.model(row.fingerprint)
        assert measurement.recipe.model_sha256 == hashlib.sha256(model).hexdigest()
        assert 0 < row.ratio < 1000
    assert not any(row.late for row in at.rows())


def test_the_service_goes_away_in_the_middle_and_comes_back(bench: Callable[..., Bench]) -> None:
    at = bench(lease_s=60.0)
    campaign = at.campaign()
    gone = threading.Event()

    def after_the_first(job: Job, result: Result) -> None:
        if not gone.is_set():
            at.service.stop(kill=True)  # type: ignore[attr-defined]
            gone.set()

    with LatencyClient(at.service.url, retries=0) as client:  # type: ignore[attr-defined]
        agent = at.agent(client, max_jobs=1)
        agent._on_result = after_the_first
        thread = threading.Thread(target=agent.run, kwargs={"until_idle": True})
        thread.start()
        assert gone.wait(120)
        spool = Spool(at.folder / "spool")
        time.sleep(0.5)
        assert len(spool) == 1, "the result waits on disk"
        at.service.start()  # type: ignore[attr-defined]
        thread.join(120)
        assert not thread.is_alive()
    after = at.client.campaign(campaign.id)
    assert (after.done, after.failed, after.finished) == (3, 0, True)
    assert len(at.rows()) == 3
    assert len(spool) == 0


AGENT = """
import sys
from pathlib import Path
from leti.client import LatencyClient
from leti.device_agents.desktop.bench import DesktopBench
from leti.device_agents.timing import Protocol
from leti.device_agents.worker import Agent
folder = Path(sys.argv[2])
bench = DesktopBench("litert", name=folder.name, protocol=Protocol(passes=100_000))
with LatencyClient(sys.argv[1]) as client:
    Agent(client, [bench], spool=folder / "spool").run()
"""


def expiry_of(home: Path) -> float:
    """Return when the only lease runs out."""
    with contextlib.closing(sqlite3.connect(home / "leti.sqlite", timeout=60)) as database:
        ((expires_at,),) = database.execute("SELECT expires_at FROM leases").fetchall()
        return float(expires_at)


def lapse(home: Path) -> None:
    """Let all leases have run out, as they do in time."""
    with contextlib.closing(sqlite3.connect(home / "leti.sqlite", timeout=60)) as database, database:
        database.execute("UPDATE leases SET expires_at = 0")


def test_kill_9_in_the_middle_of_a_job_loses_nothing(bench: Callable[..., Bench]) -> None:
    at = bench(lease_s=8.0)
    campaign = at.campaign()
    doomed = subprocess.Popen([sys.executable, "-c", AGENT, at.client.base_url, str(at.folder)])
    wait_until(lambda: at.client.campaign(campaign.id).leased == 3)
    first = expiry_of(at.service.home)  # type: ignore[attr-defined]
    wait_until(lambda: expiry_of(at.service.home) > first)  # type: ignore[attr-defined]
    assert at.client.campaign(campaign.id).leased == 3, "heartbeats keep the lease beyond its first term"
    doomed.send_signal(signal.SIGKILL)
    assert doomed.wait(60) == -signal.SIGKILL
    lapse(at.service.home)  # type: ignore[attr-defined]
    summary = at.agent().run(until_idle=True)
    assert summary.measured == 3
    after = at.client.campaign(campaign.id)
    assert (after.done, after.finished) == (3, True)
    assert not any(row.late for row in at.rows())
    assert {job.attempt for job, _ in at.results} == {2}


def test_stopping_gives_the_jobs_back_at_once(bench: Callable[..., Bench]) -> None:
    at = bench()
    campaign = at.campaign()
    stop = threading.Event()
    agent = at.agent(protocol=ENDLESS)
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    wait_until(lambda: at.client.campaign(campaign.id).leased == 3)
    stop.set()
    thread.join(120)
    assert not thread.is_alive()
    after = at.client.campaign(campaign.id)
    assert (after.queued, after.leased) == (3, 0)
    assert at.results == []


@pytest.mark.parametrize("content", [b"this is no model", None], ids=["nonsense", "damaged on its way"])
def test_a_model_that_cannot_be_loaded_is_a_failure_and_the_others_go_on(
    bench: Callable[..., Bench], content: bytes | None
) -> None:
    at = bench()
    campaign = at.campaign()
    spoilt: list[str] = []
    reference = at.client.platform(at.platform.id).reference

    def spoil(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        response = send()
        path = request.url.path
        if not path.endswith("/model") or reference in path or (spoilt and path not in spoilt):
            return response
        spoilt.append(path)
        bad = response.content[:-1] if content is None else content
        sha256 = response.headers["leti-model-sha256"] if content is None else hashlib.sha256(bad).hexdigest()
        return httpx.Response(
            200, content=bad, headers={"leti-protocol": str(PROTOCOL_VERSION), "leti-model-sha256": sha256}
        )

    transport = Tapped(spoil)
    with LatencyClient(at.client.base_url, transport=transport) as client:
        summary = at.agent(client).run(until_idle=True)
    transport.close()
    assert (summary.measured, summary.failed) == (2, 1)
    after = at.client.campaign(campaign.id)
    assert (after.done, after.failed, after.finished) == (2, 1, True)
    (failure,) = [result.failure for _, result in at.results if result.failure is not None]
    assert isinstance(failure, Failure)
    assert failure.kind == "bad-model"


def test_a_result_under_a_lost_lease_is_handed_in_late_and_measured_again(bench: Callable[..., Bench]) -> None:
    at = bench(lease_s=60.0)
    campaign = at.campaign(1)
    silenced: list[str] = []
    held: list[str] = []

    def silence(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        path = request.url.path
        if path.endswith("/heartbeat"):
            silenced.append(path)
            if path == silenced[0]:
                raise httpx.ConnectTimeout("no way through")
        if path.startswith("/v1/results") and not held:
            held.append(path)
            lapse(at.service.home)  # type: ignore[attr-defined]
        return send()

    transport = Tapped(silence)
    with LatencyClient(at.client.base_url, transport=transport, retries=0) as client:
        summary = at.agent(client).run(until_idle=True)
    transport.close()
    assert summary.measured == 2
    assert sorted(row.late for row in at.rows()) == [False, True]
    assert at.client.campaign(campaign.id).done == 1


def test_a_result_that_the_service_will_never_take_is_set_aside(bench: Callable[..., Bench]) -> None:
    at = bench()
    campaign = at.campaign()
    Spool(at.folder / "spool").put(Result(10**6, 1, 10**6, 0, failure=Failure("other", "from another service")))
    summary = at.agent().run(until_idle=True)
    assert (summary.measured, summary.refused) == (3, 1)
    assert at.client.campaign(campaign.id).done == 3
    assert len(list((at.folder / "spool" / "refused").glob("*.reason"))) == 1


def test_a_result_that_breaks_the_service_does_not_stop_the_agent(bench: Callable[..., Bench]) -> None:
    at = bench()
    at.campaign()
    broken: list[bytes] = []  # what was refused of it alone

    def fault(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        alone = request.url.path == "/v1/results" and (not broken or request.content == broken[0])
        if alone or request.url.path == "/v1/results/batch":
            broken.extend([request.content] if alone else [])
            problem = {"type": "urn:leti:problem:error", "title": "", "status": 500, "detail": "a fault"}
            return httpx.Response(500, json=problem, headers={"leti-protocol": str(PROTOCOL_VERSION)})
        return send()

    transport = Tapped(fault)
    with LatencyClient(at.client.base_url, transport=transport) as client:
        summary = at.agent(client).run(until_idle=True)
    transport.close()
    assert len(broken) == 5
    assert summary.refused == 1
    assert len(at.rows()) >= 2


def test_another_protocol_ends_the_agent_with_a_clear_line(tmp_path: Path) -> None:
    answer = httpx.Response(200, json={}, headers={"leti-protocol": str(PROTOCOL_VERSION + 1)})
    bench = desktop.DesktopBench("litert")
    with LatencyClient("http://service.test", transport=httpx.MockTransport(lambda _: answer)) as client:
        agent = worker.Agent(client, [bench], spool=tmp_path)
        with pytest.raises(VersionMismatch, match="same release"):
            agent.run()


def test_a_service_that_never_comes_does_not_keep_the_agent_from_stopping(tmp_path: Path) -> None:
    def nobody(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    bench = desktop.DesktopBench("litert")
    with LatencyClient("http://service.test", transport=httpx.MockTransport(nobody), retries=0) as client:
        agent = worker.Agent(client, [bench], spool=tmp_path, backoff=SOON)
        timer = threading.Timer(0.3, agent.stop)
        timer.start()
        assert agent.run().measured == 0
        timer.join()
