"""The schema and the database's border: migrations against the models, errors translated."""

from __future__ import annotations

import ast
import sqlite3
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from threading import Barrier

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra service")

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import exc, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

import leti.migrations
from leti.core.errors import Conflict, InvalidInput, LetiError, MissingExtra, NotFound, StorageError, VersionMismatch
from leti.service import connections
from leti.service.bulk import among
from leti.service.database import CHUNK, Database, alembic_config, chunks
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.tables import jobs, measurements, metadata, platforms

DATABASES = ("sqlite", "postgresql")


def differences(database):
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)


def tables_of(database):
    with database.reading() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_migrations_make_what_the_models_say(database):
    assert differences(database)
    database.upgrade()
    assert differences(database) == []
    assert tables_of(database) == set(metadata.tables)
    database.upgrade()
    assert differences(database) == []


def test_migrations_can_be_undone_and_done_again(database):
    database.upgrade()
    with database.writing() as connection:
        command.downgrade(alembic_config(connection), "base")
    assert tables_of(database) == set()
    database.upgrade()
    assert differences(database) == []


def test_partial_indexes_are_those_of_the_models(database):
    made = []
    for build in (lambda: database.upgrade(), None):
        if build is None:
            with database.writing() as connection:
                command.downgrade(alembic_config(connection), "base")
                metadata.create_all(connection)
        else:
            build()
        query = "SELECT name, sql FROM sqlite_master WHERE sql LIKE '% WHERE %'"
        if not database.is_sqlite:
            query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
        with database.reading() as connection:
            found = connection.execute(text(query)).all()
            made.append({name: partial for name, sql in found if (partial := sql.lower().count("where"))})
    assert made[0] == made[1]
    assert len(made[0]) == 2


def test_one_on_time_measurement_a_job_and_one_active_predictor_a_platform_are_the_databases_own_rules(house):
    house.add_campaign(count=1)
    lease = house.lease()
    house.report(lease, lease.jobs[0])
    house.clock.now += 1e6
    database = house.store._database
    names = ", ".join(column.name for column in measurements.c if column.name != "id")
    for _ in range(2):  # leases that a second measurement could be of
        execute(
            database,
            "INSERT INTO leases (platform_id, agent, token, state, expires_at, created_at)"
            " SELECT platform_id, agent, token + 1, 'expired', 0, 0 FROM leases ORDER BY id DESC LIMIT 1",
        )
    copied = names.replace("lease_id", "lease_id + 1")
    with pytest.raises(StorageError):
        execute(database, f"INSERT INTO measurements ({names}) SELECT {copied} FROM measurements")
    copied = copied.replace("late", "TRUE")
    execute(database, f"INSERT INTO measurements ({names}) SELECT {copied} FROM measurements")
    with pytest.raises(StorageError):
        execute(database, f"INSERT INTO measurements ({names}) SELECT {copied} FROM measurements WHERE NOT late")


def test_migrations_are_closed_documents():
    (folder,) = {Path(path) / "versions" for path in leti.migrations.__path__}
    files = sorted(folder.glob("*.py"))
    assert files
    for file in files:
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert not [name for name in imported if name and name.startswith("leti")], file


def test_services_that_start_together_make_one_schema(blank):
    together = Barrier(4)

    def start(_):
        together.wait()
        Store.open(blank).close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))


def test_a_database_that_cannot_be_reached_is_named_as_it_was_given(tmp_path):
    blocked = tmp_path / "leti.sqlite"
    blocked.mkdir()
    for url, field in (("", "home"), (f"sqlite:///{blocked}", "database_url")):
        with pytest.raises(StorageError) as caught:
            Store.open(Settings(tmp_path, database_url=url))
        assert caught.value.field == field
        assert (str(tmp_path) in caught.value.remedy) == (field == "home")


def test_a_server_that_is_gone_is_a_storage_error_on_every_way_to_it():
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    gone = Database("postgresql://leti@127.0.0.1:1/leti?connect_timeout=2")
    with pytest.raises(StorageError, match="refused"):
        gone.ask("SELECT 1", ())
    with pytest.raises(StorageError, match="refused"), gone.reading():
        pass


def test_only_databases_that_are_known_are_opened(monkeypatch):
    with pytest.raises(InvalidInput) as caught:
        Database("mysql://root@localhost/leti")
    assert caught.value.field == "database_url"
    for url in ("nonsense", "", "postgresql://user:secret@host:port/leti"):
        with pytest.raises(InvalidInput) as caught:
            Database(url)
        assert caught.value.field == "database_url"
        assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for url in ("postgresql://localhost/leti", "postgres://localhost/leti", "postgresql+psycopg://localhost/leti"):
        with pytest.raises(MissingExtra) as missing:
            Database(url)
        assert missing.value.details["extra"] == "postgres"


def test_reading_sees_one_state_of_the_database(house):
    house.add_platform()
    database = house.store._database
    with database.reading() as connection:
        count = text("SELECT COUNT(*) FROM campaigns")
        assert connection.execute(count).scalar() == 0
        house.add_campaign(count=1)
        assert connection.execute(count).scalar() == 0
    with database.reading() as connection:
        assert connection.execute(count).scalar() == 1


def test_a_schema_from_the_future_is_a_version_mismatch(tmp_path):
    settings = Settings(tmp_path)
    Store.open(settings).close()
    with sqlite3.connect(settings.database_file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(VersionMismatch, match="unknown to this release"):
        Store.open(settings)


def test_a_file_that_is_no_database_is_a_storage_error(tmp_path):
    settings = Settings(tmp_path)
    settings.database_file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError) as caught:
        Store.open(settings)
    assert caught.value.field == "home"
    assert str(tmp_path) in caught.value.remedy


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        Store.open(Settings(tmp_path / "file" / "home"))
    assert caught.value.field == "home"


def test_a_store_opens_in_folders_with_awkward_names(tmp_path):
    for name in ("a space", "100%", "what?", "ünïcode#1"):
        settings = Settings(tmp_path / name)
        Store.open(settings).close()
        Store.open(settings).close()
        assert settings.database_file.is_file()


def sqlalchemy_errors():
    queue, found = [exc.SQLAlchemyError], []
    while queue:
        cls = queue.pop()
        found.append(cls)
        queue.extend(cls.__subclasses__())
    return sorted(found, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", sqlalchemy_errors(), ids=lambda cls: cls.__name__)
def test_no_error_of_sqlalchemy_is_forgotten(cls, tmp_path):
    given = {"statement": "SELECT 1", "params": {}, "orig": Exception("reason"), "cycles": [], "edges": []}
    asked = list(signature(cls).parameters.values())
    names = [p.name for p in asked if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    error = cls(*[given.get(name, "reason") for name in names])
    database = Database(f"sqlite:///{tmp_path / 'it.sqlite'}")
    with pytest.raises(LetiError) as caught, database.reading():
        raise error
    database.close()
    assert caught.value.__cause__ is error
    assert "SELECT" not in str(caught.value)


def execute(database, statement, **parameters):
    with database.writing() as connection:
        connection.execute(text(statement), parameters)


def test_errors_are_translated_at_the_border(database):
    database.upgrade()
    with pytest.raises(StorageError):
        execute(database, "SELECT * FROM nothing")
    for value, kind in ((2**63, "BIGINT"), ("\ud800", "TEXT")):
        with pytest.raises(InvalidInput):
            execute(database, f"SELECT CAST(:value AS {kind})", value=value)
    with pytest.raises(StorageError), Database("sqlite:////nowhere/at/all.sqlite").reading():
        pass


def test_a_failed_transaction_leaves_nothing(house):
    reference = house.add_platform()["reference"]
    database = house.store._database
    row = {"id": uuid.uuid4().hex, "platform": {}, "reference": reference, "last_token": 0, "created_at": 0.0}

    def half() -> None:
        with database.writing() as connection:
            database.insert_new(connection, platforms, [row])
            raise Conflict("no")

    with pytest.raises(Conflict):
        half()
    with pytest.raises(NotFound):
        house.store.platforms.platform(row["id"])


def test_the_schema_can_be_written_for_postgresql():
    dialect = postgresql.dialect()
    made = {table.name: str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables}
    assert "id BIGSERIAL" in made["jobs"]
    assert "measurement BYTEA" in made["measurements"]
    (partial,) = (index for index in metadata.tables["predictors"].indexes if index.unique)
    assert "WHERE active" in str(CreateIndex(partial).compile(dialect=dialect))


def test_chunks_hold_everything_once():
    values = [str(i) for i in range(2 * CHUNK + 3)]
    parts = list(chunks(values))
    assert [len(part) for part in parts] == [CHUNK, CHUNK, 3]
    assert [value for part in parts for value in part] == values
    assert list(chunks([])) == []


@pytest.mark.sqlite
def test_many_values_are_found_by_an_index(house):
    found = select(jobs.c.state).where(among(jobs.c.id, [1, 2]))
    with house.store._database.reading() as connection:
        statement = f"EXPLAIN QUERY PLAN {found.compile(connection)}"
        plan = [row[-1] for row in connection.exec_driver_sql(statement, ("[1, 2]",))]
    assert any("USING INTEGER PRIMARY KEY" in step for step in plan), plan
    assert not any("SCAN jobs" in step for step in plan), plan


def backend(connection):
    return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()


def lose_a_connection(database):
    """Have the server end a connection that lies in the pool, as it does where it restarts; return its number."""
    if database.is_sqlite:
        pytest.skip("has no server that may end connections")
    with database.reading() as other:
        with database.reading() as connection:
            lost = backend(connection)
        assert other.execute(text("SELECT pg_terminate_backend(:lost, 5000)"), {"lost": lost}).scalar_one()
    return lost


def test_a_connection_that_lay_idle_is_tried_before_it_is_used(database, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_S", 0.0)
    lost = lose_a_connection(database)
    with database.reading() as first, database.reading() as second:
        assert lost not in {backend(first), backend(second)}


def test_a_connection_that_is_lost_in_use_is_told_once(database, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_S", float("inf"))
    lose_a_connection(database)
    with pytest.raises(StorageError), database.reading() as connection:
        backend(connection)
    with database.reading() as first, database.reading() as second:
        assert backend(first) != backend(second)
