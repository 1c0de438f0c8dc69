"""Results: whether one is of its job, whether it came before, and the measurement that it carries."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from leti.core.codec import to_json
from leti.core.errors import InvalidInput
from leti.core.farm import Result
from leti.service.tables import jobs, measurements

SMALLEST_RATIO: Final = 1e-9
"""No network is this many times faster, or slower, than the reference: times so far apart are in different units."""


def check_result(result: Result, job: Row[Any], platform: Row[Any]) -> None:
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


def known_measurement(connection: Connection, job_id: int, lease_id: int) -> int | None:
    """Return the id of the measurement of a job that came before under the same lease."""
    found: int | None = connection.execute(
        select(measurements.c.id).where(measurements.c.job_id == job_id, measurements.c.lease_id == lease_id)
    ).scalar()
    return found


def keep_measurement(connection: Connection, result: Result, job: Row[Any], *, late: bool, now: float) -> int:
    """Keep the measurement of a result and return its id; one that is on time ends its job."""
    measurement = result.measurement
    assert measurement is not None  # noqa: S101 - a result without one is a failure
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
    if not late:
        ended = {"state": "done", "noisy": measurement.noisy, "failure_kind": None, "failure_message": None}
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(**ended))
    return int(key[0])
