"""Many agents and users at once: whatever they do, each job ends once, and nothing is lost or doubled."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from leti.core.codec import from_json
from leti.core.device import Device
from leti.core.farm import (
    DEVICE_FAULTS,
    CampaignRequest,
    DeviceReport,
    Failure,
    JobSelection,
    LeaseRequest,
    Result,
    Sample,
)
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.wire import PlatformInfo
from leti.service.settings import Settings

DATABASES = ("sqlite", "postgresql")

AGENTS = 6
JOBS = 36


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Devices that nobody quarantines, so that work goes on."""
    return dataclasses.replace(settings, quarantine_after=10**6)


def farm(house):
    """Return two platforms of two devices, each with a campaign; and the ids of all their jobs."""
    devices = (house.platform.device, Device("another", "desktop", "soc", 4))
    platforms = [dataclasses.replace(house.platform, device=device) for device in devices]
    infos = [from_json(PlatformInfo, house.post("/platforms", platform).json()) for platform in platforms]
    for info in infos:
        request = CampaignRequest("c", info.id, (Sample("nasbench201", JOBS // 2),), repeats=2, repeat_share=1.0)
        assert house.post("/campaigns", request).status_code == 201
    return infos, [row.id for row in house.rows("SELECT id FROM jobs ORDER BY id")]


def measured(lease, job):
    passes = (Pass((1.0,), (2.0,)),)
    found = Measurement(job.fingerprint, lease.platform_id, lease.reference, passes, Recipe("1", "1", "ab" * 32))
    return Result(lease.id, lease.token, job.id, job.repeat, found)


def failed(lease, job, kind):
    return Result(lease.id, lease.token, job.id, job.repeat, failure=Failure(kind, "it broke"))


def agent(store, infos, number, receipts, jump):
    """Claim and report at random until the queue has long been empty; forget leases, repeat results, beat."""
    rng, idle, kept = random.Random(number), 0, []
    while idle < 3:
        lease = store.queue.claim(LeaseRequest(f"agent-{number}", rng.choice(infos).id, rng.randint(1, 5)))
        if lease is None:
            idle += 1
            jump()  # what others have forgotten runs out
            continue
        idle = 0
        for job in lease.jobs:
            kind = rng.choice(("measured",) * 6 + ("bad-model", "link-lost", "crashed", "forgotten"))
            if kind == "forgotten":
                kept.append(measured(lease, job))  # handed in at the end, when it is late
                continue
            result = measured(lease, job) if kind == "measured" else failed(lease, job, kind)
            for _ in range(rng.choice((1, 1, 2))):
                receipts.append((job.id, kind, store.queue.accept(result)))
        if rng.random() < 0.5:
            store.queue.release(lease.id, lease.token)
        if rng.random() < 0.2:
            store.devices.report(rng.choice(("box", "another")), DeviceReport("cooling"))
    for result in kept:
        receipts.append((result.job_id, "measured", store.queue.accept(result)))


def user(store, ids, receipts, rng):
    """Cancel jobs of both devices here and there."""
    for _ in range(8):
        chosen = tuple(rng.sample(ids, 3))
        receipts.append(store.jobs.cancel(JobSelection(chosen)))
        store.devices.list()
        store.failures.counts("device", platform_id=None, campaign_id=None, limit=10)


def test_every_job_ends_once_whatever_agents_and_users_do_at_once(house):
    infos, ids = farm(house)
    receipts, cancelled = [], []

    def jump() -> None:
        house.clock.now += house.settings.lease_s / 2

    with ThreadPoolExecutor(AGENTS + 1) as pool:
        work = [pool.submit(agent, house.store, infos, number, receipts, jump) for number in range(AGENTS)]
        work.append(pool.submit(user, house.store, ids, cancelled, random.Random(99)))
        for each in work:
            each.result()
    house.clock.now += house.settings.lease_s + 1
    agent(house.store, infos, 1_000, receipts, jump)

    states = {row.id: row.state for row in house.rows("SELECT id, state FROM jobs")}
    assert set(states.values()) <= {"done", "failed", "poison", "cancelled"}
    assert Counter(states.values())["cancelled"] == sum(change.changed for change in cancelled)
    stored = Counter()
    for job_id, kind, receipt in receipts:
        if receipt.status == "stored" and kind not in DEVICE_FAULTS:
            stored[job_id] += 1
    assert stored == {job_id: 1 for job_id, state in states.items() if state in ("done", "failed")}

    rows = house.rows("SELECT job_id, late FROM measurements")
    on_time = Counter(row.job_id for row in rows if not row.late)
    assert on_time == {job_id: 1 for job_id, state in states.items() if state == "done"}
    sent = Counter((receipt.status, kind == "measured") for _, kind, receipt in receipts)
    assert len(rows) == sent["stored", True] + sent["late", True]
    told = house.rows("SELECT kind, late FROM failures WHERE kind <> 'lost'")
    assert Counter(bool(row.late) for row in told) == Counter({True: sent["late", False], False: sent["stored", False]})
    deaths = house.rows("SELECT SUM(deaths) AS deaths FROM jobs")[0].deaths
    counted = house.rows("SELECT COUNT(*) AS n FROM failures WHERE kind IN ('lost', 'link-lost') AND NOT late")[0].n
    assert deaths == counted


def test_retries_and_cancels_at_once_leave_one_measurement_a_job(house):
    infos, ids = farm(house)

    def hammer(number):
        rng, receipts = random.Random(number), []
        for turn in range(12):
            if number % 3 == 0:
                change = house.store.jobs.retry if turn % 2 else house.store.jobs.cancel
                change(JobSelection(tuple(rng.sample(ids, 10))))
                continue
            lease = house.store.queue.claim(LeaseRequest(f"agent-{number}", rng.choice(infos).id, 4))
            for job in lease.jobs if lease else ():
                kind = rng.choice(("measured", "measured", "bad-model"))
                result = measured(lease, job) if kind == "measured" else failed(lease, job, kind)
                receipts.append((job.id, kind, house.store.queue.accept(result)))
        return receipts

    with ThreadPoolExecutor(AGENTS) as pool:
        receipts = [receipt for found in pool.map(hammer, range(AGENTS)) for receipt in found]
    done = [row.id for row in house.rows("SELECT id FROM jobs WHERE state = 'done'")]
    stored = Counter(job_id for job_id, kind, receipt in receipts if (kind, receipt.status) == ("measured", "stored"))
    assert stored == dict.fromkeys(done, 1)
    on_time = Counter(row.job_id for row in house.rows("SELECT job_id FROM measurements WHERE NOT late"))
    assert on_time == stored


def test_the_same_things_made_known_at_once_are_there_once(house):
    """Platforms, networks and campaigns: whoever comes second finds what the first one made."""
    request = CampaignRequest("c", house.platform_id, (Sample("nasbench201", 4),), repeats=1)

    def make(_):
        house.add_platform()
        return house.post("/campaigns", request).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(make, range(6))) == [200] * 5 + [201]
    assert len(house.get("/campaigns").json()["items"]) == 1
    assert len(house.store.devices.list()) == 1


def test_a_failure_sent_many_times_at_once_is_one_event(house):
    house.add_campaign(count=1)
    lease = house.lease()
    result = failed(lease, lease.jobs[0], "link-lost")
    with ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(house.store.queue.accept, [result] * 12))
    assert Counter(receipt.status for receipt in receipts) == {"stored": 1, "duplicate": 11}
    assert [tuple(row) for row in house.rows("SELECT deaths FROM jobs")] == [(1,)]
    assert len(house.rows("SELECT id FROM failures")) == 1
