"""The lane: a short way to the routes that are asked thousands of times a second.

On its usual way a request is looked up among all routes, gets three exit stacks, has its dependencies solved, and waits
for one of forty threads: several times what answering it takes. Nothing of that is needed where a route is given but a
body, and no parameter in its address. Such requests are taken here: whoever asks may (the one table of permissions),
the body is read as core's codec does, and the route's own function answers, in one of a few threads.

What comes while others are answered is answered together after them (:class:`_Gathering`), where a route can do that:
a network costs a fraction in company. Nothing waits for company.

What is not plain goes the usual way, which says what is wrong with it: other media types, bodies of unknown length or
over :data:`SHORT_BYTES`, what is no JSON, query parameters. Large bodies would keep the few threads from the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from leti.core.codec import to_json
from leti.service.answering.together import Steps, each
from leti.service.gate.access import caller_in, caller_of, check_permission, route_name
from leti.service.routes import predictions
from leti.service.routes.parts import given_parts, parts_in
from leti.service.routes.reading import reader

LANE: Final[Mapping[str, Callable[..., Steps[Any]] | None]] = {
    "POST /predictions": predictions.steps,
    "POST /results": None,
}
"""Routes that have one, and the steps by which requests are answered together; their functions are no coroutines."""

SHORT_BYTES: Final = 16 * 1024
"""Longest body: what it asks for is answered in a moment."""

THREADS: Final = 4
"""They share one interpreter: more of them answer no more requests, and keep each other waiting."""

GATHERED_BYTES: Final = 2 * 1024
"""Longest body that is answered together with others: that of a network or some."""

GATHERED: Final = 64
"""Most requests that are answered together."""

PATIENCE_S: Final = 0.05
"""Seconds that requests wait for those before them; then another thread answers them."""

_JSON: Final = b"application/json"
_PASSED: Final = "leti.lane.passed"

Raw = Sequence[tuple[bytes, bytes]]


Given = Callable[[Scope], Any]


@final
@dataclass(frozen=True, slots=True)
class _Plain:
    """A route as the lane asks it: its function, its body, what reads that, and what else the function is given."""

    route: APIRoute
    name: str
    body: str
    read: Callable[[Any], Any]
    given: Mapping[str, Given]
    together: Callable[..., Steps[Any]] | None

    def answer(self, content: bytes, given: dict[str, Any]) -> Response | None:
        """Return the answer to a body; ``None`` where it is no JSON."""
        if not self._read(content, given):
            return None
        answer = self.route.endpoint(**given)
        if isinstance(answer, Response):
            return answer
        text = json.dumps(to_json(answer), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        return Response(text, media_type="application/json")

    def steps(self, content: bytes, given: dict[str, Any]) -> Steps[Response | None]:
        """Take the steps of :meth:`answer`."""
        assert self.together is not None  # noqa: S101 - only such routes gather
        return (yield from self.together(**given)) if self._read(content, given) else None

    def _read(self, content: bytes, given: dict[str, Any]) -> bool:
        """Add a body to what the function is given; return whether it is JSON."""
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            return False
        given[self.body] = self.read(data)
        return True


Outcome = Response | Exception | None


@final
class _Waiting(NamedTuple):
    """A request that is to be answered, where it comes from, and who waits for that."""

    context: contextvars.Context
    steps: Steps[Response | None]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Response | None]


@final
class _Gathering:
    """Answers requests together that come while others are answered.

    A thread that has its turn answers all that wait; the next one waits for its turn meanwhile, but not for long.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._coming = False

    async def answer(self, steps: Steps[Response | None]) -> Response | None:
        """Return what the steps of a request come to, or raise what they raise."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(contextvars.copy_context(), steps, loop, loop.create_future())
        with self._lock:
            self._waiting.append(waiting)
            coming, self._coming = self._coming, True
        if not coming:
            loop.call_soon(self._threads.submit, self._take_turn)  # after those that arrived at the same time
        return await waiting.answer

    def _take_turn(self) -> None:
        has_turn = self._turn.acquire(timeout=PATIENCE_S)
        try:
            with self._lock:
                taken, self._waiting = self._waiting[:GATHERED], self._waiting[GATHERED:]
                self._coming = bool(self._waiting)
                if self._coming:
                    self._threads.submit(self._take_turn)
            outcomes = each([(one.context, one.steps) for one in taken])
        finally:
            if has_turn:
                self._turn.release()
        for loop in {one.loop for one in taken}:
            told = [(one, said) for one, said in zip(taken, outcomes, strict=True) if one.loop is loop]
            with contextlib.suppress(RuntimeError):  # nobody waits in a loop that is closed
                loop.call_soon_threadsafe(_tell, told)


def _tell(told: Sequence[tuple[_Waiting, Outcome]]) -> None:
    for one, outcome in told:
        if one.answer.done():  # nobody waits any more
            continue
        if isinstance(outcome, Exception):
            one.answer.set_exception(outcome)
        else:
            one.answer.set_result(outcome)


@final
class Lane(BaseRoute):
    """Answers plain requests to the routes of :data:`LANE`; to stand before all routes."""

    def __init__(self, routers: Sequence[APIRouter], prefix: str) -> None:
        routes = _named(routers)
        self._plain: dict[tuple[str, str], _Plain] = {}
        for name, together in LANE.items():
            method, _, path = name.partition(" ")
            self._plain[method, f"{prefix}{path}"] = _plain(routes[name], name, together)
        self.path_regex: Final = re.compile("|".join(rf"{re.escape(path)}\Z" for _, path in self._plain))
        self._threads = ThreadPoolExecutor(THREADS, "leti-lane")
        self._gathering = _Gathering(self._threads)

    @override
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match a plain request that did not pass through here before."""
        if scope["type"] != "http" or scope["query_string"] or _PASSED in scope:
            return Match.NONE, {}
        found = self._plain.get((scope["method"], scope["path"]))
        if found is None or not _is_short_json(scope["headers"]):
            return Match.NONE, {}
        return Match.FULL, {"route": found.route, "endpoint": found.route.endpoint, "leti.lane": found}

    @override
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that matched."""
        plain: _Plain = scope["leti.lane"]
        check_permission(caller_in(scope), plain.name)
        messages = [message async for message in _body(receive)]
        answer = None
        if messages[-1]["type"] == "http.request":
            content = b"".join([message.get("body", b"") for message in messages])
            given = {name: find(scope) for name, find in plain.given.items()}
            if plain.together is not None and len(content) <= GATHERED_BYTES:
                answer = await self._gathering.answer(plain.steps(content, given))
            else:
                run, loop = contextvars.copy_context().run, asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._threads, run, plain.answer, content, given)
        if answer is None:
            scope[_PASSED] = True
            await scope["router"].app(scope, _again(messages, receive), send)
        else:
            await answer(scope, receive, send)


async def _body(receive: Receive) -> AsyncIterator[Message]:
    """Yield the messages of a body, or until there come no more."""
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        yield message


def _again(messages: list[Message], receive: Receive) -> Receive:
    """Return messages once more, then what the connection says."""
    left = iter(messages)

    async def again() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return again


def _is_short_json(headers: Raw) -> bool:
    """Return whether headers announce JSON of a length that is short, and not nothing."""
    media_type, length = b"", b""
    for name, value in headers:
        if name == b"content-type":
            media_type = value
        elif name == b"content-length":
            length = value
    return media_type == _JSON and length.isdigit() and 0 < int(length[:20]) <= SHORT_BYTES


def _named(routers: Sequence[APIRouter]) -> dict[str, APIRoute]:
    """Return routes by the names that they have in the table of permissions."""
    routes = [one for router in routers for one in router.routes if isinstance(one, APIRoute)]
    return {route_name(method, route.path): route for route in routes for method in route.methods or ()}


def _plain(route: APIRoute, name: str, together: Callable[..., Steps[Any]] | None) -> _Plain:
    """Return a route as the lane asks it; raise ``TypeError`` where it asks for more than the lane has."""
    asks = route.dependant
    if asks.path_params or asks.cookie_params or len(asks.body_params) != 1 or inspect.iscoroutinefunction(asks.call):
        raise TypeError(f"{name} is too much for the lane")
    given: dict[str, Given] = {str(one.name): _GIVEN[one.call] for one in asks.dependencies}
    given |= {field.name: _constant(field.get_default()) for field in asks.query_params}
    given |= {field.name: _header(field.alias, field.get_default()) for field in asks.header_params}
    (body,) = asks.body_params
    return _Plain(route, name, body.name, reader(body.field_info.annotation), given, together)


def _constant(value: Any) -> Given:
    return lambda _scope: value


def _header(name: str, default: Any) -> Given:
    sought = name.lower().encode()

    def find(scope: Scope) -> Any:
        return next((value.decode("latin-1") for header, value in scope["headers"] if header == sought), default)

    return find


_GIVEN: Final[Mapping[Any, Given]] = {given_parts: parts_in, caller_of: caller_in}
"""What routes have given to them, found without the framework."""
