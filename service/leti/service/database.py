"""The database: connections, transactions, the schema, and the border where SQLAlchemy's errors are translated."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar, final

from leti.core.errors import InvalidInput, LetiError, StorageError, VersionMismatch
from leti.core.extras import needs
from leti.service import bulk
from leti.service.connections import WRITE, prepare
from leti.service.settings import Settings

with needs("service"):
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError
    from sqlalchemy import (
        URL,
        Column,
        Connection,
        Dialect,
        Engine,
        PoolProxiedConnection,
        QueuePool,
        Row,
        Table,
        create_engine,
        exc,
        func,
        make_url,
        select,
    )
    from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")

POOLED: Final = 25
"""Connections kept open, and again as many under load: more than the threads that serve requests (40)."""

UPGRADE_LOCK: Final = 0x1E71
"""The advisory lock under which a PostgreSQL's schema is upgraded: services that start together take turns."""

CHECKED: Final = 2**30
"""Bytes up to which a SQLite file is read through to see whether it is whole."""

CHUNK: Final = 5_000
"""Values in one IN list: SQLite takes 32,766 variables a statement, PostgreSQL 65,535."""


@final
@dataclass(frozen=True, slots=True)
class Schema:
    """A database's schema version, ``None`` where it has none yet, and the one that this code needs."""

    found: str | None
    needed: str

    @property
    def current(self) -> bool:
        """Whether this code can serve it."""
        return self.found == self.needed


@final
@dataclass(frozen=True, slots=True)
class Pool:
    """Connections: in use, kept open at most, opened beyond that; how often, and how long in all, threads waited."""

    checked_out: int
    size: int
    overflow: int
    waits: int
    waited_s: float


@final
@dataclass(frozen=True, slots=True)
class Facts:
    """A database's make: its product and version, how long an answer takes, its clock, and how safely it writes.

    ``apart_s`` is by how much its clock is ahead of this machine's, or behind (negative), at least.
    ``settings`` are those on which it depends that nothing acknowledged is lost, ``unsafe`` values of which it may be.
    ``damage`` is what SQLite's own check found, empty where nothing, or where the file is too large to be read through.
    """

    product: str
    version: str
    answer_ms: float
    apart_s: float
    settings: Mapping[str, str]
    unsafe: frozenset[str]
    damage: str = ""


@final
class Database:
    """A database at ``url``: SQLite (in WAL mode) or PostgreSQL. Raises only errors of LETI's tree."""

    def __init__(self, url: str | URL) -> None:
        with _border():
            parsed = _parsed(url)
            with needs("postgres"):
                self._engine: Engine = create_engine(parsed, pool_size=POOLED, max_overflow=POOLED)
        self.is_sqlite: Final = self._engine.dialect.name == "sqlite"
        prepare(self._engine)
        # SQLite's own writers look again and again whether it is their turn, and some never have it: those of one
        # process take turns here, those of several there.
        self._turns = threading.Lock()
        self._waits = 0
        self._waited_s = 0.0
        self._counting = threading.Lock()

    @classmethod
    def named_by(cls, settings: Settings) -> Database:
        """Return the database that settings name: a server's, or the file in the home folder."""
        return cls(settings.database_url or URL.create("sqlite", database=str(settings.database_file)))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the database and changes nothing."""
        with _border(), self._connect() as connection:
            if not self.is_sqlite:  # by itself PostgreSQL shows each statement the state of its own moment
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def glancing(self) -> Iterator[Connection]:
        """Open a connection for one SELECT: the statement is a transaction of its own, and a server is told no more."""
        if self.is_sqlite:
            with self.reading() as connection:
                yield connection
        else:
            with _border(), self._connect() as connection:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block; SQLite shuts other writers out from its start."""
        with self._turns if self.is_sqlite else contextlib.nullcontext(), _border(), self._connect() as connection:
            connection = connection.execution_options(**{WRITE: True})
            with connection.begin():
                yield connection

    def _connect(self) -> Connection:
        with self._waiting():
            return self._engine.connect()

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Count the time that a connection is waited for."""
        started = time.perf_counter()
        try:
            yield
        finally:
            waited_s = time.perf_counter() - started
            with self._counting:
                self._waits += 1
                self._waited_s += waited_s

    @property
    def dialect(self) -> Dialect:
        """How statements are put to this database."""
        return self._engine.dialect

    def ask(self, text: str, values: Any) -> Sequence[Any]:
        """Return the rows of a SELECT in the driver's own words: a transaction of its own."""
        try:
            with self._waiting():
                connection = self._engine.raw_connection()
        except exc.SQLAlchemyError as error:
            raise translated(error) from error
        except self.dialect.loaded_dbapi.Error as error:  # nobody wraps it where a raw connection cannot be made
            raise translated(exc.DBAPIError(text, None, error)) from error
        try:
            return self._rows(connection, text, values)
        except self.dialect.loaded_dbapi.Error as error:
            connection.invalidate()
            raise translated(exc.DBAPIError(text, None, error)) from error
        finally:
            connection.close()

    def _rows(self, connection: PoolProxiedConnection, text: str, values: Any) -> Sequence[Any]:
        driver: Any = connection.driver_connection
        if not self.is_sqlite:  # whose connections begin nothing by themselves: a server is spared two messages
            driver.autocommit = True
        cursor = connection.cursor()
        try:
            cursor.execute(text, values)
            return cursor.fetchall()
        finally:
            cursor.close()
            if not self.is_sqlite:
                driver.autocommit = False

    def pool(self) -> Pool:
        """Return how busy the connections are."""
        pool = self._engine.pool
        assert isinstance(pool, QueuePool)  # noqa: S101 - what both kinds of database get
        with self._counting:
            return Pool(pool.checkedout(), pool.size(), max(pool.overflow(), 0), self._waits, self._waited_s)

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert ``rows`` of the same columns, and leave those alone whose key is there already."""
        bulk.insert_new(connection, table, rows)

    def insert_all(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *returned: Column[Any]
    ) -> list[Row[Any]]:
        """Insert ``rows`` of the same columns, in their order; return some columns of each, in any order."""
        return bulk.insert_all(connection, table, rows, *returned)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert ``rows``, of all columns each, over those whose key is there already."""
        bulk.upsert(connection, table, rows)

    def insert_one(self, connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
        """Insert a row; return false where its key is there already, also one that somebody else just inserted."""
        dialect = sqlite if self.is_sqlite else postgresql
        adding = dialect.insert(table).on_conflict_do_nothing().values(**row)
        return connection.execute(adding.returning(*table.primary_key)).first() is not None

    def schema(self) -> Schema:
        """Return which version the schema has, and which this code needs."""
        with self.reading() as connection:
            return Schema(MigrationContext.configure(connection).get_current_revision(), _newest())

    def facts(self) -> Facts:
        """Return what is to be known of the database itself."""
        with self.reading() as connection:
            started = time.perf_counter()
            connection.execute(select(1))
            answer_ms = (time.perf_counter() - started) * 1e3

            def ask(statement: str) -> str:
                return str(connection.exec_driver_sql(statement).scalar())

            if self.is_sqlite:
                found = {name: ask(f"PRAGMA {name}") for name in ("journal_mode", "synchronous")}
                size = int(ask("PRAGMA page_count")) * int(ask("PRAGMA page_size"))
                damage = ask("PRAGMA quick_check(1)") if size < CHECKED else "ok"
                damage = "" if damage == "ok" else damage
                unsafe = frozenset({"0", "1", "off", "memory", "delete"})  # of synchronous: OFF and NORMAL
                return Facts("SQLite", sqlite3.sqlite_version, answer_ms, 0.0, found, unsafe, damage)
            found = {name: ask(f"SHOW {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")}
            asked_at, now = time.time(), float(ask("SELECT extract(epoch FROM clock_timestamp())"))
            apart_s = now - min(max(now, asked_at), time.time())
            version = ask("SHOW server_version").split()[0]
            return Facts("PostgreSQL", version, answer_ms, apart_s, found, frozenset({"off"}))

    def check_schema(self) -> None:
        """Raise :class:`VersionMismatch` where the schema is not the one that this code needs."""
        schema = self.schema()
        if not schema.current:
            raise VersionMismatch(
                f"the database's schema is {schema.found or 'missing'}, this release needs {schema.needed}",
                field="database",
                remedy="bring it there with `leti migrate`, once; a newer one needs the release that wrote it",
            )

    def upgrade(self) -> None:
        """Bring the schema to the newest version; raise :class:`VersionMismatch` where it is newer than this code."""
        if self.schema().current:  # the scripts of all versions are not read for that
            return
        try:
            with self.writing() as connection:
                if not self.is_sqlite:
                    connection.execute(select(func.pg_advisory_xact_lock(UPGRADE_LOCK)))
                command.upgrade(alembic_config(connection), "head")
        except CommandError as error:
            raise VersionMismatch(
                f"the database's schema is unknown to this release: {error}",
                field="database",
                remedy="serve it with the release of LETI that wrote it, or a newer one",
            ) from error


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for ``connection``; the scripts are those of the installed migrations room."""
    config = _scripts()
    config.attributes["connection"] = connection
    return config


def _scripts() -> Config:
    env = resources.files("leti.migrations") / "env.py"
    config = Config()
    config.set_main_option("script_location", str(Path(str(env)).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@functools.cache
def _newest() -> str:
    """Return the version that the installed scripts lead to; they stay the same as long as this code runs."""
    needed = ScriptDirectory.from_config(_scripts()).get_current_head()
    assert needed is not None  # noqa: S101 - the migrations are installed with the code
    return needed


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield ``values`` in pieces that fit into one statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def _parsed(url: str | URL) -> URL:
    """Return the address of a database of a known kind, PostgreSQL's with the driver that LETI brings."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:  # which may hold a password
        raise InvalidInput(
            "is not the address of a database", field="database_url", remedy="give postgresql://user@host/name"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput(
            f"{parsed.get_backend_name()!r} is neither SQLite nor PostgreSQL",
            field="database_url",
            remedy="give postgresql://user@host/name, or none for a file of its own",
        )
    return parsed


@contextlib.contextmanager
def _border() -> Iterator[None]:
    try:
        yield
    except (OverflowError, UnicodeError, exc.SQLAlchemyError) as error:
        raise translated(error) from error


def translated(error: Exception) -> LetiError:
    """Return what went wrong in the database as an error of LETI's tree; the statement stays with its cause."""
    if isinstance(error, OverflowError | UnicodeError | exc.DataError):
        return InvalidInput(
            "holds a number or text that cannot be stored", remedy="numbers up to 2^63-1, text in UTF-8"
        )
    reason = str(error.orig) if isinstance(error, exc.DBAPIError) and error.orig else type(error).__name__
    reason = reason.partition("\n")[0]  # PostgreSQL goes on with what stands in the rows
    return StorageError(
        f"the database refused: {reason[:200]}", remedy="try again; if it stays so, see the service's log"
    )
