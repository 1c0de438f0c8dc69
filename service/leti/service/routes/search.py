"""Searches: which networks keep limits of latency, and what latencies are made of."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Response

from leti.core.codec import to_json
from leti.core.compression import Slab, SlabRequest, Widths, WidthsRequest
from leti.core.searching import BreakdownRequest, BreakdownResponse, FilterRequest, FilterResponse
from leti.service.answering.forms import ARROW, JSON, NPZ, choose
from leti.service.answering.tabular import arrow_of
from leti.service.routes.documentation import body_examples, example, posted
from leti.service.routes.latency_tables import BINARY_FORMS
from leti.service.routes.parts import Accept, FromWire, GivenParts
from leti.service.searching.arrays import about_of, slab_arrays, slab_columns

router = APIRouter(tags=["search"])

_SLAB: Final[dict[str, Any]] = {
    "description": "What the operator adds at each combination.",
    "content": {JSON: {"example": example(Slab)}, **BINARY_FORMS},
}


@router.post("/search/filter", responses=posted(404, answer=FilterResponse))
def filter_networks(
    request: Annotated[FilterRequest, FromWire(), Body(openapi_examples=body_examples(FilterRequest))],
    parts: GivenParts,
) -> FilterResponse:
    """Return which networks keep a limit of latency on each of several platforms, with the confidence of each limit.

    Each platform predicts all networks that are not measured in one call. A network that cannot be read, or priced on
    one of the platforms, does not fit, and stands among the failures by its index.
    """
    return parts.searching.filter.filter(request)


@router.post("/breakdowns", responses=posted(404, answer=BreakdownResponse))
def break_down(
    request: Annotated[BreakdownRequest, FromWire(), Body(openapi_examples=body_examples(BreakdownRequest))],
    parts: GivenParts,
) -> BreakdownResponse:
    """Return what the predicted latency of each network is made of, kernel by kernel where a predictor can tell.

    Up to 100 networks. Where the active predictor cannot tell of kernels, another one of the platform that can is asked
    and named: its shares add up to its own latency, beside which stands what the service answers.
    """
    return parts.searching.explainer.explain(request)


@router.post("/slabs", response_model=Slab, responses={**posted(404, 406, 501), 200: _SLAB})
def read_slab(
    request: Annotated[SlabRequest, FromWire(), Body(openapi_examples=body_examples(SlabRequest))],
    parts: GivenParts,
    accept: Accept = "*/*",
) -> Response:
    """Return what one operator adds to a network, over channels, kernels, strides, sizes, precisions and ranks.

    Up to 20,000 combinations, as one array: JSON, NumPy's, or Arrow with a row for each combination. It is priced by a
    predictor that is a sum over kernels; where the active one is none, another of the platform is asked and named. What
    has no price is `null` and counted by its reason.
    """
    media_type = choose(accept, (JSON, NPZ, ARROW))
    slab = parts.searching.slabs.slab(request)
    if media_type == NPZ:
        return Response(slab_arrays(slab), media_type=NPZ)
    if media_type == ARROW:
        return Response(arrow_of(slab_columns(slab), about_of(slab)), media_type=ARROW)
    return Response(json.dumps(to_json(slab), allow_nan=False), media_type=JSON)


@router.post("/widths", responses=posted(404, answer=Widths))
def read_widths(
    request: Annotated[WidthsRequest, FromWire(), Body(openapi_examples=body_examples(WidthsRequest))],
    parts: GivenParts,
) -> Widths:
    """Return the latency of a network at each width of a channel group or rank of an operator, and which are useful.

    A value is useful where no larger one is as fast. With `within_ms`, the largest value whose network takes no longer,
    with the probability of `confidence`, is found as well. Every value is looked at: latency does not always fall with
    the width.
    """
    return parts.searching.staircase.widths(request)
