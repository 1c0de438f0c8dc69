"""The site: every page's routes, its style and its scripts."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from leti.service.dashboard.live import Live
from leti.service.dashboard.pages import (
    agents,
    campaigns,
    compare,
    datasets,
    jobs,
    measurements,
    networks,
    overview,
    platform,
    predictors,
    sign_in,
    tasks,
    tokens,
    try_out,
)
from leti.service.dashboard.rendering import HOME, STATIC
from leti.service.gate.sessions import FIELD, PROOF, check_proof
from leti.service.store import Store

PAGES: Final = (
    overview,
    platform,
    measurements,
    compare,
    agents,
    sign_in,
    tokens,
    networks,
    predictors,
    datasets,
    tasks,
    campaigns,
    jobs,
    try_out,
)
"""The pages, each with its routes."""


async def proven(request: Request) -> None:
    """Raise :class:`NotPermitted` for a change that came by a session and without its proof, in a form or a header."""
    if request.method in ("GET", "HEAD"):
        return
    given = request.headers.get(PROOF) or (await request.form()).get(FIELD, "")
    check_proof(request.scope, given if isinstance(given, str) else "")


def add_pages(router: APIRouter) -> None:
    """Add the pages' routes to those of the service."""
    router.add_api_route("/", _to_dashboard, include_in_schema=False)
    for one in PAGES:
        # A route knows its path below the prefix that it is included with, and permission goes by what it knows.
        if not one.router.prefix.startswith(HOME):
            raise TypeError(f"{one.__name__}: its router's prefix must begin with {HOME}, as APIRouter(prefix=…)")
        router.include_router(one.router, include_in_schema=False, dependencies=[Depends(proven)])


def install(app: FastAPI, store: Store) -> None:
    """Give an application what its pages show live, and their style and scripts."""
    app.state.live = Live(store)
    app.mount(f"{HOME}/static", _Static(directory=STATIC), name="static")


async def _to_dashboard() -> RedirectResponse:
    return RedirectResponse(HOME, 307)


class _Static(StaticFiles):
    """Files whose addresses change when they do."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, to be kept for good."""
        answer = await super().get_response(path, scope)
        answer.headers["cache-control"] = "public, max-age=31536000, immutable"
        answer.headers["content-security-policy"] = "default-src 'none'; script-src 'self'"  # of a script that works
        return answer
