"""Latency tables, each as one download: of a search space by position, and of a look-up table's kernels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response

from leti.core.codec import from_json, to_json
from leti.core.errors import InvalidInput
from leti.core.searching import KernelPrice, LatencyTable
from leti.core.spec import NetworkConfig
from leti.core.training import PredictorInfo
from leti.core.wire import Zero
from leti.service.answering.forms import ARROW, JSON, NPZ, choose
from leti.service.answering.tabular import arrow_of
from leti.service.routes.documentation import example, responses
from leti.service.routes.parts import NAME, Accept, GivenParts, PathId, PlatformId
from leti.service.searching.arrays import about_of, arrays_of, written

router = APIRouter(tags=["search"])

CSV: Final = "text/csv"
OFFERED: Final = (JSON, CSV, NPZ, ARROW)

PREDICTOR_HEADER: Final = "leti-predictor"
VERSION_HEADER: Final = "leti-predictor-version"

_HEADERS: Final = {
    PREDICTOR_HEADER: {"schema": {"type": "string"}, "description": "the kind of the predictor"},
    VERSION_HEADER: {"schema": {"type": "string"}, "description": "its version"},
}
_TABLE_COLUMNS: Final = ("position", "name", "choice", "option", "latency_ms")
_KERNEL_COLUMNS: Final = ("name", "shapes", "kind", "macs", "traffic_bytes", "latency_ms", "count", "source")

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
BINARY_FORMS: Final[dict[str, Any]] = {
    NPZ: {**_BINARY, "example": "NumPy arrays by name, and `about`, JSON"},
    ARROW: {**_BINARY, "example": "an Arrow IPC stream, the JSON in its metadata"},
}
"""How arrays of latencies are documented."""

SpaceName = Annotated[str, Path(min_length=1, max_length=64, pattern=NAME, examples=["nasbench201"])]


def _documented(answer: type, columns: Sequence[str], row: str, *, many: bool) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a table's route."""
    value = [example(answer)] if many else example(answer)
    sheet = {"schema": {"type": "string"}, "example": f"{','.join(columns)}\r\n{row}\r\n"}
    forms = {JSON: {"example": value}, CSV: sheet, **BINARY_FORMS}
    told = {"description": "The table.", "content": forms, "headers": _HEADERS}
    return {**responses(404, 406, 413, 501), 200: told}


@router.get(
    "/platforms/{platform_id}/tables/{space}",
    response_model=LatencyTable,
    responses=_documented(LatencyTable, _TABLE_COLUMNS, '0,"stage 1, block 1",0,k3_e1,0.41', many=False),
)
def read_latency_table(
    platform_id: PlatformId,
    space: SpaceName,
    parts: GivenParts,
    config: Annotated[
        str | None, Query(max_length=1_000, description="JSON of a network's config; the space's own by default")
    ] = None,
    zero: Annotated[Zero, Query(description="what `none` does in NAS-Bench-201")] = "execute",
    fixed: Annotated[
        str,
        Query(
            max_length=1_000,
            pattern=r"^([0-9]{1,3}=[0-9]{1,4}(,[0-9]{1,3}=[0-9]{1,4})*)?$",
            description="positions that have one option only, as in `0=24,1=0`",
        ),
    ] = "",
    accept: Accept = "*/*",
) -> Response:
    """Return what each option adds to the latency at each position of a search space, so that a sum tells it.

    The table is fitted to the active predictor, and says how far its sums are from that one and from what is measured.
    As CSV and Arrow it is a row for each option, after one of the constant, which has no position; as NumPy arrays
    `latency_ms` has a row for each position, NaN where there is no such option. A table that the client has already is
    not sent again.
    """
    media_type = choose(accept, OFFERED)
    tables = parts.searching.position_tables
    question = tables.question(platform_id, space, _config(config), zero, _fixed(fixed))
    headers = _headers(question.predictor)
    table = tables.table(question)
    if media_type == JSON:
        return _json(to_json(table), headers)
    if media_type == NPZ:
        return _sent(arrays_of(table), NPZ, headers)
    rows: list[tuple[object, ...]] = [(None, "constant", None, "", table.constant_ms)]
    rows += [
        (position, place.name, choice, option, latency_ms)
        for position, place in enumerate(table.places)
        for choice, (option, latency_ms) in enumerate(zip(place.options, place.latency_ms, strict=True))
    ]
    if media_type == ARROW:
        columns = dict(zip(_TABLE_COLUMNS, zip(*rows, strict=True), strict=True))
        return _sent(arrow_of(columns, about_of(table)), ARROW, headers)
    return _csv(_TABLE_COLUMNS, rows, headers)


@router.get(
    "/predictors/{predictor_id}/table",
    response_model=tuple[KernelPrice, ...],
    responses=_documented(KernelPrice, _KERNEL_COLUMNS, "conv2d+relu,…,conv2d,2359296,65536,0.21,12,solved", many=True),
)
def read_kernel_table(predictor_id: PathId, parts: GivenParts, accept: Accept = "*/*") -> Response:
    """Return the kernels of a look-up table with what each takes, the dearest first."""
    media_type = choose(accept, OFFERED)
    info = parts.searching.kernel_prices.predictor(predictor_id)
    headers = _headers(info)
    prices = parts.searching.kernel_prices.prices(info)
    if media_type == JSON:
        return _json(to_json(prices), headers)
    if media_type == CSV:
        return _csv(_KERNEL_COLUMNS, ([getattr(price, name) for name in _KERNEL_COLUMNS] for price in prices), headers)
    columns = {name: [getattr(price, name) for price in prices] for name in _KERNEL_COLUMNS}
    about = {"predictor_id": info.id, "predictor": info.kind, "version": info.version}
    if media_type == ARROW:
        return _sent(arrow_of(columns, about), ARROW, headers)
    return _sent(written(columns, about), NPZ, headers)


def _config(text: str | None) -> NetworkConfig | None:
    if text is None:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("is not JSON", field="config", remedy='as in {"input_shape": [64, 64, 3]}') from error
    return from_json(NetworkConfig, data, "config")


def _fixed(text: str) -> dict[int, int]:
    """Return the options of positions; raise :class:`InvalidInput` where a position is there twice."""
    pairs = [part.split("=") for part in text.split(",") if part]
    found = {int(place): int(option) for place, option in pairs}
    if len(found) < len(pairs):
        raise InvalidInput("names a position twice", field="fixed", remedy="name each once")
    return found


def _headers(info: PredictorInfo) -> dict[str, str]:
    return {PREDICTOR_HEADER: info.kind, VERSION_HEADER: str(info.version), "vary": "accept"}


def _sent(content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    return Response(content, headers=headers, media_type=media_type)


def _json(value: Any, headers: dict[str, str]) -> Response:
    return Response(json.dumps(value, allow_nan=False), headers=headers, media_type=JSON)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]], headers: dict[str, str]) -> Response:
    sheet = io.StringIO()
    writer = csv.writer(sheet)
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return Response(sheet.getvalue(), headers=headers, media_type=CSV)
