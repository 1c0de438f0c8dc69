"""Searches: which networks keep limits of latency, and what latencies are made of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from leti.core.searching import BreakdownRequest, BreakdownResponse, FilterRequest, FilterResponse
from leti.service.routes.documentation import body_examples, posted
from leti.service.routes.parts import FromWire, GivenParts

router = APIRouter(tags=["search"])


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
