"""Progress: a job changes its state, and its campaign's counts with it.

Every change of a job's state goes through :func:`move` or :func:`move_rows`, so that the counts need no counting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from leti.core.farm import JobState
from leti.service.bulk import among
from leti.service.tables import campaign_totals, jobs

STATES: Final[tuple[JobState, ...]] = get_args(JobState)
"""What a job can be."""


def begin(connection: Connection, campaign_id: int, queued: int) -> None:
    """Count the jobs of a new campaign."""
    counts = dict.fromkeys((*STATES, "noisy"), 0) | {"queued": queued}
    connection.execute(insert(campaign_totals).values(campaign_id=campaign_id, **counts))


def grow(connection: Connection, campaign_id: int, queued: int) -> None:
    """Count jobs that a campaign gains."""
    more = campaign_totals.c.queued + queued
    connection.execute(update(campaign_totals).where(campaign_totals.c.campaign_id == campaign_id).values(queued=more))


def move(connection: Connection, chosen: ColumnElement[bool], state: JobState, **values: Any) -> int:
    """Bring jobs of a locked device into a state, with other ``values``; return how many there were."""
    group = (jobs.c.campaign_id, jobs.c.state)
    left = connection.execute(select(*group, func.count()).where(chosen).group_by(*group)).all()
    return _move(
        connection, chosen, {(campaign_id, before): count for campaign_id, before, count in left}, state, values
    )


def move_rows(connection: Connection, rows: Sequence[Row[Any]], state: JobState, **values: Any) -> int:
    """Bring jobs of a locked device, as they stand in ``rows``, into a state as :func:`move` does."""
    left = Counter((row.campaign_id, row.state) for row in rows)
    return _move(connection, among(jobs.c.id, [row.id for row in rows]), left, state, values)


def _move(
    connection: Connection,
    chosen: ColumnElement[bool],
    left: Mapping[tuple[int, str], int],
    state: JobState,
    values: dict[str, Any],
) -> int:
    """Move jobs, of which so many leave each campaign's state."""
    if not left:
        return 0
    connection.execute(update(jobs).where(chosen).values(state=state, **values))
    changes: dict[int, Counter[str]] = {}
    for (campaign_id, before), count in left.items():
        changed = changes.setdefault(campaign_id, Counter())
        changed[before] -= count
        changed[state] += count
        changed["noisy"] += count * bool(values.get("noisy"))
    for campaign_id in sorted(changes):
        changed = changes[campaign_id]
        gained = {name: campaign_totals.c[name] + by for name, by in sorted(changed.items()) if by}
        if gained:
            connection.execute(
                update(campaign_totals).where(campaign_totals.c.campaign_id == campaign_id).values(**gained)
            )
    return sum(left.values())
