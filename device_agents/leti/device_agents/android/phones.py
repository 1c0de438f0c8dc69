"""The phones that adb lists: which can be measured, what they offer, and why the others cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leti.core.device import Device
from leti.core.errors import DeviceFault, InvalidInput
from leti.device_agents.android.adb import Adb, AdbDevice
from leti.device_agents.android.lock import holder
from leti.device_agents.android.phone import Phone, identify, preferred


@dataclass(frozen=True, slots=True)
class ListedPhone:
    """One phone as ``adb`` lists it; ``reason`` says why it cannot be used, and is empty where it can.

    ``serials`` are all names that adb has for it (a cable and the network), ``serial`` the one to use. ``platforms``
    are the ways to run on it: each delegate worth trying on each cluster of cores.
    """

    serial: str
    name: str
    state: str
    reason: str
    platforms: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    device: Device | None = None
    phone: Phone | None = None


def list_phones(adb: Adb, *, lock_folder: Path | None = None) -> tuple[ListedPhone, ...]:
    """Return every phone that adb lists, those of several names once; each that answers is asked what it is.

    Raises :class:`~leti.core.errors.DeviceFault` where there is no server.
    """
    found: dict[str, list[ListedPhone]] = {}
    for each in adb.devices():
        listed = _listed(adb, each, lock_folder)
        found.setdefault(listed.phone.serial_number if listed.phone else each.serial, []).append(listed)
    return tuple(_joined(names) for names in found.values())


def _joined(names: Sequence[ListedPhone]) -> ListedPhone:
    serials = tuple(each.serial for each in names)
    chosen = preferred(serials)
    return replace(next(each for each in names if each.serial == chosen), serials=serials)


def _listed(adb: Adb, each: AdbDevice, lock_folder: Path | None) -> ListedPhone:
    name = each.facts.get("model", each.serial).replace("_", " ")
    if each.fault:
        return ListedPhone(each.serial, name, each.state, each.reason)
    try:
        phone = identify(adb.link(each.serial))
        device = phone.device()
    except (DeviceFault, InvalidInput) as fault:  # the latter: a serial, or a name, that cannot be one
        return ListedPhone(each.serial, name, each.state, str(fault).removeprefix("device: "))
    busy = holder(phone.serial_number, lock_folder)
    reason = f"another agent measures on it: {busy}" if busy else ""
    return ListedPhone(each.serial, device.name, each.state, reason, _platforms(phone), device=device, phone=phone)


def _platforms(phone: Phone) -> tuple[str, ...]:
    """Return the ways to run on ``phone`` in words, and what speaks against some."""
    cpus = [
        f"{cluster.name} (cores {', '.join(map(str, cluster.cores))})"
        for cluster in reversed(phone.clusters)
        if not cluster.reason
    ] or ["any core"]
    return tuple(
        f"{offer.delegate} on {cpu}" + (f": {offer.reason}" if offer.reason else "")
        for offer in phone.delegates
        for cpu in (cpus if not offer.reason else cpus[:1])
    )
