"""Version 0004 of the schema: devices, failures as events, jobs that may be cancelled."""

from __future__ import annotations

import dataclasses
import json

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra service")

from alembic import command
from sqlalchemy import text

from leti.core.codec import to_json
from leti.core.device import Device
from leti.core.farm import JobSelection
from leti.service.database import alembic_config

DATABASES = ("sqlite", "postgresql")

KEPT = {
    "jobs": "id, campaign_id, fingerprint, repeat, position, attempts, deaths, lease_id, noisy",
    "platforms": "id, reference, last_token, last_heartbeat, created_at",
    "leases": "id, platform_id, agent, token, state, expires_at",
    "measurements": "id, job_id, lease_id, ratio, late",
    "campaigns": "id, name, digest, networks",
}


def migrate(database, move, revision):
    with database.writing() as connection:
        move(alembic_config(connection), revision)


def rows(database, statement):
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(statement)).all()]


def kept(database):
    return {table: sorted(rows(database, f"SELECT {columns} FROM {table}")) for table, columns in KEPT.items()}


@pytest.fixture
def lived(house):
    """A house where a job is in each state, and a second platform of the same device came later, under a newer OS."""
    house.add_campaign(count=6)
    leases = [house.lease(1, agent=f"agent-{i}") for i in range(4)]
    house.report(leases[0], leases[0].jobs[0])
    house.fail(leases[1], leases[1].jobs[0], "bad-model", "no model")
    poison = leases[2].jobs[0].id
    house.store.jobs.cancel(JobSelection((leases[3].jobs[0].id,)))
    with house.store._database.writing() as connection:
        ended = "state = 'poison', deaths = 3, failure_kind = 'lost', failure_message = 'agent fell silent'"
        connection.execute(text(f"UPDATE jobs SET {ended} WHERE id = {poison}"))
    newer = dataclasses.replace(house.platform, device=Device("box", "desktop", "soc", 2, "Linux 7"))
    house.clock.now += 10
    assert house.post("/platforms", newer).status_code == 200
    database = house.store._database
    yield house, database
    database.close()


def test_going_back_and_forth_keeps_what_both_know(lived):
    _, database = lived
    before = kept(database)
    states = dict(rows(database, "SELECT id, state FROM jobs"))
    assert sorted(states.values()) == ["cancelled", "done", "failed", "poison", "queued", "queued"]
    migrate(database, command.downgrade, "0003")
    assert kept(database) == before
    found = {row[0]: row[1:] for row in rows(database, "SELECT id, state, failure_kind, failure_message FROM jobs")}
    cancelled, poison = (next(id for id, was in states.items() if was == state) for state in ("cancelled", "poison"))
    assert found[cancelled] == ("failed", "cancelled", "was cancelled")
    assert found[poison][:2] == ("poison", "poison")
    migrate(database, command.upgrade, "0004")
    assert kept(database) == before
    assert dict(rows(database, "SELECT id, state FROM jobs")) == states
    assert rows(database, f"SELECT failure_kind FROM jobs WHERE id = {cancelled}") == [(None,)]
    assert set(rows(database, "SELECT priority, profile FROM jobs")) == {(0, False)}
    assert rows(database, "SELECT priority FROM campaigns") == [(0,)]


def test_devices_appear_with_the_newest_of_what_their_platforms_say(lived):
    house, database = lived
    migrate(database, command.downgrade, "0003")
    migrate(database, command.upgrade, "0004")
    ((name, said, state, heard, created),) = rows(
        database, "SELECT name, device, reported_state, last_heartbeat, created_at FROM devices"
    )
    said = said if isinstance(said, dict) else json.loads(said)
    assert (name, said, state) == ("box", to_json(Device("box", "desktop", "soc", 2, "Linux 7")), "available")
    ((first_heard,),) = rows(database, "SELECT MAX(last_heartbeat) FROM platforms")
    assert (heard, created) == (first_heard, house.clock.now - 10)
    assert rows(database, "SELECT DISTINCT device FROM platforms") == [("box",)]
    migrate(database, command.upgrade, "head")  # the store reads the newest schema alone
    device = house.device()
    assert (device.state, len(device.platforms), device.measured) == ("busy", 2, 1)


def test_what_is_known_of_earlier_failures_becomes_events(lived):
    house, database = lived
    migrate(database, command.downgrade, "0003")
    migrate(database, command.upgrade, "0004")
    found = rows(database, "SELECT kind, message, agent, device, late FROM failures ORDER BY id")
    assert [(*row[:-1], bool(row[-1])) for row in found] == [
        ("bad-model", "no model", "agent-1", "box", False),
        ("lost", "agent fell silent", "agent-2", "box", False),
    ]
    migrate(database, command.upgrade, "head")  # the store reads the newest schema alone
    assert house.device().failures == {"bad-model": 1, "lost": 1}


def test_an_empty_database_goes_both_ways(house):
    database = house.store._database
    migrate(database, command.downgrade, "0003")
    migrate(database, command.upgrade, "0004")
    migrate(database, command.upgrade, "head")  # the store reads the newest schema alone
    assert house.get("/devices").json() == []
