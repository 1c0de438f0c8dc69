"""The queue: jobs are lent to agents by leases, and come back as results.

A lease has an owner, a fencing token that grows with every lease of its platform, and an expiry that heartbeats push
out. What has run out is taken back by whoever next claims, renews or reports on that platform: an agent that has gone
needs nobody to watch it. A job that has outlived ``max_deaths`` leases is set aside as poison. A batch whose agent died
twice is lent out job by job, so that the one that kills is told from those that were merely beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, update

from leti.core.codec import to_json
from leti.core.errors import InvalidInput, LeaseLost, NotFound
from leti.core.measurement import Measurement
from leti.core.wire import Failure, Job, Lease, LeaseRequest, Receipt, Result
from leti.service.database import Database
from leti.service.store.platforms import find_platform, pool_reference, reference_latency
from leti.service.tables import jobs, leases, measurements, platforms

ALONE_AFTER = 2
"""Deaths after which a job is lent out by itself."""

SMALLEST_RATIO = 1e-9
"""No network is this many times faster, or slower, than the reference: times so far apart are in different units."""


@final
class Queue:
    """Lends jobs and takes results. Claims are atomic: a job is lent to one agent at a time."""

    def __init__(self, database: Database, clock: Callable[[], float], *, lease_s: float, max_deaths: int) -> None:
        self._database = database
        self._clock = clock
        self._lease_s = lease_s
        self._max_deaths = max_deaths

    def claim(self, request: LeaseRequest) -> Lease | None:
        """Lend up to ``max_jobs`` jobs of different networks, or return ``None`` where there is nothing to do."""
        now = self._clock()
        with self._database.writing() as connection:
            platform = find_platform(connection, request.platform_id)
            connection.execute(update(platforms).where(platforms.c.id == platform.id).values(last_heartbeat=now))
            self._take_back(connection, platform.id, now)
            chosen = _choose(connection, platform.id, request.max_jobs)
            if not chosen:
                return None
            token = self._next_token(connection, platform.id)
            values = {
                "platform_id": platform.id,
                "agent": request.agent,
                "token": token,
                "state": "active",
                "expires_at": now + self._lease_s,
                "created_at": now,
            }
            key = connection.execute(insert(leases).values(**values)).inserted_primary_key
            assert key is not None  # noqa: S101 - a table with a key that the database numbers
            connection.execute(
                update(jobs)
                .where(jobs.c.id.in_([row.id for row in chosen]))
                .values(state="leased", lease_id=key[0], attempts=jobs.c.attempts + 1)
            )
            lent = tuple(Job(row.id, row.fingerprint, row.repeat, row.attempts + 1) for row in chosen)
            return Lease(key[0], token, platform.id, request.agent, self._lease_s, platform.reference, lent)

    def heartbeat(self, lease_id: int, token: int) -> None:
        """Renew a lease; raise :class:`NotFound`, and :class:`LeaseLost` where it has run out or is another's."""
        now = self._clock()
        with self._database.writing() as connection:
            lease = _find_lease(connection, lease_id, token)
            self._take_back(connection, lease.platform_id, now)
            held = connection.execute(
                update(leases)
                .where(leases.c.id == lease_id, leases.c.state == "active")
                .values(expires_at=now + self._lease_s)
            ).rowcount
            connection.execute(update(platforms).where(platforms.c.id == lease.platform_id).values(last_heartbeat=now))
        if not held:  # outside the transaction: what was taken back stays taken back
            raise _lost(lease_id)

    def release(self, lease_id: int, token: int) -> None:
        """Give a lease back: its unfinished jobs go back to the queue. A lease that is gone already is left alone."""
        with self._database.writing() as connection:
            _find_lease(connection, lease_id, token)
            connection.execute(
                update(leases).where(leases.c.id == lease_id, leases.c.state == "active").values(state="released")
            )
            connection.execute(
                update(jobs)
                .where(jobs.c.lease_id == lease_id, jobs.c.state == "leased")
                .values(state="queued", lease_id=None)
            )

    def accept(self, result: Result) -> Receipt:
        """Take the end of a job: once under its lease, as late under a lost one, never twice.

        Raises :class:`NotFound` for an unknown lease or job, :class:`LeaseLost` for a token that is not the lease's,
        and :class:`InvalidInput` for a result that is not of that job.
        """
        now = self._clock()
        with self._database.writing() as connection:
            lease = _find_lease(connection, result.lease_id, result.token)
            job = connection.execute(select(jobs).where(jobs.c.id == result.job_id).with_for_update()).first()
            if job is None:
                raise NotFound(
                    f"there is no job {result.job_id}", field="job_id", remedy="report on a job of the lease"
                )
            platform = find_platform(connection, lease.platform_id)
            _check_result(result, job, platform)
            known = _known(connection, result, job)
            if known is not None:
                return known
            self._take_back(connection, platform.id, now)
            row = connection.execute(select(jobs.c.state, jobs.c.lease_id).where(jobs.c.id == job.id)).one()
            late = row.state != "leased" or row.lease_id != lease.id
            stored = None
            if result.measurement is not None:
                stored = _store(connection, result, result.measurement, job, late=late, now=now)
            if not late:
                _finish(connection, job.id, result)
                if reference_latency(connection, platform.id) is None:
                    pool_reference(connection, platform.id, platform.reference, now)
            return Receipt("late" if late else "stored", stored)

    def _next_token(self, connection: Connection, platform_id: str) -> int:
        connection.execute(
            update(platforms).where(platforms.c.id == platform_id).values(last_token=platforms.c.last_token + 1)
        )
        token: int = connection.execute(
            select(platforms.c.last_token).where(platforms.c.id == platform_id)
        ).scalar_one()
        return token

    def _take_back(self, connection: Connection, platform_id: str, now: float) -> None:
        """Queue the unfinished jobs of leases that have run out, or set them aside as poison."""
        expired = connection.execute(
            select(leases.c.id, leases.c.agent)
            .where(leases.c.platform_id == platform_id, leases.c.state == "active", leases.c.expires_at <= now)
            .with_for_update()
        ).all()
        for lease in expired:
            connection.execute(update(leases).where(leases.c.id == lease.id).values(state="expired"))
            held = and_(jobs.c.lease_id == lease.id, jobs.c.state == "leased")
            connection.execute(update(jobs).where(held).values(deaths=jobs.c.deaths + 1))
            reason = (
                f"outlived {self._max_deaths} leases: every agent that was lent it fell silent, lastly {lease.agent!r}"
            )
            connection.execute(
                update(jobs)
                .where(held, jobs.c.deaths >= self._max_deaths)
                .values(state="poison", failure_kind="poison", failure_message=reason)
            )
            connection.execute(update(jobs).where(held).values(state="queued", lease_id=None))


def _choose(connection: Connection, platform_id: str, most: int) -> Sequence[Row[Any]]:
    """Return queued jobs of different networks, locked: the oldest campaign's first, its first repeats first."""
    ordinary = _choose_among(connection, platform_id, jobs.c.deaths < ALONE_AFTER, most)
    return ordinary or _choose_among(connection, platform_id, jobs.c.deaths >= ALONE_AFTER, 1)


def _choose_among(
    connection: Connection, platform_id: str, condition: ColumnElement[bool], most: int
) -> Sequence[Row[Any]]:
    order = (jobs.c.campaign_id, jobs.c.repeat, jobs.c.position, jobs.c.id)
    queued = and_(jobs.c.platform_id == platform_id, jobs.c.state == "queued", condition)
    turn = func.row_number().over(partition_by=jobs.c.fingerprint, order_by=order).label("turn")
    first = select(jobs.c.id, *order[:3], turn).where(queued).subquery()
    ids = connection.execute(
        select(first.c.id)
        .where(first.c.turn == 1)
        .order_by(first.c.campaign_id, first.c.repeat, first.c.position, first.c.id)
        .limit(most)
    ).scalars()
    # Another claim may have been quicker between the two statements: what it holds locked is skipped.
    return connection.execute(
        select(jobs)
        .where(jobs.c.id.in_(list(ids)), jobs.c.state == "queued")
        .order_by(*order)
        .with_for_update(skip_locked=True)
    ).all()


def _find_lease(connection: Connection, lease_id: int, token: int) -> Row[Any]:
    row = connection.execute(select(leases).where(leases.c.id == lease_id)).first()
    if row is None:
        raise NotFound(f"there is no lease {lease_id}", field="lease_id", remedy="claim one: POST /v1/leases")
    if row.token != token:
        raise LeaseLost(
            f"the token is not that of lease {lease_id}",
            field="token",
            remedy="send the token that came with the lease",
        )
    return row


def _lost(lease_id: int) -> LeaseLost:
    return LeaseLost(
        f"lease {lease_id} has run out or was released", field="lease_id", remedy="claim another: POST /v1/leases"
    )


def _check_result(result: Result, job: Row[Any], platform: Row[Any]) -> None:
    """Raise :class:`InvalidInput` where a result is not one of this job on this platform."""
    if job.platform_id != platform.id:
        raise InvalidInput(
            f"job {job.id} is for {job.platform_id}", field="job_id", remedy="report on a job of the lease"
        )
    expected: list[tuple[str, object, object]] = [("repeat", job.repeat, result.repeat)]
    if result.measurement is not None:
        expected += [
            ("measurement.fingerprint", job.fingerprint, result.measurement.fingerprint),
            ("measurement.platform_id", platform.id, result.measurement.platform_id),
            ("measurement.reference", platform.reference, result.measurement.reference),
        ]
    for field, wanted, given in expected:
        if wanted != given:
            raise InvalidInput(
                f"is {given!r}, but job {job.id} is for {wanted!r}", field=field, remedy=f"send {wanted!r}"
            )
    if result.measurement is not None and not SMALLEST_RATIO < result.measurement.ratio < 1 / SMALLEST_RATIO:
        raise InvalidInput(
            f"give a ratio of {result.measurement.ratio:g} to the reference",
            field="measurement.passes",
            remedy="send ms",
        )


def _known(connection: Connection, result: Result, job: Row[Any]) -> Receipt | None:
    """Return the receipt of a result that came before under the same lease."""
    found = connection.execute(
        select(measurements.c.id).where(measurements.c.job_id == job.id, measurements.c.lease_id == result.lease_id)
    ).scalar()
    if found is not None:
        return Receipt("duplicate", found)
    if job.lease_id == result.lease_id and job.state in ("failed", "done"):
        return Receipt("duplicate", None)
    return None


def _store(
    connection: Connection, result: Result, measurement: Measurement, job: Row[Any], *, late: bool, now: float
) -> int:
    values = {
        "platform_id": job.platform_id,
        "campaign_id": job.campaign_id,
        "job_id": job.id,
        "lease_id": result.lease_id,
        "fingerprint": job.fingerprint,
        "repeat": job.repeat,
        "reference": measurement.reference,
        "ratio": measurement.ratio,
        "reference_ms": measurement.reference_ms,
        "median_ms": measurement.median_ms,
        "min_ms": measurement.min_ms,
        "noisy": measurement.noisy,
        "late": late,
        "measurement": to_json(measurement),
        "created_at": now,
    }
    key = connection.execute(insert(measurements).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 - a table with a key that the database numbers
    return int(key[0])


def _finish(connection: Connection, job_id: int, result: Result) -> None:
    failure: Failure | None = result.failure
    values: dict[str, Any] = {"state": "done", "noisy": result.measurement is not None and result.measurement.noisy}
    if failure is not None:
        values = {"state": "failed", "failure_kind": failure.kind, "failure_message": failure.message[:2000]}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
