"""What happens to every request: it is named, checked for its protocol and size, and its answer is marked.

Pure ASGI, so that a body is counted while it arrives and never held twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from typing import Final, final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leti.core.errors import TooLarge, VersionMismatch
from leti.core.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from leti.service.logs import note
from leti.service.problems import problem_response, unexpected
from leti.service.settings import Settings

log = logging.getLogger(__name__)

REQUEST_ID: Final = "x-request-id"
_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

MARKS: Final = {
    PROTOCOL_HEADER: str(PROTOCOL_VERSION),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Headers of every answer, unless the route set its own."""

DISCARD: Final = 8
"""How many times the limit of a refused body is read and thrown away, so that its sender gets to read the answer."""


@final
class Envelope:
    """Gives each request an id and each answer its marks; refuses other protocols; answers what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
        note(request_id=request_id)
        started = False

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                answer = MutableHeaders(scope=message)
                answer[REQUEST_ID] = request_id
                for name, value in MARKS.items():
                    answer.setdefault(name, value)
            await send(message)

        spoken = headers.get(PROTOCOL_HEADER, str(PROTOCOL_VERSION))
        if spoken != str(PROTOCOL_VERSION):
            error = VersionMismatch(
                f"the request speaks protocol {spoken[:20]!r}, this service {PROTOCOL_VERSION}",
                field=PROTOCOL_HEADER,
                remedy="use the same release of LETI on both sides",
                protocol=PROTOCOL_VERSION,
            )
            await problem_response(error)(scope, receive, marked)
            return
        try:
            await self._app(scope, receive, marked)
        except Exception:
            log.exception("request %s: %s %r failed", request_id, scope["method"], scope["path"])
            if started:
                raise  # half an answer is out: only the connection's end can tell
            await unexpected()(scope, receive, marked)


@final
class BodyLimit:
    """Refuses bodies over a size, whether it is announced or only shows as they arrive, and senders that stall."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._limit = settings.max_body_bytes
        self._timeout_s = settings.receive_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        body = _Body(receive, self._limit, self._timeout_s)
        if not announced.isdecimal() or int(announced[:20]) > self._limit:
            with contextlib.suppress(HTTPException):
                await body.discard()
            error = TooLarge(
                f"is {announced[:20]} bytes long",
                field="(body)",
                remedy=f"at most {self._limit} bytes; split the batch",
                limit=self._limit,
            )
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, body.receive, send)


@final
class _Body:
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
            await self.discard()
            raise HTTPException(413, f"is over {self._limit} bytes long; split the batch")
        return message

    async def discard(self) -> None:
        """Read what is left and throw it away, up to :data:`DISCARD` times the limit."""
        while not self._ended and self._count <= self._limit * DISCARD:
            await self._next()

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), self._timeout_s)
        except TimeoutError:
            self._ended = True
            raise HTTPException(408, f"nothing arrived for {self._timeout_s:g} s") from None
        self._count += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message
