"""Statements over many rows or values whose text stays the same however many there are.

PostgreSQL is handed columns as arrays: it reads, plans and answers one statement, where it would else have one for each
row, or one with hundreds of parameters. SQLite stands in the same process: to it, a statement a row costs least.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, final

from typing_extensions import override

from leti.core.extras import needs

with needs("service"):
    from sqlalchemy import ARRAY, Boolean, Column, Connection, Row, Table, Text, bindparam, cast, func, select
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import Dialect
    from sqlalchemy.engine.default import DefaultDialect
    from sqlalchemy.ext.compiler import compiles
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.sql.functions import FunctionElement
    from sqlalchemy.types import TypeDecorator, TypeEngine

Insert: TypeAlias = postgresql.Insert | sqlite.Insert
Values: TypeAlias = Mapping[str, Any]

_NEW: Final = "new"
_OVER: Final = "over"


_PLAIN: Final = DefaultDialect()
"""To which JSON is a text."""

_NUMBERS: Final = frozenset({int, float, bool})

_QUOTED: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _literal(value: Any) -> str:
    """Return a value of the driver's as it stands in the text of an array."""
    if isinstance(value, str):
        return f'"{value}"' if value.isalnum() else f'"{value.translate(_QUOTED)}"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return "NULL" if value is None else str(value)


@final
class _Many(TypeDecorator[Any]):
    """Many values of a type as one text: an array's, or JSON where there are no arrays.

    The driver would look at each value twice to find its type, which the statement says.
    """

    impl = Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        if dialect.name == "sqlite":
            return json.dumps(value)
        bound = self.item.dialect_impl(_PLAIN).bind_processor(_PLAIN)
        ready = value if bound is None else map(bound, value)
        return f"{{{','.join([str(one) if type(one) in _NUMBERS else _literal(one) for one in ready])}}}"


@final
class among(FunctionElement[bool]):
    """The condition that a column's value, a number or a text, is one of ``values``; true of none where none are.

    A name stands for values that are given when the statement is executed.
    """

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: Column[Any], values: Iterable[Any] | str) -> None:
        many = _Many(column.type)
        if isinstance(values, str):
            super().__init__(column, bindparam(values, type_=many))
        else:
            super().__init__(column, bindparam(None, list(values), type_=many, unique=True))

    @override
    def self_group(self, against: Any = None) -> Any:
        """Return the condition as it is: compared with 1, as truths are on SQLite, it would be found by no index."""
        return self


@compiles(among)
def _equal_to_any(element: among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.clauses
    listed = compiler.process(cast(values, ARRAY(column.type)), **options)
    return f"{compiler.process(column, **options)} = ANY ({listed})"


@compiles(among, "sqlite")
def _in_json(element: among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.clauses
    listed = compiler.process(values, **options)
    return f"{compiler.process(column, **options)} IN (SELECT value FROM json_each({listed}))"  # noqa: S608 - parts of SQL


def insert_all(connection: Connection, table: Table, rows: Sequence[Values], *returned: Column[Any]) -> list[Row[Any]]:
    """Insert rows of the same columns, in their order; return some columns of each, in any order."""
    return _insert(connection, table, rows, "", returned)


def insert_new(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows of the same columns, and leave those alone whose key is there already.

    They go in in the order of their keys: two that insert the same rows at once wait for each other one way only.
    """
    _insert(connection, table, _ordered(table, rows), _NEW)


def upsert(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, of all columns each, over those whose key is there already; in the order of their keys."""
    _insert(connection, table, _ordered(table, rows), _OVER)


def _ordered(table: Table, rows: Sequence[Values]) -> Sequence[Values]:
    return sorted(rows, key=operator.itemgetter(*(column.name for column in table.primary_key)))


def _insert(
    connection: Connection, table: Table, rows: Sequence[Values], clash: str, returned: Sequence[Column[Any]] = ()
) -> list[Row[Any]]:
    if not rows:
        return []
    names = tuple(rows[0])
    if connection.dialect.name == "sqlite" or len(rows) == 1:
        found = connection.execute(_of_a_row(table, names, clash, connection.dialect.name, tuple(returned)), rows)
    else:
        columns = {name: [row[name] for row in rows] for name in names}
        found = connection.execute(_of_arrays(table, names, clash, tuple(returned)), columns)
    return list(found.all()) if returned else []


@functools.cache
def _of_a_row(table: Table, names: tuple[str, ...], clash: str, dialect: str, returned: tuple[Column[Any], ...]) -> Any:
    """Return the statement for a row; to put it together takes as long as to run it."""
    adding: Insert = (sqlite if dialect == "sqlite" else postgresql).insert(table)
    return _finished(adding, table, names, clash, returned)


@functools.cache
def _of_arrays(table: Table, names: tuple[str, ...], clash: str, returned: tuple[Column[Any], ...]) -> Any:
    """Return the statement for many rows, whose parameters are columns."""
    arrays = [cast(bindparam(name, type_=_Many(table.c[name].type)), ARRAY(table.c[name].type)) for name in names]
    given = func.unnest(*arrays).table_valued(*names).render_derived()
    adding = postgresql.insert(table).from_select(names, select(*given.c))
    return _finished(adding, table, names, clash, returned)


def _finished(
    adding: Insert, table: Table, names: tuple[str, ...], clash: str, returned: tuple[Column[Any], ...]
) -> Any:
    keys = [column.name for column in table.primary_key]
    if clash == _NEW:
        adding = adding.on_conflict_do_nothing()
    elif clash == _OVER:
        others = {name: adding.excluded[name] for name in names if name not in keys}
        adding = adding.on_conflict_do_update(index_elements=keys, set_=others)
    return adding.returning(*returned) if returned else adding
