"""Waiting for the end of something that a worker does; no thread is held meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool

from leti.service.readiness import Readiness

LOOK_S: Final = 0.25
"""Seconds between looks."""


class Ending(Protocol):
    """What has an end."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""


E = TypeVar("E", bound=Ending)


async def until_ended(read: Callable[[], E], wait_s: float, readiness: Readiness) -> E:
    """Return what ``read`` finds once it has ended, ``wait_s`` are over, or the service is told to stop."""
    deadline_s = time.monotonic() + wait_s
    while True:
        found = await run_in_threadpool(read)
        left_s = deadline_s - time.monotonic()
        if found.ended or left_s <= 0 or readiness.stopping.is_set():
            return found
        await asyncio.sleep(min(LOOK_S, left_s))
