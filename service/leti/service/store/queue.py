"""The queue: jobs are lent to agents by leases, and come back as results.

A lease has an owner, a fencing token that grows with every lease of its platform, and an expiry that heartbeats push
out. What has run out is taken back by whoever next claims, renews or reports on that device: an agent that has gone
needs nobody to watch it. A job that has outlived ``max_deaths`` leases is set aside as poison. A batch whose agent died
twice is lent out job by job, so that the one that kills is told from those that were merely beside it. A device against
which ``quarantine_after`` failures in a row speak gets no more jobs until a user releases it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from sqlalchemy import Connection, Row, insert, select, update

from leti.core.errors import NotFound
from leti.core.farm import DEVICE_FAULTS, Failure, Job, Lease, LeaseRequest, Receipt, Result
from leti.service.database import Database
from leti.service.store.devices import hear
from leti.service.store.events import AGAINST_DEVICE, is_recorded, newest_failure, record
from leti.service.store.leasing import Rules, choose, count_death, find_lease, hand_back, judge, lost, take_turn
from leti.service.store.platforms import find_platform, pool_reference, reference_latency
from leti.service.store.results import check_result, keep_measurement, known_measurement
from leti.service.tables import devices, jobs, leases, platforms


@final
class Queue:
    """Lends jobs and takes results. Every method holds the lock of one device: a job is lent to one agent at a time."""

    def __init__(self, database: Database, clock: Callable[[], float], rules: Rules) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules

    def claim(self, request: LeaseRequest) -> Lease | None:
        """Lend up to ``max_jobs`` jobs of different networks; ``None`` where none wait, or the device is quarantined.

        An agent that asks has its device at hand, and ready: what was reported to the contrary ends.
        """
        now = self._clock()
        with self._database.writing() as connection:
            platform = find_platform(connection, request.platform_id)
            device = take_turn(connection, platform.device, now, self._rules)
            self._heard(connection, device, platform.id, now)
            if device.reported_state != "available":
                ready = {"reported_state": "available", "reported_reason": "", "reported_at": now}
                connection.execute(update(devices).where(devices.c.name == device.name).values(**ready))
            if device.quarantined_at is not None:
                return None
            chosen = choose(connection, platform.id, request.max_jobs)
            if not chosen:
                return None
            return self._lend(connection, platform, request.agent, chosen, now)

    def heartbeat(self, lease_id: int, token: int) -> None:
        """Renew a lease; raise :class:`NotFound`, and :class:`LeaseLost` where it has run out or is another's."""
        now = self._clock()
        with self._database.writing() as connection:
            lease = find_lease(connection, lease_id, token)
            device = take_turn(connection, lease.device, now, self._rules)
            self._heard(connection, device, lease.platform_id, now)
            held = connection.execute(
                update(leases)
                .where(leases.c.id == lease_id, leases.c.state == "active")
                .values(expires_at=now + self._rules.lease_s)
            ).rowcount
        if not held:  # outside the transaction: what was taken back stays taken back
            raise lost(lease_id)

    def release(self, lease_id: int, token: int) -> None:
        """Give a lease back: its unfinished jobs go back to the queue. A lease that is gone already is left alone."""
        now = self._clock()
        with self._database.writing() as connection:
            lease = find_lease(connection, lease_id, token)
            take_turn(connection, lease.device, now, self._rules)
            active = leases.c.id == lease_id, leases.c.state == "active"
            if connection.execute(update(leases).where(*active).values(state="released")).rowcount:
                hand_back(connection, lease_id)
                connection.execute(update(devices).where(devices.c.name == lease.device).values(idle_since=now))

    def accept(self, result: Result) -> Receipt:
        """Take the end of a job: once under its lease, as late under a lost one, never twice.

        A failure that is the device's fault puts the job back into the queue. Raises :class:`NotFound` for an unknown
        lease or job, :class:`LeaseLost` for a token that is not the lease's, and :class:`InvalidInput` for a result
        that is not of that job.
        """
        now = self._clock()
        with self._database.writing() as connection:
            lease = find_lease(connection, result.lease_id, result.token)
            take_turn(connection, lease.device, now, self._rules)
            job = connection.execute(select(jobs).where(jobs.c.id == result.job_id)).first()
            if job is None:
                raise NotFound(
                    f"there is no job {result.job_id}", field="job_id", remedy="report on a job of the lease"
                )
            platform = find_platform(connection, lease.platform_id)
            check_result(result, job, platform)
            known = known_measurement(connection, job.id, lease.id)
            if known is not None or is_recorded(connection, job.id, lease.id):
                return Receipt("duplicate", known)
            late = job.state != "leased" or job.lease_id != lease.id
            if result.failure is not None:
                self._failed(connection, job, lease, result.failure, late=late, now=now)
                return Receipt("late" if late else "stored", None)
            stored = keep_measurement(connection, result, job, late=late, now=now)
            if not late:
                self._measured(connection, platform)
                if reference_latency(connection, platform.id) is None:
                    pool_reference(connection, platform.id, platform.reference, now)
            return Receipt("late" if late else "stored", stored)

    def _heard(self, connection: Connection, device: Row[Any], platform_id: str, now: float) -> None:
        hear(connection, device, now, gone_after_s=self._rules.gone_after_s)
        connection.execute(update(platforms).where(platforms.c.id == platform_id).values(last_heartbeat=now))

    def _lend(self, connection: Connection, platform: Row[Any], agent: str, chosen: Any, now: float) -> Lease:
        token: int = connection.execute(
            update(platforms)
            .where(platforms.c.id == platform.id)
            .values(last_token=platforms.c.last_token + 1)
            .returning(platforms.c.last_token)
        ).scalar_one()
        values = {
            "platform_id": platform.id,
            "agent": agent,
            "token": token,
            "state": "active",
            "expires_at": now + self._rules.lease_s,
            "created_at": now,
        }
        key = connection.execute(insert(leases).values(**values)).inserted_primary_key
        assert key is not None  # noqa: S101 - a table with a key that the database numbers
        connection.execute(
            update(jobs)
            .where(jobs.c.id.in_([row.id for row in chosen]))
            .values(state="leased", lease_id=key[0], attempts=jobs.c.attempts + 1)
        )
        lent = tuple(Job(row.id, row.fingerprint, row.repeat, row.attempts + 1, row.profile) for row in chosen)
        return Lease(key[0], token, platform.id, agent, self._rules.lease_s, platform.reference, lent)

    def _measured(self, connection: Connection, platform: Row[Any]) -> None:
        """End the row of failures of a platform's device."""
        waiting = devices.c.name == platform.device, devices.c.failures_in_a_row > 0
        values = {"failures_in_a_row": 0, "row_after": newest_failure(connection, platform.device)}
        connection.execute(update(devices).where(*waiting).values(**values))

    def _failed(
        self, connection: Connection, job: Row[Any], lease: Row[Any], failure: Failure, *, late: bool, now: float
    ) -> None:
        """Keep the event; end the job, or queue it again where the device is at fault."""
        said = {"kind": failure.kind, "message": failure.message}
        record(connection, [job], lease, device=lease.device, late=late, now=now, **said)
        if late:
            return
        if failure.kind in DEVICE_FAULTS:
            count_death(connection, job, max_deaths=self._rules.max_deaths, **said)
        else:
            ended = {"state": "failed", "failure_kind": failure.kind, "failure_message": failure.message[:2000]}
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(**ended))
        if failure.kind in AGAINST_DEVICE:
            judge(connection, lease.device, now, self._rules)
