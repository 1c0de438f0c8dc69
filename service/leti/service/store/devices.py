"""Devices: what is known of each machine that measures, what state it is in, and why.

A device's row is also the lock of everything that is queued for it (:func:`lock_device`): whoever lends, renews, takes
back, accepts, retries or cancels jobs locks it first, then the platform, then what it changes; who needs several
devices locks them by name. Nobody ever waits for somebody who waits for them, and between two locks of one device its
leases and jobs stand still. SQLite's writers are alone anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, bindparam, func, not_, select, update

from leti.core.codec import from_json, to_json
from leti.core.device import Device
from leti.core.errors import NotFound, NotPermitted
from leti.core.farm import DeviceInfo, DeviceReport, DeviceState
from leti.service.database import Database
from leti.service.store.bell import Bell
from leti.service.store.events import newest_failure
from leti.service.store.times import utc
from leti.service.store.tokens import is_valid
from leti.service.tables import devices, failures, leases, platform_totals, platforms, tokens

MOST_REASON: Final = 2_000
"""Characters of a reason that are kept."""

BY_SERVICE: Final = "the service"
BY_USER: Final = "a user"


@final
@dataclass(frozen=True, slots=True)
class _Active:
    """A device's lease that has not run out: the oldest one's agent, and since when."""

    agent: str
    since: float


@final
class DeviceStore:
    """Keeps the states of devices; platforms bring them in. One that is silent for ``gone_after_s`` is gone."""

    def __init__(self, database: Database, clock: Callable[[], float], bell: Bell, *, gone_after_s: float) -> None:
        self._database = database
        self._clock = clock
        self._bell = bell
        self._gone_after_s = gone_after_s

    def list(self) -> tuple[DeviceInfo, ...]:
        """Return every device with its state now, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(select(devices).order_by(devices.c.name)).all()
            return self._infos(connection, rows)

    def report(self, name: str, report: DeviceReport, holder: str | None = None) -> DeviceInfo:
        """Keep what an agent says of its device, and that it spoke.

        Raises :class:`NotFound`, and what :func:`take_hold` raises.
        """
        now = self._clock()
        reason = report.reason[:MOST_REASON]
        with self._database.writing() as connection:
            row = lock_device(connection, name)
            take_hold(connection, row, holder, now)
            hear(connection, row, now, gone_after_s=self._gone_after_s)
            if (row.reported_state, row.reported_reason) != (report.state, reason):
                since = row.reported_at if row.reported_state == report.state else now
                values = {"reported_state": report.state, "reported_reason": reason, "reported_at": since}
                connection.execute(update(devices).where(devices.c.name == name).values(**values))
            return self._info(connection, name)

    def quarantine(self, name: str, reason: str) -> DeviceInfo:
        """Lend a device nothing more until it is released; raise :class:`NotFound`."""
        now = self._clock()
        with self._database.writing() as connection:
            row = lock_device(connection, name)
            since = now if row.quarantined_at is None else row.quarantined_at
            values = {"quarantine_reason": reason, "quarantined_by": BY_USER, "quarantined_at": since}
            connection.execute(update(devices).where(devices.c.name == name).values(**values))
            return self._info(connection, name)

    def release(self, name: str) -> DeviceInfo:
        """End a quarantine and the row of failures that led to it; raise :class:`NotFound`.

        A device that is in none stays as it is.
        """
        now = self._clock()
        with self._database.writing() as connection:
            if lock_device(connection, name).quarantined_at is not None:
                values: dict[str, Any] = {
                    "quarantine_reason": None,
                    "quarantined_by": None,
                    "quarantined_at": None,
                    "idle_since": now,
                    "failures_in_a_row": 0,
                    "row_after": newest_failure(connection, name),
                }
                connection.execute(update(devices).where(devices.c.name == name).values(**values))
            released = self._info(connection, name)
        self._bell.ring()
        return released

    def _info(self, connection: Connection, name: str) -> DeviceInfo:
        return self._infos(connection, [find_device(connection, name)])[0]

    def _infos(self, connection: Connection, rows: Sequence[Row[Any]]) -> tuple[DeviceInfo, ...]:
        now = self._clock()
        names = [row.name for row in rows]
        ids: dict[str, list[str]] = {name: [] for name in names}
        query = select(platforms.c.device, platforms.c.id).where(platforms.c.device.in_(names))
        for name, platform_id in connection.execute(query.order_by(platforms.c.created_at, platforms.c.id)):
            ids[name].append(platform_id)
        measured = _measured(connection, names)
        failed = _failed(connection, names)
        active = _active(connection, names, now)
        found = []
        for row in rows:
            state, reason, since = self._state(row, active.get(row.name), now)
            found.append(
                DeviceInfo(
                    device=from_json(Device, row.device),
                    state=state,
                    reason=reason,
                    since=utc(since),
                    last_heartbeat=None if row.last_heartbeat is None else utc(row.last_heartbeat),
                    platforms=tuple(ids[row.name]),
                    measured=measured.get(row.name, 0),
                    failures=failed.get(row.name, {}),
                    failures_in_a_row=row.failures_in_a_row,
                )
            )
        return tuple(found)

    def _state(self, row: Row[Any], active: _Active | None, now: float) -> tuple[DeviceState, str, float]:
        """Return a device's state, why, and since when: the first of what holds, the gravest first."""
        if row.quarantined_at is not None:
            return "quarantined", f"{row.quarantined_by}: {row.quarantine_reason}", row.quarantined_at
        if row.reported_state == "gone":
            return "gone", row.reported_reason or "its agent says so", row.reported_at
        silent_from = last_sign(row) + self._gone_after_s
        if silent_from < now:
            reason = f"no agent has spoken for it since {utc(last_sign(row))}"
            return "gone", reason, silent_from
        if row.reported_state == "cooling":
            return "cooling", row.reported_reason or "its agent says so", row.reported_at
        if active is not None:
            return "busy", f"measures for {active.agent!r}", active.since
        return "available", row.reported_reason, max(row.reported_at, row.idle_since)


def add_device(database: Database, connection: Connection, device: Device, now: float) -> None:
    """Keep a device by its name; a newer description of one that is there replaces the older."""
    said = to_json(device)
    row = {
        "name": device.name,
        "device": said,
        "reported_state": "available",
        "reported_reason": "",
        "reported_at": now,
        "idle_since": now,
        "failures_in_a_row": 0,
        "row_after": 0,
        "created_at": now,
    }
    database.insert_new(connection, devices, [row])
    if lock_device(connection, device.name).device != said:
        connection.execute(update(devices).where(devices.c.name == device.name).values(device=said))


_NAMED: Final = select(devices).where(devices.c.name == bindparam("wanted"))
_LOCKED: Final = _NAMED.with_for_update(key_share=True)


def find_device(connection: Connection, name: str) -> Row[Any]:
    """Return a device's row; raise :class:`NotFound`."""
    return _found(connection.execute(_NAMED, {"wanted": name}).first(), name)


def lock_device(connection: Connection, name: str) -> Row[Any]:
    """Return a device's row, locked until the transaction ends; raise :class:`NotFound`."""
    return _found(connection.execute(_LOCKED, {"wanted": name}).first(), name)


def take_hold(connection: Connection, row: Row[Any], holder: str | None, now: float) -> None:
    """Have an agent's token hold a device, whose locked ``row`` this is: from then on no other agent speaks for it.

    That ends when the token is revoked or its time is over. Nobody is held up where ``holder`` is ``None``: an admin,
    or everybody without authentication. Raises :class:`NotPermitted` where another token holds it.
    """
    if holder is None or row.holder == holder:
        return
    held = connection.execute(select(tokens).where(tokens.c.id == row.holder)).first()
    if held is not None and is_valid(held, now):
        raise NotPermitted(
            f"the token {held.id} speaks for the device {row.name!r}",
            field="authorization",
            remedy=f"use that one, or have an admin revoke it: leti token revoke {held.id}",
            device=row.name,
            holder=held.id,
        )
    connection.execute(update(devices).where(devices.c.name == row.name).values(holder=holder))


def hear(connection: Connection, row: Row[Any], now: float, *, gone_after_s: float, **more: Any) -> None:
    """Note that somebody spoke for a device, whose locked ``row`` this is: one that was silent is back since now.

    ``more`` is what else becomes known of it.
    """
    values = {"last_heartbeat": now, **more}
    if last_sign(row) + gone_after_s < now:
        values["idle_since"] = now
    connection.execute(update(devices).where(devices.c.name == row.name).values(**values))


def last_sign(row: Row[Any]) -> float:
    """Return when a device was last heard of, or else when it became known."""
    return float(row.created_at if row.last_heartbeat is None else row.last_heartbeat)


def _found(row: Row[Any] | None, name: str) -> Row[Any]:
    if row is None:
        raise NotFound(
            f"there is no device {name[:200]!r}",
            field="name",
            remedy="GET /v1/devices lists them; POST /v1/platforms adds a platform with its device",
        )
    return row


def _measured(connection: Connection, names: Sequence[str]) -> Mapping[str, int]:
    query = (
        select(platforms.c.device, func.sum(platform_totals.c.on_time))
        .join(platform_totals, platform_totals.c.platform_id == platforms.c.id)
        .where(platforms.c.device.in_(names))
        .group_by(platforms.c.device)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def _failed(connection: Connection, names: Sequence[str]) -> Mapping[str, dict[str, int]]:
    query = (
        select(failures.c.device, failures.c.kind, func.count())
        .where(failures.c.device.in_(names), not_(failures.c.late))
        .group_by(failures.c.device, failures.c.kind)
        .order_by(failures.c.device, failures.c.kind)
    )
    found: dict[str, dict[str, int]] = {}
    for name, kind, count in connection.execute(query):
        found.setdefault(name, {})[kind] = count
    return found


def _active(connection: Connection, names: Sequence[str], now: float) -> Mapping[str, _Active]:
    query = (
        select(platforms.c.device, leases.c.agent, leases.c.created_at)
        .join(platforms, platforms.c.id == leases.c.platform_id)
        .where(platforms.c.device.in_(names), leases.c.state == "active", leases.c.expires_at > now)
        .order_by(leases.c.created_at.desc(), leases.c.id.desc())
    )
    return {name: _Active(agent, since) for name, agent, since in connection.execute(query)}
