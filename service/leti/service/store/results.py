"""Results of one device: whether each is of its job, whether it came before, and the measurements that they carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, final

from sqlalchemy import Connection, Row, select, update

from leti.core.errors import InvalidInput, LetiError, NotFound
from leti.core.farm import DEVICE_FAULTS, Failure, Receipt, Result
from leti.service.bulk import among
from leti.service.database import Database
from leti.service.store.events import AGAINST_DEVICE, LOST, MOST_MESSAGE, newest_failure, record
from leti.service.store.leasing import Rules, check_held, count_death, judge
from leti.service.store.platforms import pool_reference
from leti.service.store.progress import move, move_rows
from leti.service.store.truths import Counted, Counting, count_in, ratios_by_network
from leti.service.tables import devices, failures, jobs, measurements
from leti.service.tables.columns import packed

SMALLEST_RATIO: Final = 1e-9
"""No network is this many times faster, or slower, than the reference: times so far apart are in different units."""

_Key = tuple[int, int]
"""A job and a lease: under one lease, a job ends once."""

_JOBS: Final = select(jobs).where(among(jobs.c.id, "ids"))
_MEASURED: Final = measurements.c.job_id, measurements.c.lease_id, measurements.c.id


@final
@dataclass(frozen=True, slots=True)
class Said:
    """A result, and the columns of its measurement that it gives by itself; there are none for a failure."""

    result: Result
    columns: dict[str, Any]

    @classmethod
    def by(cls, result: Result) -> Said:
        """Return what a result says; this takes as long as all the rest, and needs no transaction."""
        found = result.measurement
        if found is None:
            return cls(result, {})
        columns = {
            "reference": found.reference,
            "ratio": found.ratio,
            "reference_ms": found.reference_ms,
            "median_ms": found.median_ms,
            "min_ms": found.min_ms,
            "noisy": found.noisy,
            "measurement": packed(found),
        }
        return cls(result, columns)


@final
@dataclass(frozen=True, slots=True)
class _New:
    """A measurement that is to be kept: its place among the results, its platform, its row, and whether it is late."""

    place: int
    platform: Counting
    row: dict[str, Any]
    late: bool


@final
@dataclass(slots=True)
class Intake:
    """Takes results of one device, whose lock the transaction of ``connection`` holds, in the order they came.

    Measurements that follow each other are kept together: many cost hardly more than one.
    """

    database: Database
    connection: Connection
    rules: Rules
    device: Row[Any]
    now: float
    holder: str | None
    _jobs: dict[int, Row[Any]] = field(default_factory=dict)
    _known: dict[_Key, int | None] = field(default_factory=dict)
    _waiting: dict[_Key, _New] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)
    _failing: bool = field(init=False)

    def __post_init__(self) -> None:
        """Take note of whether failures stand in a row."""
        self._failing = self.device.failures_in_a_row > 0

    def take(self, all_said: Sequence[Said], leases: Mapping[int, Row[Any]]) -> list[Receipt | LetiError]:
        """Return what becomes of each result: a receipt, or the error that says why it was not taken."""
        results = [said.result for said in all_said]
        self._look_up(results)
        outcomes: list[Receipt | LetiError | None] = []
        repeated: list[tuple[int, _Key]] = []
        for place, said in enumerate(all_said):
            result = said.result
            key = (result.job_id, result.lease_id)
            try:
                job = self._check(said, leases[result.lease_id])
            except LetiError as error:
                outcomes.append(error)
                continue
            if key in self._known or key in self._waiting:
                repeated.append((place, key))
                outcomes.append(None)
                continue
            late = job.state != "leased" or job.lease_id != result.lease_id or job.id in self._ended
            if result.failure is not None:
                self._keep()  # what was measured before a failure ends the device's row of them
                self._fail(job, leases[result.lease_id], result.failure, late=late)
                self._known[key] = None
                outcomes.append(Receipt("late" if late else "stored", None))
                continue
            platform = Counting(job.platform_id, leases[result.lease_id].reference)
            self._waiting[key] = _New(place, platform, _values(said, job, late=late, now=self.now), late)
            self._ended |= set() if late else {job.id}
            outcomes.append(Receipt("late" if late else "stored", None))
        self._keep()
        for place, key in repeated:
            outcomes[place] = Receipt("duplicate", self._known[key])
        return [self._numbered(outcome, result) for outcome, result in zip(outcomes, results, strict=True)]

    def _numbered(self, outcome: Receipt | LetiError | None, result: Result) -> Receipt | LetiError:
        assert outcome is not None  # noqa: S101 - every place was filled above
        if isinstance(outcome, LetiError) or outcome.status == "duplicate":
            return outcome
        return Receipt(outcome.status, self._known[result.job_id, result.lease_id])

    def _look_up(self, results: Sequence[Result]) -> None:
        """Read the jobs, and what is known already of those that are not lent by the lease that the result names.

        Under the lease that it is lent by, nothing has come of a job: it would have ended.
        """
        execute = self.connection.execute
        wanted = list({result.job_id for result in results})
        self._jobs = {row.id: row for row in execute(_JOBS, {"ids": wanted})}
        lent = {(row.id, row.lease_id) for row in self._jobs.values() if row.state == "leased"}
        others = {result.job_id for result in results if (result.job_id, result.lease_id) not in lent}
        if not others:
            return
        told = select(failures.c.job_id, failures.c.lease_id).where(failures.c.kind != LOST)
        for job_id, lease_id in execute(told.where(among(failures.c.job_id, others))):
            self._known[job_id, lease_id] = None
        found = select(*_MEASURED).where(among(measurements.c.job_id, others))
        for job_id, lease_id, measured in execute(found):
            self._known[job_id, lease_id] = measured

    def _check(self, said: Said, lease: Row[Any]) -> Row[Any]:
        """Return the job of a result; raise where it is none of this lease."""
        result = said.result
        check_held(lease, result.token, self.holder)
        job = self._jobs.get(result.job_id)
        if job is None:
            raise NotFound(f"there is no job {result.job_id}", field="job_id", remedy="report on a job of the lease")
        check_result(said, job, lease)
        return job

    def _keep(self) -> None:
        """Keep the measurements that wait, platform by platform."""
        waiting = sorted(self._waiting.values(), key=lambda new: (new.row["platform_id"], new.place))
        self._waiting.clear()
        for platform, of_platform in groupby(waiting, key=lambda new: new.platform):
            self._keep_of(platform, list(of_platform))

    def _keep_of(self, platform: Counting, new: Sequence[_New]) -> None:
        """Keep measurements of one platform; those on time end their jobs and count."""
        rows = [one.row for one in new]
        on_time = [one.row for one in new if not one.late]
        fingerprints = sorted({row["fingerprint"] for row in on_time if not row["noisy"]})
        before = ratios_by_network(self.connection, platform.id, platform.reference, fingerprints)
        for kept in self.database.insert_all(self.connection, measurements, rows, *_MEASURED):
            self._known[kept.job_id, kept.lease_id] = kept.id
        if not on_time:
            return
        for noisy in (False, True):
            ended = [self._jobs[row["job_id"]] for row in on_time if row["noisy"] is noisy]
            move_rows(self.connection, ended, "done", noisy=noisy, failure_kind=None, failure_message=None)
        counted = (
            Counted(
                self._known[row["job_id"], row["lease_id"]] or 0,
                row["fingerprint"],
                None if row["noisy"] else row["ratio"],
            )
            for row in on_time
        )
        pooled = count_in(self.database, self.connection, platform, before, counted, self.now)
        if self._failing:
            self._end_row_of_failures()
        if not pooled:
            pool_reference(self.connection, platform.id, platform.reference, self.now)

    def _end_row_of_failures(self) -> None:
        waiting = devices.c.name == self.device.name, devices.c.failures_in_a_row > 0
        values = {"failures_in_a_row": 0, "row_after": newest_failure(self.connection, self.device.name)}
        self.connection.execute(update(devices).where(*waiting).values(**values))
        self._failing = False

    def _fail(self, job: Row[Any], lease: Row[Any], failure: Failure, *, late: bool) -> None:
        """Keep the event; end the job, or queue it again where the device is at fault."""
        said = {"kind": failure.kind, "message": failure.message}
        record(self.connection, [job], lease, device=lease.device, late=late, now=self.now, **said)
        if late:
            return
        if failure.kind in DEVICE_FAULTS:
            count_death(self.connection, job, max_deaths=self.rules.max_deaths, **said)
        else:
            ended = {"failure_kind": failure.kind, "failure_message": failure.message[:MOST_MESSAGE]}
            move(self.connection, jobs.c.id == job.id, "failed", **ended)
        if failure.kind in AGAINST_DEVICE:
            judge(self.connection, lease.device, self.now, self.rules)
            self._failing = True
        self._jobs[job.id] = self.connection.execute(select(jobs).where(jobs.c.id == job.id)).one()


def check_result(said: Said, job: Row[Any], lease: Row[Any]) -> None:
    """Raise :class:`InvalidInput` where a result is not one of this job on the lease's platform."""
    result, ratio = said.result, said.columns.get("ratio", 1.0)
    if job.platform_id != lease.platform_id:
        raise InvalidInput(
            f"job {job.id} is for {job.platform_id}", field="job_id", remedy="report on a job of the lease"
        )
    expected: list[tuple[str, object, object]] = [("repeat", job.repeat, result.repeat)]
    if result.measurement is not None:
        expected += [
            ("measurement.fingerprint", job.fingerprint, result.measurement.fingerprint),
            ("measurement.platform_id", lease.platform_id, result.measurement.platform_id),
            ("measurement.reference", lease.reference, result.measurement.reference),
        ]
    for field_name, wanted, given in expected:
        if wanted != given:
            raise InvalidInput(
                f"is {given!r}, but job {job.id} is for {wanted!r}", field=field_name, remedy=f"send {wanted!r}"
            )
    if not SMALLEST_RATIO < ratio < 1 / SMALLEST_RATIO:
        raise InvalidInput(
            f"give a ratio of {ratio:g} to the reference",
            field="measurement.passes",
            remedy="send ms",
        )


def _values(said: Said, job: Row[Any], *, late: bool, now: float) -> dict[str, Any]:
    return {
        "platform_id": job.platform_id,
        "campaign_id": job.campaign_id,
        "job_id": job.id,
        "lease_id": said.result.lease_id,
        "fingerprint": job.fingerprint,
        "repeat": job.repeat,
        "late": late,
        "created_at": now,
    } | said.columns
