"""Uploads: model files, sent as they are and read by a worker."""

from __future__ import annotations

import functools
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from leti.core.errors import InvalidInput, NotReadable
from leti.core.tasks import MAX_WAIT_S
from leti.core.uploads import Upload, UploadFormat
from leti.core.wire import MODEL_SHA256_HEADER
from leti.service.artifacts import Part
from leti.service.gate.access import GivenCaller
from leti.service.routes.documentation import example, posted, responses
from leti.service.routes.parts import GivenParts, PathId
from leti.service.routes.waiting import until_ended

router = APIRouter(prefix="/uploads", tags=["uploads"])

PIECE_BYTES: Final = 2**20
"""What is gathered of a body before it is written."""

MEDIA_TYPE: Final = "application/octet-stream"

_FOUND = {
    "description": "The same file was there already.",
    "model": Upload,
    "content": {"application/json": {"example": example(Upload)}},
}
_BODY = {
    "required": True,
    "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}, "example": "TFL3…"}},
}


@router.post(
    "",
    status_code=201,
    response_model=Upload,
    responses={**posted(answer=Upload, status=201), 200: _FOUND},
    openapi_extra={"requestBody": _BODY},
)
async def upload_model(
    request: Request,
    response: Response,
    parts: GivenParts,
    caller: GivenCaller,
    model_format: Annotated[UploadFormat, Query(alias="format", description="the kind of file")],
    sha256: Annotated[
        str | None, Header(alias=MODEL_SHA256_HEADER, pattern="^[0-9a-f]{64}$", description="SHA-256 of the body")
    ] = None,
) -> Upload:
    """Take a model file, the body as it is, and have a worker read the network that it holds.

    The same file again is the same upload. Its network can be predicted and measured, by its fingerprint, once the
    upload is known: GET /v1/uploads/{upload_id}.
    """
    if request.headers.get("content-type", MEDIA_TYPE).partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise NotReadable("is no model file's", field="content-type", remedy=MEDIA_TYPE)
    with parts.artifacts.receiving() as part:
        await receive_body(request, part)
        upload, new = await run_in_threadpool(parts.uploads.receive, part, model_format, sha256, caller.name)
    response.status_code = 201 if new else 200
    return upload


@router.get("/{upload_id}", responses=responses(404, answer=Upload))
async def read_upload(
    upload_id: PathId,
    parts: GivenParts,
    wait_s: Annotated[
        float, Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for the file to be read", allow_inf_nan=False)
    ] = 0.0,
) -> Upload:
    """Return an upload; with ``wait_s``, once it is known or refused, or that time is over."""
    return await until_ended(functools.partial(parts.store.uploads.get, upload_id), wait_s, parts.readiness)


async def receive_body(request: Request, part: Part) -> None:
    """Write a body as it arrives, in pieces that are worth a thread."""
    piece = bytearray()
    try:
        async for chunk in request.stream():
            piece += chunk
            if len(piece) >= PIECE_BYTES:
                await run_in_threadpool(part.write, bytes(piece))
                piece.clear()
    except ClientDisconnect:
        raise InvalidInput("ended before all of it had arrived", field="(body)", remedy="send it again") from None
    await run_in_threadpool(part.write, bytes(piece))
