"""Events: one failure of each job that failed under a lease.

A device fails *in a row* while nothing is measured there. Its row counts different networks; but what ends a lease as a
whole (its agent fell silent, the device went away) is one incident, however many networks were in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, String, case, cast, func, insert, not_, select

from leti.core.wire import DEVICE_FAULTS
from leti.service.tables import devices, failures

LOST: Final = "lost"
"""The kind of a failure that no agent reports: its lease ran out."""

AGAINST_DEVICE: Final = frozenset({"crashed", "timeout", LOST, *DEVICE_FAULTS})
"""Kinds that speak against a device where different networks fail with them; the others speak against the network."""

OF_LEASE: Final = frozenset({LOST, *DEVICE_FAULTS})
"""Kinds that end a lease as a whole."""

MOST_MESSAGE: Final = 2_000
"""Characters of a message that are kept."""


def record(
    connection: Connection,
    held: Sequence[Row[Any]],
    lease: Row[Any],
    *,
    device: str,
    kind: str,
    message: str,
    late: bool,
    now: float,
) -> None:
    """Keep one event for each of the jobs ``held``, which failed under ``lease``."""
    rows = [
        {
            "job_id": job.id,
            "platform_id": job.platform_id,
            "device": device,
            "fingerprint": job.fingerprint,
            "agent": lease.agent,
            "lease_id": lease.id,
            "kind": kind,
            "message": message[:MOST_MESSAGE],
            "late": late,
            "created_at": now,
        }
        for job in held
    ]
    if rows:
        connection.execute(insert(failures), rows)


def is_recorded(connection: Connection, job_id: int, lease_id: int) -> bool:
    """Return whether an agent has told before how a job failed under a lease."""
    query = select(failures.c.id).where(
        failures.c.job_id == job_id, failures.c.lease_id == lease_id, failures.c.kind != LOST
    )
    return connection.execute(query.limit(1)).first() is not None


def newest_failure(connection: Connection, device: str) -> int:
    """Return the id of a device's newest event, 0 where there is none."""
    query = select(func.coalesce(func.max(failures.c.id), 0)).where(failures.c.device == device)
    return int(connection.execute(query).scalar_one())


def describe_newest(connection: Connection, device: str) -> str:
    """Return the kind and message of the newest event that speaks against a device."""
    against = failures.c.device == device, failures.c.kind.in_(AGAINST_DEVICE), not_(failures.c.late)
    query = select(failures.c.kind, failures.c.message).where(*against).order_by(failures.c.id.desc()).limit(1)
    row = connection.execute(query).one()
    return f"{row.kind}: {row.message}"


def count_row(connection: Connection, device: str) -> int:
    """Return how many different networks have failed in a row on a device, what ended one lease counted once."""
    network: ColumnElement[str] = failures.c.fingerprint
    incident = case((failures.c.kind.in_(OF_LEASE), cast(failures.c.lease_id, String(64))), else_=network)
    query = (
        select(func.count(network.distinct()), func.count(incident.distinct()))
        .join(devices, devices.c.name == failures.c.device)
        .where(
            devices.c.name == device,
            failures.c.id > devices.c.row_after,
            failures.c.kind.in_(AGAINST_DEVICE),
            not_(failures.c.late),
        )
    )
    return int(min(connection.execute(query).one()))
