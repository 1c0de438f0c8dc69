"""Campaigns: what is to be measured where, and how far it has come."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final, get_args

from sqlalchemy import Connection, Row, case, func, insert, select

from leti.core.errors import Conflict, NotFound
from leti.core.farm import Campaign, FailedJob, JobState
from leti.core.wire import Zero
from leti.service.database import Database
from leti.service.store.devices import lock_device
from leti.service.store.platforms import find_platform
from leti.service.store.times import utc
from leti.service.tables import campaigns, jobs

STATES: Final = get_args(JobState)
"""What a job can be."""

_CAMPAIGN = tuple(c for c in campaigns.c if c.name not in ("request", "digest"))


@final
@dataclass(frozen=True, slots=True)
class NewCampaign:
    """A campaign to be queued: ``digest`` names the content of ``request``, ``fingerprints`` what it resolves to.

    The first ``repeated`` fingerprints, once shuffled, are measured ``repeats`` times, the others once.
    """

    name: str
    platform_id: str
    zero: Zero
    request: dict[str, Any]
    digest: str
    fingerprints: tuple[str, ...]
    repeats: int
    repeated: int
    priority: int = 0
    profile: bool = True


@final
class CampaignStore:
    """Keeps campaigns and makes their jobs."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def find(self, platform_id: str, name: str, digest: str) -> Campaign | None:
        """Return the campaign of this name, ``None`` where there is none.

        Raises :class:`NotFound` for an unknown platform and :class:`Conflict` where the name stands for other content.
        """
        with self._database.reading() as connection:
            find_platform(connection, platform_id)
            return _find(connection, platform_id, name, digest)

    def create(self, new: NewCampaign) -> tuple[Campaign, bool]:
        """Queue a campaign's jobs; return it, and whether it is new. Raises as :meth:`find` does."""
        with self._database.writing() as connection:
            lock_device(connection, find_platform(connection, new.platform_id).device)
            found = _find(connection, new.platform_id, new.name, new.digest)
            if found is not None:
                return found, False
            values = {
                "platform_id": new.platform_id,
                "name": new.name,
                "zero": new.zero,
                "request": new.request,
                "digest": new.digest,
                "networks": len(new.fingerprints),
                "priority": new.priority,
                "created_at": self._clock(),
            }
            key = connection.execute(insert(campaigns).values(**values)).inserted_primary_key
            assert key is not None  # noqa: S101 - a table with a key that the database numbers
            rows = [
                {
                    "campaign_id": key[0],
                    "platform_id": new.platform_id,
                    "fingerprint": fingerprint,
                    "repeat": repeat,
                    "position": position,
                    "state": "queued",
                    "attempts": 0,
                    "deaths": 0,
                    "noisy": False,
                    "priority": new.priority,
                    "profile": new.profile and repeat == 0,
                }
                for repeat, position, fingerprint in _schedule(new)
            ]
            connection.execute(insert(jobs), rows)
            return _campaigns(connection, campaigns.c.id == key[0])[0], True

    def get(self, campaign_id: int) -> Campaign:
        """Return a campaign; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            check_campaign(connection, campaign_id)
            return _campaigns(connection, campaigns.c.id == campaign_id)[0]

    def failures(self, campaign_id: int, limit: int) -> tuple[FailedJob, ...]:
        """Return the first jobs of a campaign that failed or are poison, and why; raise :class:`NotFound`."""
        self.get(campaign_id)
        query = (
            select(jobs)
            .where(jobs.c.campaign_id == campaign_id, jobs.c.state.in_(("failed", "poison")))
            .order_by(jobs.c.id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return tuple(_failed(row) for row in connection.execute(query))

    def list(self) -> tuple[Campaign, ...]:
        """Return every campaign, the oldest first."""
        with self._database.reading() as connection:
            return tuple(_campaigns(connection))


def check_campaign(connection: Connection, campaign_id: int) -> None:
    """Raise :class:`NotFound` where there is no such campaign."""
    if connection.execute(select(campaigns.c.id).where(campaigns.c.id == campaign_id)).first() is None:
        raise NotFound(
            f"there is no campaign {campaign_id}", field="campaign_id", remedy="GET /v1/campaigns lists them"
        )


def _failed(row: Row[Any]) -> FailedJob:
    kind = "poison" if row.state == "poison" else row.failure_kind
    return FailedJob(row.id, row.fingerprint, row.repeat, row.attempts, kind, row.failure_message)


def _schedule(new: NewCampaign) -> Iterator[tuple[int, int, str]]:
    """Yield repeat, position and fingerprint of each job; each repeat has an order of its own."""
    shuffled = random.Random(new.digest)  # noqa: S311 - the same campaign gives the same order
    order = list(new.fingerprints)
    shuffled.shuffle(order)
    chosen = order[: new.repeated]
    for repeat in range(new.repeats if chosen else 1):
        if repeat:
            order = list(chosen)
        shuffled.shuffle(order)
        for position, fingerprint in enumerate(order):
            yield repeat, position, fingerprint


def _find(connection: Connection, platform_id: str, name: str, digest: str) -> Campaign | None:
    row = connection.execute(
        select(campaigns.c.id, campaigns.c.digest).where(
            campaigns.c.platform_id == platform_id, campaigns.c.name == name
        )
    ).first()
    if row is None:
        return None
    if row.digest != digest:
        raise Conflict(
            f"another campaign on this platform is called {name!r}",
            field="name",
            remedy="choose another name, or send the same campaign again to find it",
            campaign_id=row.id,
        )
    return _campaigns(connection, campaigns.c.id == row.id)[0]


def _campaigns(connection: Connection, *conditions: Any) -> Sequence[Campaign]:
    counts = [func.coalesce(func.sum(case((jobs.c.state == state, 1), else_=0)), 0).label(state) for state in STATES]
    noisy = func.coalesce(func.sum(case((jobs.c.noisy, 1), else_=0)), 0).label("noisy")
    query = (
        select(*_CAMPAIGN, *counts, noisy)
        .outerjoin(jobs, jobs.c.campaign_id == campaigns.c.id)
        .where(*conditions)
        .group_by(campaigns.c.id)
        .order_by(campaigns.c.id)
    )
    return [_campaign(row) for row in connection.execute(query)]


def _campaign(row: Row[*tuple[Any, ...]]) -> Campaign:
    return Campaign(
        id=row.id,
        name=row.name,
        platform_id=row.platform_id,
        zero=row.zero,
        networks=row.networks,
        queued=int(row.queued),
        leased=int(row.leased),
        done=int(row.done),
        failed=int(row.failed),
        poison=int(row.poison),
        noisy=int(row.noisy),
        created_at=utc(row.created_at),
        cancelled=int(row.cancelled),
        priority=row.priority,
    )
