"""What routes share: the service's parts, how a body is read, identifiers, and the check of query parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, final

from fastapi import Depends, Header, Path, Query, Request
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from starlette.types import Scope

from leti.core.errors import InvalidInput, NotReadable
from leti.service.answering import Answerer
from leti.service.artifacts import ArtifactStore
from leti.service.datasets.intake import Imports
from leti.service.gate.authentication import Authenticator
from leti.service.metrics import Metrics
from leti.service.model_files import ModelFiles
from leti.service.planning import Planner
from leti.service.readiness import Readiness
from leti.service.routes.examples.values import FINGERPRINT, PLATFORM_ID
from leti.service.routes.reading import reader
from leti.service.searching import Searching
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.training import Trainer
from leti.service.uploads.intake import Uploads

MAX_ID: Final = 2**63 - 1

PathId = Annotated[int, Path(ge=1, le=MAX_ID, examples=[1])]
Fingerprint = Annotated[str, Path(pattern="^[0-9a-f]{64}$", examples=[FINGERPRINT])]
NAME: Final = r"^[^\x00]*$"
"""What a name in an address may hold: PostgreSQL has no character U+0000."""

PlatformId = Annotated[str, Path(min_length=1, max_length=200, pattern=NAME, examples=[PLATFORM_ID])]
PlatformFilter = Annotated[str | None, Query(min_length=1, max_length=200, pattern=NAME)]
CampaignFilter = Annotated[int | None, Query(ge=1, le=MAX_ID)]
FingerprintFilter = Annotated[
    str | None, Query(pattern="^[0-9a-f]{8,64}$", description="a fingerprint, or its first 8 digits or more")
]
Cursor = Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Accept = Annotated[str, Header(include_in_schema=False)]
"""The form of the answer: OpenAPI says it by the answers, and wants no parameter of that name."""


@final
@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    settings: Settings
    store: Store
    metrics: Metrics
    readiness: Readiness
    authenticator: Authenticator
    artifacts: ArtifactStore
    models: ModelFiles
    uploads: Uploads
    imports: Imports
    planner: Planner
    trainer: Trainer
    answerer: Answerer
    searching: Searching


def parts_in(scope: Scope) -> Parts:
    """Return the parts of the service that the request of ``scope`` came to."""
    found: Parts = scope["app"].state.parts
    return found


async def given_parts(request: Request) -> Parts:  # not async it would be called in a thread
    """Return the parts of the service that a request came to."""
    return parts_in(request.scope)


GivenParts = Annotated[Parts, Depends(given_parts)]


@final
class FromWire:
    """Marks a body that is read as core's codec does: strictly, a fault named with its place as on every other border.

    OpenAPI still takes the body's shape from its type.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a schema that shows the type's own and validates by the codec."""
        return core_schema.no_info_wrap_validator_function(_reading(source), handler(source))


def _reading(source: Any) -> Callable[[Any, Any], object]:
    read = reader(source)

    def read_json(data: Any, _inner: Any) -> object:
        if isinstance(data, bytes):
            raise NotReadable("is not announced as JSON", field="content-type", remedy="application/json")
        return read(data)

    return read_json


async def known_query(request: Request) -> None:
    """Raise :class:`InvalidInput` for a query parameter that the route does not have, or that is there twice.

    A typo would filter nothing, and of two values one would be ignored.
    """
    route = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise InvalidInput(
                "is not a parameter of this route",
                field=name[:80] or "(query)",
                remedy=f"known here: {', '.join(known) or 'none'}",
            )
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidInput("is there more than once", field=name, remedy="give it once")
