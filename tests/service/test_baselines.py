"""Baselines of campaigns: whoever measures what, and whatever becomes of it, a network has its yardstick beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra service")

from sqlalchemy import event

from leti.core.codec import to_json
from leti.core.farm import CampaignRequest, JobSelection, Sample
from leti.generator.lowering import lower
from leti.generator.precision import quantize
from leti.generator.spaces import get_space

DATABASES = ("sqlite", "postgresql")


def specs(house, count):
    return [spec.to_json() for spec in get_space("nasbench201").sample(count, 3, house.small)]


def begin(house, count=16, name="beside", **fields):
    """Create a campaign with a baseline that is none of its networks; return it as the service tells it."""
    house.add_platform()
    baseline, *networks = specs(house, count + 1)
    request = CampaignRequest(name, house.platform_id, networks=tuple(networks), baseline=baseline, repeats=1)
    answer = house.post("/campaigns", replace(request, **fields))
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def baselines(lease, campaign):
    return [job for job in lease.jobs if job.fingerprint == campaign["baseline"]]


def leases(house, most):
    while (lease := house.lease(most)) is not None:
        yield lease
        for job in lease.jobs:
            house.report(lease, job)


@pytest.mark.parametrize("most", [2, 8])
def test_every_lease_has_the_baseline_once_among_no_more_jobs_than_were_asked_for(house, most):
    campaign = begin(house)
    assert campaign["networks"] == 17
    sizes = []
    for lease in leases(house, most):
        assert len(baselines(lease, campaign)) == 1
        assert len({job.fingerprint for job in lease.jobs}) == len(lease.jobs) <= most
        sizes.append(len(lease.jobs) - 1)
    assert sum(sizes) == 16
    assert len(sizes) == -(-16 // (most - 1))
    ended = house.get(f"/campaigns/{campaign['id']}").json()
    assert (ended["done"], ended["queued"], ended["leased"]) == (16 + len(sizes), 0, 0)
    page = house.get("/measurements", campaign_id=campaign["id"]).json()["items"]
    together = Counter(row["lease_id"] for row in page)
    of_baseline = {row["lease_id"]: row["repeat"] for row in page if row["fingerprint"] == campaign["baseline"]}
    assert together.keys() == of_baseline.keys()
    assert sorted(of_baseline.values()) == list(range(len(sizes)))


@pytest.mark.sqlite
def test_leases_of_one_job_measure_the_baseline_once_and_first(house):
    campaign = begin(house, 3)
    lent = [lease.jobs[0].fingerprint for lease in leases(house, 1)]
    assert lent[0] == campaign["baseline"]
    assert len(lent) == len(set(lent)) == 4


@pytest.mark.sqlite
def test_repeats_are_measured_beside_it_as_well_and_it_may_be_one_of_the_networks(house):
    baseline = specs(house, 1)[0]
    networks = tuple(specs(house, 4))
    campaign = begin(house, baseline=baseline, networks=networks, repeats=3, repeat_share=1.0)
    assert campaign["networks"] == 4
    others = Counter()
    for lease in leases(house, 8):
        assert len(baselines(lease, campaign)) == 1
        others.update(job.fingerprint for job in lease.jobs)
    assert set(others.values()) == {3}


def test_what_is_lent_again_has_it_again_and_no_more_of_it_than_that_takes(house):
    campaign = begin(house, 14)
    dead, released = house.lease(), house.lease(agent="another")
    assert [len(baselines(lease, campaign)) for lease in (dead, released)] == [1, 1]
    assert house.client.delete(f"/v1/leases/{released.id}", params={"token": released.token}).status_code == 204
    house.clock.now += house.settings.lease_s + 1
    again = list(leases(house, 8))
    assert [len(baselines(lease, campaign)) for lease in again] == [1, 1]
    assert {job.repeat for lease in again for job in baselines(lease, campaign)} == {0, 1}
    assert house.get(f"/campaigns/{campaign['id']}").json()["done"] == 16


def test_one_that_cannot_be_measured_holds_nothing_up_until_it_is_tried_again(house):
    campaign = begin(house, 12)
    first = house.lease()
    (failing,) = baselines(first, campaign)
    for job in first.jobs:
        assert (house.fail if job == failing else house.report)(first, job).status == "stored"
    without = house.lease(4)
    assert (len(without.jobs), baselines(without, campaign)) == (3, [])
    for job in without.jobs:
        house.report(without, job)
    assert house.post("/jobs/retry", JobSelection((failing.id,))).json()["changed"] == 1
    (last,) = leases(house, 8)
    assert (len(last.jobs), baselines(last, campaign)[0].id) == (3, failing.id)


@pytest.mark.sqlite
def test_one_that_is_the_death_of_its_agents_takes_no_more_than_its_first_neighbours_along(house):
    campaign = begin(house, 20)
    for _ in range(2):
        assert len(baselines(house.lease(), campaign)) == 1
        house.clock.now += house.settings.lease_s + 1
    lent = list(leases(house, 8))
    assert [len(lease.jobs) for lease in lent] == [7, 6, *8 * [1]]  # those that died with it, and it, each alone
    assert sum(len(baselines(lease, campaign)) for lease in lent) == 1


def test_campaigns_share_leases_each_with_its_own_baseline(house):
    house.add_campaign("plain", 3)
    first, second = begin(house, 4, "first"), begin(house, 2, "second")
    lent = list(leases(house, 8))
    campaign_of = dict(house.rows("SELECT id, campaign_id FROM jobs"))
    shared = [{campaign_of[job.id] for job in lease.jobs} for lease in lent]
    assert len(shared[0]) == 2  # the plain one's, and those of the first
    assert first["baseline"] == second["baseline"]  # of which a lease has one: the second campaign waits
    for campaign in (first, second):
        for lease in lent:
            if campaign["id"] in {campaign_of[job.id] for job in lease.jobs}:
                assert [campaign_of[job.id] for job in baselines(lease, campaign)] == [campaign["id"]]
    other = specs(house, 9)[8]
    third, fourth = (
        begin(house, 2, "third"),
        begin(house, name="fourth", baseline=other, networks=tuple(specs(house, 7)[5:])),
    )
    (both,) = leases(house, 8)
    assert len(both.jobs) == 6
    assert [len(baselines(both, campaign)) for campaign in (third, fourth)] == [1, 1]


@pytest.mark.sqlite
def test_it_is_read_like_any_network_and_what_is_wrong_with_it_is_said(house, problem_of):
    house.add_platform()
    ask = {"name": "n", "platform_id": house.platform_id, "networks": [house.architecture], "repeats": 1}
    assert (
        problem_of(house.client.post("/v1/campaigns", json=ask | {"baseline": "ab" * 32}), 404)["field"] == "baseline"
    )
    assert (
        problem_of(house.client.post("/v1/campaigns", json=ask | {"baseline": {"graph": 3}}), 422)["field"]
        == "baseline.graph"
    )
    assert problem_of(house.client.post("/v1/campaigns", json=ask | {"baseline": 3}), 422)["field"] == "baseline"
    graph = lower(get_space("nasbench201").sample(1, 9, house.small)[0])
    made = house.client.post("/v1/campaigns", json=ask | {"baseline": {"graph": to_json(graph)}})
    assert (made.status_code, made.json()["baseline"]) == (201, graph.fingerprint())
    assert (
        problem_of(house.client.post("/v1/campaigns", json=ask | {"baseline": house.architecture}), 409)["field"]
        == "name"
    )
    assert house.client.post("/v1/campaigns", json=ask | {"name": "m"}).json()["baseline"] == ""


@pytest.mark.sqlite
def test_on_a_platform_of_whole_numbers_a_graph_that_has_them_is_the_one_that_runs(house_on):
    from leti.core.device import Device, Platform

    platform = Platform(
        Device("box", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack", model_precision="full_integer"
    )
    house = house_on(platform)
    house.add_platform()
    graphs = [lower(spec) for spec in get_space("nasbench201").sample(2, 9, house.small)]
    integers = [quantize(graph, "full_integer") for graph in graphs]
    given = [{"graph": to_json(graph)} for graph in (integers[0], graphs[1])]
    request = CampaignRequest("n", platform.id, networks=(given[0],), baseline=given[1], repeats=1)
    made = house.post("/campaigns", request).json()
    assert made["baseline"] == integers[1].fingerprint()
    assert {job.fingerprint for job in house.lease().jobs} == {graph.fingerprint() for graph in integers}


@pytest.mark.sqlite
def test_a_claim_without_one_costs_what_it_did_and_finds_its_jobs_by_the_index(house):
    said = []
    engine = house.store._database._engine

    @event.listens_for(engine, "before_cursor_execute")
    def listen(connection, cursor, statement, parameters, context, executemany):
        said.append((statement, parameters))

    def claim():
        said.clear()
        lease = house.lease()
        found = [statement for statement, _ in said if not statement.startswith(("PRAGMA", "BEGIN", "SAVEPOINT"))]
        return lease, found

    house.add_campaign("plain", 16)
    lease, plain = claim()
    assert len(lease.jobs) == 8
    asked, parameters = next(one for one in said if "FROM jobs" in one[0] and "ORDER BY" in one[0])
    with house.store._database.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}", parameters).all()
    told = " ".join(row[3] for row in plan)
    assert "USING INDEX ix_jobs_platform_id_state_priority" in told
    assert "TEMP B-TREE" not in told
    list(leases(house, 8))
    begin(house, 16)
    for extra in (0, 3):  # the first one is queued; each further one is looked for, made and counted
        lease, beside = claim()
        assert len(lease.jobs) == 8
        assert len(beside) == len(plain) + extra


@pytest.mark.sqlite
def test_samples_are_measured_beside_it_too(house):
    campaign = begin(house, networks=(), samples=(Sample("nasbench201", 9, 1, house.small),))
    assert [len(baselines(lease, campaign)) for lease in leases(house, 8)] == [1, 1]
