"""An agent of several platforms and the real service: turns, devices that go, cool and come back, several devices."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
from typing_extensions import override

from leti.client import Backoff, LatencyClient
from leti.core.device import Device, Platform
from leti.core.errors import DeviceFault, InvalidInput, MeasurementFailed
from leti.core.farm import Campaign, CampaignRequest, DeviceInfo, Sample
from leti.core.measurement import Pass, Recipe
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted
from leti.device_agents.fleet import Fleet
from leti.device_agents.rota import SLOWEST, Rota
from leti.device_agents.spool import Spool
from leti.device_agents.worker import MOST_TRIES, Agent

BOX = Device("box", "desktop", "soc", 2)
SOON = Backoff(0.02, 0.1)


class ClockedBench(Bench):
    """Measures by a clock of its own: a millisecond a byte; ``fate`` may raise or wait before each batch."""

    model_format = "tflite"

    def __init__(self, runtime: str, *, device: Device = BOX, log: list[str] | None = None) -> None:
        self.platform = Platform(device, runtime, "1")
        self.log = [] if log is None else log
        self.probes = 0
        self.fate: Callable[[KeepGoing, Waiting], None] = lambda keep_going, waiting: None

    @override
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        assert reference[4:8] == b"TFL3", "a model file"
        self.log.append(self.platform.runtime)
        self.probes += not wanted
        self.fate(keep_going, waiting)
        return tuple(self._finding(each.model, len(reference)) for each in wanted)

    def _finding(self, model: bytes, reference_ms: float) -> Finding:
        passes = tuple(Pass((float(len(model)),), (float(reference_ms),)) for _ in range(3))
        return Finding(passes, False, Recipe("test", "1", hashlib.sha256(model).hexdigest()))

    @override
    def effort(self) -> Mapping[str, float]:
        return {}

    @override
    def close(self) -> None:
        pass


class House:
    """A service with campaigns, and a client of it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.client = LatencyClient(url, retries=5)
        self.folder = folder

    def campaign(self, bench: ClockedBench, networks: int, name: str = "") -> Campaign:
        info = self.client.register_platform(bench.platform)
        sample = Sample("nasbench201", networks, seed=1)
        request = CampaignRequest(name or bench.platform.runtime, info.id, (sample,), repeats=1, repeat_share=0.0)
        return self.client.create_campaign(request)

    def agent(self, *benches: ClockedBench, **options: object) -> Agent:
        device = benches[0].platform.device.name
        options = {"backoff": SOON, "device_backoff": SOON, "poll_s": 0.05, "idle_s": 0.3, **options}
        return Agent(self.client, benches, spool=self.folder / "spool" / device, **options)  # type: ignore[arg-type]

    def device(self, name: str = "box") -> DeviceInfo:
        return next(info for info in self.client.devices() if info.device.name == name)


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a service that was never asked anything, to be copied."""
    pytest.importorskip("fastapi", reason="the service's extra is not installed")
    from leti.service.settings import Settings
    from leti.service.store import Store

    settings = Settings(tmp_path_factory.mktemp("empty"))
    Store.open(settings).close()
    return settings.home


@pytest.fixture
def house(request: pytest.FixtureRequest, empty_home: Path, tmp_path: Path) -> Iterator[House]:
    """A house whose service has a thread of this process; its leases last for a minute, or as a parameter says."""
    from leti.service.server import running
    from leti.service.settings import Settings

    home = shutil.copytree(empty_home, tmp_path / "service")
    with running(Settings(home, auth=False, lease_s=getattr(request, "param", 60.0))) as url:
        made = House(url, tmp_path)
        yield made
        made.client.close()


def wait_until(condition: Callable[[], bool], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_platforms_are_served_in_turn(house: House) -> None:
    log: list[str] = []
    first, second, idle = (ClockedBench(name, log=log) for name in ("first", "second", "idle"))
    campaigns = [house.campaign(first, 6), house.campaign(second, 4)]
    summary = house.agent(first, second, idle, max_jobs=2).run(until_idle=True)
    assert (summary.measured, summary.failed, summary.given_back) == (10, 0, 0)
    assert log == ["first", "second", "first", "second", "first"]
    for bench, campaign in zip((first, second), campaigns, strict=True):
        assert house.client.campaign(campaign.id).done == campaign.networks
        rows = house.client.measurements(platform_id=bench.platform.id).items
        assert len(rows) == campaign.networks
    known = {info.id for info in house.client.platforms()}
    assert known == {bench.platform.id for bench in (first, second, idle)}, "all are registered at the start"


def test_a_device_that_is_gone_gives_its_jobs_back_and_is_tried_until_it_is_there(house: House) -> None:
    bench = ClockedBench("phone")
    campaign = house.campaign(bench, 3)
    plugged = threading.Event()

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        if not plugged.is_set():
            raise DeviceFault("the cable is out", failure="device-gone")

    bench.fate = fate
    agent = house.agent(bench)
    stop = threading.Event()
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(agent.run(stop)))
    thread.start()
    wait_until(lambda: bench.probes >= 4)
    info = house.device()
    assert info.state == "gone"
    assert "the cable is out" in info.reason
    assert info.failures == {"device-gone": 3}
    waiting = house.client.jobs(campaign_id=campaign.id).items
    assert {(job.state, job.attempts, job.kind) for job in waiting} == {("queued", 1, "device-gone")}, (
        "the device is tried with the reference alone: jobs are not worn out"
    )
    plugged.set()
    wait_until(lambda: house.client.campaign(campaign.id).finished)
    stop.set()
    thread.join(120)
    assert house.client.campaign(campaign.id).done == 3
    assert house.device().state == "available"
    assert (summaries[0].measured, summaries[0].given_back) == (3, 3)
    assert len(Spool(house.folder / "spool" / "box")) == 0


def test_a_device_that_stays_away_ends_an_agent_that_is_to_end_by_itself(house: House) -> None:
    bench = ClockedBench("phone")
    campaign = house.campaign(bench, 2)

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        raise DeviceFault("the phone is locked", failure="link-lost")

    bench.fate = fate
    with pytest.raises(DeviceFault, match="locked"):
        house.agent(bench).run(until_idle=True)
    assert bench.log == ["phone"] * MOST_TRIES
    assert house.client.campaign(campaign.id).queued == 2


def test_cooling_is_told_while_it_lasts(house: House) -> None:
    bench = ClockedBench("phone")
    house.campaign(bench, 1)
    cool = threading.Event()

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        while not cool.wait(0.05):
            waiting(f"the battery has {41.5 + time.monotonic() % 1:.3f} °C")
        waiting("")

    bench.fate = fate
    agent = house.agent(bench)
    thread = threading.Thread(target=agent.run, kwargs={"until_idle": True})
    thread.start()
    wait_until(lambda: house.device().state == "cooling")
    assert "°C" in house.device().reason
    cool.set()
    thread.join(120)
    assert (house.device().state, house.device().measured) == ("available", 1)


def test_a_device_that_stays_too_hot_cools_between_tries(house: House) -> None:
    bench = ClockedBench("phone")
    campaign = house.campaign(bench, 1)
    states: list[str] = []

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        if len(bench.log) > 1:
            states.append(house.device().state)
        if len(bench.log) < 4:
            raise DeviceFault("still 45 °C after ten minutes", failure="too-hot")

    bench.fate = fate
    summary = house.agent(bench).run(until_idle=True)
    assert states[:3] == ["cooling"] * 3
    assert (summary.measured, summary.given_back) == (1, 1)
    assert house.client.campaign(campaign.id).done == 1


def test_a_reference_that_fails_holds_up_its_own_platform_only_and_is_no_busy_loop(house: House) -> None:
    bad, good = ClockedBench("bad"), ClockedBench("good")
    campaigns = [house.campaign(bad, 2), house.campaign(good, 4)]
    tried_s: list[float] = []

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        tried_s.append(time.monotonic())
        raise MeasurementFailed("the delegate takes a part of it only", failure="partial-delegation")

    bad.fate = fate
    agent = house.agent(bad, good, max_jobs=1)
    stop = threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    wait_until(lambda: house.client.campaign(campaigns[1].id).finished)
    wait_until(lambda: len(tried_s) >= 3)
    pauses_s = [after - before for before, after in itertools.pairwise(tried_s)]
    assert all(pause_s >= 0.5 * 2**i for i, pause_s in enumerate(pauses_s)), "after about a second, then two"

    def told() -> bool:  # not while it is tried once more: then it is busy
        info = house.device()
        said = "the delegate takes a part of it only" in info.reason and bad.platform.id in info.reason
        return said and info.state == "available"  # the other platform is measured on it

    wait_until(told)
    bad.fate = lambda keep_going, waiting: None
    wait_until(lambda: house.client.campaign(campaigns[0].id).finished)
    stop.set()
    thread.join(120)
    assert [house.client.campaign(campaign.id).done for campaign in campaigns] == [2, 4]
    assert house.device().reason == ""


def test_several_devices_are_measured_at_once_and_stopped_together(house: House) -> None:
    phones = [ClockedBench("tool", device=Device(f"phone {i}", "android", "soc", 8)) for i in range(3)]
    campaigns = [house.campaign(bench, 2, bench.platform.device.name) for bench in phones]
    meeting = threading.Barrier(3, timeout=120)

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        meeting.wait()

    for bench in phones:
        bench.fate = fate
    summary = Fleet([house.agent(bench) for bench in phones]).run(until_idle=True)
    assert summary.measured == 6
    assert all(house.client.campaign(campaign.id).done == 2 for campaign in campaigns)

    stop = threading.Event()
    thread = threading.Thread(target=Fleet([house.agent(bench) for bench in phones]).run, args=(stop,))
    thread.start()
    time.sleep(0.3)
    stop.set()
    thread.join(120)
    assert not thread.is_alive()


def test_a_device_that_fails_for_good_leaves_the_others_at_work(house: House) -> None:
    good, bad = (ClockedBench("tool", device=Device(name, "android", "soc", 8)) for name in ("good", "bad"))
    campaigns = [house.campaign(bench, 3, bench.platform.device.name) for bench in (good, bad)]

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        raise DeviceFault("the phone was dropped", failure="device-gone")

    bad.fate = fate
    with pytest.raises(DeviceFault, match="dropped"):
        Fleet([house.agent(good), house.agent(bad)]).run(until_idle=True)
    assert [house.client.campaign(campaign.id).done for campaign in campaigns] == [3, 0]


def test_benches_of_two_devices_and_one_platform_twice_are_refused(tmp_path: Path) -> None:
    other = ClockedBench("first", device=Device("other", "desktop", "soc", 2))
    with LatencyClient("http://service.test") as client:
        for benches, words in (
            ((ClockedBench("first"), other), "one device"),
            ((ClockedBench("first"), ClockedBench("first")), "twice"),
            ((), "must hold a bench"),
        ):
            with pytest.raises(InvalidInput, match=words) as caught:
                Agent(client, benches, spool=tmp_path)
            assert caught.value.field.startswith("benches")
        agents = [Agent(client, [ClockedBench(name)], spool=tmp_path / name) for name in ("first", "second")]
        with pytest.raises(InvalidInput, match="'box' has an agent"):
            Fleet(agents)


def test_what_has_no_jobs_is_asked_for_less_and_less_often_and_never_in_step() -> None:
    now = [0.0]
    rota = Rota([ClockedBench(name) for name in "abc"], poll_s=1.0, clock=lambda: now[0])
    pauses: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for _ in range(60):
        stand = rota.next()
        if stand is None:
            wait_s = rota.wait_s()
            assert wait_s > 0
            now[0] += wait_s
            continue
        rota.empty(stand)
        pauses[stand.platform.runtime].append(stand.due_s - now[0])
    for each in pauses.values():
        assert 0.5 <= each[0] <= 1.0
        assert all(2.0 <= pause <= 4.0 for pause in each[3:])
        assert max(each) <= SLOWEST
        assert len(set(each)) == len(each), "jitter"
    rota.worked(rota.stands()[0])
    assert rota.wait_s() == 0, "who has had jobs may have more, at once"


class Tap(httpx.HTTPTransport):
    """The network, but for requests that ``refuse`` picks."""

    def __init__(self, refuse: Callable[[httpx.Request], bool]) -> None:
        super().__init__()
        self.refuse = refuse

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.refuse(request):
            raise httpx.ConnectError("no way through")
        return super().handle_request(request)


def through(house: House, refuse: Callable[[httpx.Request], bool]) -> None:
    """Let the house's client talk through a tap."""
    house.client = LatencyClient(house.client.base_url, retries=0, transport=Tap(refuse))


def test_results_that_could_not_be_handed_in_at_once_are_not_late(house: House) -> None:
    bench = ClockedBench("box")
    campaign = house.campaign(bench, 3)
    plain, refused = house.client, []

    def refuse(request: httpx.Request) -> bool:
        first = request.url.path.startswith("/v1/results") and not refused
        refused.extend([request] if first else [])
        return first

    through(house, refuse)
    summary = house.agent(bench).run(until_idle=True)
    house.client.close()
    house.client = plain
    assert refused
    assert summary.measured == 3, "nothing is measured again"
    assert not any(row.late for row in house.client.measurements(platform_id=bench.platform.id).items)
    assert {job.attempts for job in house.client.jobs(campaign_id=campaign.id).items} == {1}


@pytest.mark.parametrize("house", [1.0], indirect=True)
def test_a_batch_whose_lease_is_lost_is_given_up(house: House) -> None:
    bench = ClockedBench("box")
    campaign = house.campaign(bench, 2)
    silent = threading.Event()
    silent.set()
    stopped: list[bool] = []

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        if len(bench.log) == 1:
            time.sleep(1.5)
            silent.clear()  # the service is there again, and says that the lease has run out
            deadline = time.monotonic() + 60
            while keep_going() and time.monotonic() < deadline:
                time.sleep(0.02)
            stopped.append(not keep_going())

    bench.fate = fate
    plain = house.client
    through(house, lambda request: silent.is_set() and request.url.path.endswith("/heartbeat"))
    thread = threading.Thread(target=house.agent(bench, idle_s=1.5).run, kwargs={"until_idle": True})
    thread.start()
    thread.join(120)
    assert not thread.is_alive()
    assert stopped == [True]
    house.client.close()
    assert plain.campaign(campaign.id).done == 2
    plain.close()


def test_what_ends_an_agent_by_a_mistake_of_its_own_is_counted_by_the_service(house: House) -> None:
    bench = ClockedBench("box")
    campaign = house.campaign(bench, 2)

    def fate(keep_going: KeepGoing, waiting: Waiting) -> None:
        raise ZeroDivisionError("a mistake")

    bench.fate = fate
    with pytest.raises(ZeroDivisionError):
        house.agent(bench).run(until_idle=True)
    assert house.client.campaign(campaign.id).leased == 2, "not given back: it runs out, and that is a death"


def test_a_disk_that_is_full_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ClockedBench("box")
    campaign = house.campaign(bench, 3)
    full = [True] * 4
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    agent = house.agent(bench)
    monkeypatch.setattr(os, "fsync", flush)
    assert agent.run(until_idle=True).measured == 3
    assert full == []
    assert {job.attempts for job in house.client.jobs(campaign_id=campaign.id).items} == {1}
