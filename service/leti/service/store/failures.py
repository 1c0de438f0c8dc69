"""Failures, counted by network and by device."""

from __future__ import annotations

from typing import Final, Literal, final

from sqlalchemy import func, not_, select

from leti.core.farm import FailureCount
from leti.service.database import Database
from leti.service.store.campaigns import check_campaign
from leti.service.store.platforms import find_platform
from leti.service.tables import failures, jobs

By = Literal["network", "device"]

_SUBJECTS: Final = {"network": failures.c.fingerprint, "device": failures.c.device}


@final
class FailureStore:
    """Counts failures; the queue writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(
        self, by: By, *, platform_id: str | None, campaign_id: int | None, limit: int
    ) -> tuple[FailureCount, ...]:
        """Return how often each network, or device, failed in which way, the most frequent first; late ones left out.

        Raises :class:`NotFound` for an unknown platform or campaign.
        """
        subject = _SUBJECTS[by]
        count = func.count()
        query = (
            select(subject, failures.c.kind, count)
            .where(not_(failures.c.late))
            .group_by(subject, failures.c.kind)
            .order_by(count.desc(), subject, failures.c.kind)
            .limit(limit)
        )
        if platform_id is not None:
            query = query.where(failures.c.platform_id == platform_id)
        if campaign_id is not None:
            query = query.join(jobs, jobs.c.id == failures.c.job_id).where(jobs.c.campaign_id == campaign_id)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
            if campaign_id is not None:
                check_campaign(connection, campaign_id)
            return tuple(FailureCount(*row) for row in connection.execute(query))
