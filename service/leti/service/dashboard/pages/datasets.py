"""Datasets: what predictors were trained on, frozen, and what was imported."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from leti.core.datasets import DatasetFormat
from leti.service.dashboard.filters import ROWS, Before, Name, pager
from leti.service.dashboard.rendering import HOME, page
from leti.service.routes.datasets import FILES, file_of
from leti.service.routes.parts import GivenParts, PathId

router = APIRouter(prefix=f"{HOME}/datasets")


@router.get("")
def show(request: Request, parts: GivenParts, platform_id: Name = None, before: Before = 0) -> Response:
    """Return datasets, the newest first."""
    found = parts.store.datasets.page(platform_id=platform_id, cursor=before, limit=ROWS, newest_first=True)
    return page(
        request,
        "datasets.html",
        datasets=found.items,
        pager=pager(request, router.prefix, before, found.next),
        platforms=parts.store.platforms.list(),
        chosen=platform_id,
        forms=tuple(FILES.values()),
    )


@router.get("/{dataset_id}/file")
def download(
    dataset_id: PathId, parts: GivenParts, form: Annotated[DatasetFormat, Query(alias="format")] = "csv"
) -> Response:
    """Return a dataset as the file that the API exports."""
    media_type = next(media_type for media_type, name in FILES.items() if name == form)
    return file_of(parts.store, dataset_id, media_type)
