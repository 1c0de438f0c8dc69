"""Predictions: the latency of networks, measured or predicted."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Query, Response

from leti.core.queries import Encodings, Patches, PredictionColumns, PredictionRequest, PredictionResponse
from leti.service.answering.forms import ARROW, JSON, PARQUET, choose, write
from leti.service.answering.together import Steps, alone
from leti.service.routes.documentation import body_examples, example, posted
from leti.service.routes.parts import Accept, FromWire, GivenParts, Parts

router = APIRouter(prefix="/predictions", tags=["predictions"])

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: Final[dict[str, Any]] = {
    "description": "The latencies, and by index what failed.",
    "model": PredictionResponse | PredictionColumns,
    "content": {
        JSON: {
            "examples": {cls.__name__: {"value": example(cls)} for cls in (PredictionResponse, PredictionColumns)},
        },
        ARROW: {**_BINARY, "example": "an Arrow IPC stream, a row for each platform and network"},
        PARQUET: {**_BINARY, "example": "PAR1…, a row for each platform and network"},
    },
}


@router.post("", response_model=None, response_class=Response, responses={**posted(404, 406, 409, 501), 200: _ANSWER})
def predict(
    request: Annotated[
        PredictionRequest, FromWire(), Body(openapi_examples=body_examples(PredictionRequest, Encodings, Patches))
    ],
    parts: GivenParts,
    wait: Annotated[
        Literal["measure"] | None, Query(description="`measure` queues what is not measured, each network once")
    ] = None,
    accept: Accept = "*/*",
) -> Response:
    """Return a latency for each network on each platform: measured where it is known, else predicted with an interval.

    A network that cannot be read or priced does not keep the others from being answered: it stands among the failures
    by its index, also where it is the only one. What is wrong with the request as a whole is a problem.

    The answer is JSON in rows or in columns, as `form` says, or by `Accept` an Arrow stream or a Parquet file of
    columns named alike, with a row for each platform and network.
    """
    return alone(steps(request, parts, wait, accept))


def steps(request: PredictionRequest, parts: Parts, wait: Literal["measure"] | None, accept: str) -> Steps[Response]:
    """Take the steps of :func:`predict`."""
    media_type = choose(accept)
    answers = yield from parts.answerer.steps(request, measure=wait == "measure")
    return Response(write(answers, media_type, request.form), media_type=media_type)
