"""Responses to errors: every error of a request becomes a problem (:mod:`leti.service.problems`) as HTTP has it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response

from leti.core.codec import to_json
from leti.core.errors import InvalidInput, LetiError, NotFound, StorageError, TooLarge
from leti.core.wire import Problem
from leti.service.logs import note
from leti.service.problems import problem, status_of

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"www-authenticate": 'Bearer realm="leti"'},
    426: {"upgrade": "leti"},
}
"""Headers that belong to a status."""

_FRAMEWORK: Final[Mapping[int, type[LetiError]]] = {404: NotFound, 413: TooLarge}
"""Statuses that the framework answers by itself, as errors of the tree; the others are invalid input."""

_REMEDIES: Final[Mapping[int, str]] = {
    400: "send a JSON object as OpenAPI describes: GET /openapi.json",
    404: "GET /openapi.json lists the routes",
    405: "GET /openapi.json lists the methods of each route",
}


def problem_response(error: LetiError, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``error`` as a response."""
    said = problem(error, status)
    if isinstance(error, StorageError):  # goes on with addresses and paths: they are for the log
        said = dataclasses.replace(said, detail=said.detail.partition(":")[0])
    note(problem=error.kind)
    body = json.dumps(to_json(said), allow_nan=False)
    return Response(body, said.status, headers={**_headers(error, said), **(headers or {})}, media_type=MEDIA_TYPE)


def _headers(error: LetiError, said: Problem) -> dict[str, str]:
    """Return what HTTP wants to be said in a header as well."""
    found = dict(_HEADERS.get(said.status, {}))
    if "retry_after_s" in error.details:
        found["retry-after"] = str(error.details["retry_after_s"])
    return found


def unexpected() -> Response:
    """Return the response to an error that nobody expected: it says nothing of the inside."""
    error = LetiError("something went wrong inside the service", remedy="see the service's log for the request's id")
    return problem_response(error)


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error with a problem."""
    app.add_exception_handler(LetiError, _on_leti)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RecursionError, _on_recursion)
    app.add_exception_handler(OSError, _on_disk)


async def _on_leti(_request: Request, error: Exception) -> Response:
    assert isinstance(error, LetiError)  # noqa: S101 - what the handler is installed for
    if status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s: %s", error.kind, error, exc_info=error)
    return problem_response(error)


async def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what the handler is installed for
    first: dict[str, Any] = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        reason = f"is not JSON: {first.get('ctx', {}).get('error', '')} at byte {place[-1]}"
        return problem_response(InvalidInput(reason, field="(body)", remedy=_REMEDIES[400]), 400)
    field = ".".join(place[1:]) or "(body)"
    return problem_response(
        InvalidInput(str(first["msg"]), field=field, remedy="GET /openapi.json describes what would be right")
    )


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what the handler is installed for
    cls = _FRAMEWORK.get(error.status_code, InvalidInput)
    raised = cls(
        str(error.detail),
        field={404: "path", 405: "method"}.get(error.status_code, "(body)"),
        remedy=_REMEDIES.get(error.status_code, ""),
    )
    headers = {"allow": _allowed(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return problem_response(raised, error.status_code, headers)


def _allowed(request: Request) -> str:
    """Return the methods of the address; the framework knows those of one route at a time."""
    path = request.scope["path"]
    routes = iter_route_contexts(request.app.routes)
    return ", ".join(sorted({method for one in routes if one.path_regex.match(path) for method in one.methods or ()}))


async def _on_recursion(_request: Request, _error: Exception) -> Response:
    error = InvalidInput("is nested too deeply", field="(body)", remedy=_REMEDIES[400])
    return problem_response(error, 400)


async def _on_disk(_request: Request, error: Exception) -> Response:
    log.error("the disk refused: %s", error, exc_info=error)
    reason = error.strerror if isinstance(error, OSError) else None
    return problem_response(
        StorageError(f"the disk refused: {reason or 'no reason given'}", remedy="see to its space and permissions")
    )
