"""One connection to a service: retries, the protocol's version, and the border where httpx's errors are translated."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from leti.client.backoff import Backoff
from leti.core.codec import Json, from_json, to_json
from leti.core.errors import InvalidInput, LetiError, TooLarge, Unavailable, VersionMismatch
from leti.core.wire import PROBLEM_TYPE, PROTOCOL_HEADER, PROTOCOL_VERSION, Problem

log = logging.getLogger(__name__)

MOST_BYTES: Final = 256 * 1024 * 1024

HTTPX_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
"""The roots of everything that httpx raises."""

NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The request never reached the service: any request may be sent again."""

DROPPED: Final = (httpx.NetworkError, httpx.RemoteProtocolError)
"""Nobody knows how far the request came: only idempotent ones may be sent again."""

WRONG_ADDRESS: Final = (httpx.InvalidURL, httpx.UnsupportedProtocol)

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")
"""What a bearer token may be (RFC 6750)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the headers, the whole body."""

    status: int
    headers: httpx.Headers
    content: bytes


class Connection:
    """Requests to the service at ``base_url``; safe to share between threads.

    A request that is safe to repeat is sent again up to ``retries`` times when the connection fails or the service
    answers 503, with the delays of ``backoff`` between. ``transport`` replaces the network (an application in memory).
    A ``token`` is sent with every request, and shown nowhere; where it would travel in the clear to another machine, a
    warning is logged once.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float,
        retries: int,
        backoff: Backoff,
        transport: httpx.BaseTransport | None = None,
        token: str | None = None,
    ) -> None:
        self.base_url = _checked_address(base_url)
        if timeout_s <= 0:
            raise InvalidInput(f"must be positive, not {timeout_s}", field="timeout_s")
        if retries < 0:
            raise InvalidInput(f"must be 0 or more, not {retries}", field="retries")
        self._timeout_s = timeout_s
        self._retries = retries
        self._backoff = backoff
        self._http = httpx.Client(
            base_url=self.base_url,
            timeout=timeout_s,
            transport=transport,
            headers={
                PROTOCOL_HEADER: str(PROTOCOL_VERSION),
                "user-agent": f"leti/{metadata.version('leti')}",
                **_authorization(token, self.base_url),
            },
            # Servers close idle connections after a few seconds; a request must not meet one that is just closing.
            limits=httpx.Limits(keepalive_expiry=2.0),
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=urlsplit(self.base_url).hostname not in LOOPBACK,
        )

    def close(self) -> None:
        """Close every connection; the object cannot be used afterwards."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: object = None,
        idempotent: bool | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Send one request and return its answer of status 2xx.

        ``body`` is any value of core. ``idempotent`` defaults to what HTTP says of ``method``. Raises the service's
        own errors, :class:`Unavailable` where it cannot be reached, :class:`VersionMismatch` where it speaks another
        version.
        """
        safe = method in ("GET", "PUT", "DELETE") if idempotent is None else idempotent
        request = {
            "content": None if body is None else _encoded(body),
            "headers": {} if body is None else {"content-type": "application/json"},
            "params": {name: value for name, value in (params or {}).items() if value is not None},
            "timeout": httpx.Timeout(self._timeout_s, read=timeout_s or self._timeout_s),
        }
        for delay_s in (*islice(self._backoff.delays(), self._retries), None):
            try:
                answer = self._send(method, path, request)
            except HTTPX_ERRORS as error:
                again = isinstance(error, NOT_SENT) or (safe and isinstance(error, DROPPED))
                if delay_s is None or not again:
                    raise translated(error, self.base_url) from error
            else:
                if delay_s is None or not safe or answer.status != 503:
                    return self._checked(answer, f"{method} {path}")
            time.sleep(delay_s)
        raise AssertionError("unreachable: the last try returns or raises")

    def decoded(self, answer: Answer, cls: Any, what: str) -> Any:
        """Return the body of ``answer`` as a ``cls`` of core; raise :class:`VersionMismatch` where it does not fit."""
        try:
            return from_json(cls, json.loads(answer.content))
        except (ValueError, RecursionError):
            raise self._foreign(answer, what) from None
        except InvalidInput as error:
            raise VersionMismatch(
                f"the answer to {what} does not fit: {error}",
                remedy="use the same release of LETI on both sides",
            ) from error

    def _send(self, method: str, path: str, request: dict[str, Any]) -> Answer:
        with self._http.stream(method, path, **request) as response:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise TooLarge(f"the answer to {method} {path} is over {MOST_BYTES} bytes")
            return Answer(response.status_code, response.headers, bytes(content))

    def _checked(self, answer: Answer, what: str) -> Answer:
        """Return ``answer`` if it is a success of this protocol's version; raise what it says otherwise."""
        spoken = answer.headers.get(PROTOCOL_HEADER)
        if spoken is not None and spoken != str(PROTOCOL_VERSION):
            raise VersionMismatch(
                f"the service at {self.base_url} speaks protocol {spoken[:20]}, this client {PROTOCOL_VERSION}",
                field=PROTOCOL_HEADER,
                remedy="use the same release of LETI on both sides",
            )
        if answer.status >= 400:
            raise _problem(answer) or self._foreign(answer, what)
        if spoken is None or answer.status >= 300:
            raise self._foreign(answer, what)
        return answer

    def _foreign(self, answer: Answer, what: str) -> LetiError:
        kind = answer.headers.get("content-type", "no content type").split(";")[0]
        target = f" to {answer.headers['location'][:200]}" if "location" in answer.headers else ""
        return Unavailable(
            f"{self.base_url} did not answer {what} as LETI does: status {answer.status}{target}, {kind[:60]}",
            field="base_url",
            remedy="check that the address is that of a LETI service and that no proxy stands before it",
            status=answer.status,
        )


def translated(error: Exception, base_url: str) -> LetiError:
    """Return httpx's ``error`` as LETI's."""
    reason = str(error) or type(error).__name__
    if isinstance(error, WRONG_ADDRESS):
        return InvalidInput(f"{base_url!r} is not an address: {reason}", field="base_url", remedy=_ADDRESS_REMEDY)
    return Unavailable(
        f"the service at {base_url} cannot be reached: {reason}",
        field="base_url",
        remedy="check that it runs (leti serve) and that the address is right",
        cause=type(error).__name__,
    )


_ADDRESS_REMEDY: Final = "give one such as http://127.0.0.1:8000"


def _checked_address(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        httpx.URL(base_url)
    except (ValueError, httpx.InvalidURL):
        good = False
    if not good:
        raise InvalidInput(f"{base_url!r} is not an http(s) address", field="base_url", remedy=_ADDRESS_REMEDY)
    return base_url.rstrip("/")


def _authorization(token: str | None, base_url: str) -> dict[str, str]:
    """Return the header that carries ``token``; raise :class:`InvalidInput` without saying what it is."""
    if token is None:
        return {}
    if not TOKEN.fullmatch(token):
        raise InvalidInput(
            "holds something else than letters, digits and -._~+/, or nothing", field="token", remedy="copy it whole"
        )
    parts = urlsplit(base_url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        log.warning("the token travels to %s unencrypted, for all between to read: use https", parts.hostname)
    return {"authorization": f"Bearer {token}"}


def _encoded(body: object) -> bytes:
    try:
        return json.dumps(to_json(body), allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"cannot be written as JSON: {error}", field="(body)") from error


def _problem(answer: Answer) -> LetiError | None:
    """Return the error that a problem (RFC 9457) carries, or ``None`` where the body is none of LETI's."""
    try:
        data: Json = json.loads(answer.content)
        known = {name: data[name] for name in Problem.__dataclass_fields__ if name in data}
        problem = from_json(Problem, known)
    except (ValueError, TypeError, RecursionError, InvalidInput):
        return None
    if not problem.type.startswith(PROBLEM_TYPE):
        return None
    return problem.error()
