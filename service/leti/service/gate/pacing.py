"""Rate limits: so many requests a time, each web process counting for itself."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from typing import Final, final

from leti.core.errors import TooManyRequests
from leti.service.settings import rate_of

ADDRESSES: Final = 4096
"""Counters of addresses: what any number of them can take of the memory has an end."""


@final
class Pace:
    """At most so many hits of a key in a time, such as ``"600/minute"``; an empty text is no limit.

    All may come at once; then they come back one by one (the generic cell rate algorithm: for each key the time until
    which its hits so far would last at the even pace). One number a key, nothing to be swept: the library ``limits``
    starts a thread for that at every other hit, which costs a request more than all the rest of its way in.
    """

    def __init__(self, rate: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate.strip()
        count, self._window_s = rate_of(rate)
        self._interval_s = self._window_s / count
        self._monotonic = monotonic
        self._spent_until: dict[str, float] = {}

    def hit(self, key: str) -> None:
        """Count one; raise :class:`TooManyRequests` where that is one too many."""
        self._spent_until[key] = self._next(key)

    def check(self, key: str) -> None:
        """Raise :class:`TooManyRequests` where one more would be too many; count nothing."""
        self._next(key)

    def _next(self, key: str) -> float:
        """Return until when the hits of ``key`` last with one more."""
        now = self._monotonic()
        spent_until = max(now, self._spent_until.get(key, now)) + self._interval_s
        early_s = spent_until - now - self._window_s
        if early_s > 1e-9 * self._window_s:  # rounding is nobody's fault
            wait_s = math.ceil(early_s)
            raise TooManyRequests(
                f"more than {self._rate} came",
                field="authorization",
                remedy=f"try again in {wait_s} s; ask for several networks in one request",
                retry_after_s=wait_s,
            )
        return spent_until


def address_key(address: str) -> str:
    """Return the counter of an address: one for the network that IPv6 gives to one customer (/64)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return str(hash(int(parsed) >> 64 if parsed.version == 6 else int(parsed)) % ADDRESSES)
