"""Which tensors of a program share memory, so that what is written in place is read where it should be."""

from __future__ import annotations

from typing import final

from leti.core.errors import TooLarge

_DEPTH = 64  # of views of views that are told apart
_MOST_PARTS = 1024  # of one storage that is written to

Cell = tuple[str, tuple[tuple[str, int], ...]]
"""A part of a storage: the tensor that it was made as, and the steps of views that lead to the part.

A step is a view and the number of its part: the parts of one split are apart, all others may overlap.
"""


@final
class Memory:
    """The cell of each tensor. Tensors of one cell are the same; a cell is stale where another was written over it."""

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}
        self._live: dict[str, set[Cell]] = {}
        self._stale: set[Cell] = set()

    def cell(self, name: str) -> Cell:
        """Return where a tensor lies."""
        return self._cells.get(name, (name, ()))

    def is_stale(self, name: str) -> bool:
        """Return whether a part of a tensor was written to through another."""
        return self.cell(name) in self._stale

    def place(self, name: str, of: str | None = None, step: tuple[str, int] | None = None) -> None:
        """Note a tensor: new, or the same as ``of``, or the part of it that ``step`` leads to."""
        source = self.cell(name if of is None else of)
        root, path = source
        self._cells[name] = (root, (*path[: _DEPTH - 1], step)) if step else source
        if of is not None:
            self._live.setdefault(root, set()).update((source, self._cells[name]))

    def write(self, name: str) -> list[Cell]:
        """Note that a tensor is written to; return the cells that overlap with it, which then are stale."""
        written = self.cell(name)
        self._stale.discard(written)
        live = self._live.get(written[0], set())
        if len(live) > _MOST_PARTS:
            raise TooLarge(f"writes in place to a tensor of {len(live)} parts", field=name, limit=_MOST_PARTS)
        overlapping = [cell for cell in live if cell != written and not _apart(cell, written)]
        live.difference_update(overlapping)
        self._stale.update(overlapping)
        return overlapping


def _apart(one: Cell, other: Cell) -> bool:
    for step, other_step in zip(one[1], other[1], strict=False):
        if step != other_step:
            return step[0] == other_step[0]
    return False
