"""Who does the work: workers by their signs of life and their tasks, agents by their leases."""

from __future__ import annotations

import threading
from importlib import metadata

from leti.core.codec import from_json
from leti.core.farm import AgentInfo
from leti.core.tasks import WorkerInfo
from leti.core.training import EvaluationRequest
from leti.service.store.times import utc
from leti.service.store.workers import PRESENT_S
from leti.service.tasks.worker import Worker

DATABASES = ("sqlite", "postgresql")


def workers(house):
    return [from_json(WorkerInfo, one) for one in house.get("/workers").json()]


def agents(house):
    return [from_json(AgentInfo, one) for one in house.get("/agents").json()]


def test_workers_are_listed_with_what_they_run(house):
    house.add_platform()
    assert workers(house) == []
    begun = house.clock.now
    house.store.workers.seen("host/a", "1.0", started_at=begun)
    house.store.workers.seen("host", "1.0", started_at=begun)
    request = EvaluationRequest(house.platform_id)
    ids = [house.store.tasks.add("evaluate", house.platform_id, request, by="").id for _ in range(5)]
    for name in ("host/1", "host/a", "host/a/2", "gone"):
        house.store.tasks.claim(name, ("evaluate",))
    house.clock.now += PRESENT_S + 1
    house.store.workers.seen("host/a", "1.0", started_at=begun)
    assert workers(house) == [
        WorkerInfo("host", "1.0", utc(begun), utc(begun), False, (ids[0],)),
        WorkerInfo("host/a", "1.0", utc(begun), utc(house.clock.now), True, (ids[1], ids[2])),
    ]


def test_a_worker_says_since_when_it_runs(house):
    worker = Worker(house.store, house.settings, name="one")
    worker.run(threading.Event(), until_idle=True)
    assert workers(house) == [], "one that ends in order is told of no more"
    worker._look_after(threading.Event())
    (first,) = workers(house)
    house.clock.now += 40
    worker._look_after(threading.Event())
    (second,) = workers(house)
    assert (first.started_at, first.version) == (second.started_at, metadata.version("leti"))
    assert first.last_seen < second.last_seen


def test_agents_are_listed_with_what_is_left_of_their_leases(house):
    assert agents(house) == []
    house.add_platform()
    assert agents(house) == [], "nobody has asked for jobs"
    house.add_campaign(count=3)
    first, second = house.lease(2, "one"), house.lease(2, "two")
    at = utc(house.clock.now)
    device = house.platform.device.name
    assert agents(house) == [
        AgentInfo("one", house.platform_id, device, at, first.id, at, True, 2),
        AgentInfo("two", house.platform_id, device, at, second.id, at, True, 1),
    ]
    house.clock.now += 1
    house.store.queue.release(first.id, first.token)
    assert [(one.agent, one.held, one.jobs) for one in agents(house)] == [("two", True, 1)]
    house.clock.now += house.settings.lease_s
    assert [(one.agent, one.held, one.jobs) for one in agents(house)] == [("two", False, 0)], "who was there last"
