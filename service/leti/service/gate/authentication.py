"""Authentication: who sent a request is found out before its body is read."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from leti.core.access import Role, TokenInfo
from leti.core.errors import InvalidInput, LetiError, NotAuthenticated, NotPermitted, StorageError
from leti.service.gate.access import ANYBODY, GUEST, Caller, introduce
from leti.service.gate.bodies import Body
from leti.service.gate.headers import every, first, foreign_origin
from leti.service.gate.pacing import Pace, address_key
from leti.service.gate.refusing import problem_response
from leti.service.gate.sessions import expect, secret_in
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.token_text import digest, well_formed

log = logging.getLogger(__name__)

VERDICT_S: Final = 5.0
"""Seconds that a verdict on a token is remembered: so long may a token live that was revoked in another process."""

REMEMBERED: Final = 4096
"""Tokens whose verdicts are remembered."""

OPEN: Final = frozenset({"/", "/v1/health", "/healthz", "/readyz", "/docs", "/openapi.json", "/dashboard/sign-in"})
"""What needs no token: whether the service is there, how it is asked, and where one signs in."""

WITHOUT_DATABASE: Final = frozenset({"/metrics"})
"""What a token that was valid here before is enough for while the database cannot be asked: it tells of just that."""

OPEN_BELOW: Final = "/dashboard/static/"
"""What lies below needs no token either: the dashboard's style, scripts and pictures."""


def opened_to_all(settings: Settings) -> frozenset[str]:
    """Return what needs no token with these settings."""
    return OPEN | {"/metrics"} if settings.metrics_public else OPEN


@final
class Authenticator:
    """Says who a token belongs to; remembers it for :data:`VERDICT_S`, so that not every request asks the database.

    Each web process counts for itself: requests of a token, and failures of a client's address. From an address over
    its limit only tokens are looked at that were valid here before.
    """

    def __init__(self, store: Store, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._verdicts: OrderedDict[str, tuple[Caller, float]] = OrderedDict()
        self._failures = Pace(settings.failure_limit)
        usual = Pace(settings.rate_limit)
        agents = Pace(settings.agent_rate_limit)
        self._paces: dict[Role, Pace] = {"viewer": usual, "client": usual, "agent": agents, "admin": usual}

    async def session(self, secret: str, address: str) -> Caller:
        """Return whose session this is; raise :class:`NotAuthenticated` and :class:`TooManyRequests`."""
        caller = await self._known(digest(secret), address, self._store.sessions.find)
        if caller is None:
            raise NotAuthenticated("the session is over", field="cookie", remedy="sign in again")
        self._paces[caller.role].hit(caller.token_id or "")
        return caller

    async def caller(self, authorization: str | None, address: str, path: str = "") -> Caller:
        """Return who sends this header to a path; raise :class:`NotAuthenticated` and :class:`TooManyRequests`."""
        if authorization is None:
            raise NotAuthenticated("the request carries no token", field="authorization", remedy=_REMEDY)
        text = _bearer(authorization)
        if text is None:
            self._failed(address)
            raise NotAuthenticated("is not a whole token", field="authorization", remedy="copy it whole")
        caller = await self._known(digest(text), address, self._store.tokens.find, path)
        if caller is None:
            self._failed(address)
            raise NotAuthenticated("the token is not valid", field="authorization", remedy=_REMEDY)
        self._paces[caller.role].hit(caller.token_id or "")
        return caller

    def forget(self, token_id: str) -> None:
        """Forget the verdict on a token that was revoked."""
        verdicts = list(self._verdicts.items())  # at once: requests are let in meanwhile
        for hashed in [key for key, (caller, _) in verdicts if caller.token_id == token_id]:
            self._verdicts.pop(hashed, None)

    def forget_session(self, secret: str) -> None:
        """Forget the verdict on a session that was ended."""
        self._verdicts.pop(digest(secret), None)

    async def _known(
        self, hashed: str, address: str, find: Callable[[str], TokenInfo | None], path: str = ""
    ) -> Caller | None:
        known, now = self._verdicts.get(hashed), self._monotonic()
        if known is not None and now < known[1]:
            return known[0]
        if known is None:
            self._failures.check(address_key(address))
        try:
            info = await run_in_threadpool(find, hashed)
        except StorageError:
            if known is None or path not in WITHOUT_DATABASE:
                raise
            return known[0]
        if info is None:
            self._verdicts.pop(hashed, None)
            return None
        caller = Caller(info.id, info.name, info.role)
        self._verdicts[hashed] = caller, now + VERDICT_S
        self._verdicts.move_to_end(hashed)
        if len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)
        return caller

    def _failed(self, address: str) -> None:
        self._failures.hit(address_key(address))


_REMEDY: Final = "send Authorization: Bearer with a token that `leti token create` made"


def _bearer(authorization: str) -> str | None:
    """Return the token of a header, if there is a whole one."""
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    return text if scheme.lower() == "bearer" and well_formed(text) else None


@final
class Authentication:
    """Lets requests through that come from somebody known, and says who it is."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, settings: Settings) -> None:
        self._app = app
        self._authenticator = authenticator
        self._limit = settings.max_body_bytes
        self._timeout_s = settings.receive_timeout_s
        self._open = opened_to_all(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in self._open or scope["path"].startswith(OPEN_BELOW):
            introduce(scope, GUEST)
        else:
            try:
                caller = await self._caller(scope)
            except LetiError as error:
                if isinstance(error, StorageError):
                    log.error("%s: %s", error.kind, error)
                if first(scope, b"expect") is None:
                    await self._discard(receive)
                await problem_response(error)(scope, receive, send)
                return
            introduce(scope, caller)
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        given = every(scope, b"authorization")
        address = scope["client"][0] if scope.get("client") else ""
        secret = None if given else secret_in(scope)
        if secret is None:
            return await self._authenticator.caller(given[0] if len(given) == 1 else None, address, scope["path"])
        caller = await self._authenticator.session(secret, address)
        expect(scope, secret)
        return caller

    async def _discard(self, receive: Receive) -> None:
        """Throw away what is on its way, within limits: who still sends does not read the answer.

        Not for long: nobody knows who sends, and there is room for so many requests at once.
        """
        with contextlib.suppress(HTTPException, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await Body(receive, self._limit, self._timeout_s).discard(most=self._limit)


@final
class LoopbackOnly:
    """Lets everybody in who asks this machine by one of its own names, but no pages of others in a browser.

    Such a page can have any name lead to 127.0.0.1 and ask there as if it were at home (DNS rebinding): then the name
    is a foreign one. And it can post to 127.0.0.1 without reading the answer: then its origin is another's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            error = self._refusal(scope)
            if error is not None:
                await problem_response(error)(scope, receive, send)
                return
            introduce(scope, ANYBODY)
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> NotPermitted | None:
        hosts, origin = every(scope, b"host"), foreign_origin(scope)
        host = hosts[0] if len(hosts) == 1 else ""
        if not is_loopback(_without_port(host)):
            said, field = f"answers to loopback names only, not to {host[:80]!r}", "host"
        elif origin is not None:
            said, field = f"answers no pages of {origin[:80]!r}", "origin"
        else:
            return None
        return NotPermitted(
            f"without authentication this service {said}",
            field=field,
            remedy="ask http://127.0.0.1, or serve with authentication",
        )


def check_exposure(settings: Settings, host: str) -> None:
    """Raise :class:`InvalidInput` where a service without authentication would listen to other machines."""
    if not settings.auth and not is_loopback(host):
        raise InvalidInput(
            f"without authentication only loopback is listened on, not {host!r}",
            field="host",
            remedy="listen on 127.0.0.1, or leave authentication on: `leti token create` makes tokens",
        )


_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is this machine's own, whatever a resolver says."""
    name = host.lower().removesuffix(".")
    if name in _LOOPBACK:
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    return False


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.rpartition(":")[0] if host.count(":") == 1 else host
