"""What OpenAPI says besides the types: examples of what is sent and answered, who may ask, and the problems.

Problems are stated once for all routes; a route names those by their status that not every route may answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from leti.core.access import ROLES
from leti.core.codec import LARGEST_INT, to_json
from leti.core.errors import (
    Conflict,
    InvalidInput,
    LetiError,
    MissingExtra,
    NotAcceptable,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    NotReadable,
    StorageError,
    TooLarge,
    TooManyRequests,
    VersionMismatch,
)
from leti.core.wire import PROTOCOL_HEADER, PROTOCOL_VERSION, Problem
from leti.service.gate import caching, idempotency
from leti.service.gate.access import PERMISSIONS, route_name
from leti.service.gate.authentication import opened_to_all
from leti.service.gate.heads import MOST_BYTES
from leti.service.gate.refusing import MEDIA_TYPE
from leti.service.problems import problem
from leti.service.routes.examples import EXAMPLES
from leti.service.settings import Settings

METHODS: Final = ("get", "post", "put", "patch", "delete")

DESCRIPTION: Final = f"""\
Latencies of neural networks on devices: measured where known, else predicted.

Requests and answers are JSON unless a route says otherwise; times are in UTC. What is refused is answered with a
problem (RFC 9457) that names the field at fault and a remedy. Requests may carry `{PROTOCOL_HEADER}:
{PROTOCOL_VERSION}` and are refused where that is another number; answers carry it, and an `x-request-id` that stands
in the service's log as well. An address that does not exist is answered with 404, a method that it does not have with
405, and what is not HTTP with 400, before anybody looks at what it asks.
"""

TAGS: Final[dict[str, str]] = {
    "predictions": "Latencies of networks, measured or predicted: what a search asks most.",
    "search": "Networks under limits, what latencies are made of, tables, and how predictions fared.",
    "networks": "Networks by fingerprint, and their model files.",
    "uploads": "Model files of one's own.",
    "platforms": "What is measured on: a device with a runtime.",
    "campaigns": "What is to be measured where.",
    "jobs": "The queue, and what failed.",
    "measurements": "What was measured, sample by sample.",
    "predictors": "Trained predictors, and which one serves.",
    "datasets": "Frozen datasets, and their export and import.",
    "tasks": "Work that takes long: training, evaluating, reading files.",
    "devices": "The machines that measure.",
    "workers": "Who trains, and who measures.",
    "leases and results": "How agents get jobs and hand in what came of them.",
    "tokens": "Who may ask.",
    "health": "Whether the service is there.",
}
"""Groups of routes, in the order in which a reader wants them."""

_TOKEN: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "leti_…",
    "description": "A token that `leti token create` made. Each operation says in `x-roles` which roles may use it: "
    "`viewer` reads, `client` asks and trains as well, `agent` measures, `admin` may do everything.",
}

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
    408: ("The body did not arrive in time.", InvalidInput("nothing arrived for 30 s", field="(body)")),
    409: ("The request contradicts what is stored.", Conflict("another campaign is called so", field="name")),
    413: ("The body or the batch is over its limit.", TooLarge("holds 20000 networks", field="networks")),
    415: (
        "The body is announced in a form, or a coding, that is not read.",
        NotReadable("is not announced as JSON", field="content-type", remedy="application/json"),
    ),
    422: (
        "A value is wrong; the field and the remedy say which and what would be right.",
        InvalidInput("must be a whole number, not '3'", field="job_id", remedy="give a number"),
    ),
    426: ("Client and service speak different protocols.", VersionMismatch("the request speaks protocol '1'")),
    429: (
        "The token asks too often; `Retry-After` says when it may again.",
        TooManyRequests("more than 6000 per 1 minute came", field="authorization", retry_after_s=12),
    ),
    500: ("Something went wrong inside the service.", LetiError("something went wrong", remedy="see its log")),
    501: ("What the request needs is not installed here.", MissingExtra.named("import-onnx", "onnx")),
    503: (
        "The database cannot be reached, too much is asked at once, or the answer takes too long.",
        StorageError("the database refused", remedy="try again"),
    ),
}

EVERYBODYS: Final = (401, 403, 422, 426, 429, 500, 503)
"""Problems that every route may answer."""

OF_BODIES: Final = (400, 408, 413, 415)
"""Problems that every route with a body may answer."""

_SECONDS: Final = {"schema": {"type": "integer", "minimum": 1}, "description": "seconds after which to ask again"}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {
        "WWW-Authenticate": {"required": True, "schema": {"type": "string"}, "description": "how to say who asks"},
    },
    429: {"Retry-After": {"required": True, **_SECONDS}},
    503: {"Retry-After": _SECONDS},
}
"""Headers that belong to a problem."""

_EXAMPLE: Final = "x-example"
_LARGEST: Final = {"minimum": -LARGEST_INT, "maximum": LARGEST_INT}


def example(cls: type) -> Any:
    """Return what stands for the example of a type until the document is made: on its way there nulls get lost."""
    return {_EXAMPLE: list(EXAMPLES).index(cls)}


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
    found.update({code: {"description": _PROBLEMS[code][0]} for code in sorted({*statuses, *EVERYBODYS})})
    return found


def posted(
    *statuses: int, answer: type | None = None, many: bool = False, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a route that takes a body."""
    return responses(*OF_BODIES, *statuses, answer=answer, many=many, status=status)


def operation_id(route: APIRoute) -> str:
    """Return what a route is called in generated clients: its function's name, which no two routes share."""
    return route.name


def install(app: FastAPI, settings: Settings) -> None:
    """Make the document of ``app`` know the shape of problems, and who may ask."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=DESCRIPTION,
                routes=app.routes,
                tags=[{"name": name, "description": said} for name, said in TAGS.items()],
                servers=[{"url": "/", "description": "the service that this document comes from"}],
            )
            _describe_problems(made)
            _describe_callers(made, settings)
            _bound(made["components"]["schemas"])
            caching.describe(made)
            idempotency.describe(made)
            app.openapi_schema = _with_examples(made)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation of everything that a document describes."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def _describe_problems(document: dict[str, Any]) -> None:
    """State each problem once, and have the operations refer to it."""
    parts = document.setdefault("components", {})
    schema = TypeAdapter(Problem).json_schema(ref_template="#/components/schemas/{model}")
    parts.setdefault("schemas", {})["Problem"] = schema
    parts["responses"] = {
        f"Problem{code}": {
            "description": description,
            **({"headers": _HEADERS[code]} if code in _HEADERS else {}),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": to_json(problem(error, code)),
                }
            },
        }
        for code, (description, error) in _PROBLEMS.items()
    }
    for _method, _path, operation in operations(document):
        found = operation["responses"]
        for code in [code for code in found if int(code) >= HTTPStatus.BAD_REQUEST]:
            found[code] = {"$ref": f"#/components/responses/Problem{code}"}
        found["431"] = {"description": f"The request's head is over {MOST_BYTES} bytes; the connection ends."}


def _describe_callers(document: dict[str, Any], settings: Settings) -> None:
    """Say which operations need a token, and of which roles."""
    opened = opened_to_all(settings)
    if settings.auth:
        document["components"]["securitySchemes"] = {"token": _TOKEN}
        document["security"] = [{"token": []}]
    for method, path, operation in operations(document):
        roles = PERMISSIONS.get(route_name(method.upper(), path), frozenset())
        operation["x-roles"] = [role for role in ROLES if role in roles]
        if settings.auth and path in opened:
            operation["security"] = []


def _with_examples(part: Any) -> Any:
    """Return a part of a document with its examples."""
    if isinstance(part, dict):
        if _EXAMPLE in part:
            return to_json(list(EXAMPLES.values())[part[_EXAMPLE]])
        return {name: _with_examples(inner) for name, inner in part.items()}
    return [_with_examples(inner) for inner in part] if isinstance(part, list) else part


def _bound(schema: Any) -> None:
    """State how large whole numbers may be, wherever a schema does not: the codec reads no larger ones."""
    if isinstance(schema, dict):
        if schema.get("type") == "integer" and not schema.keys() & {"minimum", "maximum", "enum", "const"}:
            schema.update(_LARGEST)
        for inner in schema.values():
            _bound(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _bound(inner)
