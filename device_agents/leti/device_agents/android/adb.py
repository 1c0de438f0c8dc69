"""The ``adb`` program, thinly wrapped: devices, a shell with true exit codes, files; every call with a time limit.

What adb itself says of a remote command is not to be trusted: version 29 exits with 0 when the phone vanishes, and
phones before Android 7 report no exit code at all. A command is therefore sent as ``( COMMAND ); echo TOKEN:$?`` with
a random token; an answer without the token means that the link was lost, and nothing of it is used.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Final, final

from leti.core.errors import DeviceFault, InvalidInput
from leti.device_agents.android.faults import device_fault, fault_in
from leti.device_agents.android.process import Cut, Ran, run

KeepGoing = Callable[[], bool]

START_S: Final = 20.0
CONNECT_S: Final = 15.0
SHELL_S: Final = 20.0
BACK_S: Final = 60.0
"""Seconds that a phone that went away is waited for."""
RECONNECTS: Final = 3
STEP_S: Final = 2.0
"""Seconds between two attempts to connect."""

STATES: Final = (
    *("device", "offline", "unauthorized", "authorizing", "connecting", "recovery", "rescue", "sideload"),
    *("bootloader", "host", "detached", "unknown", "no permissions"),
)
"""States that adb lists."""

STATE_FAULTS: Final[Mapping[str, str]] = {
    "offline": "offline",
    "connecting": "offline",
    "detached": "offline",
    "unknown": "offline",
    "unauthorized": "unauthorized",
    "authorizing": "unauthorized",
    "no permissions": "no-permissions",
}
"""The fault that each state but ``device`` means; a recovery, a boot loader and the like are the wrong state."""

_SERIAL: Final = re.compile(r"[A-Za-z0-9_.:()\[\]%+][A-Za-z0-9_.:()\[\]%+ -]{0,199}")
_LISTED: Final = re.compile(rf"(?P<serial>\S.*?)\s+(?P<state>{'|'.join(STATES)})(?P<rest>(?:\s.*)?)$")
_FACT: Final = re.compile(r"(?:^|\s)(usb|product|model|device|transport_id):(\S+)")


@dataclass(frozen=True, slots=True)
class AdbDevice:
    """One line of ``adb devices -l``: a serial, its state, and facts (``model``, ``product``, ``usb`` …)."""

    serial: str
    state: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def fault(self) -> str:
        """The name of the fault that the state means, empty where the device can be used."""
        return "" if self.state == "device" else STATE_FAULTS.get(self.state, "wrong-state")

    @property
    def reason(self) -> str:
        """Why it cannot be used and what helps, empty where it can be."""
        return str(device_fault(self.fault, self.state)).removeprefix("device: ") if self.fault else ""


def listed(text: str) -> tuple[AdbDevice, ...]:
    """Return the devices in the output of ``adb devices -l``."""
    found = []
    for line in text.replace("\r", "").split("\n"):
        if not line.strip() or line.startswith(("*", "List of devices", "adb server")):
            continue
        match = _LISTED.match(line)
        serial, state, rest = match.group("serial", "state", "rest") if match else (*line.split(None, 1), "", "")[:3]
        found.append(AdbDevice(serial.strip(), state.strip() or "unknown", dict(_FACT.findall(rest))))
    return tuple(found)


def is_network(serial: str) -> bool:
    """Return whether ``serial`` names a device that adb reaches over the network."""
    return bool(re.fullmatch(r".+:\d{1,5}", serial)) or "._adb" in serial


def choose(devices: Sequence[AdbDevice], serial: str = "") -> AdbDevice:
    """Return the device ``serial``, or the only one that can be used.

    Raises :class:`~leti.core.errors.DeviceFault` listing all devices with their states where there is no such one, or
    no choice is told between several.
    """
    known = ", ".join(f"{each.serial} ({each.state})" for each in devices)
    if serial:
        for each in devices:
            if each.serial == serial:
                return each
        raise device_fault("not-found", f"there is no {serial}" + (f" among {known}" if known else ""), serial=serial)
    usable = [each for each in devices if each.state == "device"]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise device_fault("several-devices", known)
    if len(devices) == 1:
        raise device_fault(devices[0].fault, known, serial=devices[0].serial)
    raise device_fault("no-devices", known)


@final
class Adb:
    """The adb program: ``executable``, else ``$LETI_ADB``, else the first on the path, else the one in ``adbutils``.

    ``environment`` replaces that of this process for adb (``ANDROID_ADB_SERVER_PORT`` chooses the server, as always).
    Raises :class:`~leti.core.errors.DeviceFault` (fault ``adb-missing``) where there is no such program.
    """

    def __init__(self, executable: str | Path | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        self.environment = None if environment is None else dict(environment)
        self.executable = _located(executable, os.environ if environment is None else environment)

    def call(self, *words: str, timeout_s: float, keep_going: KeepGoing | None = None) -> Ran:
        """Run adb with ``words``; a server that cannot be reached is started anew, once.

        Raises :class:`~leti.core.errors.DeviceFault`: ``no-answer`` after ``timeout_s``, ``adb-server`` and
        ``adb-missing``; and :class:`~leti.device_agents.android.process.Cut` once ``keep_going`` says no.
        """
        ran = self._run(words, timeout_s, keep_going)
        if ran.rc and fault_in(ran.stderr) == "adb-server":
            self.start_server()
            ran = self._run(words, timeout_s, keep_going)
            if ran.rc and fault_in(ran.stderr) == "adb-server":
                raise device_fault("adb-server", ran.stderr)
        return ran

    def version(self) -> str:
        """Return adb's version, as ``1.0.41 29.0.6-debian``."""
        text = self.call("version", timeout_s=START_S).stdout
        words = re.findall(r"(?mi)^(?:Android Debug Bridge )?version\s+(\S+)", text)
        return " ".join(words) or "unknown"

    def start_server(self) -> None:
        """Start the server where none runs."""
        ran = self._run(["start-server"], START_S, None)
        if ran.rc:
            raise device_fault("adb-server", ran.text)

    def devices(self) -> tuple[AdbDevice, ...]:
        """Return every device that the server knows, with its state."""
        ran = self.call("devices", "-l", timeout_s=START_S)
        if ran.rc:
            raise device_fault(fault_in(ran.stderr) or "adb-server", ran.stderr)
        return listed(ran.stdout)

    def connect(self, serial: str) -> str:
        """Ask the server to connect to a network device; return what adb says, which is not the truth: states are."""
        try:
            return self.call("connect", checked_serial(serial), timeout_s=CONNECT_S).text.strip()
        except DeviceFault as fault:
            if fault.details.get("fault") != "no-answer":
                raise
            return str(fault)

    def link(self, serial: str) -> Link:
        """Return the link to one device."""
        return Link(self, serial)

    def _run(self, words: Sequence[str], timeout_s: float, keep_going: KeepGoing | None) -> Ran:
        argv = [self.executable, *words]
        try:
            return run(argv, timeout_s=timeout_s, environment=self.environment, keep_going=keep_going)
        except Cut as cut:
            if cut.why == "stopped":
                raise
            doing = " ".join(word for word in words[:4] if word != "-s")
            limit = f"{timeout_s:.0f} s" if cut.why == "time" else "too much output"
            raise device_fault("no-answer", f"adb {doing[:80]}: {limit}", cut=cut.why) from cut
        except OSError as error:
            raise device_fault("adb-missing", f"{self.executable}: {error.strerror}") from error


@final
class Link:
    """One device behind adb, by its serial. Values in commands are the caller's to quote (``shlex.quote``)."""

    def __init__(self, adb: Adb, serial: str) -> None:
        self.adb = adb
        self.serial = checked_serial(serial)

    def shell(self, command: str, timeout_s: float = SHELL_S, *, keep_going: KeepGoing | None = None) -> Ran:
        """Run ``command`` in the device's shell; return its own exit status and output.

        Raises :class:`~leti.core.errors.DeviceFault` where the device, or the link to it, failed: ``link-lost`` where
        nothing more is known, ``no-answer`` after ``timeout_s``.
        """
        token = secrets.token_hex(8)
        ran = self._call("shell", f"( {command}\n); echo {token}:$?", timeout_s=timeout_s, keep_going=keep_going)
        before, _, after = ran.stdout.rpartition(f"{token}:")
        status = re.match(r"(\d{1,3})\s*$", after)
        if status is None:
            # The command's own errors are on the same stream.
            said = "\n".join(line for line in ran.stderr.splitlines() if line.startswith(("error:", "adb:")))
            raise device_fault(fault_in(said) or "link-lost", said)
        return Ran(int(status[1]), before, ran.stderr)

    def answers(self, *commands: str, timeout_s: float = SHELL_S) -> tuple[str, ...]:
        """Return what each of ``commands`` writes to its standard output, from one call; errors are not told."""
        mark = secrets.token_hex(8)
        said = self.shell(f"; echo; echo {mark}; ".join(f"{{ {each}; }} 2>/dev/null" for each in commands), timeout_s)
        parts = tuple(part.strip() for part in said.stdout.replace("\r", "").split(mark))
        if len(parts) != len(commands):
            raise device_fault("refused", f"{len(parts)} answers to {len(commands)} questions")
        return parts

    def push(self, local: Path, remote: str, timeout_s: float = 300.0, *, keep_going: KeepGoing | None = None) -> None:
        """Copy a file to the device; what arrived is for the caller to check."""
        ran = self._call("push", str(local), remote, timeout_s=timeout_s, keep_going=keep_going)
        if ran.rc:
            raise device_fault(fault_in(ran.text) or "refused", ran.text)

    def pull(self, remote: str, local: Path, timeout_s: float = 60.0) -> None:
        """Copy a file from the device."""
        ran = self._call("pull", remote, str(local), timeout_s=timeout_s)
        if ran.rc:
            raise device_fault(fault_in(ran.text) or "refused", ran.text)

    def state(self) -> str:
        """Return the state of the device, ``absent`` where adb does not know it."""
        for each in self.adb.devices():
            if each.serial == self.serial:
                return each.state
        return "absent"

    def features(self) -> tuple[str, ...]:
        """Return what the device's daemon can do (``shell_v2`` from Android 7 on); empty where it does not tell."""
        ran = self._call("features", timeout_s=SHELL_S)
        return tuple(ran.stdout.split()) if ran.rc == 0 else ()

    def wait(self, timeout_s: float = BACK_S, *, keep_going: KeepGoing | None = None) -> bool:
        """Wait until the device is there; return whether it is."""
        try:
            self._call("wait-for-device", timeout_s=timeout_s, keep_going=keep_going)
        except DeviceFault as fault:
            if fault.details.get("fault") != "no-answer":
                raise
        return self.state() == "device"

    def ready(
        self, timeout_s: float = BACK_S, *, reconnects: int | None = RECONNECTS, keep_going: KeepGoing | None = None
    ) -> None:
        """Make sure that the device can be used; connect to it again, for at most ``timeout_s``, where it is away.

        One that is there and does not answer is connected to ``reconnects`` times (``None``: until the time is over).

        Raises :class:`~leti.core.errors.DeviceFault`: at once where a person is needed, else when the time is over.
        """
        deadline_s = time.monotonic() + timeout_s
        silent = 0
        while (state := self.state()) != "device":
            name = STATE_FAULTS.get(state, "not-found" if state == "absent" else "wrong-state")
            silent += name == "offline"
            given_up = reconnects is not None and silent > reconnects
            if name not in ("offline", "not-found") or given_up or time.monotonic() >= deadline_s:
                raise device_fault(name, f"{self.serial} is {state}", serial=self.serial)
            self.reconnect()
            self.wait(max(0.1, min(STEP_S, deadline_s - time.monotonic())), keep_going=keep_going)

    def reconnect(self) -> None:
        """Drop the connection and ask for a new one; whether there is one is for :meth:`state` to say."""
        if is_network(self.serial):
            self.adb.call("disconnect", self.serial, timeout_s=CONNECT_S)
            self.adb.connect(self.serial)
        else:
            self.adb.call("reconnect", "offline", timeout_s=CONNECT_S)

    def _call(self, *words: str, timeout_s: float, keep_going: KeepGoing | None = None) -> Ran:
        return self.adb.call("-s", self.serial, *words, timeout_s=timeout_s, keep_going=keep_going)


def quoted(*words: str) -> str:
    """Return ``words`` as a device's shell reads them back, whatever is in them."""
    return shlex.join(words)


def checked_serial(serial: str) -> str:
    """Return ``serial`` where it can be one."""
    if not _SERIAL.fullmatch(serial):
        raise InvalidInput(f"{serial[:80]!r} is no serial of a device", field="serial", remedy="one that adb lists")
    return serial


def _located(executable: str | Path | None, environment: Mapping[str, str]) -> str:
    wanted = str(executable or environment.get("LETI_ADB", "") or "adb")
    path = shutil.which(wanted, path=environment.get("PATH"))
    if path is None and wanted == "adb":
        # The adb in adbutils' wheel is found without importing adbutils.
        spec = util.find_spec("adbutils")
        if spec is not None and spec.origin is not None:
            path = shutil.which(str(Path(spec.origin).parent / "binaries" / "adb"))
    if path is None:
        raise device_fault("adb-missing", "" if wanted == "adb" else f"there is no program {wanted}")
    return path
