"""Jobs: which are lent first, what users see of them, and how they are retried and cancelled."""

from __future__ import annotations

import dataclasses
import json

import pytest

from leti.core.codec import from_json
from leti.core.device import Device
from leti.core.farm import (
    CampaignRequest,
    FailureCount,
    JobPage,
    JobsChanged,
    JobSelection,
    LeaseRequest,
    Sample,
)

DATABASES = ("sqlite", "postgresql")


def page(house, **params):
    answer = house.get("/jobs", **params)
    assert answer.status_code == 200, answer.text
    return from_json(JobPage, answer.json())


def states(house, **params):
    return {info.id: info.state for info in page(house, limit=1000, **params).items}


def change(house, what, **selection):
    answer = house.post(f"/jobs/{what}", JobSelection(**selection))
    assert answer.status_code == 200, answer.text
    return from_json(JobsChanged, answer.json())


def counts(house, by, **params):
    answer = house.get("/failures", by=by, **params)
    assert answer.status_code == 200, answer.text
    return [from_json(FailureCount, item) for item in answer.json()]


def campaigns_of(house, lease):
    found = {info.id: info.campaign_id for info in page(house, limit=1000).items}
    return [found[job.id] for job in lease.jobs]


def test_the_more_urgent_comes_first_then_who_came_first(house):
    first = house.add_campaign("first", count=3, seed=1)
    later = house.add_campaign("later", count=3, seed=2)
    urgent = house.add_campaign("urgent", count=3, seed=3, priority=10, repeats=2, repeat_share=1.0)
    patient = house.add_campaign("patient", count=3, seed=4, priority=-1)
    assert [campaign["priority"] for campaign in (first, urgent, patient)] == [0, 10, -1]
    order = []
    while (lease := house.lease(1)) is not None:
        order += campaigns_of(house, lease)
    expected = [urgent] * 6 + [first] * 3 + [later] * 3 + [patient] * 3
    assert order == [campaign["id"] for campaign in expected]


def test_a_lease_is_filled_with_the_most_urgent(house):
    house.add_campaign("calm", count=4, seed=1)
    urgent = house.add_campaign("urgent", count=2, seed=2, priority=1)
    lease = house.lease(3)
    assert campaigns_of(house, lease)[:2] == [urgent["id"]] * 2
    assert len(lease.jobs) == 3


def test_the_first_measurement_of_a_network_is_profiled(house):
    house.add_campaign("with", count=2, repeats=3, repeat_share=1.0)
    lent = [job for _ in range(3) for job in house.lease(8).jobs]
    assert sorted((job.repeat, job.profile) for job in lent) == sorted(2 * [(0, True), (1, False), (2, False)])
    house.add_campaign("without", count=2, profile=False)
    assert {job.profile for job in house.lease(8).jobs} == {False}


@pytest.mark.sqlite
def test_priority_is_part_of_what_a_campaign_is(house, problem_of):
    first = house.add_campaign(priority=3)
    assert house.add_campaign(priority=3) == first
    request = CampaignRequest("first", house.platform_id, (Sample("nasbench201", 6),), repeats=1, priority=4)
    assert problem_of(house.post("/campaigns", request), 409, "conflict")["field"] == "name"


@pytest.mark.sqlite
@pytest.mark.parametrize("priority", [101, -101, 2**40])
def test_a_priority_has_limits(house, problem_of, priority):
    house.add_platform()
    request = CampaignRequest("first", house.platform_id, (Sample("nasbench201", 1),), priority=priority)
    assert problem_of(house.post("/campaigns", request), 422, "invalid-input")["field"] == "priority"


def test_jobs_are_listed_page_by_page(house):
    campaign = house.add_campaign(count=5)
    other = house.add_campaign("other", count=2, seed=9)
    lease = house.lease(2, agent="agent-3")
    house.fail(lease, lease.jobs[0], "timeout", "60 s")
    pages, cursor = [], 0
    while cursor is not None:
        found = page(house, limit=3, cursor=cursor)
        pages.append(found.items)
        cursor = found.next
    assert [len(items) for items in pages] == [3, 3, 1]
    ids = [info.id for items in pages for info in items]
    assert ids == sorted(set(ids))
    assert {info.campaign_id for info in page(house, campaign_id=other["id"]).items} == {other["id"]}
    (failed,) = page(house, state="failed").items
    assert (failed.id, failed.kind, failed.message, failed.agent) == (lease.jobs[0].id, "timeout", "60 s", "")
    (lent,) = page(house, state="leased").items
    assert (lent.agent, lent.attempts, lent.deaths, lent.kind) == ("agent-3", 1, 0, "")
    assert [i.id for i in page(house, fingerprint=lent.fingerprint, campaign_id=campaign["id"]).items] == [lent.id]
    for digits in (8, 12, 63):
        assert [i.id for i in page(house, fingerprint=lent.fingerprint[:digits]).items] == [lent.id]
    assert page(house, fingerprint="0" * 8).items == ()
    assert page(house, platform_id=house.platform_id, state="poison").items == ()


def test_a_devices_fault_puts_the_job_back_and_says_why(house):
    campaign = house.add_campaign(count=1)
    for deaths in (1, 2):
        lease = house.lease()
        assert house.fail(lease, lease.jobs[0], "link-lost", f"cable {deaths}").status == "stored"
        assert house.fail(lease, lease.jobs[0], "link-lost", f"cable {deaths}").status == "duplicate"
        (info,) = page(house).items
        assert (info.state, info.deaths, info.kind, info.message) == ("queued", deaths, "link-lost", f"cable {deaths}")
    lease = house.lease()
    house.fail(lease, lease.jobs[0], "too-hot", "60 °C")
    (info,) = page(house).items
    assert (info.state, info.deaths, info.attempts, info.kind) == ("poison", 3, 3, "too-hot")
    assert info.message == "outlived 3 leases, the last of which ended so: 60 °C"
    assert house.fail(lease, lease.jobs[0], "too-hot", "60 °C").status == "duplicate"
    assert house.lease() is None
    (told,) = house.get(f"/campaigns/{campaign['id']}/failures").json()["items"]
    assert (told["kind"], told["message"]) == ("poison", info.message)
    assert [(c.kind, c.count) for c in counts(house, "device")] == [("link-lost", 2), ("too-hot", 1)]


def test_what_failed_before_is_forgotten_when_it_is_measured(house):
    house.add_campaign(count=1)
    lease = house.lease()
    house.fail(lease, lease.jobs[0], "device-gone")
    lease = house.lease()
    house.report(lease, lease.jobs[0])
    (info,) = page(house).items
    assert (info.state, info.kind, info.message, info.attempts) == ("done", "", "", 2)
    assert [(c.subject, c.kind, c.count) for c in counts(house, "device")] == [("box", "device-gone", 1)]


def one_of_each(house):
    """Return a campaign with a job in each state, by state."""
    campaign = house.add_campaign(count=6)
    leases = [house.lease(1) for _ in range(6)]
    names = ("poison", "failed", "done", "leased", "queued", "cancelled")
    ids = {state: lease.jobs[0].id for state, lease in zip(names, leases, strict=True)}
    lease = leases[0]
    for _ in range(house.settings.max_deaths):
        house.fail(lease, lease.jobs[0], "no-space", "full")
        lease = house.lease(1)
    house.fail(leases[1], leases[1].jobs[0], "bad-model", "no model")
    house.report(leases[2], leases[2].jobs[0])
    for lease in leases[4:]:
        house.client.delete(f"/v1/leases/{lease.id}", params={"token": lease.token})
    assert change(house, "cancel", job_ids=(ids["cancelled"],)) == JobsChanged(1, 0)
    assert states(house) == {id: state for state, id in ids.items()}
    return campaign, ids, leases[3]


def test_what_has_ended_without_a_measurement_can_be_retried(house):
    campaign, ids, _ = one_of_each(house)
    events = counts(house, "network")
    assert change(house, "retry", campaign_id=campaign["id"]) == JobsChanged(3, 3)
    assert states(house) == {
        ids["poison"]: "queued",
        ids["failed"]: "queued",
        ids["cancelled"]: "queued",
        ids["queued"]: "queued",
        ids["leased"]: "leased",
        ids["done"]: "done",
    }
    infos = {info.id: info for info in page(house).items}
    for state in ("poison", "failed", "cancelled"):
        assert (infos[ids[state]].deaths, infos[ids[state]].kind, infos[ids[state]].message) == (0, "", "")
    assert counts(house, "network") == events  # what happened stays on record
    assert house.measure_all() == 4
    assert change(house, "retry", campaign_id=campaign["id"]) == JobsChanged(0, 6)


def test_what_waits_and_what_is_lent_can_be_cancelled(house):
    campaign, ids, lease = one_of_each(house)
    assert change(house, "cancel", job_ids=tuple(ids.values())) == JobsChanged(2, 4)
    found = states(house)
    assert [found[ids[state]] for state in ("queued", "leased", "cancelled")] == ["cancelled"] * 3
    assert [found[ids[state]] for state in ("done", "failed", "poison")] == ["done", "failed", "poison"]
    assert house.lease() is None
    told = house.get(f"/campaigns/{campaign['id']}").json()
    assert (told["cancelled"], told["queued"], told["leased"], told["done"]) == (3, 0, 0, 1)
    late = house.report(lease, lease.jobs[0], ratio=9.0)
    assert late.status == "late"
    assert house.report(lease, lease.jobs[0], ratio=9.0).status == "duplicate"
    assert house.get(f"/platforms/{house.platform_id}").json()["measurements"] == 1
    assert change(house, "retry", job_ids=(ids["leased"],)) == JobsChanged(1, 0)
    fresh = house.lease()
    assert [job.id for job in fresh.jobs] == [ids["leased"]]
    assert house.report(fresh, fresh.jobs[0], ratio=0.5).status == "stored"


def test_a_failure_of_a_cancelled_job_is_late_and_not_counted(house):
    campaign = house.add_campaign(count=1)
    lease = house.lease()
    change(house, "cancel", campaign_id=campaign["id"])
    assert house.fail(lease, lease.jobs[0], "crashed").status == "late"
    assert house.fail(lease, lease.jobs[0], "crashed").status == "duplicate"
    assert counts(house, "device") == []
    assert house.device().failures_in_a_row == 0
    assert house.rows("SELECT kind, late FROM failures") == [("crashed", True)]


def test_a_failure_after_its_lease_was_lost_is_kept_beside_the_loss(house):
    house.add_campaign(count=1)
    lease = house.lease()
    house.clock.now += house.settings.lease_s + 1
    assert house.fail(lease, lease.jobs[0], "bad-model").status == "late"
    assert house.fail(lease, lease.jobs[0], "bad-model").status == "duplicate"
    assert sorted(house.rows("SELECT kind, late FROM failures")) == [("bad-model", True), ("lost", False)]
    assert [(c.kind, c.count) for c in counts(house, "network")] == [("lost", 1)]
    assert states(house) == {lease.jobs[0].id: "queued"}


def test_a_retried_failure_that_is_sent_again_is_still_a_duplicate(house):
    campaign = house.add_campaign(count=1)
    lease = house.lease()
    house.fail(lease, lease.jobs[0], "bad-model")
    change(house, "retry", campaign_id=campaign["id"])
    assert house.fail(lease, lease.jobs[0], "bad-model").status == "duplicate"
    assert states(house) == {lease.jobs[0].id: "queued"}
    assert [c.count for c in counts(house, "network")] == [1]


def test_a_selection_is_narrowed_to_kinds_of_failure(house):
    campaign = house.add_campaign(count=4)
    lease = house.lease()
    for job, kind in zip(lease.jobs, ("timeout", "timeout", "bad-model", "crashed"), strict=True):
        house.fail(lease, job, kind)
    ids = {job.id for job in lease.jobs[:2]}
    assert change(house, "retry", campaign_id=campaign["id"], kinds=("timeout", "poison")) == JobsChanged(2, 0)
    assert {id for id, state in states(house).items() if state == "queued"} == ids
    assert change(house, "retry", job_ids=(lease.jobs[2].id,), kinds=("timeout",)) == JobsChanged(0, 0)


def test_ids_and_a_campaign_are_both_meant(house):
    first, second = house.add_campaign(count=2), house.add_campaign("second", count=2, seed=5)
    (one, other) = (info.id for info in page(house, campaign_id=second["id"]).items)
    assert change(house, "cancel", job_ids=(one,), campaign_id=first["id"]) == JobsChanged(3, 0)
    assert states(house, campaign_id=second["id"]) == {one: "cancelled", other: "queued"}


def test_jobs_of_several_devices_are_changed_at_once(house):
    house.add_campaign(count=2)
    second = dataclasses.replace(house.platform, device=Device("another", "desktop", "soc", 4))
    house.post("/platforms", second)
    house.post("/campaigns", CampaignRequest("there", second.id, (Sample("nasbench201", 2),), repeats=1))
    assert house.store.queue.claim(LeaseRequest("agent", second.id, 1)) is not None
    assert change(house, "cancel", job_ids=tuple(states(house))) == JobsChanged(4, 0)


def test_failures_are_counted_by_network_and_by_device(house):
    campaign = house.add_campaign(count=3, repeats=2, repeat_share=1.0)
    for _ in range(2):
        lease = house.lease(3)
        for job, kind in zip(sorted(lease.jobs, key=lambda job: job.fingerprint), "ttb", strict=True):
            house.fail(lease, job, {"t": "timeout", "b": "bad-model"}[kind])
    names = sorted({job.fingerprint for job in lease.jobs})
    expected = [(names[0], "timeout", 2), (names[1], "timeout", 2), (names[2], "bad-model", 2)]
    assert [(c.subject, c.kind, c.count) for c in counts(house, "network")] == expected
    by_device = [("box", "timeout", 4), ("box", "bad-model", 2)]
    for params in ({}, {"campaign_id": campaign["id"]}, {"platform_id": house.platform_id}):
        assert [(c.subject, c.kind, c.count) for c in counts(house, "device", **params)] == by_device
    assert len(counts(house, "network", limit=1)) == 1
    other = house.add_campaign("other", count=1, seed=7)
    assert counts(house, "network", campaign_id=other["id"]) == []
    assert house.device().failures == {"bad-model": 2, "timeout": 4}


@pytest.mark.sqlite
def test_bad_selections_are_named(house, problem_of):
    house.add_platform()
    for what in ("retry", "cancel"):
        for selection, status, field in (
            ({}, 422, "job_ids"),
            ({"kinds": ["timeout"]}, 422, "job_ids"),
            ({"job_ids": [1], "kinds": ["timeout", "tired"]}, 422, "kinds[1]"),
            ({"job_ids": ["1"]}, 422, "job_ids[0]"),
            ({"job_ids": list(range(10_001))}, 413, "job_ids"),
            ({"job_ids": [2**63]}, 422, "job_ids[0]"),
            ({"job_ids": [7]}, 404, "job_ids"),
            ({"campaign_id": 7}, 404, "campaign_id"),
            ({"campaign": 7}, 422, "campaign"),
        ):
            answer = house.client.post(
                f"/v1/jobs/{what}", content=json.dumps(selection), headers={"content-type": "application/json"}
            )
            assert problem_of(answer, status)["field"] == field
    for path, status, field in (
        ("/jobs?state=sleeping", 422, "state"),
        ("/jobs?status=done", 422, "status"),
        ("/jobs?limit=0", 422, "limit"),
        ("/jobs?fingerprint=1234567", 422, "fingerprint"),
        ("/jobs?fingerprint=1234567%25", 422, "fingerprint"),
        ("/jobs?campaign_id=7", 404, "campaign_id"),
        ("/jobs?platform_id=nowhere", 404, "platform_id"),
        ("/jobs?state=queued&state=done", 422, "state"),
        ("/jobs?platform_id=a%00", 422, "platform_id"),
        ("/failures", 422, "by"),
        ("/failures?by=weekday", 422, "by"),
        ("/failures?by=device&campaign_id=7", 404, "campaign_id"),
    ):
        assert problem_of(house.client.get(f"/v1{path}"), status)["field"] == field
