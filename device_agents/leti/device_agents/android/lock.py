"""One agent a phone: a lock on a file named after the phone's own serial number, in the user's cache folder.

The system gives it back when the process that holds it ends, however it ends. Benches of one process share it, and
take turns.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from pathlib import Path
from typing import Final, final

from leti.device_agents.android.faults import device_fault
from leti.device_agents.disk import written_to


def lock_folder() -> Path:
    """Return the folder of the locks: ``leti/phones`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leti" / "phones"


class _Held:
    """A lock that this process holds: its file, how many benches share it, and whose turn it is."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.sharers = 1
        self.turn = threading.Lock()


_HELD: Final[dict[Path, _Held]] = {}
_GUARD: Final = threading.Lock()


@final
class PhoneLock:
    """The lock on the phone ``serial_number``, held from the start until :meth:`release`.

    Raises :class:`~leti.core.errors.DeviceFault` (fault ``locked``) naming the process that holds it.
    """

    def __init__(self, serial_number: str, folder: Path | None = None) -> None:
        self._path = _path(serial_number, folder)
        self._released = False
        with _GUARD:
            held = _HELD.get(self._path)
            if held is not None:
                held.sharers += 1
            else:
                held = _HELD[self._path] = _Held(_locked(self._path, serial_number))
        self.turn = held.turn

    def release(self) -> None:
        """Give it back, once the last bench of this process does; twice is harmless."""
        with _GUARD:
            if self._released:
                return
            self._released = True
            held = _HELD[self._path]
            held.sharers -= 1
            if not held.sharers:
                del _HELD[self._path]
                os.ftruncate(held.descriptor, 0)
                os.close(held.descriptor)


def holder(serial_number: str, folder: Path | None = None) -> str:
    """Return the process that holds the lock on a phone (``pid 123``), the empty string where none does."""
    path = _path(serial_number, folder)
    with _GUARD:
        if path in _HELD:
            return f"pid {os.getpid()}"
        if not path.exists():
            return ""
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return _written(descriptor)
        finally:
            os.close(descriptor)
    return ""


def _path(serial_number: str, folder: Path | None) -> Path:
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", serial_number)[:100]
    return (folder or lock_folder()) / f"{safe}.lock"


def _locked(path: Path, serial_number: str) -> int:
    with written_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        said = _written(descriptor)
        os.close(descriptor)
        raise device_fault("locked", f"{serial_number} by {said}", serial=serial_number, holder=said) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)
    return descriptor


def _written(descriptor: int) -> str:
    return os.pread(descriptor, 100, 0).decode(errors="replace") or "another process"
