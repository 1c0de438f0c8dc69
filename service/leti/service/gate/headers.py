"""A request's headers, read where they are: to look for one takes less than to wrap them all."""

from __future__ import annotations

from starlette.types import Scope


def first(scope: Scope, name: bytes) -> str | None:
    """Return the first header of a name, which is in lower case."""
    for found, value in scope["headers"]:
        if found == name:
            text: str = value.decode("latin-1")
            return text
    return None


def foreign_origin(scope: Scope) -> str | None:
    """Return the origin of the page that asks, as a browser says it, where that is another than this host's."""
    origin = first(scope, b"origin")
    return None if origin is None or origin.partition("://")[2] == first(scope, b"host") else origin


def every(scope: Scope, name: bytes) -> list[str]:
    """Return all headers of a name."""
    return [value.decode("latin-1") for found, value in scope["headers"] if found == name]
