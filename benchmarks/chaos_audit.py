"""What became of every job and of every measurement that an agent made: the audit after the chaos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from leti.core.farm import DEVICE_FAULTS
from leti.device_agents.spool import Spool
from leti.service.database import Database
from leti.service.store.events import LOST
from leti.service.tables import failures, jobs, measurements


@dataclass(frozen=True, slots=True)
class Audit:
    """The books: jobs by state, measurements on time and late, and whatever should not be (``faults``)."""

    states: dict[str, int]
    kinds: dict[str, int]
    on_time: int
    late: int
    journalled: int
    faults: tuple[str, ...]


def audit(database_url: str, agents: Sequence[Path]) -> Audit:
    """Compare the database with what the agents in these folders have journalled and still hold."""
    database = Database(database_url)
    try:
        with database.reading() as connection:
            job_rows = connection.execute(select(jobs)).all()
            columns = (measurements.c.job_id, measurements.c.lease_id, measurements.c.late, measurements.c.repeat)
            rows = connection.execute(select(*columns)).all()
            events = connection.execute(select(failures)).all()
    finally:
        database.close()
    faults: list[str] = []
    on_time = Counter(row.job_id for row in rows if not row.late)
    for job in job_rows:
        if job.state in ("queued", "leased"):
            faults.append(f"job {job.id} is still {job.state}")
        if job.state == "done" and on_time[job.id] != 1:
            faults.append(f"job {job.id} is done with {on_time[job.id]} measurements")
        if job.state != "done" and on_time[job.id]:
            faults.append(f"job {job.id} is {job.state} and has a measurement that counts")
        if job.state in ("failed", "poison") and not (job.failure_kind and job.failure_message):
            faults.append(f"job {job.id} failed without a reason")
    stored = Counter((row.job_id, row.lease_id) for row in rows)
    faults += [
        f"measurement of job {job} under lease {lease} is there {n} times"
        for (job, lease), n in stored.items()
        if n > 1
    ]
    faults += _faults_of_events(job_rows, events)
    told = {(event.job_id, event.lease_id) for event in events if event.kind != LOST}
    journalled = 0
    for folder in agents:
        lines = (folder / "journal").read_text().splitlines() if (folder / "journal").exists() else []
        for line in set(lines):
            job_id, _, lease_id, what = line.split()
            if what == "m":
                journalled += 1
                if (int(job_id), int(lease_id)) not in stored:
                    faults.append(f"{folder.name} measured job {job_id} under lease {lease_id}: lost")
            elif (int(job_id), int(lease_id)) not in told:
                faults.append(f"{folder.name} told of the failure of job {job_id} under lease {lease_id}: lost")
        waiting = len(Spool(folder / "spool"))
        if waiting:
            faults.append(f"{folder.name} still holds {waiting} results")
        for kind in ("refused", "damaged"):
            faults += [f"{folder.name}: {kind} {path.name}" for path in (folder / "spool" / kind).glob("*")]
    kinds = Counter(job.failure_kind for job in job_rows if job.state in ("failed", "poison"))
    late = sum(row.late for row in rows)
    return Audit(
        dict(Counter(job.state for job in job_rows)), dict(kinds), len(rows) - late, late, journalled, tuple(faults)
    )


def _faults_of_events(job_rows: Sequence[Row[Any]], events: Sequence[Row[Any]]) -> list[str]:
    """Return where jobs and the events of their failures disagree: each death and each failure is one event."""
    told = Counter((event.job_id, event.lease_id) for event in events if event.kind != LOST)
    found = [f"job {job} failed {n} times under lease {lease}" for (job, lease), n in told.items() if n > 1]
    on_time = [event for event in events if not event.late]
    deaths = Counter(event.job_id for event in on_time if event.kind == LOST or event.kind in DEVICE_FAULTS)
    kinds = {(event.job_id, event.kind) for event in on_time}
    for job in job_rows:
        if job.deaths != deaths[job.id]:
            found.append(f"job {job.id} died {job.deaths} times, with {deaths[job.id]} events")
        if job.state in ("failed", "poison") and (job.id, job.failure_kind) not in kinds:
            found.append(f"job {job.id} is {job.state} by {job.failure_kind} without an event of it")
    return found
