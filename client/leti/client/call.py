"""Calls and flows: what is asked of the service, said once for the client that waits and for the one that awaits.

A :class:`Call` is one request and how its answer is read. A flow is a generator that yields calls and pauses, is sent
what came of each, and returns the result: paging, batches and waiting are written so, and run by either client.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote

from leti.client.exchange import Answer, reader
from leti.core.errors import InvalidInput

T = TypeVar("T")

PAGE: Final = 1_000
"""Items that are read at once where all are wanted."""

S_PER_NETWORK: Final = 0.05
"""Seconds that an answer may take longer for each network in the request."""

Repeats = Literal["safe", "keyed", "never"]
"""Whether a request may be sent again when nobody knows what became of it: it changes nothing when it comes twice; it
carries an idempotency key, so that the service knows it again; or it may not."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. ``longer_s`` is how much longer than others its answer may take.

    ``body`` is any value of core, sent as JSON; ``file`` is a file's path or content, sent as it is. Where ``into``
    names a file, a success's content is written there as it comes, and is not there to be read.
    """

    method: str
    path: str
    read: Callable[[Answer], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: object = None
    file: Path | bytes | None = None
    into: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeats: Repeats = "safe"
    longer_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the clock: what is sent back are its seconds."""


Flow = Generator["Call[Any] | Look", Any, T]


def get(cls: type[T], path: str, params: Mapping[str, Any] | None = None, *, longer_s: float = 0.0) -> Call[T]:
    """Return a call that reads something."""
    return Call("GET", path, reader(cls), params or {}, longer_s=longer_s)


def every(page: type[Any], path: str, params: Mapping[str, Any] | None = None) -> Flow[tuple[Any, ...]]:
    """Return a flow that reads all the items of a list, ``page`` by page."""
    found: list[Any] = []
    cursor: int | str | None = None
    while True:
        one: Any = yield get(page, path, {**(params or {}), "cursor": cursor, "limit": PAGE})
        found += one.items
        cursor = one.next
        if cursor is None:
            return tuple(found)


def post(cls: type[T], path: str, body: object = None, *, repeats: Repeats = "safe", networks: int = 0) -> Call[T]:
    """Return a call that asks for something, perhaps of many networks."""
    return Call("POST", path, reader(cls), body=body, repeats=repeats, longer_s=S_PER_NETWORK * networks)


def nothing(answer: Answer) -> None:
    """Read an answer without a body."""


def segment(text: str) -> str:
    """Return ``text`` as one segment of a path, whatever it holds."""
    if text in ("", ".", ".."):
        raise InvalidInput(f"{text!r} is no identifier", field="path")
    return quote(text, safe="")
