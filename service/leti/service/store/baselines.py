"""Baselines: a campaign's own yardstick, measured in every lease that has other jobs of the campaign."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select

from leti.core.farm import JobState
from leti.service.store.progress import grow
from leti.service.tables import jobs

ALONE_AFTER: Final = 2
"""Deaths after which a job is lent out by itself."""

RECENT: Final = 64
"""Measurements of a baseline among which one is looked for that waits; older ones that do come in their turn."""

_ENDED: Final[tuple[JobState, ...]] = ("failed", "poison", "cancelled")


def baseline_job(connection: Connection, job: Row[Any]) -> Row[Any] | None:
    """Return the measurement of a baseline to be lent beside a job that wants it: one that waits, or else a new one.

    ``None`` where an earlier one ended without being made, or has been the death of its agents: it would be again, and
    take the lease with it. Once it is tried again, and succeeds, there are new ones. The device must be locked.
    """
    of_baseline = jobs.c.campaign_id == job.campaign_id, jobs.c.fingerprint == job.baseline
    recent = connection.execute(select(jobs).where(*of_baseline).order_by(jobs.c.repeat.desc()).limit(RECENT)).all()
    waiting = [row for row in recent if row.state == "queued"]
    if any(row.state in _ENDED for row in recent) or any(row.deaths >= ALONE_AFTER for row in waiting):
        return None
    if waiting:
        return waiting[-1]
    values = {
        "campaign_id": job.campaign_id,
        "platform_id": job.platform_id,
        "fingerprint": job.baseline,
        "repeat": recent[0].repeat + 1,
        "position": 0,
        "state": "queued",
        "attempts": 0,
        "deaths": 0,
        "noisy": False,
        "priority": job.priority,
        "profile": False,
    }
    made = connection.execute(insert(jobs).values(**values).returning(*jobs.c)).one()
    grow(connection, job.campaign_id, 1)
    return made
