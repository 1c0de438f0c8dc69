"""How much memory a model takes: how far its loading and its first run make the process grow.

The kernel keeps the most memory that a process ever had resident (``VmHWM`` of ``/proc/self/status``, see proc(5)) and
forgets it on request (``5`` written to ``/proc/self/clear_refs``), so one process can tell this of one model after
another. Memory that earlier models have freed is given back to the system first (malloc_trim(3)): what the allocator
had kept would be taken again without a trace.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final, final

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
