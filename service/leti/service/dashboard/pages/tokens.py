"""Tokens, for admins: who has one, making one, ending one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from leti.core.access import ROLES, Role, TokenRequest
from leti.core.errors import InvalidInput
from leti.service.dashboard.filters import status_of
from leti.service.dashboard.rendering import HOME, page, seen
from leti.service.gate.access import GivenCaller
from leti.service.routes.parts import GivenParts
from leti.service.routes.tokens import TokenId
from leti.service.store.tokens import BESIDE

router = APIRouter(prefix=f"{HOME}/tokens")


@router.get("")
def show(request: Request, parts: GivenParts) -> Response:
    """Return every token, and a form for one more."""
    return page(request, "tokens.html", tokens=parts.store.tokens.list(), roles=ROLES, made=None, error=None)


@router.post("")
def create(
    request: Request,
    parts: GivenParts,
    caller: GivenCaller,
    name: Annotated[str, Form(max_length=200)] = "",
    role: Annotated[str, Form(max_length=20)] = "",
    days: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Make a token, and show its text this once: the one form whose answer is a page, as it is kept nowhere."""
    made, error = None, None
    try:
        made = parts.store.tokens.create(TokenRequest(name, _role(role), _days(days)), caller.token_id or BESIDE)
    except InvalidInput as refused:
        error = refused
    status = status_of(error)
    return page(request, "tokens.html", status, tokens=parts.store.tokens.list(), roles=ROLES, made=made, error=error)


@router.post("/{token_id}/revoke")
def revoke(token_id: TokenId, parts: GivenParts) -> Response:
    """End a token for good, and every session begun with it."""
    parts.store.tokens.revoke(token_id)
    parts.authenticator.forget(token_id)
    return seen(f"{HOME}/tokens")


def _role(text: str) -> Role:
    found = next((role for role in ROLES if role == text), None)
    if found is None:
        raise InvalidInput(f"is no role: {text[:20]!r}", field="role", remedy=", ".join(ROLES))
    return found


def _days(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError as error:
        raise InvalidInput(f"is no number: {text!r}", field="days", remedy="leave it empty for no end") from error
