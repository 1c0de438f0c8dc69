"""Leases, results, and agents that die."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from leti.core.farm import Failure, Heartbeat, LeaseRequest, Result
from leti.core.measurement import Pass

DATABASES = ("sqlite", "postgresql")


def counts(house, campaign):
    found = house.get(f"/campaigns/{campaign['id']}").json()
    return {state: found[state] for state in ("queued", "leased", "done", "failed", "poison") if found[state]}


def test_the_same_result_twice_is_one_measurement(house):
    campaign = house.add_campaign(count=2)
    lease = house.lease()
    first = house.report(lease, lease.jobs[0])
    assert first.status == "stored"
    again = house.report(lease, lease.jobs[0])
    assert (again.status, again.measurement_id) == ("duplicate", first.measurement_id)
    house.clock.now += 1e6  # long after the lease
    assert house.report(lease, lease.jobs[0]) == again
    assert len(house.get("/measurements").json()["items"]) == 1
    assert counts(house, campaign)["done"] == 1


def test_results_of_one_job_sent_at_once_are_one_measurement(house):
    house.add_campaign(count=1)
    lease = house.lease()
    result = house.result(lease, lease.jobs[0])
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(house.store.queue.accept, [result] * 16))
    assert Counter(receipt.status for receipt in receipts) == {"stored": 1, "duplicate": 15}
    assert len({receipt.measurement_id for receipt in receipts}) == 1


def test_a_result_under_a_lost_lease_is_kept_as_late_and_the_job_goes_on(house):
    campaign = house.add_campaign(count=1)
    lost = house.lease(agent="slow")
    house.clock.now += house.settings.lease_s + 1
    late = house.report(lost, lost.jobs[0], ratio=9.0)
    assert late.status == "late"
    assert house.report(lost, lost.jobs[0], ratio=9.0).status == "duplicate"
    assert counts(house, campaign) == {"queued": 1}
    fresh = house.lease(agent="quick")
    assert fresh.jobs[0].attempt == 2
    assert fresh.token > lost.token
    assert house.report(fresh, fresh.jobs[0], ratio=0.5).status == "stored"
    assert counts(house, campaign) == {"done": 1}
    assert [row["late"] for row in house.get("/measurements").json()["items"]] == [True, False]
    assert house.get(f"/platforms/{house.platform_id}").json()["measurements"] == 1


def test_a_late_result_after_the_job_is_done_is_no_second_truth(house):
    house.add_campaign(count=1)
    lost = house.lease()
    house.clock.now += house.settings.lease_s + 1
    fresh = house.lease()
    house.report(fresh, fresh.jobs[0], ratio=0.5)
    assert house.report(lost, lost.jobs[0], ratio=9.0).status == "late"
    assert house.get(f"/platforms/{house.platform_id}").json()["measurements"] == 1


def test_heartbeats_keep_a_lease_and_a_lost_one_stays_lost(house, problem_of):
    house.add_campaign(count=1)
    lease = house.lease()
    for _ in range(4):
        house.clock.now += house.settings.lease_s * 0.9
        assert house.post(f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token)).status_code == 204
    assert house.lease() is None
    house.clock.now += house.settings.lease_s + 1
    for _ in range(2):
        said = problem_of(house.post(f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token)), 409, "lease-lost")
        assert said["field"] == "lease_id"
    assert house.lease().jobs[0].id == lease.jobs[0].id


def test_another_agents_token_does_not_open_a_lease(house, problem_of):
    house.add_campaign(count=1)
    lease = house.lease()
    path = f"/leases/{lease.id}"
    problem_of(house.post(f"{path}/heartbeat", Heartbeat(lease.token + 1)), 409, "lease-lost")
    problem_of(house.client.delete(f"/v1{path}", params={"token": lease.token + 1}), 409, "lease-lost")
    problem_of(house.post("/results", Result(lease.id, lease.token + 1, 1, 0, failure=Failure("other", "x"))), 409)


def test_a_released_lease_gives_its_unfinished_jobs_back(house):
    campaign = house.add_campaign(count=3)
    lease = house.lease()
    house.report(lease, lease.jobs[0])
    for _ in range(2):
        assert house.client.delete(f"/v1/leases/{lease.id}", params={"token": lease.token}).status_code == 204
    assert counts(house, campaign) == {"done": 1, "queued": 2}
    assert {job.id for job in house.lease().jobs} == {job.id for job in lease.jobs[1:]}


def test_a_job_that_kills_its_agents_is_set_aside_and_its_neighbours_are_measured(house):
    campaign = house.add_campaign(count=4)
    killer = house.lease().jobs[2].id
    for _ in range(20):
        house.clock.now += house.settings.lease_s + 1
        lease = house.lease()
        if lease is None:
            break
        if killer not in [job.id for job in lease.jobs]:
            for job in lease.jobs:
                assert house.report(lease, job).status == "stored"
    assert counts(house, campaign) == {"done": 3, "poison": 1}


def test_poison_says_why(house):
    house.add_campaign(count=1)
    for _ in range(house.settings.max_deaths):
        assert house.lease(agent="box-7") is not None
        house.clock.now += house.settings.lease_s + 1
    assert house.lease() is None
    ((state, reason),) = house.rows("SELECT state, failure_message FROM jobs")
    assert state == "poison"
    assert "box-7" in reason


def test_a_failure_ends_the_job_and_is_a_duplicate_the_second_time(house):
    campaign = house.add_campaign(count=1)
    lease = house.lease()
    failed = Result(lease.id, lease.token, lease.jobs[0].id, 0, failure=Failure("timeout", "60 s"))
    assert house.post("/results", failed).json() == {"status": "stored", "measurement_id": None}
    assert house.post("/results", failed).json() == {"status": "duplicate", "measurement_id": None}
    assert counts(house, campaign) == {"failed": 1}
    (told,) = house.get(f"/campaigns/{campaign['id']}/failures").json()["items"]
    assert (told["id"], told["kind"], told["message"]) == (lease.jobs[0].id, "timeout", "60 s")
    assert house.lease() is None


def test_claims_at_once_never_lend_a_job_twice(house):
    house.add_campaign(count=30, repeats=2, repeat_share=0.5)
    request = LeaseRequest("agent", house.platform_id, 4)

    def claim(_):
        found = []
        while (lease := house.store.queue.claim(request)) is not None:
            found.append(lease)
        return found

    with ThreadPoolExecutor(8) as pool:
        leases = [lease for found in pool.map(claim, range(8)) for lease in found]
    lent = Counter(job.id for lease in leases for job in lease.jobs)
    assert len(lent) == 45
    assert set(lent.values()) == {1}
    assert len({lease.token for lease in leases}) == len(leases)
    assert all(len({job.fingerprint for job in lease.jobs}) == len(lease.jobs) for lease in leases)


def test_tokens_grow(house):
    house.add_campaign(count=5)
    tokens = [house.lease(1).token for _ in range(5)]
    assert tokens == sorted(set(tokens))


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("field", "value"), [("fingerprint", "0" * 64), ("platform_id", "elsewhere"), ("reference", "0" * 64)]
)
def test_a_measurement_of_something_else_is_refused(house, problem_of, field, value):
    campaign = house.add_campaign(count=1)
    lease = house.lease()
    said = problem_of(house.post("/results", house.result(lease, lease.jobs[0], **{field: value})), 422)
    assert said["field"] == f"measurement.{field}"
    assert counts(house, campaign) == {"leased": 1}


@pytest.mark.sqlite
def test_a_ratio_that_cannot_be_is_refused(house, problem_of):
    house.add_campaign(count=1)
    lease = house.lease()
    for times in ((1e-300, 1.0), (5e-324, 9e8), (9e8, 5e-324)):
        absurd = house.result(lease, lease.jobs[0], passes=(Pass((times[0],), (times[1],)),))
        assert problem_of(house.post("/results", absurd), 422)["field"] == "measurement.passes"
    assert house.report(lease, lease.jobs[0]).status == "stored"


@pytest.mark.sqlite
def test_a_result_needs_a_measurement_or_a_failure_and_the_jobs_repeat(house, problem_of):
    house.add_campaign(count=1)
    lease = house.lease()
    job = lease.jobs[0]
    problem_of(house.post("/results", Result(lease.id, lease.token, job.id, 0)), 422, "invalid-input")
    both = house.result(lease, job)
    both = Result(lease.id, lease.token, job.id, 0, both.measurement, Failure("other", "x"))
    problem_of(house.post("/results", both), 422, "invalid-input")
    wrong = Result(lease.id, lease.token, job.id, 3, failure=Failure("other", "x"))
    assert problem_of(house.post("/results", wrong), 422)["field"] == "repeat"
    unknown = Result(lease.id, lease.token, 999, 0, failure=Failure("other", "x"))
    assert problem_of(house.post("/results", unknown), 404)["field"] == "job_id"


def test_an_agent_at_work_shows_as_a_heartbeat(house):
    house.add_campaign(count=1)
    assert house.get(f"/platforms/{house.platform_id}").json()["last_heartbeat"] is None
    lease = house.lease()
    first = house.get(f"/platforms/{house.platform_id}").json()["last_heartbeat"]
    house.clock.now += 5
    house.post(f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token))
    assert house.get(f"/platforms/{house.platform_id}").json()["last_heartbeat"] > first


def test_a_clock_that_goes_back_does_not_put_jobs_out_of_reach(house):
    """The service starts again on a machine whose clock was wrong: what ran out tomorrow runs out today."""
    campaign = house.add_campaign(count=1)
    lease = house.lease()
    house.clock.now -= 86_400
    assert house.lease(agent="other") is None
    house.clock.now += house.settings.lease_s - 1
    house.post(f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token))
    house.clock.now += 2
    assert house.lease(agent="other") is None
    house.clock.now += house.settings.lease_s
    again = house.lease(agent="other")
    assert house.report(again, again.jobs[0]).status == "stored"
    assert counts(house, campaign) == {"done": 1}
