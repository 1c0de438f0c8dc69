"""Entity tags: who asks again for what has not changed is told so, in a few bytes.

Which routes carry them is in one table. Nothing may be used from a cache unasked (``no-cache``): what an address names
is fixed within one database, but another one may stand behind the same address tomorrow. Answers are ``private``: they
were given to the bearer of a token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal, final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leti.core.wire import MODEL_SHA256_HEADER
from leti.service.gate.access import route_name

Strength = Literal["strong", "weak"]

TAGGED: Final[Mapping[str, Strength]] = {
    "GET /networks/{fingerprint}": "strong",
    "GET /networks/{fingerprint}/model": "strong",
    "GET /measurements/{measurement_id}": "strong",
    "GET /predictors/{predictor_id}/holdout": "strong",
    "GET /predictors/{predictor_id}/table": "strong",
    "GET /platforms/{platform_id}/tables/{space}": "strong",
    "GET /datasets/{dataset_id}": "strong",
    "GET /platforms": "weak",
    "GET /platforms/{platform_id}": "weak",
    "GET /devices": "weak",
    "GET /campaigns": "weak",
    "GET /campaigns/{campaign_id}": "weak",
    "GET /predictors": "weak",
    "GET /predictors/{predictor_id}": "weak",
    "GET /datasets": "weak",
}
"""Routes whose answers carry a tag: strong where they stay as they are, byte by byte, weak where they sum up."""

_CACHE: Final = "private, no-cache"


@final
class EntityTags:
    """Tags the answers of the routes in the table, and answers 304 where the asker has the same already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200 and _strength(scope):
                held.append(message)
                return
            if not held:
                await send(message)
                return
            held.append(message)
            if not message.get("more_body", False):
                await _answer(held, scope, send)

        await self._app(scope, receive, tagged)


def _strength(scope: Scope) -> Strength | None:
    path = getattr(scope.get("route"), "path", None)
    return None if path is None else TAGGED.get(route_name("GET", path))


async def _answer(held: list[Message], scope: Scope, send: Send) -> None:
    """Send an answer that was held back, with its tag, or 304 in its place."""
    start, *parts = held
    headers = MutableHeaders(scope=start)
    digest = headers.get(MODEL_SHA256_HEADER) or hashlib.sha256(b"".join(p.get("body", b"") for p in parts)).hexdigest()
    tag = f'"{digest[:32]}"' if _strength(scope) == "strong" else f'W/"{digest[:32]}"'
    headers["etag"] = tag
    headers["cache-control"] = _CACHE
    if not _has(Headers(scope=scope).getlist("if-none-match"), tag):
        for message in held:
            await send(message)
        return
    for name in ("content-length", "content-type"):
        if name in headers:
            del headers[name]
    await send({**start, "status": 304})
    await send({"type": "http.response.body", "body": b""})


def _has(given: list[str], tag: str) -> bool:
    """Return whether a tag is among those given; a weak one is as good as a strong one here (RFC 9110, 13.1.2)."""
    named = [one.strip() for line in given for one in line.split(",")]
    return "*" in named or tag.removeprefix("W/") in [one.removeprefix("W/") for one in named]


def describe(document: dict[str, Any]) -> None:
    """Add tags to the routes of an OpenAPI document."""
    header = {"ETag": {"description": "Changes with the answer.", "schema": {"type": "string"}}}
    asked = {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The tag of an answer that is there already.",
        "schema": {"type": "string"},
    }
    for name in TAGGED:
        method, _, path = name.partition(" ")
        operation = document["paths"].get(f"/v1{path}", {}).get(method.lower())
        if operation is not None:
            operation.setdefault("parameters", []).append(asked)
            operation["responses"]["200"].setdefault("headers", {}).update(header)
            operation["responses"]["304"] = {"description": "The answer is the one that is there already."}
