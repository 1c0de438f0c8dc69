"""Campaigns: what is to be measured where, and how far it has come."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import ColumnElement, Connection, Row, insert, select

from leti.core.errors import Conflict, NotFound
from leti.core.farm import Campaign, CampaignPage, FailedJob, FailedJobPage
from leti.core.wire import Zero
from leti.service.database import Database
from leti.service.store.bell import Bell
from leti.service.store.devices import lock_device
from leti.service.store.platforms import find_platform
from leti.service.store.progress import STATES, begin
from leti.service.store.times import utc
from leti.service.tables import campaign_totals, campaigns, jobs

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

    def __init__(self, database: Database, clock: Callable[[], float], bell: Bell) -> None:
        self._database = database
        self._clock = clock
        self._bell = bell

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
            begin(connection, key[0], len(rows))
            made = _campaigns(connection, campaigns.c.id == key[0])[0]
        self._bell.ring(new.platform_id)
        return made, True

    def get(self, campaign_id: int) -> Campaign:
        """Return a campaign; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            check_campaign(connection, campaign_id)
            return _campaigns(connection, campaigns.c.id == campaign_id)[0]

    def failures(self, campaign_id: int, *, cursor: int, limit: int) -> FailedJobPage:
        """Return up to ``limit`` jobs of a campaign that failed or are poison, and why; raise :class:`NotFound`."""
        query = (
            select(jobs)
            .where(jobs.c.campaign_id == campaign_id, jobs.c.state.in_(("failed", "poison")), jobs.c.id > cursor)
            .order_by(jobs.c.id)
            .limit(limit + 1)
        )
        with self._database.reading() as connection:
            check_campaign(connection, campaign_id)
            rows = connection.execute(query).all()
        return FailedJobPage(tuple(map(_failed, rows[:limit])), rows[limit - 1].id if len(rows) > limit else None)

    def page(self, *, platform_id: str | None, cursor: int, limit: int) -> CampaignPage:
        """Return up to ``limit`` campaigns with ids above ``cursor``; raise :class:`NotFound` for the platform."""
        conditions = [campaigns.c.id > cursor]
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
                conditions.append(campaigns.c.platform_id == platform_id)
            found = _campaigns(connection, *conditions, limit=limit + 1)
        return CampaignPage(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)


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


def _campaigns(
    connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None
) -> Sequence[Campaign]:
    counts = (campaign_totals.c[name] for name in (*STATES, "noisy"))
    query = (
        select(*_CAMPAIGN, *counts)
        .join(campaign_totals, campaign_totals.c.campaign_id == campaigns.c.id)
        .where(*conditions)
        .order_by(campaigns.c.id)
        .limit(limit)
    )
    return [_campaign(row) for row in connection.execute(query)]


def _campaign(row: Row[*tuple[Any, ...]]) -> Campaign:
    return Campaign(
        id=row.id,
        name=row.name,
        platform_id=row.platform_id,
        zero=row.zero,
        networks=row.networks,
        queued=row.queued,
        leased=row.leased,
        done=row.done,
        failed=row.failed,
        poison=row.poison,
        noisy=row.noisy,
        created_at=utc(row.created_at),
        cancelled=row.cancelled,
        priority=row.priority,
    )
