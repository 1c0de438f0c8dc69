"""Agents, their devices, and workers: who is there, what each does, and which device gets no jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from leti.core.errors import InvalidInput
from leti.service.dashboard.filters import status_of
from leti.service.dashboard.rendering import HOME, page, seen
from leti.service.routes import devices
from leti.service.routes.devices import DeviceName
from leti.service.routes.parts import GivenParts, Parts

router = APIRouter(prefix=f"{HOME}/agents")


@router.get("")
def show(request: Request, parts: GivenParts) -> Response:
    """Return devices, agents and workers."""
    return _shown(request, parts)


@router.post("/{name:path}/quarantine")
def quarantine(
    request: Request, name: DeviceName, parts: GivenParts, reason: Annotated[str, Form(max_length=2000)] = ""
) -> Response:
    """Lend a device no more jobs."""
    try:
        devices.shut_out(parts, name, reason)
    except InvalidInput as error:
        return _shown(request, parts, name, error)
    return seen(f"{HOME}/agents")


@router.post("/{name:path}/release")
def release(name: DeviceName, parts: GivenParts) -> Response:
    """End a quarantine."""
    parts.store.devices.release(name)
    return seen(f"{HOME}/agents")


def _shown(request: Request, parts: Parts, name: str = "", error: InvalidInput | None = None) -> Response:
    store = parts.store
    return page(
        request,
        "agents.html",
        status_of(error),
        devices=store.devices.list(),
        agents=store.workers.agents(),
        workers=store.workers.list(),
        refused_device=name,
        error=error,
    )
