"""Health: whether the service answers, and what it speaks."""

from __future__ import annotations

from importlib import metadata

from fastapi import APIRouter

from leti.core.wire import PROTOCOL_VERSION, Health
from leti.service.routes.documentation import responses

router = APIRouter(tags=["health"])


@router.get("/health", responses=responses(answer=Health))
def read_health() -> Health:
    """Say that the service is up, and its versions."""
    return Health("ok", metadata.version("leti"), PROTOCOL_VERSION)
