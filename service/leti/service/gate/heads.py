"""Heads of requests: limited in size and time before anybody knows who sends them.

The web server limits neither with its fast parser: a head that never ends would fill the memory, and one that never
comes would hold its connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.auto import AutoHTTPProtocol

MOST_BYTES: Final = 64 * 1024

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def limited_heads(timeout_s: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with limits: ``timeout_s`` for a head to be whole, and :data:`MOST_BYTES` for it."""

    class LimitedHeads(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _arrived = 0
        _timer: asyncio.TimerHandle | None = None

        @override
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._await_head()

        @override
        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        @override
        def data_received(self, data: bytes) -> None:
            before: Any = self.cycle
            in_body = before is not None and not before.response_complete
            super().data_received(data)
            if in_body or self.cycle is not before:
                self._stop_waiting()
                return
            self._arrived += len(data)
            if self._arrived > MOST_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()
            elif self._timer is None:
                self._await_head()

        def _await_head(self) -> None:
            self._timer = self.loop.call_later(timeout_s, self.transport.close)

        def _stop_waiting(self) -> None:
            self._arrived = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return LimitedHeads
