"""Connections: what each kind of database needs of them."""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Final

from leti.core.extras import needs

with needs("service"):
    from sqlalchemy import Connection, Engine, event, exc
    from sqlalchemy.pool import ConnectionPoolEntry

WRITE: Final = "leti_write"
"""Execution option of a connection whose transaction takes SQLite's write lock when it begins."""

BUSY_S: Final = 30
"""Seconds that a writer waits for another."""

IDLE_S: Final = 1.0
"""Seconds after which a connection to a server is tried before it is used again: the server may have restarted."""

_LAID_DOWN: Final = "laid_down"


def prepare(engine: Engine) -> None:
    """Have the connections of an engine set up as its database needs it."""
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    else:
        _try_idle(engine)


def _use_write_ahead_log(connection: Any) -> None:
    """Switch to the mode in which readers and a writer do not wait for each other; it stays in the file.

    Services that start together on a new file want this at once, and SQLite lets the slower ones fail without waiting.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _try_idle(engine: Engine) -> None:
    """Try connections that lay idle before they are used; to try each time takes as long as a look-up does.

    What loses its server within :data:`IDLE_S` is told so by the statement, and all connections are made anew.
    """

    @event.listens_for(engine, "checkin")
    def checkin(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_LAID_DOWN] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def checkout(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        laid_down = record.info.get(_LAID_DOWN)
        if laid_down is None or time.monotonic() - laid_down < IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise exc.InvalidatePoolError from error


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where sqlite3 guesses
        for pragma in (f"busy_timeout={BUSY_S * 1000}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        _use_write_ahead_log(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
