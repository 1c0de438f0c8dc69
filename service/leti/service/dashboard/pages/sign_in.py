"""Signing in with a token, and out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from leti.core.errors import LetiError, NotAuthenticated
from leti.service.dashboard.filters import status_of
from leti.service.dashboard.rendering import HOME, page, seen
from leti.service.gate.authentication import is_loopback
from leti.service.gate.sessions import COOKIE, check_origin, secret_in
from leti.service.routes.parts import GivenParts

router = APIRouter(prefix=HOME)

Next = Annotated[str, Query(max_length=2000)]


@router.get("/sign-in")
def ask(request: Request, parts: GivenParts, next: Next = HOME) -> Response:
    """Ask for a token; where none is needed, go on."""
    if not parts.settings.auth:
        return seen(_inside(next))
    return _form(request, next)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    parts: GivenParts,
    token: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=2000)] = HOME,
) -> Response:
    """Begin a session with a token."""
    check_origin(request.scope)
    address = request.client.host if request.client else ""
    try:
        caller = await parts.authenticator.caller(f"Bearer {token.strip()}", address)
    except NotAuthenticated as error:
        return _form(request, next, error)
    answer = seen(_inside(next))
    if caller.token_id is not None:
        secret = await run_in_threadpool(parts.store.sessions.create, caller.token_id)
        answer.set_cookie(COOKIE, secret, path="/", secure=True, httponly=True, samesite="lax")
    return answer


@router.post("/sign-out")
def sign_out(request: Request, parts: GivenParts) -> RedirectResponse:
    """End the session."""
    secret = secret_in(request.scope)
    if secret is not None:
        parts.store.sessions.end(secret)
        parts.authenticator.forget_session(secret)
    answer = seen(f"{HOME}/sign-in")
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def _form(request: Request, wanted: str, error: LetiError | None = None) -> Response:
    kept = request.url.scheme == "https" or is_loopback(request.url.hostname or "")
    return page(request, "sign_in.html", status_of(error), next=_inside(wanted), error=error, kept=kept)


def _inside(address: str) -> str:
    """Return an address of the dashboard, whatever was asked for: nobody is led elsewhere."""
    parts = urlsplit(address)
    inside = not parts.scheme and not parts.netloc and (parts.path == HOME or parts.path.startswith(f"{HOME}/"))
    return address if inside and "\\" not in address and ".." not in parts.path else HOME
