"""Campaigns: what is to be measured where, and how far it has come."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, Select, case, func, insert, not_, or_, select

from leti.core.errors import Conflict, NotFound
from leti.core.farm import Campaign, CampaignPage, FailedJob, FailedJobPage, JobState
from leti.core.wire import Zero
from leti.service.database import Database
from leti.service.store.bell import Bell
from leti.service.store.devices import lock_device
from leti.service.store.paging import on_page
from leti.service.store.platforms import find_platform
from leti.service.store.progress import STATES, begin
from leti.service.store.times import utc
from leti.service.tables import campaign_totals, campaigns, jobs, measurements

LATELY_S: Final = 600
"""Seconds of which a campaign's pace is told …"""

LATELY: Final = 2_000
"""… but no more than so many of its newest measurements."""

_CAMPAIGN = tuple(c for c in campaigns.c if c.name not in ("request", "digest"))


@final
@dataclass(frozen=True, slots=True)
class NewCampaign:
    """A campaign to be queued: ``digest`` names the content of ``request``, ``fingerprints`` what it resolves to.

    The first ``repeated`` fingerprints, once shuffled, are measured ``repeats`` times, the others once. Where the
    ``baseline`` is not among them, it is queued before them; claims have it measured again (:func:`~.leasing.choose`).
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
    baseline: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Pace:
    """How many measurements of a campaign came in the last seconds, and when the last one did."""

    measured: int
    over_s: float
    newest: str | None

    @property
    def a_minute(self) -> float:
        """Measurements a minute; 0 where none came."""
        return 60 * self.measured / self.over_s if self.over_s > 0 else 0.0


@final
@dataclass(frozen=True, slots=True)
class Failed:
    """How many jobs failed last in one way: those that ended so, and those that wait to be tried again."""

    kind: str
    ended: int
    waiting: int


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
                "networks": len({*new.fingerprints, new.baseline} - {None}),
                "priority": new.priority,
                "baseline": new.baseline,
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
            made = _one(connection, key[0])
        self._bell.ring(new.platform_id)
        return made, True

    def get(self, campaign_id: int) -> Campaign:
        """Return a campaign; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            check_campaign(connection, campaign_id)
            return _one(connection, campaign_id)

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

    def page(self, *, platform_id: str | None, cursor: int, limit: int, newest_first: bool = False) -> CampaignPage:
        """Return up to ``limit`` campaigns after ``cursor``; raise :class:`NotFound` for the platform."""
        query = on_page(_described(), campaigns.c.id, cursor=cursor, limit=limit, newest_first=newest_first)
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
                query = query.where(campaigns.c.platform_id == platform_id)
            found = tuple(map(_campaign, connection.execute(query)))
        return CampaignPage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def pace(self, campaign_id: int) -> Pace:
        """Return how fast a campaign was measured in the last :data:`LATELY_S` seconds.

        Where it began within them, from its first measurement on, which is not counted: nobody knows how long it took.
        """
        now = self._clock()
        made = measurements.c.created_at
        query = (
            select(made)
            .where(measurements.c.campaign_id == campaign_id, not_(measurements.c.late))
            .order_by(measurements.c.id.desc())
            .limit(LATELY)
        )
        with self._database.reading() as connection:
            times = connection.execute(query).scalars().all()
        lately = [at for at in times if at > now - LATELY_S]
        newest = utc(max(times)) if times else None
        if len(lately) < len(times) or not lately:
            return Pace(len(lately), LATELY_S, newest)
        return Pace(len(lately) - 1, now - min(lately), newest)

    def measured_at(self, campaign_id: int) -> Sequence[float]:
        """Return when each measurement of a campaign came that came on time, in seconds since the epoch, in order."""
        query = select(measurements.c.created_at).where(
            measurements.c.campaign_id == campaign_id, not_(measurements.c.late)
        )
        with self._database.reading() as connection:
            return sorted(connection.execute(query).scalars())

    def failed(self, campaign_id: int) -> Sequence[Failed]:
        """Return how jobs of a campaign failed last that have no measurement, the most frequent first."""
        poison, state = jobs.c.state == "poison", jobs.c.state
        kind = case((poison, "poison"), else_=jobs.c.failure_kind).label("kind")
        ended = func.sum(case((state.in_(("failed", "poison")), 1), else_=0)).label("ended")
        waiting = func.sum(case((state.in_(("queued", "leased")), 1), else_=0)).label("waiting")
        query = (
            select(kind, ended, waiting)
            .where(jobs.c.campaign_id == campaign_id, or_(poison, jobs.c.failure_kind.is_not(None)), state != "done")
            .group_by(kind)
            .order_by(ended.desc(), kind)
        )
        with self._database.reading() as connection:
            return [Failed(row.kind, int(row.ended), int(row.waiting)) for row in connection.execute(query)]

    def totals(self) -> Mapping[str, Mapping[JobState, int]]:
        """Return how many jobs each platform has in each state, of all its campaigns."""
        counts = (func.sum(campaign_totals.c[state]) for state in STATES)
        query = (
            select(campaigns.c.platform_id, *counts)
            .join(campaign_totals, campaign_totals.c.campaign_id == campaigns.c.id)
            .group_by(campaigns.c.platform_id)
            .order_by(campaigns.c.platform_id)
        )
        with self._database.reading() as connection:
            return {
                platform_id: dict(zip(STATES, map(int, found), strict=True))
                for platform_id, *found in connection.execute(query)
            }


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
    first = () if new.baseline is None or new.baseline in order else (new.baseline,)
    for repeat in range(new.repeats if chosen else 1):
        if repeat:
            order, first = list(chosen), ()
        shuffled.shuffle(order)
        for position, fingerprint in enumerate((*first, *order)):
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
    return _one(connection, row.id)


def _described() -> Select[Any]:
    """Return the query of campaigns with the state of their jobs."""
    counts = (campaign_totals.c[name] for name in (*STATES, "noisy"))
    return select(*_CAMPAIGN, *counts).join(campaign_totals, campaign_totals.c.campaign_id == campaigns.c.id)


def _one(connection: Connection, campaign_id: int) -> Campaign:
    return _campaign(connection.execute(_described().where(campaigns.c.id == campaign_id)).one())


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
        baseline=row.baseline or "",
    )
