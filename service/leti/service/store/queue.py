"""The queue: jobs are lent to agents by leases, and come back as results.

A lease has an owner, a fencing token that grows with every lease of its platform, and an expiry that heartbeats push
out. What has run out is taken back by whoever next claims, renews or reports on that device: an agent that has gone
needs nobody to watch it. A job that has outlived ``max_deaths`` leases is set aside as poison. A batch whose agent died
twice is lent out job by job, so that the one that kills is told from those that were merely beside it. A device against
which ``quarantine_after`` failures in a row speak gets no more jobs until a user releases it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, final

from sqlalchemy import Connection, Row, bindparam, exists, insert, or_, select, update

from leti.core.errors import LetiError
from leti.core.farm import Job, Lease, LeaseRequest, Receipt, Result
from leti.service.bulk import among
from leti.service.database import Database
from leti.service.store.bell import Bell
from leti.service.store.devices import hear, take_hold
from leti.service.store.leasing import Rules, choose, find_lease, hand_back, lost, no_lease, take_turn
from leti.service.store.platforms import find_platform, note_heartbeat
from leti.service.store.progress import move_rows
from leti.service.store.results import Intake, Said
from leti.service.tables import devices, jobs, leases, platforms

_LEASES: Final = (
    select(leases, platforms.c.device, platforms.c.reference)
    .join(platforms, platforms.c.id == leases.c.platform_id)
    .where(among(leases.c.id, "ids"))
)
_NEXT_TOKEN: Final = (
    update(platforms)
    .where(platforms.c.id == bindparam("wanted"))
    .values(last_token=platforms.c.last_token + 1, last_heartbeat=bindparam("now"))
    .returning(platforms.c.last_token)
)
_ADD_LEASE: Final = insert(leases).returning(leases.c.id)


@final
class Queue:
    """Lends jobs and takes results. Every method holds the lock of one device: a job is lent to one agent at a time."""

    def __init__(self, database: Database, clock: Callable[[], float], rules: Rules, bell: Bell) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules
        self._bell = bell

    def claim(self, request: LeaseRequest, claimed_by: str | None = None, holder: str | None = None) -> Lease | None:
        """Lend up to ``max_jobs`` jobs of different networks; ``None`` where none wait, or the device is quarantined.

        ``claimed_by`` is the id of the bearer token that asks; only with it an agent may go on with the lease. Where
        there is no authentication, there is none. ``holder`` is the same where it is an agent's: raises
        :class:`NotPermitted` where another agent's token holds the device.

        An agent that asks has its device at hand, and ready: what was reported to the contrary ends.
        """
        now = self._clock()
        with self._database.writing() as connection:
            platform = find_platform(connection, request.platform_id)
            device = take_turn(connection, platform.device, now, self._rules)
            take_hold(connection, device, holder, now)
            ready: dict[str, Any] = {}
            if device.reported_state != "available":
                ready = {"reported_state": "available", "reported_reason": "", "reported_at": now}
            hear(connection, device, now, gone_after_s=self._rules.gone_after_s, **ready)
            held_back = device.quarantined_at is not None
            chosen = [] if held_back else choose(connection, platform.id, request.max_jobs)
            if not chosen:
                note_heartbeat(connection, platform.id, now)
                return None
            return self._lend(connection, platform, {"agent": request.agent, "claimed_by": claimed_by}, chosen, now)

    def has_work(self, platform_id: str) -> bool:
        """Return whether a claim may find jobs now: some are queued, or a lease has run out; cheap, changes nothing."""
        now = self._clock()
        beside = select(platforms.c.id).where(platforms.c.device == devices.c.name)
        over = or_(leases.c.expires_at < now, leases.c.expires_at > now + self._rules.lease_s)
        query = (
            select(platforms.c.id)
            .join(devices, devices.c.name == platforms.c.device)
            .where(
                platforms.c.id == platform_id,
                devices.c.quarantined_at.is_(None),
                or_(
                    exists().where(jobs.c.platform_id == platform_id, jobs.c.state == "queued"),
                    exists().where(leases.c.platform_id.in_(beside), leases.c.state == "active", over),
                ),
            )
        )
        with self._database.glancing() as connection:
            return connection.execute(query).first() is not None

    def heartbeat(self, lease_id: int, token: int, holder: str | None = None) -> None:
        """Renew a lease; raise :class:`NotFound`, and :class:`LeaseLost` where it has run out or is another's."""
        now = self._clock()
        with self._database.writing() as connection:
            lease = find_lease(connection, lease_id, token, holder)
            device = take_turn(connection, lease.device, now, self._rules)
            hear(connection, device, now, gone_after_s=self._rules.gone_after_s)
            note_heartbeat(connection, lease.platform_id, now)
            held = connection.execute(
                update(leases)
                .where(leases.c.id == lease_id, leases.c.state == "active")
                .values(expires_at=now + self._rules.lease_s)
            ).rowcount
        if not held:  # outside the transaction: what was taken back stays taken back
            raise lost(lease_id)

    def release(self, lease_id: int, token: int, holder: str | None = None) -> None:
        """Give a lease back: its unfinished jobs go back to the queue. A lease that is gone already is left alone."""
        now = self._clock()
        with self._database.writing() as connection:
            lease = find_lease(connection, lease_id, token, holder)
            take_turn(connection, lease.device, now, self._rules)
            active = leases.c.id == lease_id, leases.c.state == "active"
            if connection.execute(update(leases).where(*active).values(state="released")).rowcount:
                hand_back(connection, lease_id)
                connection.execute(update(devices).where(devices.c.name == lease.device).values(idle_since=now))
        self._bell.ring(lease.platform_id)

    def accept(self, result: Result, holder: str | None = None) -> Receipt:
        """Take the end of a job: once under its lease, as late under a lost one, never twice.

        A failure that is the device's fault puts the job back into the queue. Raises :class:`NotFound` for an unknown
        lease or job, :class:`LeaseLost` for a token that is not the lease's, and :class:`InvalidInput` for a result
        that is not of that job.
        """
        (outcome,) = self.accept_all([result], holder)
        if isinstance(outcome, LetiError):
            raise outcome
        return outcome

    def accept_all(self, results: Sequence[Result], holder: str | None = None) -> list[Receipt | LetiError]:
        """Take the ends of jobs as :meth:`accept` does, a transaction a device; return a receipt or an error for each.

        What is wrong with one keeps nothing of the others back.
        """
        now = self._clock()
        said = [Said.by(result) for result in results]
        leases_of = self._leases({result.lease_id for result in results})
        outcomes: list[Receipt | LetiError] = [no_lease(result.lease_id) for result in results]
        places: dict[str, list[int]] = {}
        for place, result in enumerate(results):
            if result.lease_id in leases_of:
                places.setdefault(leases_of[result.lease_id].device, []).append(place)
        for device in sorted(places):
            with self._database.writing() as connection:
                row = take_turn(connection, device, now, self._rules)
                intake = Intake(self._database, connection, self._rules, row, now, holder)
                taken = intake.take([said[place] for place in places[device]], leases_of)
            for place, outcome in zip(places[device], taken, strict=True):
                outcomes[place] = outcome
        failed = (leases_of.get(result.lease_id) for result in results if result.failure is not None)
        for platform_id in {lease.platform_id for lease in failed if lease is not None}:
            self._bell.ring(platform_id)  # where the device was at fault, the job is queued again
        return outcomes

    def _leases(self, ids: Collection[int]) -> dict[int, Row[Any]]:
        """Return leases with their devices and references, by id; those that there are."""
        with self._database.glancing() as connection:
            return {row.id: row for row in connection.execute(_LEASES, {"ids": list(ids)})}

    def _lend(
        self,
        connection: Connection,
        platform: Row[Any],
        owner: Mapping[str, str | None],
        chosen: Sequence[Row[Any]],
        now: float,
    ) -> Lease:
        token: int = connection.execute(_NEXT_TOKEN, {"wanted": platform.id, "now": now}).scalar_one()
        values = {
            "platform_id": platform.id,
            **owner,
            "token": token,
            "state": "active",
            "expires_at": now + self._rules.lease_s,
            "created_at": now,
        }
        lease_id: int = connection.execute(_ADD_LEASE, values).scalar_one()
        move_rows(connection, chosen, "leased", lease_id=lease_id, attempts=jobs.c.attempts + 1)
        lent = tuple(Job(row.id, row.fingerprint, row.repeat, row.attempts + 1, row.profile) for row in chosen)
        return Lease(lease_id, token, platform.id, str(owner["agent"]), self._rules.lease_s, platform.reference, lent)
