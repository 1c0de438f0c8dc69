"""Files on a phone: a fresh folder for each batch, what was left by earlier ones taken away, every file verified."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from pathlib import Path
from typing import Final, final

from leti.core.errors import DeviceFault
from leti.device_agents.android.adb import KeepGoing, Link, quoted
from leti.device_agents.android.faults import device_fault

PARENT: Final = "/data/local/tmp"
"""Where a shell may write and execute; ``/sdcard`` executes nothing."""
PREFIX: Final = "leti-"
SPARE: Final = 1.2
"""Times the size of the files that must be free."""

AWAKE: Final = "stay_on_while_plugged_in"

LINK_FAULTS: Final = frozenset({"link-lost", "no-answer", "not-found", "offline", "no-devices"})
"""Faults of the way to a phone, which may pass."""

log = logging.getLogger(__name__)

_CLEAN: Final = f"""for d in {PARENT}/{PREFIX}*; do
  [ -d "$d" ] || continue
  p=; w=
  [ -f "$d/pid" ] && read -r p <"$d/pid"
  [ -f "$d/awake" ] && read -r w <"$d/awake"
  case "$p" in ''|*[!0-9]*) ;; *) grep -q "$d" "/proc/$p/cmdline" && kill -9 "$p" ;; esac 2>/dev/null
  [ -n "$w" ] && echo "awake $w"
  rm -rf "$d" && echo "folder $d"
done"""
"""Takes away the folders of batches that nobody ended, and the processes that still run there."""


@final
class Folder:
    """One folder of a random name on a phone."""

    def __init__(self, link: Link) -> None:
        self.path = f"{PARENT}/{PREFIX}{secrets.token_hex(6)}"
        self._link = link

    def make(self) -> None:
        """Make it."""
        ran = self._link.shell(quoted("mkdir", "-p", self.path))
        if ran.rc:
            raise device_fault("refused", ran.text)

    def put(self, local: Path, name: str, sha256: str, *, keep_going: KeepGoing, executable: bool = False) -> None:
        """Copy a file there, and check what arrived on the phone itself; what arrived otherwise is sent once more.

        Raises :class:`~leti.core.errors.DeviceFault`: ``no-space`` (what was written is taken away), ``checksum``, or
        that of the link.
        """
        remote = f"{self.path}/{name}"
        for attempt in (1, 2):
            try:
                self._link.push(local, remote, keep_going=keep_going)
                if self.sha256(name) == sha256:
                    break
                log.warning("%s arrived damaged on %s", name, self._link.serial)
            except DeviceFault as fault:
                if fault.details.get("fault") == "no-space":
                    self._link.shell(quoted("rm", "-rf", self.path))
                if fault.details.get("fault") not in LINK_FAULTS or attempt == 2:
                    raise
                log.warning("%s did not arrive on %s: %s", name, self._link.serial, fault)
                self._link.ready(keep_going=keep_going)
        else:
            raise device_fault("checksum", name)
        if executable:
            ran = self._link.shell(quoted("chmod", "755", remote))
            if ran.rc:
                raise device_fault("refused", ran.text)

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file there as the phone reckons it, empty where there is no such file.

        Raises :class:`~leti.core.errors.DeviceFault` where the phone has no ``sha256sum``.
        """
        ran = self._link.shell(quoted("sha256sum", f"{self.path}/{name}"), timeout_s=60.0)
        if ran.rc == 127:
            raise device_fault("refused", f"no sha256sum on the phone: {ran.text}")
        found = re.match(r"\\?([0-9a-f]{64})\b", ran.stdout)
        return found[1] if ran.rc == 0 and found else ""

    def remove(self) -> None:
        """Take it away with everything in it."""
        self._link.shell(quoted("rm", "-rf", self.path))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file on this machine."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clean(link: Link) -> tuple[str, ...]:
    """Take away what batches left that could not end; return the folders. What kept the phone awake is undone.

    Only for who holds the phone's lock: nobody else has folders there then.
    """
    ran = link.shell(_CLEAN, timeout_s=60.0)
    said = [line.split(" ", 1) for line in ran.stdout.splitlines() if " " in line]
    awake = [value for kind, value in said if kind == "awake"]
    if awake:
        sleep_as_before(link, awake[0])
    return tuple(value for kind, value in said if kind == "folder")


def check_space(link: Link, wanted_bytes: int) -> None:
    """Raise :class:`~leti.core.errors.DeviceFault` where there is not room enough; unknown room is let pass."""
    free = free_bytes(link.shell(f"df -k {PARENT}").stdout)
    if free is not None and free < wanted_bytes * SPARE:
        raise device_fault("no-space", f"{free // 2**20} MiB free, {wanted_bytes * SPARE / 2**20:.1f} MiB needed")


def free_bytes(text: str) -> int | None:
    """Return what is available by ``df -k``: the third column from the end of its last line, in KiB."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or len(lines[-1]) < 4 or not re.fullmatch(r"\d{1,15}", lines[-1][-3]):
        return None
    return int(lines[-1][-3]) * 1024


def keep_awake(link: Link, folder: Folder) -> str:
    """Wake the phone and let it stay on while it is plugged in; return how that was set before.

    It is noted in the folder too, so that whoever cleans up after a batch that could not end can undo it.
    """
    before = link.answers(f"settings get global {AWAKE}")[0]
    value = before if re.fullmatch(r"\d{1,3}|null", before) else ""
    note = quoted("echo", value or "null") + " >" + quoted(f"{folder.path}/awake")
    ran = link.shell(f"{note}; input keyevent KEYCODE_WAKEUP; svc power stayon true")
    if ran.rc:
        log.warning("%s may fall asleep: %s", link.serial, " ".join(ran.text.split())[:200])
    return value


def sleep_as_before(link: Link, before: str) -> None:
    """Set back what :func:`keep_awake` has changed."""
    known = re.fullmatch(r"\d{1,3}", before)
    link.shell(quoted("settings", "put", "global", AWAKE, before) if known else f"settings delete global {AWAKE}")
