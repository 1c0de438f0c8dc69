"""What a search asks: predictions, limits, breakdowns, tables, drift."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from leti.client.call import S_PER_NETWORK, Call, Flow, get, post, segment
from leti.client.exchange import Answer
from leti.client.prediction_batches import joined_columns, joined_rows, split
from leti.core.compression import ArrayForm, Slab, SlabRequest, Widths, WidthsRequest
from leti.core.errors import VersionMismatch
from leti.core.prediction import Progress
from leti.core.queries import PredictionColumns, PredictionRequest, PredictionResponse
from leti.core.searching import (
    BreakdownRequest,
    BreakdownResponse,
    Drift,
    FilterRequest,
    FilterResponse,
    KernelPrice,
    LatencyTable,
)

T = TypeVar("T")

ARROW: Final = "application/vnd.apache.arrow.stream"

ARRAY_TYPES: Final[Mapping[ArrayForm, str]] = {"npz": "application/x-npz", "arrow": ARROW}
"""What files of arrays are called."""

_WIDTHS: Final = 1_000
"""About how many networks a question for widths stands for."""


def predict(request: PredictionRequest, measure: bool, on_progress: Progress | None) -> Flow[PredictionResponse]:
    asked = dataclasses.replace(request, form="rows")
    return joined_rows((yield from _parts(PredictionResponse, asked, measure, on_progress)))


def predict_columns(request: PredictionRequest, measure: bool, on_progress: Progress | None) -> Flow[PredictionColumns]:
    asked = dataclasses.replace(request, form="columns")
    return joined_columns((yield from _parts(PredictionColumns, asked, measure, on_progress)))


def predict_arrow(request: PredictionRequest) -> Call[bytes]:
    def read(answer: Answer) -> bytes:
        if answer.headers.get("content-type") != ARROW:
            raise VersionMismatch(f"the answer to {answer.what} is no Arrow stream")
        return answer.content

    longer_s = S_PER_NETWORK * len(request)
    return Call("POST", "/v1/predictions", read, body=request, headers={"accept": ARROW}, longer_s=longer_s)


def _parts(cls: type[T], request: PredictionRequest, measure: bool, on_progress: Progress | None) -> Flow[list[Any]]:
    """Ask for each part that one request may hold; return the parts with their answers."""
    answers = []
    done = 0
    for part in split(request):
        call = post(cls, "/v1/predictions", part.request, networks=len(part.request))
        answers.append((part, (yield dataclasses.replace(call, params={"wait": "measure"} if measure else {}))))
        done += len(part.request)
        if on_progress is not None:
            on_progress(done, len(request))
    return answers


def filter_networks(request: FilterRequest) -> Call[FilterResponse]:
    return post(FilterResponse, "/v1/search/filter", request, networks=_count(request))


def break_down(request: BreakdownRequest) -> Call[BreakdownResponse]:
    return post(BreakdownResponse, "/v1/breakdowns", request, networks=_count(request))


def latency_table(platform_id: str, space: str, params: dict[str, Any]) -> Call[LatencyTable]:
    path = f"/v1/platforms/{segment(platform_id)}/tables/{segment(space)}"
    return get(LatencyTable, path, params, longer_s=60.0)


def kernel_table(predictor_id: int) -> Call[tuple[KernelPrice, ...]]:
    return get(tuple[KernelPrice, ...], f"/v1/predictors/{predictor_id:d}/table")


def latency_table_file(platform_id: str, space: str, form: ArrayForm, params: dict[str, Any]) -> Call[bytes]:
    path = f"/v1/platforms/{segment(platform_id)}/tables/{segment(space)}"
    return Call("GET", path, _bytes, params, headers={"accept": ARRAY_TYPES[form]}, longer_s=60.0)


def kernel_table_file(predictor_id: int, form: ArrayForm) -> Call[bytes]:
    path = f"/v1/predictors/{predictor_id:d}/table"
    return Call("GET", path, _bytes, headers={"accept": ARRAY_TYPES[form]})


def slab(request: SlabRequest) -> Call[Slab]:
    return post(Slab, "/v1/slabs", request, networks=_cells(request))


def slab_file(request: SlabRequest, form: ArrayForm) -> Call[bytes]:
    longer_s = S_PER_NETWORK * _cells(request)
    return Call("POST", "/v1/slabs", _bytes, body=request, headers={"accept": ARRAY_TYPES[form]}, longer_s=longer_s)


def widths(request: WidthsRequest) -> Call[Widths]:
    return post(Widths, "/v1/widths", request, networks=_WIDTHS)


def drift(platform_id: str, params: dict[str, Any]) -> Call[Drift]:
    return get(Drift, f"/v1/platforms/{segment(platform_id)}/drift", params)


def _bytes(answer: Answer) -> bytes:
    return answer.content


def _cells(request: SlabRequest) -> int:
    return math.prod(len(values) for values in request.axes.varied().values())


def _count(request: FilterRequest | BreakdownRequest) -> int:
    return len(request.networks) + len(request.encodings or ()) + len(request.patches or ())
