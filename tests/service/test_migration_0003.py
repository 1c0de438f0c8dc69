"""Version 0003 of the schema: precisions of networks, and model files by format."""

from __future__ import annotations

import json
import zlib

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra service")

from alembic import command
from sqlalchemy import inspect, text

from leti.core.codec import to_json
from leti.core.device import Device, Platform
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, quantize
from leti.generator.reference import reference_spec
from leti.service.database import alembic_config

BOX = Device("box", "desktop", "soc", 2)
OLD = Platform(BOX, "litert", "2.3.0")
INT8 = Platform(BOX, "litert", "2.3.0", model_precision="full_integer")

DATABASES = ("sqlite", "postgresql")


def upgrade(database, revision):
    with database.writing() as connection:
        command.upgrade(alembic_config(connection), revision)


def downgrade(database, revision):
    with database.writing() as connection:
        command.downgrade(alembic_config(connection), revision)


def execute(database, statement, **values):
    with database.writing() as connection:
        connection.execute(text(statement), values)


def rows(database, statement):
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(statement)).all()]


def said_of_platforms(database):
    found = rows(database, "SELECT id, platform FROM platforms")
    return {name: said if isinstance(said, dict) else json.loads(said) for name, said in found}


def references():
    return {precision: quantize(lower(reference_spec()), precision) for precision in PRECISIONS}


def insert_network(database, graph, sha256):
    execute(
        database,
        "INSERT INTO networks (fingerprint, space, spec, zero, isomorphism_class, degenerate, macs, params,"
        " peak_memory_bytes, graph, model_sha256, created_at) VALUES (:fingerprint, 'nasbench201', '{}', 'execute',"
        " 'one', :no, 1, 1, 1, :graph, :sha256, 5.0)",
        fingerprint=graph.fingerprint(),
        no=False,
        graph=zlib.compress(json.dumps(graph.to_json(), separators=(",", ":")).encode(), 6),
        sha256=sha256,
    )


def insert_platform(database, platform, reference, said):
    execute(
        database,
        "INSERT INTO platforms (id, platform, reference, last_token, created_at)"
        " VALUES (:id, :platform, :reference, 3, 5.0)",
        id=platform.id,
        platform=json.dumps(said),
        reference=reference,
    )


def without_precision(platform):
    return {name: value for name, value in to_json(platform).items() if name != "model_precision"}


def test_model_files_move_to_their_own_table_and_back(database):
    upgrade(database, "0002")
    graphs = references()
    sha256s = {"float32": "aa" * 32, "float16": None, "dynamic_range": "bb" * 32, "full_integer": "cc" * 32}
    for precision, graph in graphs.items():
        insert_network(database, graph, sha256s[precision])
    insert_platform(database, OLD, graphs["float32"].fingerprint(), without_precision(OLD))
    upgrade(database, "0003")
    expected = {(graphs[name].fingerprint(), "tflite", sha256) for name, sha256 in sha256s.items() if sha256}
    assert set(rows(database, "SELECT fingerprint, format, sha256 FROM model_files")) == expected
    found = dict(rows(database, "SELECT fingerprint, precision FROM networks"))
    assert found == {graph.fingerprint(): precision for precision, graph in graphs.items()}
    assert said_of_platforms(database) == {OLD.id: without_precision(OLD)}
    onnx = "INSERT INTO model_files (fingerprint, format, sha256) VALUES (:fingerprint, 'onnx', :sha256)"
    execute(database, onnx, fingerprint=graphs["float16"].fingerprint(), sha256="dd" * 32)

    downgrade(database, "0002")
    found = dict(rows(database, "SELECT fingerprint, model_sha256 FROM networks"))
    assert found == {graphs[name].fingerprint(): sha256 for name, sha256 in sha256s.items()}
    with database.reading() as connection:
        assert "model_files" not in inspect(connection).get_table_names()
    upgrade(database, "0003")
    assert set(rows(database, "SELECT fingerprint, format, sha256 FROM model_files")) == expected


def test_platforms_lose_what_the_release_before_cannot_read_and_get_it_back(database):
    upgrade(database, "0003")
    graphs = references()
    downgrade(database, "0002")
    for graph in graphs.values():
        insert_network(database, graph, None)
    upgrade(database, "0003")
    insert_platform(database, OLD, graphs["float32"].fingerprint(), to_json(OLD))
    insert_platform(database, INT8, graphs["full_integer"].fingerprint(), to_json(INT8))
    downgrade(database, "0002")
    assert said_of_platforms(database) == {OLD.id: without_precision(OLD), INT8.id: without_precision(INT8)}
    upgrade(database, "0003")
    assert said_of_platforms(database) == {OLD.id: without_precision(OLD), INT8.id: to_json(INT8)}
