"""Health: whether the service answers, whether it can serve, and what it counts."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from leti.core.errors import Unavailable
from leti.core.wire import PROTOCOL_VERSION, Health
from leti.service.gate.refusing import problem_response
from leti.service.routes.documentation import responses
from leti.service.routes.parts import GivenParts

router = APIRouter(tags=["health"])
probes = APIRouter(tags=["health"])
"""What supervisors, proxies and Prometheus ask: it has no version, and stands outside ``/v1``."""


def _plain(example: str) -> dict[int | str, dict[str, Any]]:
    return {**responses(), 200: {"content": {"text/plain": {"example": example}}}}


@router.get("/health", responses=responses(answer=Health))
def read_health() -> Health:
    """Say that the service is up, and its versions."""
    return Health("ok", metadata.version("leti"), PROTOCOL_VERSION)


@probes.get("/healthz", response_class=PlainTextResponse, responses=_plain("ok\n"))
async def read_liveness() -> str:
    """Say that the process answers; of the database it knows nothing."""
    return "ok\n"


@probes.get("/readyz", response_class=PlainTextResponse, responses=_plain("ready\n"))
def read_readiness(parts: GivenParts) -> Response:
    """Say whether requests should be sent here: the database is reached, its schema fits, artifacts can be written.

    503 with the reasons otherwise, and from the moment on at which the service is told to stop.
    """
    reasons = parts.readiness.reasons()
    if reasons:
        return problem_response(Unavailable("; ".join(reasons), remedy="`leti doctor` says what to do"))
    return PlainTextResponse("ready\n")


@probes.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=_plain('leti_jobs{platform="box_litert",state="queued"} 12.0\n'),
)
def read_metrics(parts: GivenParts) -> Response:
    """Return metrics in Prometheus's text format: of this process, and of the farm as the database shows it."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)
