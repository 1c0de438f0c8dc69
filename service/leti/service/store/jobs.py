"""Jobs as users see them: listed, retried, cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, final, get_args

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, true

from leti.core.errors import InvalidInput, NotFound, TooLarge
from leti.core.farm import FailureKind, JobInfo, JobPage, JobsChanged, JobSelection, JobState
from leti.service.database import Database
from leti.service.store.bell import Bell
from leti.service.store.campaigns import check_campaign
from leti.service.store.leasing import Rules, take_turn
from leti.service.store.networks import begins
from leti.service.store.paging import on_page
from leti.service.store.platforms import find_platform
from leti.service.store.progress import move
from leti.service.tables import jobs, leases, platforms

RETRIED: Final[tuple[JobState, ...]] = ("failed", "poison", "cancelled")
CANCELLED: Final[tuple[JobState, ...]] = ("queued", "leased")

MAX_JOBS: Final = 10_000
"""Jobs that one selection may name; a campaign names all of its own."""

KINDS: Final = (*get_args(FailureKind), "lost", "poison")
"""How a job may have failed: as an agent says, by a lease that ran out, or too often."""

_AFRESH: Final[dict[str, Any]] = {
    "lease_id": None,
    "deaths": 0,
    "failure_kind": None,
    "failure_message": None,
}


@final
class JobStore:
    """Lists jobs and changes their states, by id or by campaign; the queue does the rest."""

    def __init__(self, database: Database, clock: Callable[[], float], rules: Rules, bell: Bell) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules
        self._bell = bell

    def page(
        self,
        *,
        platform_id: str | None,
        campaign_id: int | None,
        state: JobState | None,
        fingerprint: str | None,
        kind: str | None = None,
        cursor: int,
        limit: int,
        newest_first: bool = False,
    ) -> JobPage:
        """Return up to ``limit`` jobs after ``cursor``, of a ``kind`` of failure; raise :class:`NotFound` for platform
        and campaign.
        """
        wanted = {"platform_id": platform_id, "campaign_id": campaign_id, "state": state}
        told = (
            select(jobs, leases.c.agent)
            .outerjoin(leases, and_(leases.c.id == jobs.c.lease_id, jobs.c.state == "leased"))
            .where(*(jobs.c[name] == value for name, value in wanted.items() if value is not None))
        )
        query = on_page(told, jobs.c.id, cursor=cursor, limit=limit, newest_first=newest_first)
        if kind is not None:
            query = query.where(_of_kinds((kind,)))
        if fingerprint is not None:
            query = query.where(begins(jobs.c.fingerprint, fingerprint))
        with self._database.reading() as connection:
            if platform_id is not None:
                find_platform(connection, platform_id)
            if campaign_id is not None:
                check_campaign(connection, campaign_id)
            rows = connection.execute(query).all()
        items = tuple(_info(row) for row in rows[:limit])
        return JobPage(items, items[-1].id if len(rows) > limit else None)

    def retry(self, selection: JobSelection) -> JobsChanged:
        """Queue what has ended without a measurement again, as if it were new; what happened to it stays on record.

        Raises :class:`NotFound` for an unknown job or campaign, and what :func:`check_selection` does.
        """
        changed = self._change(selection, RETRIED, "queued", _AFRESH)
        self._bell.ring()
        return changed

    def cancel(self, selection: JobSelection) -> JobsChanged:
        """Take jobs out of the queue; what an agent still sends of one that it was lent is kept as late.

        Raises as :meth:`retry` does.
        """
        return self._change(selection, CANCELLED, "cancelled", {"lease_id": None})

    def _change(
        self, selection: JobSelection, before: Sequence[JobState], after: JobState, values: dict[str, Any]
    ) -> JobsChanged:
        check_selection(selection)
        named = _named(selection)
        chosen = and_(named, _of_kinds(selection.kinds))
        now = self._clock()
        with self._database.writing() as connection:
            _check(connection, selection)
            held_by = select(platforms.c.device).distinct().join(jobs, jobs.c.platform_id == platforms.c.id)
            names = connection.execute(held_by.where(named)).scalars().all()
            for name in sorted(names):  # the one order in which everybody locks several devices
                take_turn(connection, name, now, self._rules)
            found = connection.execute(select(jobs.c.id, jobs.c.state).where(chosen)).all()
            changed = move(connection, and_(chosen, jobs.c.state.in_(before)), after, **values)
        return JobsChanged(changed, len(found) - changed)


def check_selection(selection: JobSelection) -> None:
    """Raise :class:`InvalidInput` where no job is named or a kind is unknown, and :class:`TooLarge` for too many."""
    if not selection.job_ids and selection.campaign_id is None:
        raise InvalidInput("names no job", field="job_ids", remedy="give job_ids, or a campaign_id")
    if len(selection.job_ids) > MAX_JOBS:
        raise TooLarge(
            f"holds {len(selection.job_ids)} jobs", field="job_ids", remedy=f"at most {MAX_JOBS}", limit=MAX_JOBS
        )
    for i, kind in enumerate(selection.kinds):
        if kind not in KINDS:
            raise InvalidInput(
                f"{kind[:60]!r} is no kind of failure", field=f"kinds[{i}]", remedy=f"known: {', '.join(KINDS)}"
            )


def _named(selection: JobSelection) -> ColumnElement[bool]:
    named: ColumnElement[bool] = jobs.c.id.in_(selection.job_ids)
    if selection.campaign_id is None:
        return named
    return or_(named, jobs.c.campaign_id == selection.campaign_id)


def _of_kinds(wanted: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a job last failed in one of the kinds; poison is a state, and named as a kind is."""
    if not wanted:
        return true()
    kinds = jobs.c.failure_kind.in_(wanted)
    return or_(kinds, jobs.c.state == "poison") if "poison" in wanted else kinds


def _check(connection: Connection, selection: JobSelection) -> None:
    if selection.campaign_id is not None:
        check_campaign(connection, selection.campaign_id)
    wanted = set(selection.job_ids)
    known = set(connection.execute(select(jobs.c.id).where(jobs.c.id.in_(wanted))).scalars())
    if wanted - known:
        raise NotFound(
            f"there is no job {min(wanted - known)}", field="job_ids", remedy="GET /v1/jobs lists what there is"
        )


def _info(row: Row[Any]) -> JobInfo:
    return JobInfo(
        id=row.id,
        campaign_id=row.campaign_id,
        platform_id=row.platform_id,
        fingerprint=row.fingerprint,
        repeat=row.repeat,
        state=row.state,
        priority=row.priority,
        attempts=row.attempts,
        deaths=row.deaths,
        kind=row.failure_kind or "",
        message=row.failure_message or "",
        agent=row.agent or "",
    )
