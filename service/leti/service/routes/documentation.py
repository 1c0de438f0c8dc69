"""What OpenAPI says besides the types: examples of what is sent and answered, and the problems of each route."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from leti.core.codec import to_json
from leti.core.errors import (
    Conflict,
    InvalidInput,
    LetiError,
    MissingExtra,
    NotAcceptable,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    StorageError,
    TooLarge,
    TooManyRequests,
    VersionMismatch,
)
from leti.core.wire import Problem
from leti.service.problems import MEDIA_TYPE, problem
from leti.service.routes import caching, idempotency
from leti.service.routes.examples import EXAMPLES

_PROBLEMS: Final[dict[int, tuple[str, LetiError]]] = {
    400: ("The body is not JSON.", InvalidInput("is not JSON", field="(body)")),
    401: ("The request carries no valid token.", NotAuthenticated("the token is not valid", field="authorization")),
    403: (
        "The token's role may not do this.",
        NotPermitted("the role viewer may not POST /campaigns", field="authorization", needed="client"),
    ),
    404: ("Something that the request names does not exist.", NotFound("there is no such thing", field="platform_id")),
    406: (
        "The request takes no form that the answer comes in.",
        NotAcceptable("takes none of the forms of this answer: text/html", field="accept", remedy="application/json"),
    ),
    409: ("The request contradicts what is stored.", Conflict("another campaign is called so", field="name")),
    413: ("The body or the batch is over its limit.", TooLarge("holds 20000 networks", field="networks")),
    422: (
        "A value is wrong; the field and the remedy say which and what would be right.",
        InvalidInput("must be a whole number, not '3'", field="job_id", remedy="give a number"),
    ),
    426: ("Client and service speak different protocols.", VersionMismatch("the request speaks protocol '1'")),
    429: (
        "The token asks too often; `Retry-After` says when it may again.",
        TooManyRequests("more than 6000 per 1 minute came", field="authorization", retry_after_s=12),
    ),
    501: ("What the request needs is not installed here.", MissingExtra.named("import-onnx", "onnx")),
    503: ("The database cannot be reached.", StorageError("the database refused", remedy="try again")),
}

EVERYBODYS: Final = (401, 403, 422, 426, 429, 503)
"""Problems that every route may answer."""

_REF: Final = {"$ref": "#/components/schemas/Problem"}


def example(cls: type) -> Any:
    """Return the example of a type as JSON."""
    return to_json(EXAMPLES[cls])


def body_examples(*classes: type) -> dict[str, Any]:
    """Return the examples of a request's body."""
    return {cls.__name__: {"summary": cls.__name__, "value": example(cls)} for cls in classes}


def responses(
    *statuses: int, answer: type | None = None, many: bool = False, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a route: its own with an example, the given problems, and everybody's."""
    found: dict[int | str, dict[str, Any]] = {}
    if answer is not None:
        value = [example(answer)] if many else example(answer)
        found[status] = {"content": {"application/json": {"example": value}}}
    for code in sorted({*statuses, *EVERYBODYS}):
        description, error = _PROBLEMS[code]
        sample = to_json(problem(error, 400 if code == 400 else None))
        found[code] = {"description": description, "content": {MEDIA_TYPE: {"schema": _REF, "example": sample}}}
    return found


def posted(
    *statuses: int, answer: type | None = None, many: bool = False, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a route that takes a body."""
    return responses(400, 413, *statuses, answer=answer, many=many, status=status)


def install(app: FastAPI) -> None:
    """Make the document of ``app`` know the shape of problems."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = TypeAdapter(Problem).json_schema(ref_template="#/components/schemas/{model}")
            made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"token": []}]
            caching.describe(made)
            idempotency.describe(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
