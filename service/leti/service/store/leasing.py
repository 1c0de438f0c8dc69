"""Leases: which jobs are lent next, and what becomes of those whose lease has run out."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, or_, select, update

from leti.core.errors import LeaseLost, NotFound
from leti.service.bulk import among
from leti.service.store.baselines import ALONE_AFTER, baseline_job
from leti.service.store.devices import BY_SERVICE, lock_device
from leti.service.store.events import LOST, MOST_MESSAGE, count_row, describe_newest, record
from leti.service.store.progress import move
from leti.service.tables import campaigns, devices, jobs, leases, platforms

PAGE: Final = 64
"""Waiting jobs that are read at once where the first ones were not enough."""

_BASELINE: Final = (
    select(campaigns.c.baseline).where(campaigns.c.id == jobs.c.campaign_id).scalar_subquery().label("baseline")
)
_QUEUED: Final = and_(jobs.c.platform_id == bindparam("platform_id"), jobs.c.state == "queued")
_ORDER: Final = (jobs.c.campaign_id, jobs.c.repeat, jobs.c.position)
"""Among the equally urgent: the oldest campaign's first, and its first repeats. The index has them in this order."""


@final
@dataclass(frozen=True, slots=True)
class Rules:
    """When a lease has run out (seconds after its last heartbeat), a job is poison (leases that it outlived), a device
    is gone (seconds of silence), and quarantined (failures in a row).
    """

    lease_s: float
    max_deaths: int
    gone_after_s: float
    quarantine_after: int


def choose(connection: Connection, platform_id: str, most: int) -> Sequence[Row[Any]]:
    """Return queued jobs of different networks in their order; one that agents died of, alone, where no other waits.

    Where a campaign has a baseline, a measurement of that is among several jobs that have one of the campaign, unless
    it cannot be measured. What finds no room beside its baseline, and what comes after it, is left to the next lease.
    """
    ordinary = _choose_among(connection, platform_id, most, alone=False)
    return ordinary or _choose_among(connection, platform_id, 1, alone=True)


def _choose_among(connection: Connection, platform_id: str, most: int, *, alone: bool) -> Sequence[Row[Any]]:
    chosen: list[Row[Any]] = []
    wanting: list[Row[Any]] = []  # of each campaign that has a baseline to come, the first job
    campaign_of: dict[str, int] = {}  # of each network that the lease is to have
    for job in _waiting(connection, platform_id, most, alone=alone):
        if job.fingerprint in campaign_of:
            continue
        if most > 1 and job.baseline not in (None, job.fingerprint):
            if job.baseline not in campaign_of and len(campaign_of) + 2 <= most:
                campaign_of[job.baseline] = job.campaign_id
                wanting.append(job)
            elif campaign_of.get(job.baseline) != job.campaign_id:
                break
        campaign_of[job.fingerprint] = job.campaign_id
        chosen.append(job)
        if len(campaign_of) == most:
            break
    beside = (baseline_job(connection, job) for job in wanting)
    return [*chosen, *(job for job in beside if job is not None)]


def _waiting(connection: Connection, platform_id: str, most: int, *, alone: bool) -> Iterator[Row[Any]]:
    """Yield queued jobs in their order, read and locked page by page along the index, first as many as are wanted."""
    given: dict[str, Any] = {"platform_id": platform_id}
    while True:
        below = "below" in given
        for start in itertools.chain((0,), itertools.count(most, PAGE)):
            page = given | {"start": start, "size": PAGE if start else most}
            rows = connection.execute(_page(alone=alone, below=below), page).all()
            yield from rows
            if len(rows) < page["size"]:
                break
        found = connection.execute(_highest(below=below), given).scalar()
        if found is None:
            return
        given["below"] = found


@functools.cache
def _page(*, alone: bool, below: bool) -> Select[Any]:
    """Return the query for a page of the most urgent jobs that are queued, of those less urgent than ``below``."""
    condition = jobs.c.deaths >= ALONE_AFTER if alone else jobs.c.deaths < ALONE_AFTER
    urgent = jobs.c.priority == _highest(below=below).scalar_subquery()
    query = select(jobs, _BASELINE).where(_QUEUED, condition, urgent).order_by(*_ORDER)
    # The device's lock keeps other claims out; a job that somebody else holds locked all the same is not waited for.
    return query.with_for_update(skip_locked=True).offset(bindparam("start")).limit(bindparam("size"))


@functools.cache
def _highest(*, below: bool) -> Select[Any]:
    """Return the query for the highest priority of queued jobs, of those less urgent than ``below``."""
    query = select(func.max(jobs.c.priority)).where(_QUEUED)
    return query.where(jobs.c.priority < bindparam("below")) if below else query


def find_lease(connection: Connection, lease_id: int, token: int, holder: str | None) -> Row[Any]:
    """Return a lease with its device; raise :class:`NotFound`, and what :func:`check_held` raises."""
    row = connection.execute(
        select(leases, platforms.c.device)
        .join(platforms, platforms.c.id == leases.c.platform_id)
        .where(leases.c.id == lease_id)
    ).first()
    if row is None:
        raise no_lease(lease_id)
    check_held(row, token, holder)
    return row


def check_held(lease: Row[Any], token: int, holder: str | None) -> None:
    """Raise :class:`LeaseLost` for a fencing token that is not the lease's, and for a lease that another claimed.

    ``holder`` is the id of the bearer token that asks, or ``None`` where whose lease it is does not matter.
    """
    if lease.token != token:
        raise LeaseLost(
            f"the token is not that of lease {lease.id}",
            field="token",
            remedy="send the token that came with the lease",
        )
    if holder is not None and lease.claimed_by not in (None, holder):
        raise LeaseLost(
            f"lease {lease.id} was claimed with another bearer token",
            field="authorization",
            remedy="send the bearer token that claimed it",
        )


def no_lease(lease_id: int) -> NotFound:
    """Return the error that says that there never was such a lease."""
    return NotFound(f"there is no lease {lease_id}", field="lease_id", remedy="claim one: POST /v1/leases")


def lost(lease_id: int) -> LeaseLost:
    """Return the error that says that a lease is over."""
    return LeaseLost(
        f"lease {lease_id} has run out or was released", field="lease_id", remedy="claim another: POST /v1/leases"
    )


def take_turn(connection: Connection, name: str, now: float, rules: Rules) -> Row[Any]:
    """Lock a device, take back what has run out there, and return its row as it is then; raise :class:`NotFound`."""
    row = lock_device(connection, name)
    ended_at = _take_back(connection, name, now, rules)
    if ended_at is None:
        return row
    idle_since = max(row.idle_since, ended_at)
    connection.execute(update(devices).where(devices.c.name == name).values(idle_since=idle_since))
    judge(connection, name, now, rules)
    return lock_device(connection, name)


def judge(connection: Connection, name: str, now: float, rules: Rules) -> None:
    """Count a locked device's failures in a row; quarantine it where they are too many."""
    count = count_row(connection, name)
    named = update(devices).where(devices.c.name == name)
    connection.execute(named.values(failures_in_a_row=count))
    if count < rules.quarantine_after:
        return
    reason = f"{count} failures in a row speak against the device, lastly {describe_newest(connection, name)}"
    values = {"quarantine_reason": reason, "quarantined_by": BY_SERVICE, "quarantined_at": now}
    connection.execute(named.where(devices.c.quarantined_at.is_(None)).values(**values))


_OVER: Final = (
    select(leases)
    .join(platforms, platforms.c.id == leases.c.platform_id)
    .where(
        platforms.c.device == bindparam("device"),
        leases.c.state == "active",
        or_(leases.c.expires_at <= bindparam("now"), leases.c.expires_at > bindparam("latest")),
    )
    .order_by(leases.c.id)
)
"""Leases of a device that have run out, or run longer than one that is renewed now."""


def _take_back(connection: Connection, device: str, now: float, rules: Rules) -> float | None:
    """Queue the unfinished jobs of a device's leases that have run out, or set them aside as poison; keep the events.

    Return when the last of these leases ran out, ``None`` where there were none.
    """
    latest = now + rules.lease_s
    found = connection.execute(_OVER, {"device": device, "now": now, "latest": latest}).all()
    beyond = [lease.id for lease in found if lease.expires_at > now]
    if beyond:
        _shorten(connection, beyond, latest)
    expired = [lease for lease in found if lease.expires_at <= now]
    for lease in expired:
        connection.execute(update(leases).where(leases.c.id == lease.id).values(state="expired"))
        held = connection.execute(
            select(jobs).where(jobs.c.lease_id == lease.id, jobs.c.state == "leased").order_by(jobs.c.id)
        ).all()
        message = f"agent {lease.agent!r} fell silent"
        record(connection, held, lease, device=device, kind=LOST, message=message, late=False, now=now)
        for job in held:
            count_death(connection, job, max_deaths=rules.max_deaths, kind=LOST, message=message)
    return max((lease.expires_at for lease in expired), default=None)


def _shorten(connection: Connection, beyond: Sequence[int], latest: float) -> None:
    """Let leases run out at ``latest``, when one that is renewed now would.

    Only a clock that has gone back makes leases that end later; their jobs would be out of reach for as long as it went
    back.
    """
    connection.execute(update(leases).where(among(leases.c.id, beyond)).values(expires_at=latest))


def count_death(connection: Connection, job: Row[Any], *, max_deaths: int, kind: str, message: str) -> None:
    """Queue a job again that ended through no fault of its own, it seems; set it aside when that is once too often."""
    deaths = job.deaths + 1
    values = {"deaths": deaths, "failure_kind": kind, "failure_message": message[:MOST_MESSAGE]}
    this = jobs.c.id == job.id
    if deaths >= max_deaths:
        reason = f"outlived {deaths} leases, the last of which ended so: {message}"
        move(connection, this, "poison", **values | {"failure_message": reason[:MOST_MESSAGE]})
    else:
        move(connection, this, "queued", **values, lease_id=None)


def hand_back(connection: Connection, lease_id: int) -> None:
    """Queue the unfinished jobs of a lease."""
    held = and_(jobs.c.lease_id == lease_id, jobs.c.state == "leased")
    move(connection, held, "queued", lease_id=None)
