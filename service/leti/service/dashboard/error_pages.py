"""Errors of pages: what a program would be told as a problem, people are told as a page."""

from __future__ import annotations

import json
from typing import Final, final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leti.service.dashboard.rendering import HEADERS, HOME, render
from leti.service.gate.headers import first
from leti.service.gate.middleware import REQUEST_ID
from leti.service.gate.refusing import MEDIA_TYPE

SIGN_IN: Final = f"{HOME}/sign-in"


@final
class ErrorPages:
    """Turns problems below ``/dashboard`` into pages, or into parts of one; who is not known is asked to sign in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or not (scope["path"] == HOME or scope["path"].startswith(f"{HOME}/")):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = bytearray()

        async def turn(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE:
                    start = message
                    return
            elif start is not None:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await _page(scope, start, bytes(body))(scope, receive, send)
                return
            await send(message)

        await self._app(scope, receive, turn)


def _page(scope: Scope, start: Message, body: bytes) -> Response:
    said = json.loads(body)
    given = Headers(raw=start["headers"])
    part = first(scope, b"hx-request") is not None
    if said["status"] == 401:
        query = scope["query_string"].decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "") if scope["method"] == "GET" and not part else HOME
        address = f"{SIGN_IN}?next={quote(wanted, safe='/')}"
        return Response(status_code=401, headers={"hx-redirect": address}) if part else RedirectResponse(address, 303)
    html = render(scope, "problem_part.html" if part else "problem.html", problem=said, request_id=given[REQUEST_ID])
    kept = {name: given[name] for name in (REQUEST_ID, "retry-after", "allow") if name in given}
    return HTMLResponse(html, said["status"], headers={**HEADERS, "cache-control": "no-store", **kept})
