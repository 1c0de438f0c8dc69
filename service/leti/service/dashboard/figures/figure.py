"""Figures: one set of columns, which is drawn, listed and downloaded."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

Cell = float | int | str | None

MOST_ROWS: Final = 5_000
"""Rows of a figure: what is more is put together on the server, never sent one by one."""

MOST_SHOWN: Final = 200
"""Rows of the table below a figure; all of them are in the file."""


@final
@dataclass(frozen=True, slots=True)
class Column:
    """One column: its key in the data, its heading (with the unit), and a cell a row.

    A ``hidden`` one is in the data and in the file, and in no table and no tooltip. ``links`` names the page that a
    cell opens, with ``{}`` where the cell's value stands: ``/dashboard/networks/{}``.
    """

    key: str
    title: str
    cells: Sequence[Cell]
    hidden: bool = False
    links: str = ""


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """What is drawn of some columns of equal length.

    ``says`` tells in a sentence what is to be seen, for those who don't see it as well. ``option`` is what ECharts
    draws without the data, which it finds in the columns by their keys; colours, tooltips and links are the page's.
    A figure without rows is shown as empty, with ``remedy`` saying what would fill it.
    """

    title: str
    says: str
    columns: tuple[Column, ...]
    option: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0].cells) if self.columns else 0

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return tuple(column for column in self.columns if not column.hidden)

    @property
    def links(self) -> Column | None:
        """The column whose page a click opens."""
        return next((column for column in self.columns if column.links), None)

    def table(self, most: int = MOST_SHOWN) -> list[tuple[Cell, ...]]:
        """Return the first rows of the shown columns."""
        return list(zip(*(column.cells[:most] for column in self.shown), strict=True))

    def drawn(self) -> dict[str, Any]:
        """Return what the page's script draws: the option with its data, headings, and where a click leads."""
        titles = {column.key: column.title for column in self.columns if not column.hidden}
        source = {column.key: [_short(cell) for cell in column.cells] for column in self.columns}
        found: dict[str, Any] = {"option": {**self.option, "dataset": {"source": source}}, "titles": titles}
        if self.links is not None:
            found["link"] = {"key": self.links.key, "page": self.links.links}
        return found

    def csv(self) -> str:
        """Return every row, under the headings; a text that a spreadsheet would compute is kept from that."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([column.title for column in self.columns])
        writer.writerows(zip(*(map(_inert, column.cells) for column in self.columns), strict=True))
        return out.getvalue()


def _short(cell: Cell) -> Cell:
    """Return a number with the digits that can be seen."""
    return float(f"{cell:.6g}") if isinstance(cell, float) else cell


def _inert(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
