"""What happens now, told to whoever looks: the farm's state, read once for all of them, as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, final

from starlette.concurrency import run_in_threadpool

from leti.service.store import Store
from leti.service.store.metrics import FarmState

EVERY_S: Final = 2.0
"""Seconds between two looks at the farm."""

LASTS_S: Final = 600.0
"""Seconds after which a stream ends; a browser begins it anew, and has to show again who it is."""

ALIVE_S: Final = 15.0
"""Seconds of silence after which something is sent, so that nobody on the way takes the stream for dead."""


@final
class Live:
    """Looks at the farm while somebody listens, and not more often for many than for one."""

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._seen: tuple[float, FarmState] | None = None

    async def farm(self) -> FarmState:
        """Return the farm's state, at most :data:`EVERY_S` old."""
        async with self._lock:
            if self._seen is None or self._monotonic() - self._seen[0] >= EVERY_S:
                self._seen = self._monotonic(), await run_in_threadpool(self._store.metrics.read)
            return self._seen[1]

    async def events(self, render: Callable[[FarmState], str]) -> AsyncIterator[str]:
        """Yield an event ``farm`` each time that what ``render`` makes of the farm's state is another."""
        until, said, silent_since = self._monotonic() + LASTS_S, "", self._monotonic()
        while not self._store.bell.closed and self._monotonic() < until:
            text = render(await self.farm())
            if text != said:
                said, silent_since = text, self._monotonic()
                yield "event: farm\n" + "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
            elif self._monotonic() - silent_since >= ALIVE_S:
                silent_since = self._monotonic()
                yield ": alive\n\n"
            await asyncio.sleep(EVERY_S / 2)
