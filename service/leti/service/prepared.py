"""Prepared statements: put together once, and then only run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from sqlalchemy import Select
from sqlalchemy.sql.compiler import SQLCompiler

from leti.service.database import Database


@final
class Prepared:
    """A SELECT of a database, whose parameters are named, and none of which expands.

    SQLAlchemy's way with a statement takes several times as long as SQLite's with a look-up by key. Rows hold what the
    driver makes of the columns: this is for numbers and texts.
    """

    def __init__(self, database: Database, statement: Select[Any]) -> None:
        compiled = statement.compile(dialect=database.dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - what a SELECT becomes
        self._database = database
        self._text = str(compiled)
        self._names = compiled.positiontup
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}

    def __call__(self, **values: Any) -> Sequence[Any]:
        """Return the rows for the values of its parameters."""
        given = {**self._constants, **values}
        named = self._names
        return self._database.ask(self._text, given if named is None else [given[name] for name in named])
