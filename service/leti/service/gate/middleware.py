"""What happens to every request: it is named, checked for its protocol and size, and its answer is marked.

Pure ASGI, so that a body is counted while it arrives and never held twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Mapping
from typing import Final, final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leti.core.errors import LetiError, NotReadable, TooLarge, Unavailable, VersionMismatch
from leti.core.wire import PROTOCOL_HEADER, PROTOCOL_VERSION
from leti.service.gate.bodies import DISCARD, Body
from leti.service.gate.headers import first
from leti.service.gate.observing import PROBES, called
from leti.service.gate.refusing import problem_response, unexpected
from leti.service.logs import note
from leti.service.settings import Settings

log = logging.getLogger(__name__)

REQUEST_ID: Final = "x-request-id"
_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

MARKS: Final[Mapping[str, str]] = {
    PROTOCOL_HEADER: str(PROTOCOL_VERSION),
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every answer, unless the route set its own."""

_MARKS: Final = tuple((name.encode(), value.encode()) for name, value in MARKS.items())
_REQUEST_ID: Final = REQUEST_ID.encode()
_PROTOCOL: Final = PROTOCOL_HEADER.encode(), str(PROTOCOL_VERSION)
_HTTPS_ONLY: Final = (b"strict-transport-security", b"max-age=31536000")


@final
class Envelope:
    """Gives each request an id and each answer its marks; refuses other protocols, and what is too much at once;
    answers what nobody caught, and what takes too long.

    A handler that takes too long cannot be stopped, only answered for: its thread goes on to its end.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._timeout_s = settings.request_timeout_s
        self._most = settings.max_requests
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = first(scope, _REQUEST_ID)
        request_id = given if given and _GIVEN_ID.fullmatch(given) else os.urandom(16).hex()
        note(request_id=request_id)
        answer = _Answer(send, request_id, https=scope["scheme"] == "https")
        refusal = self._refusal(scope)
        if refusal is not None:
            await problem_response(refusal)(scope, receive, answer.send)
            return
        self._in_flight += 1
        timer = asyncio.get_running_loop().call_later(self._timeout_s, self._expire, scope, receive, answer)
        try:
            await self._app(scope, receive, answer.send_unless_given_up)
        except Exception:
            log.exception("request %s: %s %s failed", request_id, *called(scope))
            if not answer.started:
                await unexpected()(scope, receive, answer.send)
            elif answer.excuse is None:
                raise  # half an answer is out: only the connection's end can tell
        finally:
            timer.cancel()
            self._in_flight -= 1
            if answer.excuse is not None:
                await answer.excuse

    def _refusal(self, scope: Scope) -> LetiError | None:
        name, ours = _PROTOCOL
        spoken = first(scope, name)
        if spoken is not None and spoken != ours:
            return VersionMismatch(
                f"the request speaks protocol {spoken[:20]!r}, this service {PROTOCOL_VERSION}",
                field=PROTOCOL_HEADER,
                remedy="use the same release of LETI on both sides",
                protocol=PROTOCOL_VERSION,
            )
        if self._in_flight >= self._most and scope["path"] not in PROBES:
            return Unavailable(
                f"{self._most} requests are being answered", remedy="try again in a second", retry_after_s=1
            )
        return None

    def _expire(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if not answer.started:
            log.warning("request %s: %s %s takes too long", answer.request_id, *called(scope))
            answer.give_up(scope, receive, self._timeout_s)


@final
class _Answer:
    """An answer on its way out: marked, and begun once, by the application or for it."""

    def __init__(self, send: Send, request_id: str, *, https: bool) -> None:
        self.request_id = request_id
        self.started = False
        self._send = send
        self._https = https
        self.excuse: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Send a message, with the marks where the answer begins."""
        if message["type"] == "http.response.start":
            self.started = True
            raw = list(message.get("headers", ()))
            known = {name for name, _ in raw}
            raw.extend(mark for mark in _MARKS if mark[0] not in known)
            raw.append((_REQUEST_ID, self.request_id.encode()))
            if self._https:
                raw.append(_HTTPS_ONLY)
            message["headers"] = raw
        await self._send(message)

    async def send_unless_given_up(self, message: Message) -> None:
        """Send a message of the application, or drop it where somebody answered in its place."""
        if self.excuse is None:
            await self.send(message)

    def give_up(self, scope: Scope, receive: Receive, after_s: float) -> None:
        """Answer that the application took too long."""
        error = Unavailable(
            f"no answer was found within {after_s:g} s", remedy="ask for less at once", waited_s=after_s
        )
        self.excuse = asyncio.ensure_future(problem_response(error)(scope, receive, self.send))


@final
class BodyLimit:
    """Refuses bodies over a size, whether it is announced or only shows as they arrive, those that are packed, and
    senders that stall.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._limit = settings.max_body_bytes
        self._files = {
            ("POST", "/v1/uploads"): settings.max_upload_bytes,
            ("POST", "/v1/datasets"): settings.max_dataset_bytes,
        }
        self._timeout_s = settings.receive_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        limit = self._files.get((scope["method"], scope["path"]), self._limit)
        body = Body(receive, limit, self._timeout_s)
        error: LetiError
        if not announced.isdecimal() or int(announced[:20]) > limit:
            remedy = f"at most {limit} bytes; split the batch"
            error = TooLarge(f"is {announced[:20]} bytes long", field="(body)", remedy=remedy, limit=limit)
        elif headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            error = NotReadable("is packed", field="content-encoding", remedy="send the body as it is")
        else:
            await self._app(scope, body.receive, send)
            return
        with contextlib.suppress(HTTPException):
            await body.discard(most=self._limit * DISCARD)
        await problem_response(error)(scope, receive, send)
