"""How much memory a model takes, and how much it may: how far loading and a first run make the process grow.

The kernel keeps the most memory that a process ever had resident (``VmHWM`` of ``/proc/self/status``, see proc(5)) and
forgets it on request (``5`` written to ``/proc/self/clear_refs``), so one process can tell this of one model after
another. Memory that earlier models have freed is given back to the system first (malloc_trim(3)): what the allocator
had kept would be taken again without a trace.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

if sys.platform == "linux":
    import resource

_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_FORGET_PEAK: Final = "5"


@final
class PeakMemory:
    """From here on: how far resident memory grows at most."""

    def __init__(self) -> None:
        trim()
        self._before = _forget_peak()

    def growth_bytes(self) -> int | None:
        """Return the growth so far, ``None`` where the system does not tell."""
        if self._before is None:
            return None
        peak = status_bytes("VmHWM")
        return None if peak is None else max(0, peak - self._before)


def _forget_peak() -> int | None:
    """Let the peak be what is resident now; return that, ``None`` where it cannot be done."""
    try:
        _CLEAR.write_text(_FORGET_PEAK)
    except OSError:
        return None
    return status_bytes("VmRSS")


def status_bytes(name: str) -> int | None:
    """Return a size of this process by its name in ``/proc/self/status``, ``None`` where the system does not tell."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def trim() -> None:
    """Give memory that was freed back to the system, where the C library can."""
    if sys.platform == "linux":
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if give_back is not None:
            give_back(0)


def limit_memory(limit_bytes: int) -> None:
    """Let this process take so much more memory than it has now, where the system can hold it to that."""
    if sys.platform != "linux":
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    taken = status_bytes("VmData")
    if taken is not None:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = taken + limit_bytes
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
        )


@contextmanager
def unlimited() -> Iterator[bool]:
    """Lift the limit inside the block; yield whether there was one."""
    if sys.platform != "linux":
        yield False
        return
    limit, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        yield limit != most
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
