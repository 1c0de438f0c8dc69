"""What adb says when something is wrong, and the error that it becomes.

Versions of adb word the same thing differently ("error: …", "adb: …"): texts are matched in parts, without their case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from leti.core.errors import Detail, DeviceFault, MeasurementFailed
from leti.core.farm import FailureKind


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a phone, or the way to it, fails: the kind that travels, a message, and what helps."""

    failure: FailureKind
    message: str
    remedy: str = ""


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "adb-missing": Fault(
            "tool-missing",
            "the adb program is not installed",
            "apt install adb, or pip install adbutils, or name it in LETI_ADB",
        ),
        "adb-server": Fault(
            "tool-missing", "the adb server cannot be started or reached", "adb kill-server, then adb start-server"
        ),
        "no-devices": Fault("device-gone", "no phone is connected", "plug it in and switch on USB debugging"),
        "several-devices": Fault("device-gone", "several phones are connected", "choose one by its serial number"),
        "not-found": Fault("device-gone", "the phone is not connected", "plug it in, or adb connect HOST:PORT"),
        "not-booted": Fault("device-gone", "the phone has not finished booting", "wait until it has"),
        "another-phone": Fault("device-gone", "another phone answers under this serial", "name the phone again"),
        "unauthorized": Fault(
            "device-gone", "the phone does not trust this computer", "unlock the phone and accept the key"
        ),
        "no-permissions": Fault(
            "device-gone",
            "this user may not open the USB device",
            "apt install android-sdk-platform-tools-common and join the group plugdev",
        ),
        "offline": Fault("device-gone", "the phone does not answer", "unplug it and plug it in again"),
        "wrong-state": Fault("device-gone", "the phone runs no Android system now", "reboot it into Android"),
        "locked": Fault("device-gone", "another agent measures on this phone", "stop it, or choose another phone"),
        "link-lost": Fault("link-lost", "the connection to the phone was lost", "check the cable or the network"),
        "no-answer": Fault("link-lost", "the phone did not answer in time", "check the cable or the network"),
        "checksum": Fault("link-lost", "a file arrived damaged, twice", "check the cable or the network"),
        "refused": Fault("device-gone", "the phone refused", ""),
        "no-space": Fault("no-space", "no space is left on the phone", "free some in /data"),
        "no-tool": Fault(
            "tool-missing", "the benchmark binary cannot be run on the phone", "a benchmark_model of the phone's ABI"
        ),
        "hot": Fault("too-hot", "the phone did not become ready to be measured", "let it cool, keep it charged"),
    }
)
"""Every fault of a phone by its name, which travels as ``details["fault"]``."""

SIGNS: Final[tuple[tuple[str, str], ...]] = (
    ("unauthorized", "unauthorized"),
    ("failed to authenticate", "unauthorized"),
    ("no permissions", "no-permissions"),
    ("insufficient permissions", "no-permissions"),
    ("more than one device", "several-devices"),
    ("more than one emulator", "several-devices"),
    ("device offline", "offline"),
    ("device still authorizing", "unauthorized"),
    ("device still connecting", "offline"),
    ("no devices/emulators found", "no-devices"),
    ("no devices found", "no-devices"),
    ("no emulators found", "no-devices"),
    ("cannot connect to daemon", "adb-server"),
    ("failed to start daemon", "adb-server"),
    ("could not install *smartsocket* listener", "adb-server"),
    ("no space left on device", "no-space"),
    ("failed to read copy response", "link-lost"),
    ("couldn't read from device", "link-lost"),
    ("connection reset", "link-lost"),
    ("protocol fault", "link-lost"),
    ("closed", "link-lost"),
)
"""Texts of adb, lower case, and the fault that each means; the first that is found counts."""


def fault_in(text: str) -> str:
    """Return the name of the fault that ``text`` of adb tells of, or the empty string."""
    lowered = text.lower()
    if "device '" in lowered and "' not found" in lowered:
        return "not-found"
    return next((name for sign, name in SIGNS if sign in lowered), "")


def device_fault(name: str, said: str = "", **details: Detail) -> DeviceFault:
    """Return the error for the fault ``name`` of :data:`FAULTS`, with what was said about it."""
    fault = FAULTS[name]
    said = " ".join(said.split())[:300]
    message = f"{fault.message}: {said}" if said else fault.message
    return DeviceFault(message, field="device", remedy=fault.remedy, failure=fault.failure, fault=name, **details)


def model_failure(failure: FailureKind, message: str, *, remedy: str = "", **details: Detail) -> MeasurementFailed:
    """Return the error for a model that could not be measured on a phone that is well."""
    return MeasurementFailed(message, field="model", remedy=remedy, failure=failure, **details)
