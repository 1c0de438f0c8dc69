"""Columns: what a file of a dataset holds, the same in Parquet and in CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

from leti.core.codec import Json, from_json, to_json
from leti.core.datasets import FILE_VERSION, DatasetHeader, DatasetRow
from leti.core.errors import InvalidInput, VersionMismatch, printable

Kind = Literal["text", "json", "number", "whole"]

COLUMNS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "fingerprint": "text",
        "space": "text",
        "spec": "json",
        "zero": "text",
        "precision": "text",
        "graph": "json",
        "part": "text",
        "group": "text",
        "ratio": "number",
        "count": "whole",
        "spread": "number",
        "latency_ms": "number",
        "operator_times": "json",
    }
)
"""The fields of a :class:`DatasetRow`, in order, with what their cells hold."""

HEADER: Final = "dataset"
"""The column of CSV whose first cell, and else none, is the header as JSON; in Parquet, with ``leti.`` before it, the
key of the schema's metadata."""

METADATA: Final = f"leti.{HEADER}".encode()

MAX_CELL: Final = 4 * 2**20
"""Characters of a cell: some three times what a graph of 5,000 operators takes."""

_ABSENT: Final = {"spec": None, "graph": None, "operator_times": ()}


def check_names(found: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise :class:`InvalidInput` where the names of columns are not those wanted, each once, in any order."""
    for name in (*wanted, *found):
        if name not in wanted or found.count(name) != 1:
            reason = "is no column of a dataset" if name not in wanted else "must be there once"
            raise InvalidInput(reason, field=printable(name[:80]), remedy=f"the columns are {', '.join(wanted)}")


def cells_of(row: DatasetRow) -> list[str | float | int]:
    """Return the cells of a row; what is absent is an empty text."""
    said = to_json(row)
    return [
        said[name] if kind != "json" else written(said[name]) if said[name] else "" for name, kind in COLUMNS.items()
    ]


def row_of(cells: Sequence[Json], where: str) -> DatasetRow:
    """Return the row that cells say; raise :class:`InvalidInput` naming the column below ``where``."""
    values: dict[str, Any] = dict(zip(COLUMNS, cells, strict=True))
    for name, kind in COLUMNS.items():
        if kind == "json":
            values[name] = parsed(values[name], f"{where}.{name}") if values[name] else _ABSENT[name]
    return from_json(DatasetRow, values, where)


def header_of(text: str) -> DatasetHeader:
    """Return the header that a file begins with; raise :class:`VersionMismatch` for files of another version."""
    said = parsed(text, HEADER)
    version = said.get("file_version") if isinstance(said, dict) else None
    if isinstance(version, int) and version != FILE_VERSION:
        raise VersionMismatch(
            f"the file is of version {version}, this release reads {FILE_VERSION}",
            field=f"{HEADER}.file_version",
            remedy="export it with the same release of LETI",
        )
    return from_json(DatasetHeader, said, HEADER)


def written(value: Json) -> str:
    """Return a JSON value as text, numbers exact."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def parsed(text: Json, where: str) -> Json:
    """Return what JSON text says; raise :class:`InvalidInput` where it is none, or no text."""
    if not isinstance(text, str):
        raise InvalidInput("must be text", field=where)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"is not JSON: {str(error)[:200]}", field=where) from None
