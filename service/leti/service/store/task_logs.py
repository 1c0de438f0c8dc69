"""Logs of tasks: lines that are written while a task runs, and read meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from sqlalchemy import Connection, func, insert, select

from leti.core.errors import printable
from leti.core.tasks import LogLevel, LogLine, LogPage
from leti.service.store.times import utc
from leti.service.tables import task_logs

MAX_LINES: Final = 1_000
"""Lines of a task's log that are kept; the last of them says that there were more."""

MAX_CHARACTERS: Final = 2_000
"""Characters of a line that are kept."""


@final
@dataclass(frozen=True, slots=True)
class NewLine:
    """A line for a task's log; ``at`` is in seconds since the epoch."""

    at: float
    level: LogLevel
    message: str


def read_lines(connection: Connection, task_id: int, *, after: int, limit: int) -> LogPage:
    """Return up to ``limit`` lines of a task's log with numbers above ``after``."""
    line = task_logs.c
    query = select(task_logs).where(line.task_id == task_id, line.number > after).order_by(line.number)
    rows = connection.execute(query.limit(limit + 1)).all()
    items = tuple(LogLine(row.number, utc(row.at), row.level, row.message) for row in rows[:limit])
    return LogPage(items, items[-1].number if len(rows) > limit else None)


def write_lines(connection: Connection, task_id: int, lines: Sequence[NewLine]) -> None:
    """Add lines to a log while there is room; its writers hold the lock of the task."""
    if not lines:
        return
    count = select(func.count()).select_from(task_logs).where(task_logs.c.task_id == task_id)
    written: int = connection.execute(count).scalar_one()
    kept = list(lines[: MAX_LINES - written])
    if kept and written + len(lines) >= MAX_LINES:
        kept[-1] = NewLine(kept[-1].at, "warning", f"the log is full: what comes after {MAX_LINES} lines is left out")
    rows = [
        {
            "task_id": task_id,
            "number": number,
            "at": line.at,
            "level": line.level,
            "message": printable(line.message)[:MAX_CHARACTERS],
        }
        for number, line in enumerate(kept, written + 1)
    ]
    if rows:
        connection.execute(insert(task_logs), rows)
