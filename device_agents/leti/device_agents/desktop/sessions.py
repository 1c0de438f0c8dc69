"""What the runtimes' sessions have in common: two clocks, a check that one is open, and errors in one line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from leti.core.errors import MeasurementFailed

T = TypeVar("T")


def timed_ms(work: Callable[[], T]) -> tuple[T, float]:
    """Return what ``work`` returns, and the milliseconds that it took."""
    start_ns = time.perf_counter_ns()
    made = work()
    return made, (time.perf_counter_ns() - start_ns) / 1e6


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or its class, cut to 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def closed() -> MeasurementFailed:
    """Return the error of a session that was closed and is run."""
    return MeasurementFailed("the session is closed", failure="other")
