"""Rate limits: so many requests a time, each web process counting for itself."""

from __future__ import annotations

import ipaddress
import math
import time
from typing import Final, final

from leti.core.errors import InvalidInput, TooManyRequests
from leti.core.extras import needs

with needs("service"):
    from limits import RateLimitItem, parse
    from limits.storage import MemoryStorage
    from limits.strategies import SlidingWindowCounterRateLimiter

ADDRESSES: Final = 4096
"""Counters of addresses: what any number of them can take of the memory has an end."""


@final
class Pace:
    """At most so many hits of a key in a sliding window, such as ``"600/minute"``; an empty text is no limit."""

    def __init__(self, limit: str, field: str) -> None:
        self._limit = _parsed(limit, field)
        self._counters = SlidingWindowCounterRateLimiter(MemoryStorage())

    def hit(self, key: str) -> None:
        """Count one; raise :class:`TooManyRequests` where that is one too many."""
        if self._limit is not None and not self._counters.hit(self._limit, key):
            raise self._refusal(key)

    def check(self, key: str) -> None:
        """Raise :class:`TooManyRequests` where one more would be too many; count nothing."""
        if self._limit is not None and not self._counters.test(self._limit, key):
            raise self._refusal(key)

    def _refusal(self, key: str) -> TooManyRequests:
        assert self._limit is not None  # noqa: S101 - no limit refuses nobody
        wait_s = max(1, math.ceil(self._counters.get_window_stats(self._limit, key).reset_time - time.time()))
        return TooManyRequests(
            f"more than {self._limit} came",
            field="authorization",
            remedy=f"try again in {wait_s} s; ask for several networks in one request",
            retry_after_s=wait_s,
        )


def address_key(address: str) -> str:
    """Return the counter of an address: one for the network that IPv6 gives to one customer (/64)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 6:
        return str(hash(int(parsed) >> 64) % ADDRESSES)
    return str(hash(int(parsed)) % ADDRESSES)


def _parsed(limit: str, field: str) -> RateLimitItem | None:
    if not limit.strip():
        return None
    try:
        return parse(limit)
    except ValueError:
        raise InvalidInput(f"{limit!r} is no rate", field=field, remedy="give one such as 600/minute") from None
