"""Events: one failure of each job that failed under a lease, and what a row of them says of a device.

A device fails *in a row* while nothing is measured there. A network that crashes or hangs counts once, however often it
does: it may be its own fault. So does an agent that falls silent, with all the networks that it held, as long as they
are others than before. A fault of the device itself counts once for each lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, String, case, cast, func, insert, not_, select

from leti.core.farm import DEVICE_FAULTS
from leti.service.tables import devices, failures

LOST: Final = "lost"
"""The kind of a failure that no agent reports: its lease ran out."""

SUSPICIOUS: Final = frozenset({"crashed", "timeout", LOST})
"""Kinds that speak against a device where different networks fail with them."""

AGAINST_DEVICE: Final = SUSPICIOUS | DEVICE_FAULTS
"""Kinds that may speak against a device; the others speak against the network alone."""

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
    """Return how many failures that speak against a device have come in a row there."""
    lease = cast(failures.c.lease_id, String(64))
    suspected = case((failures.c.kind.in_(SUSPICIOUS), failures.c.fingerprint))
    incident = case((failures.c.kind == LOST, lease), (failures.c.kind.in_(SUSPICIOUS), failures.c.fingerprint))
    fault = case((failures.c.kind.in_(DEVICE_FAULTS), lease))
    query = (
        select(func.count(suspected.distinct()), func.count(incident.distinct()), func.count(fault.distinct()))
        .join(devices, devices.c.name == failures.c.device)
        .where(
            devices.c.name == device,
            failures.c.id > devices.c.row_after,
            failures.c.kind.in_(AGAINST_DEVICE),
            not_(failures.c.late),
        )
    )
    networks, incidents, faults = connection.execute(query).one()
    return int(min(networks, incidents) + faults)
