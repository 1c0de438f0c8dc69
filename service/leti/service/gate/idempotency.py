"""Idempotency keys: a request that is sent again under the same ``Idempotency-Key`` gets its first answer again.

Which routes take them is in one table. A key belongs to the bearer of a token and to one address; it stands for one
body. Only successes are kept, for a day: what was refused may be tried again. While the first request is at work, a
second one waits for its answer. Tokens are not made by key: their answer holds a secret, and no secret is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Final, final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leti.core.errors import Conflict, InvalidInput, LetiError, StorageError
from leti.core.wire import MODEL_SHA256_HEADER
from leti.service.gate.access import PERMISSIONS, caller_in
from leti.service.gate.headers import first
from leti.service.gate.refusing import problem_response
from leti.service.store.answers import AT_WORK_S, AnswerStore, KeptAnswer

HEADER: Final = "idempotency-key"
_HEADER: Final = HEADER.encode()
REPLAYED: Final = "idempotency-replayed"

KEYED: Final = (
    "POST /campaigns",
    "POST /predictors",
    "POST /evaluations",
    "POST /platforms/{platform_id}/rollback",
    "POST /uploads",
)
"""Routes that make something new each time they are asked."""

DESCRIBING: Final = ("content-type", "content-encoding", MODEL_SHA256_HEADER)
"""Headers that belong to a body: with another one it is another request."""

MOST_BYTES: Final = 1024 * 1024
"""Of an answer that is kept; a longer one is given, and not kept."""

WAIT_S: Final = 30.0
"""Seconds that a second request waits for the first one's answer; longer than one whose process died is waited for."""

SIGN_S: Final = AT_WORK_S / 4
"""Seconds between the signs of life of a request at work."""

_IN_MEMORY: Final = 4 * 1024 * 1024
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
_PATHS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (method, compile_path(f"/v1{path}")[0]) for method, _, path in (name.partition(" ") for name in KEYED)
)


@final
class IdempotencyKeys:
    """Answers a request that carries a known key with the answer that is kept."""

    def __init__(self, app: ASGIApp, answers: AnswerStore) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        key = first(scope, _HEADER) if scope["type"] == "http" else None
        if key is None or not self._is_keyed(scope):
            await self._app(scope, receive, send)
            return
        if not _KEY.fullmatch(key):
            wrong = InvalidInput("must be 1 to 200 visible characters of ASCII", field=HEADER, remedy="send a UUID")
            await problem_response(wrong)(scope, receive, send)
            return
        name = _digest(caller_in(scope).token_id or "", scope["path"], key)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
            try:
                content = await _read(receive, body, scope)
            except HTTPException as error:
                await self._app(scope, _raising(error), send)  # which answers it as it does without a key
                return
            claimed = await self._claim(name, content)
            if isinstance(claimed, LetiError):
                await problem_response(claimed)(scope, receive, send)
            elif claimed is not None:
                again = Response(claimed.body, claimed.status, {REPLAYED: "true"}, claimed.media_type or None)
                await again(scope, receive, send)
            else:
                await self._first(name, scope, _Replay(body, receive).receive, send)

    def _is_keyed(self, scope: Scope) -> bool:
        """Return whether a request is for a route of the table, by a caller who may use it: no other body is read."""
        for name, (method, path) in zip(KEYED, _PATHS, strict=True):
            if scope["method"] == method and path.match(scope["path"]):
                return caller_in(scope).role in PERMISSIONS[name]
        return False

    async def _claim(self, name: str, content: str) -> KeptAnswer | LetiError | None:
        """Return the answer that is kept, an error, or ``None`` where the request is the first."""
        deadline_s = time.monotonic() + WAIT_S
        pause_s = 0.05
        while True:
            found = await run_in_threadpool(self._answers.claim, name, content)
            if isinstance(found, KeptAnswer):
                return found
            if found == "new":
                return None
            if found == "another body":
                return InvalidInput(
                    "was sent with another body before", field=HEADER, remedy="send a new key with a new request"
                )
            if time.monotonic() > deadline_s:
                return Conflict("the first request with this key is still at work", field=HEADER, remedy="try later")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)

    async def _first(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and keep a success before it is sent: who hears nothing of it may ask again."""
        held: list[Message] = []
        size = 0

        async def hold(message: Message) -> None:
            nonlocal size
            held.append(message)
            size += len(message.get("body", b""))

        kept = False
        living = asyncio.create_task(self._live(name))
        try:
            await self._app(scope, receive, hold)
            if 200 <= held[0]["status"] < 300 and size <= MOST_BYTES:
                media_type = Headers(raw=held[0]["headers"]).get("content-type", "")
                body = b"".join(message.get("body", b"") for message in held)
                answer = KeptAnswer(held[0]["status"], media_type, body)
                await run_in_threadpool(self._answers.keep, name, answer)
                kept = True
        finally:
            living.cancel()
            if not kept:
                await asyncio.shield(run_in_threadpool(self._answers.forget, name))
        for message in held:
            await send(message)

    async def _live(self, name: str) -> None:
        """Show again and again that a request is at work: with its process, that ends, and another may take it over."""
        while True:
            await asyncio.sleep(SIGN_S)
            with suppress(StorageError):
                await run_in_threadpool(self._answers.renew, name)


@final
class _Replay:
    """Gives a body that was read once more, then what the connection says."""

    def __init__(self, body: IO[bytes], receive: Receive) -> None:
        self._body = body
        self._receive = receive
        self._ended = False
        body.seek(0)

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()
        part = self._body.read(_IN_MEMORY)
        self._ended = len(part) < _IN_MEMORY
        return {"type": "http.request", "body": part, "more_body": not self._ended}


async def _read(receive: Receive, body: IO[bytes], scope: Scope) -> str:
    """Read the whole body into ``body``; return the SHA-256 of it, of the query, and of what headers say of it."""
    headers = Headers(scope=scope)
    described = [f"{name}:{headers[name]}".encode() for name in DESCRIBING if name in headers]
    said = b"\n".join([scope["query_string"], *described])
    digest = hashlib.sha256(len(said).to_bytes(8) + said)
    more = True
    while more:
        message = await receive()
        part = message.get("body", b"")
        digest.update(part)
        body.write(part)
        more = message.get("more_body", False)
    return digest.hexdigest()


def _raising(error: HTTPException) -> Receive:
    async def receive() -> Message:
        raise error

    return receive


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def describe(document: dict[str, Any]) -> None:
    """Add keys to the routes of an OpenAPI document."""
    header = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Sent again with the same body, a request gets its first answer again, for a day.",
        "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,200}$"},
    }
    for name in KEYED:
        method, _, path = name.partition(" ")
        operation: Mapping[str, Any] | None = document["paths"].get(f"/v1{path}", {}).get(method.lower())
        if operation is not None:
            operation.setdefault("parameters", []).append(header)  # type: ignore[attr-defined]
