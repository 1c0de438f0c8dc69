"""Truths, totals and counts that are kept as results come are what counting everything anew would give."""

from __future__ import annotations

from itertools import groupby

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from leti.core.farm import JobSelection, Receipt
from leti.core.measurement import repeatability, truth
from leti.service.database import alembic_config
from leti.service.store.truths import find_totals, ratios_by_network

DATABASES = ("sqlite", "postgresql")
SUMMED = ("truths", "platform_totals", "campaign_totals")

RATIOS = st.sampled_from((0.5, 0.502, 0.51, 0.53, 0.6, 1.0))
STEP = st.one_of(
    st.tuples(st.just("lease"), st.integers(1, 6)),
    st.tuples(st.just("report"), st.lists(st.tuples(RATIOS, st.sampled_from(("calm", "noisy", "failed"))), max_size=5)),
    st.tuples(st.just("again"), st.integers(1, 4)),
    st.tuples(st.just("run out"), st.none()),
    st.tuples(st.just("retry"), st.none()),
    st.tuples(st.just("cancel"), st.integers(1, 12)),
)


class Life:
    """What a farm goes through: jobs lent, reported in batches, lost, retried, cancelled."""

    def __init__(self, house):
        self.house = house
        self.held = []
        self.sent = []

    def lease(self, count):
        lease = self.house.lease(count)
        self.held += [(lease, job) for job in lease.jobs] if lease else []

    def report(self, said):
        ready, self.held = self.held[: len(said)], self.held[len(said) :]
        results = []
        for (lease, job), (ratio, kind) in zip(ready, said, strict=False):
            result = self.house.result(lease, job, ratio=ratio, noisy=kind == "noisy")
            if kind == "failed":
                result = self.house.failed(lease, job, "bad-model")
            results.append(result)
        self.send(results)

    def again(self, count):
        self.send(self.sent[-count:])

    def send(self, results):
        if results:
            outcomes = self.house.store.queue.accept_all(results)
            assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
            self.sent += results

    def run_out(self, _):
        self.house.clock.now += 1e4

    def retry(self, _):
        self.house.store.jobs.retry(JobSelection(campaign_id=1))

    def cancel(self, job_id):
        self.house.store.jobs.cancel(JobSelection((job_id,)))


def check(house):
    """Compare what is kept with a count of everything."""
    with house.store._database.reading() as connection:
        platform = connection.execute(text("SELECT id, reference FROM platforms")).one()
        ratios = ratios_by_network(connection, platform.id, platform.reference)
        totals = find_totals(connection, platform)
        on_time = connection.execute(text("SELECT COUNT(*) FROM measurements WHERE NOT late")).scalar_one()
        states = connection.execute(text("SELECT campaign_id, state, noisy FROM jobs ORDER BY campaign_id")).all()
        newest = dict(
            connection.execute(
                text("SELECT fingerprint, MAX(id) FROM measurements WHERE NOT late AND NOT noisy GROUP BY fingerprint")
            ).all()
        )
        assert dict(connection.execute(text("SELECT fingerprint, newest FROM truths")).all()) == newest
    known = house.store.lookups.find(platform.id, sorted({*ratios, "0" * 64})).truths
    assert known == {fingerprint: truth(found) for fingerprint, found in ratios.items()}
    assert (totals.networks, totals.measurements) == (len(ratios), sum(map(len, ratios.values())))
    assert totals.on_time == on_time
    assert totals.agreement.shares() == repeatability(list(ratios.values()))
    for campaign_id, rows in groupby(states, key=lambda row: row.campaign_id):
        campaign, of_campaign = house.store.campaigns.get(campaign_id), list(rows)
        for state in ("queued", "leased", "done", "failed", "poison", "cancelled"):
            assert getattr(campaign, state) == sum(row.state == state for row in of_campaign), state
        assert campaign.noisy == sum(bool(row.noisy) for row in of_campaign)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEP, min_size=4, max_size=14))
def test_what_is_kept_is_what_counting_gives(house, steps):
    """One house lives through all examples, one after the other, each in campaigns of its own."""
    number = len(house.store.campaigns.page(platform_id=None, cursor=0, limit=1000).items)
    house.add_campaign(f"campaign-{number}", count=3, repeats=4, repeat_share=1.0)
    life = Life(house)
    for kind, value in [("lease", 6), *steps, ("report", [(0.5, "calm"), (0.51, "calm"), (0.6, "noisy")])]:
        getattr(life, kind.replace(" ", "_"))(value)
    check(house)
    house.store.devices.release(house.platform.device.name)


def test_the_migration_sums_up_what_is_there(house):
    house.add_campaign(count=4, repeats=3, repeat_share=0.5)
    first = house.lease(2)
    house.clock.now += 1e4
    house.measure_all()
    house.report(first, first.jobs[0])  # late
    house.add_campaign("second", count=5, seed=3)
    lease = house.lease(3)
    house.report(lease, lease.jobs[0], noisy=True)
    house.fail(lease, lease.jobs[1], "bad-model")
    check(house)
    before = {table: sorted(house.rows(f"SELECT * FROM {table}"), key=repr) for table in SUMMED}
    assert all(before.values())
    for move, revision in ((command.downgrade, "0007"), (command.upgrade, "head")):
        with house.store._database.writing() as connection:
            move(alembic_config(connection), revision)
    assert {table: sorted(house.rows(f"SELECT * FROM {table}"), key=repr) for table in SUMMED} == before
    check(house)


@pytest.mark.sqlite
def test_answers_do_not_count_measurements(house):
    """Whatever is asked of a platform, no statement reads the table of measurements row by row."""
    house.add_campaign(count=3)
    house.measure_all()
    plans = []
    fingerprint = house.get("/measurements").json()["items"][0]["fingerprint"]
    database = house.store._database

    def explain(connection, _cursor, statement, parameters, _context, _many):
        if statement.startswith("SELECT"):
            found = connection.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend((path, row[3]) for row in found)

    from sqlalchemy import event

    event.listen(database._engine, "before_cursor_execute", explain)
    for path in (
        "/platforms",
        "/devices",
        "/campaigns",
        f"/measurements?fingerprint={fingerprint[:8]}",
        f"/measurements?platform_id={house.platform_id}",
        "/measurements?campaign_id=1",
        f"/jobs?fingerprint={fingerprint}",
        f"/jobs?platform_id={house.platform_id}",
        "/jobs?campaign_id=1",
        "/jobs?state=failed",
    ):
        assert house.client.get(f"/v1{path}").status_code == 200
    assert house.store.lookups.find(house.platform_id, [fingerprint]).truths[fingerprint].count == 1
    assert plans
    assert not [one for one in plans if one[1] in ("SCAN measurements", "SCAN jobs", "SCAN truths")], plans
