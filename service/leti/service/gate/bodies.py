"""A request's body, counted as it arrives."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, final

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

DISCARD: Final = 8
"""How many times the limit of a refused body is read and thrown away, so that its sender gets to read the answer."""


@final
class Body:
    """A request's body, counted as it arrives."""

    def __init__(self, receive: Receive, limit: int, timeout_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._timeout_s = timeout_s
        self._count = 0
        self._ended = False

    async def receive(self) -> Message:
        """Return the next message; raise ``HTTPException`` where the body is over its limit or does not arrive."""
        if self._ended:
            return await self._receive()  # now it waits for the sender to hang up, which may take as long as it likes
        message = await self._next()
        if self._count > self._limit:
            with contextlib.suppress(HTTPException):  # that its sender stalls now is not what is wrong with it
                await self.discard()
            raise HTTPException(413, f"is over {self._limit} bytes long; split the batch")
        return message

    async def discard(self, *, most: int | None = None) -> None:
        """Read what is left and throw it away, up to ``most`` bytes, or :data:`DISCARD` times the limit."""
        while not self._ended and self._count <= (self._limit * DISCARD if most is None else most):
            await self._next()

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._timeout_s):
                message = await self._receive()
        except TimeoutError:
            self._ended = True
            raise HTTPException(408, f"nothing arrived for {self._timeout_s:g} s") from None
        self._count += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message
