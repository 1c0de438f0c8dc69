"""Version 0002 of the schema: graphs of the release before are named and written as this one does."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra service")

from alembic import command
from sqlalchemy import text

from leti.core.graph import Graph
from leti.core.spec import NetworkSpec
from leti.generator.lowering import lower
from leti.generator.reference import reference_spec
from leti.service.database import alembic_config

BEFORE = json.loads((Path(__file__).parent / "networks_0001.json").read_text())
"""Networks as the release of schema 0001 stored them: fingerprint, spec, zero, peak memory, graph."""

REFERRING = {
    "platforms": ("reference",),
    "reference_latencies": ("reference",),
    "jobs": ("fingerprint",),
    "dataset_items": ("fingerprint",),
    "measurements": ("fingerprint", "reference"),
    "holdout_points": ("fingerprint",),
    "predictions": ("fingerprint",),
}

DATABASES = ("sqlite", "postgresql")


def migrate(database, revision):
    with database.writing() as connection:
        move = command.downgrade if revision == "0001" else command.upgrade
        move(alembic_config(connection), revision)


def rows(database, statement):
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(statement)).all()]


def unpacked(content):
    return json.loads(zlib.decompress(content))


def insert_networks(database):
    statement = text(
        "INSERT INTO networks (fingerprint, space, spec, zero, isomorphism_class, degenerate, macs, params,"
        " peak_memory_bytes, graph, model_sha256, created_at) VALUES (:fingerprint, :space, :spec, :zero, :class, :no,"
        " 1, 1, :peak, :graph, :sha256, 5.0)"
    )
    with database.writing() as connection:
        for item in BEFORE:
            values = {
                "fingerprint": item["fingerprint"],
                "space": item["spec"]["space"],
                "spec": json.dumps(item["spec"]),
                "zero": item["zero"],
                "class": "one",
                "no": False,
                "peak": item["peak_memory_bytes"],
                "graph": zlib.compress(json.dumps(item["graph"], separators=(",", ":")).encode(), 6),
                "sha256": "ab" * 32,
            }
            connection.execute(statement, values)


def test_stored_graphs_become_what_their_specs_lower_to_now(database):
    with database.writing() as connection:
        command.upgrade(alembic_config(connection), "0001")
    insert_networks(database)
    migrate(database, "0002")
    found = {row[0]: row[1:] for row in rows(database, "SELECT fingerprint, peak_memory_bytes, graph FROM networks")}
    expected = [lower(NetworkSpec.from_json(item["spec"]), item["zero"]) for item in BEFORE]
    assert found.keys() == {graph.fingerprint() for graph in expected}
    for graph in expected:
        peak, packed = found[graph.fingerprint()]
        assert (peak, unpacked(packed)) == (graph.peak_memory_bytes, graph.to_json())
        assert Graph.from_json(unpacked(packed)).fingerprint() == graph.fingerprint()
    (kept,) = set(rows(database, "SELECT isomorphism_class, macs, model_sha256, created_at FROM networks"))
    assert kept == ("one", 1, None, 5.0)


def test_going_back_names_them_as_before(database):
    with database.writing() as connection:
        command.upgrade(alembic_config(connection), "0001")
    insert_networks(database)
    migrate(database, "0002")
    migrate(database, "0001")
    found = {row[0]: unpacked(row[1]) for row in rows(database, "SELECT fingerprint, graph FROM networks")}
    assert found.keys() == {item["fingerprint"] for item in BEFORE}
    for item in BEFORE:
        assert found[item["fingerprint"]]["ops"] == item["graph"]["ops"]


def test_everything_that_refers_to_a_network_goes_along(house):
    house.add_campaign(count=8)
    house.measure_all()
    database = house.store._database
    house.store.close()

    def names():
        found = {("networks", "fingerprint"): rows(database, "SELECT fingerprint FROM networks")}
        for table, columns in REFERRING.items():
            for column in columns:
                found[table, column] = rows(database, f"SELECT {column} FROM {table}")
        measured = [unpacked(row[0]) for row in rows(database, "SELECT measurement FROM measurements ORDER BY id")]
        found["measurement", "fingerprint"] = [(item["fingerprint"],) for item in measured]
        found["measurement", "reference"] = [(item["reference"],) for item in measured]
        return {place: sorted(values) for place, values in found.items()}

    now = names()
    assert len(now["networks", "fingerprint"]) == 9
    assert len(now["measurements", "fingerprint"]) == 8
    migrate(database, "0001")
    before = names()
    assert {place: len(values) for place, values in before.items()} == {place: len(v) for place, v in now.items()}
    modern = {name for values in now.values() for name in values}
    assert modern.isdisjoint(name for values in before.values() for name in values)
    known = set(before["networks", "fingerprint"])
    assert all(set(values) <= known for values in before.values())
    migrate(database, "0002")
    assert names() == now
    database.close()

    house.open()  # as a user sees it: measured still, under the same name
    assert house.store.networks.get(lower(reference_spec()).fingerprint()).space == "nasbench201"
    found = house.store.lookups.find(house.platform_id, [name for (name,) in now["jobs", "fingerprint"]])
    assert len(found.truths) == 8
