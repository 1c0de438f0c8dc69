"""Reading: a file that was sent becomes a header and rows, none of which is believed yet."""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from leti.core.codec import Json
from leti.core.datasets import DatasetFormat, DatasetHeader, DatasetRow
from leti.core.errors import InvalidInput, TooLarge
from leti.service.datasets.columns import COLUMNS, HEADER, MAX_CELL, check_names, header_of, parsed, row_of
from leti.service.settings import Settings
from leti.service.uploads import sandbox
from leti.service.uploads.reading import told_problem

READER: Final = (sys.executable, "-I", "-B", "-m", "leti.service.datasets.child")
"""Python by itself: nothing of the environment or of a user's folder is imported."""

csv.field_size_limit(MAX_CELL)


@contextmanager
def opened(path: Path, form: DatasetFormat, settings: Settings) -> Iterator[tuple[DatasetHeader, Iterator[DatasetRow]]]:
    """Give a file's header, and its rows as they are read.

    Raises :class:`InvalidInput` naming the row and the column that do not fit (or a class below it, where the file
    takes more than it may), :class:`~leti.core.errors.VersionMismatch` for a file of another version, and
    :class:`~leti.core.errors.MissingExtra` where pyarrow is not installed, which reads Parquet.
    """
    with OPENERS[form](path, settings) as lines:
        header = header_of(next(lines))
        yield header, _rows(lines, settings.max_dataset_networks)


def _rows(lines: Iterator[Json], most: int) -> Iterator[DatasetRow]:
    for i, cells in enumerate(lines):
        if i == most:
            raise TooLarge(f"holds more than {most} networks", field="rows", limit=most)
        yield row_of(cells, f"rows[{i}]")


# --- CSV -------------------------------------------------------------------------------------------------------------


@contextmanager
def _csv(path: Path, settings: Settings) -> Iterator[Iterator[Json]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield _csv_lines(file)


def _csv_lines(file: IO[str]) -> Iterator[Json]:
    """Yield the header's text, then the cells of each row, numbers as numbers."""
    reader = csv.reader(_bounded(file), strict=True)
    lines = _caught(reader)
    names = next(lines, [])
    wanted = (*COLUMNS, HEADER)
    check_names(names, wanted)
    places = {name: names.index(name) for name in wanted}
    first = True
    for i, cells in enumerate(lines):
        if len(cells) != len(names):
            raise InvalidInput(f"has {len(cells)} cells", field=f"rows[{i}]", remedy=f"{len(names)}, as the first line")
        header = cells[places[HEADER]]
        if first:
            yield header
        elif header:
            raise InvalidInput("stands in the first row alone", field=f"rows[{i}].{HEADER}")
        first = False
        yield [_cell(cells[places[name]], name, i) for name in COLUMNS]
    if first:
        raise InvalidInput("holds no network", field="rows")


def _cell(text: str, name: str, i: int) -> Json:
    return parsed(text, f"rows[{i}].{name}") if COLUMNS[name] in ("number", "whole") else text


def _bounded(file: IO[str]) -> Iterator[str]:
    """Yield lines; raise for one that no row of cells within their limit could be."""
    most = len(COLUMNS) * MAX_CELL
    while line := file.readline(most):
        if len(line) == most:
            raise TooLarge("has a line that is too long", field="(body)", limit=most)
        yield line


def _caught(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield what a reader of CSV does, its errors as ours."""
    number = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeError) as error:
            raise InvalidInput(f"is not CSV in UTF-8 after {number} rows: {error}", field="(body)") from None
        yield cells
        number += 1


# --- Parquet ---------------------------------------------------------------------------------------------------------


@contextmanager
def _parquet(path: Path, settings: Settings) -> Iterator[Iterator[Json]]:
    """Have the sandbox read the file, and give what it tells."""
    limits = sandbox.Limits(settings.parse_timeout_s, settings.parse_memory_bytes, settings.max_dataset_bytes)
    with tempfile.TemporaryFile() as said:
        command = (*READER, str(settings.max_dataset_networks))
        sandbox.pour(command, path, "dataset.parquet", limits, said.write)
        said.seek(0)
        yield _told_lines(said)


def _told_lines(said: IO[bytes]) -> Iterator[Json]:
    """Yield the header's text, then the cells of each row."""
    count = -1
    for line in said:
        told = json.loads(line)
        if not isinstance(told, dict):
            yield told
            count += 1
        elif "problem" in told:
            raise told_problem(told["problem"])
        elif told.get("rows") == count:
            return
    raise InvalidInput("ended the process that read it", field="(body)", remedy="check the file")


OPENERS: Final[Mapping[DatasetFormat, Callable[[Path, Settings], Any]]] = MappingProxyType(
    {"csv": _csv, "parquet": _parquet}
)
