"""What happens to every request besides its answer: it leaves one line in the log, and is counted.

Pure ASGI and outermost, so that what other parts refuse is seen as well. Neither query strings nor bodies nor headers
are kept: what else the line says of a request is what was noted of it on purpose.
"""

from __future__ import annotations

import logging
import time
from typing import Final, final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leti.service.logs import begin
from leti.service.metrics import Metrics

log = logging.getLogger("leti.service.requests")

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Routes that say whether the service is well: they are answered also where it is asked too much."""

QUIET: Final = PROBES | {"/metrics"}
"""Routes that machines ask every few seconds: their lines are for debugging."""

VERSION: Final = "/v1"
"""A route knows its path below it."""

NO_ROUTE: Final = "(none)"
HUNG_UP: Final = 499
"""Stands for the status where nobody was left to answer."""


@final
class Observed:
    """Logs and counts each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        facts = begin()
        status = HUNG_UP

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.in_flight.dec()
            duration_s = time.perf_counter() - started
            method, route = called(scope)
            self._metrics.request(method, route, status, duration_s, facts)
            level = logging.DEBUG if route in QUIET and status < 400 else logging.INFO
            if log.isEnabledFor(level):
                said = {"method": method, "route": route, "status": status, "duration_ms": round(duration_s * 1e3, 3)}
                log.log(level, "request", extra={**said, **facts})


def called(scope: Scope) -> tuple[str, str]:
    """Return a request's method and its route's path with the names of parameters: what was asked for is not said."""
    return scope["method"] if scope["method"] in METHODS else "OTHER", _template(scope)


def _template(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return NO_ROUTE
    return f"{VERSION}{path}" if scope["path"].startswith(f"{VERSION}/") else str(path)
