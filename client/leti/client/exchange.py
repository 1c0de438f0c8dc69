"""What both clients share of a conversation: addresses, headers, when to try again, and what an answer says.

Nothing here waits or sends. httpx's errors are translated here, the service's problems raised as the errors that they
are.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from leti.core.codec import Json, from_json, to_json
from leti.core.errors import InvalidInput, LetiError, TooLarge, Unavailable, VersionMismatch
from leti.core.wire import PROBLEM_TYPE, PROTOCOL_HEADER, PROTOCOL_VERSION, Problem

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")

log = logging.getLogger("leti.client")

MOST_BYTES: Final = 256 * 1024 * 1024
"""Of an answer."""

LONGEST_PAUSE_S: Final = 60.0
"""Seconds that a client waits at most where the service says when to come back."""

HTTPX_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
"""The roots of everything that httpx raises."""

NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The request never reached the service: any request may be sent again."""

DROPPED: Final = (httpx.NetworkError, httpx.RemoteProtocolError)
"""Nobody knows how far the request came: only idempotent ones may be sent again."""

AWAY: Final = frozenset({502, 503, 504})
"""Statuses that say that nobody could answer now, by the service or by a proxy before its replicas. A proxy says 502
also where a replica died over a request, and nobody knows how far that came."""

WRONG_ADDRESS: Final = (httpx.InvalidURL, httpx.UnsupportedProtocol)

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")
"""What a bearer token may be (RFC 6750)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from ``base_url`` for the request ``what``: the status, the headers, the whole body."""

    status: int
    headers: httpx.Headers
    content: bytes
    what: str
    base_url: str


def client_options(base_url: str, token: str | None, timeout_s: float) -> dict[str, Any]:
    """Return the options of an httpx client for a service; raise :class:`InvalidInput` for an address that is none."""
    if timeout_s <= 0:
        raise InvalidInput(f"must be positive, not {timeout_s}", field="timeout_s")
    return {
        "base_url": base_url,
        "timeout": timeout_s,
        "headers": {
            PROTOCOL_HEADER: str(PROTOCOL_VERSION),
            "user-agent": f"leti/{metadata.version('leti')}",
            **_authorization(token, base_url),
        },
        # Servers close idle connections after a few seconds; a request must not meet one that is just closing.
        "limits": httpx.Limits(keepalive_expiry=2.0),
        # A proxy of the environment cannot reach this machine's own loopback.
        "trust_env": urlsplit(base_url).hostname not in LOOPBACK,
    }


def checked_address(base_url: str) -> str:
    """Return an address without a slash at its end; raise :class:`InvalidInput` where it is none."""
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        httpx.URL(base_url)
    except (ValueError, httpx.InvalidURL):
        good = False
    if not good:
        raise InvalidInput(f"{base_url!r} is not an http(s) address", field="base_url", remedy=_ADDRESS_REMEDY)
    return base_url.rstrip("/")


def may_repeat(error: Exception, *, idempotent: bool) -> bool:
    """Return whether a request that failed with one of httpx's errors may be sent again."""
    return isinstance(error, NOT_SENT) or (idempotent and isinstance(error, DROPPED))


def pause_s(answer: Answer, delay_s: float, *, idempotent: bool) -> float | None:
    """Return how long to wait before a request is sent again that was answered so; ``None``: it is not sent again.

    What was refused for its rate (429) was not begun, whatever it was; the service says when to come back.
    """
    if answer.status == 429:
        stated = answer.headers.get("retry-after", "")
        wanted_s = float(stated) if stated.isdecimal() else 0.0
        return max(wanted_s, delay_s) if wanted_s <= LONGEST_PAUSE_S else None
    return delay_s if idempotent and answer.status in AWAY else None


def encoded(body: object) -> bytes:
    """Return a value of core as JSON; raise :class:`InvalidInput` where it has none."""
    try:
        return json.dumps(to_json(body), allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"cannot be written as JSON: {error}", field="(body)") from error


def check_size(size: int, what: str) -> None:
    """Raise :class:`TooLarge` for an answer over :data:`MOST_BYTES`."""
    if size > MOST_BYTES:
        raise TooLarge(f"the answer to {what} is over {MOST_BYTES} bytes")


class Received:
    """The content of an answer as it comes: held, or written into the file that takes a success's."""

    def __init__(self, status: int, into: Path | None, what: str) -> None:
        self._held = bytearray()
        self._what = what
        self._into = into if 200 <= status < 300 else None
        self._part = None if self._into is None else self._into.with_name(f".{self._into.name}.{uuid.uuid4().hex[:8]}")
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Open the file, if there is one to be."""
        if self._part is not None:
            with _on_disk(self._into):
                self._file = self._part.open("xb")
        return self

    def write(self, piece: bytes) -> None:
        """Take the next piece; raise :class:`TooLarge` where more than :data:`MOST_BYTES` would be held."""
        if self._file is None:
            self._held += piece
            check_size(len(self._held), self._what)
            return
        with _on_disk(self._into):
            self._file.write(piece)

    def end(self) -> bytes:
        """Return what is held; a file that is written gets its name."""
        if self._file is not None and self._part is not None and self._into is not None:
            with _on_disk(self._into):
                self._file.close()
                self._part.replace(self._into)
        return bytes(self._held)

    def __exit__(self, *exc_info: object) -> None:
        """Leave nothing half-written."""
        if self._file is not None and self._part is not None:
            self._file.close()
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)


@contextlib.contextmanager
def _on_disk(path: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", field="file") from error


def checked(answer: Answer) -> Answer:
    """Return ``answer`` if it is a success of this protocol's version; raise what it says otherwise."""
    spoken = answer.headers.get(PROTOCOL_HEADER)
    if spoken is not None and spoken != str(PROTOCOL_VERSION):
        raise VersionMismatch(
            f"the service at {answer.base_url} speaks protocol {spoken[:20]}, this client {PROTOCOL_VERSION}",
            field=PROTOCOL_HEADER,
            remedy="use the same release of LETI on both sides",
        )
    if answer.status >= 400:
        raise _problem(answer) or _foreign(answer)
    if spoken is None or answer.status >= 300:
        raise _foreign(answer)
    return answer


def reader(cls: type[T]) -> Callable[[Answer], T]:
    """Return what reads an answer as a ``cls`` of core; it raises :class:`VersionMismatch` where it does not fit."""

    def read(answer: Answer) -> T:
        try:
            return from_json(cls, json.loads(answer.content))
        except (ValueError, RecursionError):
            raise _foreign(answer) from None
        except InvalidInput as error:
            raise VersionMismatch(
                f"the answer to {answer.what} does not fit: {error}",
                remedy="use the same release of LETI on both sides",
            ) from error

    return read


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


def _authorization(token: str | None, base_url: str) -> Mapping[str, str]:
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


def _foreign(answer: Answer) -> LetiError:
    kind = answer.headers.get("content-type", "no content type").split(";")[0]
    target = f" to {answer.headers['location'][:200]}" if "location" in answer.headers else ""
    return Unavailable(
        f"{answer.base_url} did not answer {answer.what} as LETI does: status {answer.status}{target}, {kind[:60]}",
        field="base_url",
        remedy="check that the address is that of a LETI service and that no proxy stands before it",
        status=answer.status,
    )


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
