"""An adb server of a test's own, with its own port and keys; any other on the machine is let be."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest
from phone import free_port


def programs() -> dict[str, Path]:
    """Return the adb programs at hand, by where they are from: the system's, the one in adbutils, ``$LETI_ADB``."""
    found: dict[str, Path] = {}
    if path := shutil.which("adb"):
        found["system"] = Path(path)
    spec = util.find_spec("adbutils")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "binaries" / "adb"
        if os.access(bundled, os.X_OK):
            found["adbutils"] = bundled
    if named := os.environ.get("LETI_ADB"):
        found["LETI_ADB"] = Path(named)
    return found


ADB_PROGRAMS = programs()

every_adb = pytest.mark.parametrize("adb_program", sorted(ADB_PROGRAMS) or ["system"], indirect=True)
"""Marks what differs between versions of adb, to be run with each that is at hand."""


class AdbServer:
    """The adb program ``executable`` with a server of its own; it starts with the first call."""

    def __init__(self, executable: Path, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.executable = executable
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "TMPDIR": str(home),
            "ANDROID_ADB_SERVER_PORT": str(free_port()),
            "ADB_MDNS": "0",
        }

    def __call__(self, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run adb with ``words``; return what it said."""
        command = [str(self.executable), *words]
        return subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )

    def state(self, serial: str) -> str:
        """Return the state of a device as adb lists it, "absent" where it does not."""
        for line in self("devices").stdout.splitlines()[1:]:
            name, _, state = line.partition("\t")
            if name == serial:
                return state.strip()
        return "absent"

    def connect(self, serial: str, state: str = "device") -> None:
        """Connect to a phone, and wait until it is in this state: one that is there must answer, too.

        The server itself connects anew to a phone that went away, and may do so at the same moment.
        """
        self("connect", serial)
        until(lambda: self.state(serial) == state, f"{serial} is not {state}")
        if state == "device":
            until(lambda: self("-s", serial, "shell", "echo here").stdout.strip() == "here", f"{serial} is silent")

    def stop(self) -> None:
        """End the server."""
        subprocess.run(
            [str(self.executable), "kill-server"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
        )


def until(true: Callable[[], bool], otherwise: str, within_s: float = 60.0) -> None:
    """Wait until something is true; fail with ``otherwise`` where it does not become so."""
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, otherwise
        time.sleep(0.05)
