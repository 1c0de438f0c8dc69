"""Agents that wait for jobs at the service, over real sockets."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.requests import Request

from leti.client import LatencyClient
from leti.core.device import Device
from leti.core.farm import CampaignRequest, JobSelection, LeaseRequest, Sample
from leti.service.server import running
from leti.service.settings import Settings

LONG_S = 60.0
"""Longer than any test takes: who is answered before was woken."""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(Settings(tmp_path_factory.mktemp("waiting"), auth=False)) as found:
        yield found


@pytest.fixture
def client(url):
    with LatencyClient(url) as made:
        yield made


@pytest.fixture
def platform(house, client, request):
    """A platform of a device of its own."""
    made = dataclasses.replace(house.platform, device=Device(request.node.name[:60], "desktop", "soc", 2))
    client.register_platform(made)
    return made


def campaign(house, platform, name, count=2):
    return CampaignRequest(name, platform.id, (Sample("nasbench201", count, 0, house.small),), repeats=1)


def wait_for_requests(url, count):
    """Return once so many requests are in flight."""
    end = time.monotonic() + LONG_S
    while f"leti_requests_in_flight {count + 1}.0" not in httpx.get(f"{url}/metrics", timeout=LONG_S).text:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_nobody_waits_for_longer_than_asked(client, platform):
    started = time.monotonic()
    assert client.lease(LeaseRequest("agent", platform.id), wait_s=0.3) is None
    assert time.monotonic() - started >= 0.3
    assert client.lease(LeaseRequest("agent", platform.id)) is None


def test_more_agents_wait_than_there_are_threads_and_each_job_is_lent_once(url, client, house, platform):
    agents = 60  # the service answers with 40 threads
    with ThreadPoolExecutor(agents) as pool, LatencyClient(url, timeout_s=90) as waiter:
        asked = [
            pool.submit(waiter.lease, LeaseRequest(f"agent-{n}", platform.id, 1), wait_s=LONG_S) for n in range(agents)
        ]
        wait_for_requests(url, agents)
        assert client.health().status == "ok"  # no thread is held by those who wait
        assert not any(one.done() for one in asked)
        client.create_campaign(campaign(house, platform, "first", agents))
        leases = [one.result(LONG_S) for one in asked]
    jobs = [job.id for lease in leases for job in lease.jobs]
    assert len(set(jobs)) == len(jobs) == agents


def test_jobs_that_come_back_wake_who_waits(url, client, house, platform):
    client.create_campaign(campaign(house, platform, "second", 1))
    held = client.lease(LeaseRequest("first", platform.id))
    with ThreadPoolExecutor(1) as pool, LatencyClient(url, timeout_s=90) as waiter:
        ask = lambda: waiter.lease(LeaseRequest("second", platform.id), wait_s=LONG_S)  # noqa: E731
        asked = pool.submit(ask)
        client.release(held.id, held.token)
        (job,) = asked.result(LONG_S).jobs
        client.cancel_jobs(JobSelection((job.id,)))
        asked = pool.submit(ask)
        client.retry_jobs(JobSelection((job.id,)))
        assert [again.id for again in asked.result(LONG_S).jobs] == [job.id]


def test_a_service_that_stops_lets_nobody_wait(tmp_path, house):
    with ThreadPoolExecutor(1) as pool:
        with running(Settings(tmp_path / "home", auth=False)) as url:
            waiter = LatencyClient(url, timeout_s=90, retries=0)
            waiter.register_platform(house.platform)
            asked = pool.submit(waiter.lease, LeaseRequest("agent", house.platform_id), wait_s=LONG_S)
            wait_for_requests(url, 1)
        assert asked.result(LONG_S) is None
        waiter.close()


def test_nothing_is_lent_to_who_hung_up(url, client, house, platform):
    body = {"agent": "gone", "platform_id": platform.id}
    with httpx.Client(base_url=url, timeout=0.3, trust_env=False) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post("/v1/leases", params={"wait_s": 30.0}, json=body)
    client.create_campaign(campaign(house, platform, "third", 1))
    lease = client.lease(LeaseRequest("there", platform.id), wait_s=LONG_S)
    assert (lease.agent, len(lease.jobs)) == ("there", 1)


def test_nothing_is_lent_to_who_hung_up_before_there_was_time_to_look(house, monkeypatch):
    async def gone(_):
        return True

    house.add_campaign(count=1)
    with monkeypatch.context() as patch:
        patch.setattr(Request, "is_disconnected", gone)
        assert house.lease() is None
    assert len(house.lease().jobs) == 1
