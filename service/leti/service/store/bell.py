"""The bell: rung when jobs are queued, for those in this process who wait for some.

Other processes do not hear it: whoever waits looks into the queue from time to time as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import final


@final
class Listener:
    """Waits in an event loop for jobs of one platform."""

    def __init__(self, platform_id: str) -> None:
        self.platform_id = platform_id
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return once the bell has rung since the last call, or after ``timeout_s``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), timeout_s)
        self._rung.clear()

    def wake(self) -> None:
        """End the wait; may be called from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._rung.set)


@final
class Bell:
    """Wakes listeners; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self.closed = False
        """Whether nobody is to wait any more: the service stops."""

    @contextmanager
    def listening(self, platform_id: str) -> Iterator[Listener]:
        """Listen for the length of a block, inside an event loop."""
        listener = Listener(platform_id)
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def ring(self, platform_id: str | None = None) -> None:
        """Wake those who wait for jobs of a platform, or of any."""
        with self._lock:
            woken = [one for one in self._listeners if platform_id in (None, one.platform_id)]
        for listener in woken:
            listener.wake()

    def close(self) -> None:
        """Let nobody wait from now on."""
        self.closed = True
        self.ring()
