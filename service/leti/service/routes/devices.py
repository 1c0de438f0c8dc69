"""Devices: the machines that measure, the state of each, and why."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Body, Path

from leti.core.errors import InvalidInput
from leti.core.farm import DeviceInfo, DeviceReport, Quarantine
from leti.service.gate.access import GivenCaller
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.examples.values import PLATFORM
from leti.service.routes.parts import NAME, FromWire, GivenParts, Parts

router = APIRouter(prefix="/devices", tags=["devices"])

MAX_REASON: Final = 500

DeviceName = Annotated[str, Path(min_length=1, max_length=200, pattern=NAME, examples=[PLATFORM.device.name])]


@router.get("", responses=responses(answer=DeviceInfo, many=True))
def list_devices(parts: GivenParts) -> tuple[DeviceInfo, ...]:
    """Return every device by name, with its state now, the reason for it, and what was measured and failed there.

    The list is whole: a farm has hundreds of devices at most, and whoever looks after them wants to see them all.
    """
    return parts.store.devices.list()


# A name is whatever a machine calls itself, and may hold a slash.
@router.put("/{name:path}/state", responses=posted(404, answer=DeviceInfo))
def report_device(
    name: DeviceName,
    report: Annotated[DeviceReport, FromWire(), Body(openapi_examples=body_examples(DeviceReport))],
    parts: GivenParts,
    caller: GivenCaller,
) -> DeviceInfo:
    """Keep what an agent says of its device: that it waits for it to cool, that it is gone, that it is back.

    What is busy or silent, the service finds out by itself; an agent that asks for jobs has its device back.
    """
    return parts.store.devices.report(name, report, caller.holder)


@router.put("/{name:path}/quarantine", responses=posted(404, answer=DeviceInfo))
def quarantine_device(
    name: DeviceName,
    quarantine: Annotated[Quarantine, FromWire(), Body(openapi_examples=body_examples(Quarantine))],
    parts: GivenParts,
) -> DeviceInfo:
    """Lend a device no more jobs until it is released; what it was lent already it may finish."""
    return shut_out(parts, name, quarantine.reason)


@router.delete("/{name:path}/quarantine", responses=responses(404, answer=DeviceInfo))
def release_device(name: DeviceName, parts: GivenParts) -> DeviceInfo:
    """End a quarantine, and forget the row of failures that led to it; a device that is in none stays as it is."""
    return parts.store.devices.release(name)


def shut_out(parts: Parts, name: str, reason: str) -> DeviceInfo:
    """Lend a device no more jobs; raise :class:`InvalidInput` where it is not said why."""
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON:
        raise InvalidInput(f"must be 1 to {MAX_REASON} characters", field="reason", remedy="say why")
    return parts.store.devices.quarantine(name, reason)
