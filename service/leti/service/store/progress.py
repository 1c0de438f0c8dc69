"""Progress: a job changes its state, and its campaign's counts with it.

Every change of a job's state goes through :func:`move`, so that the counts need no counting.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, get_args

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from leti.core.farm import JobState
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
    if not left:
        return 0
    connection.execute(update(jobs).where(chosen).values(state=state, **values))
    changes: dict[int, Counter[str]] = {}
    for campaign_id, before, count in left:
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
    return sum(row[2] for row in left)
