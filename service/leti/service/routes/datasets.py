"""Datasets: listed, exported as they were frozen, and imported."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import IO, Annotated, Any, Final, final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from leti.core.codec import to_json
from leti.core.datasets import DatasetFormat, DatasetInfo, DatasetPage, DatasetRowPage
from leti.core.errors import InvalidInput, NotReadable
from leti.core.tasks import Task
from leti.service.answering.forms import JSON, PARQUET, choose
from leti.service.datasets.exporting import export
from leti.service.gate.access import GivenCaller
from leti.service.routes.documentation import example, responses
from leti.service.routes.parts import Accept, Cursor, GivenParts, Limit, PathId, PlatformFilter
from leti.service.routes.tasks import accepted, accepts
from leti.service.routes.uploads import MEDIA_TYPE, receive_body
from leti.service.store import Store

router = APIRouter(prefix="/datasets", tags=["datasets"])

CSV: Final = "text/csv"
FILES: Final[dict[str, DatasetFormat]] = {PARQUET: "parquet", CSV: "csv"}

PIECE_BYTES: Final = 2**20
"""What is sent of a file at once."""

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_ROWS: Final[dict[str, Any]] = {
    "description": "The networks of a page, or a file of all.",
    "model": DatasetRowPage,
    "content": {
        JSON: {"example": example(DatasetRowPage)},
        PARQUET: {**_BINARY, "example": "PAR1…, a row for each network"},
        CSV: {"schema": {"type": "string"}, "example": "fingerprint,space,spec,…"},
    },
}
_BODY: Final = {
    "required": True,
    "content": {kind: {**_BINARY, "example": "PAR1…"} for kind in (MEDIA_TYPE, PARQUET, CSV)},
}


@router.get("", responses=responses(404, answer=DatasetPage))
def list_datasets(
    parts: GivenParts, platform_id: PlatformFilter = None, cursor: Cursor = 0, limit: Limit = 100
) -> DatasetPage:
    """Return frozen and imported datasets, the oldest first."""
    return parts.store.datasets.page(platform_id=platform_id, cursor=cursor, limit=limit)


@router.get("/{dataset_id}", responses=responses(404, answer=DatasetInfo))
def read_dataset(dataset_id: PathId, parts: GivenParts) -> DatasetInfo:
    """Return what is known of a dataset."""
    return parts.store.datasets.get(dataset_id)


@router.get(
    "/{dataset_id}/items",
    response_model=None,
    response_class=Response,
    responses={**responses(404, 406, 501), 200: _ROWS},
)
def read_items(
    dataset_id: PathId,
    parts: GivenParts,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="`next` of the page before; of pages alone")
    ] = None,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="networks of a page; 100 if not said")] = None,
    accept: Accept = "*/*",
) -> Response:
    """Return the networks of a dataset with their truths, sides and classes, by fingerprint.

    In JSON they come in pages. By `Accept` they come in one file, Parquet or CSV, which holds all that it takes to
    import the dataset elsewhere and to train on it with the same results.
    """
    media_type = choose(accept, (JSON, *FILES))
    if media_type == JSON:
        return _page(parts.store, dataset_id, cursor or "", limit or 100)
    for name, given in (("cursor", cursor), ("limit", limit)):
        if given is not None:
            raise InvalidInput("is of pages: a file holds the whole dataset", field=name, remedy=f"accept {JSON}")
    return file_of(parts.store, dataset_id, media_type)


@router.post("", status_code=202, response_model=Task, responses=accepts(), openapi_extra={"requestBody": _BODY})
async def import_dataset(
    request: Request,
    response: Response,
    parts: GivenParts,
    caller: GivenCaller,
    form: Annotated[DatasetFormat, Query(alias="format", description="the kind of file")],
) -> Task:
    """Queue a task that imports a dataset, the body as it is, which was exported by this service or another.

    The task's report is the dataset. The same file again is the same dataset.
    """
    taken = (MEDIA_TYPE, *(kind for kind, name in FILES.items() if name == form))
    if request.headers.get("content-type", MEDIA_TYPE).partition(";")[0].strip().lower() not in taken:
        raise NotReadable(f"is not that of {form} files", field="content-type", remedy=" or ".join(taken))
    with parts.artifacts.receiving() as part:
        await receive_body(request, part)
        task = await run_in_threadpool(parts.imports.receive, part, form, caller.name)
    return accepted(task, response)


def file_of(store: Store, dataset_id: int, media_type: str) -> Response:
    """Return a dataset as a file of one of :data:`FILES`; raise :class:`NotFound`, :class:`MissingExtra`."""
    # Whole before a byte is sent: what has begun is no error any more. It is closed when it was sent.
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        export(store, dataset_id, FILES[media_type], file)
    except BaseException:
        file.close()
        raise
    headers = {
        "content-length": str(file.tell()),
        "content-disposition": f'attachment; filename="dataset-{dataset_id}.{FILES[media_type]}"',
    }
    return FileResponse(file, headers, media_type)


def _page(store: Store, dataset_id: int, after: str, limit: int) -> Response:
    rows = store.datasets.rows(dataset_id, after=after, limit=limit + 1)
    page = DatasetRowPage(rows[:limit], rows[limit - 1].fingerprint if len(rows) > limit else None)
    body = json.dumps(to_json(page), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return Response(body, media_type=JSON)


@final
class FileResponse(StreamingResponse):
    """An open file as it is, which is closed when it was sent, or when nobody takes it any more."""

    def __init__(self, file: IO[bytes], headers: Mapping[str, str], media_type: str) -> None:
        file.seek(0)
        super().__init__(iter(partial(file.read, PIECE_BYTES), b""), headers=headers, media_type=media_type)
        self._file = file

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)
