"""Examples of what a search under constraints asks."""

from __future__ import annotations

from typing import Any, Final

from leti.core.codec import to_json
from leti.core.compression import Slab, SlabAxes, SlabOperator, SlabRequest, Widths, WidthsRequest
from leti.core.searching import (
    BreakdownRequest,
    BreakdownResponse,
    Drift,
    FilterRequest,
    FilterResponse,
    HeldIntervals,
    KernelPrice,
    LatencyLimit,
    LatencyTable,
    LayerShare,
    LimitAnswer,
    NetworkBreakdown,
    ReferenceDay,
    ReferenceDrift,
    Score,
    ScoreSummary,
    TableError,
    TablePlace,
    Verdict,
    WeekScores,
)
from leti.core.spec import NetworkConfig
from leti.service.routes.examples.values import ARCHITECTURE, AT, FINGERPRINT, PLATFORM_ID

_SUMMARY: Final = ScoreSummary(64, 0.021, 0.86, 0.97, 0.004)
_TEST: Final = "Mann-Whitney U, one-sided, on |ln(measured / predicted)|"

EXAMPLES: Final[dict[type, Any]] = {
    FilterRequest: FilterRequest((LatencyLimit(PLATFORM_ID, 0.8, 0.9),), (ARCHITECTURE,)),
    FilterResponse: FilterResponse(
        (True,),
        (0,),
        (LimitAnswer(PLATFORM_ID, 0.8, 0.9, (0.712,), (0.737,), (0.063,), (False,), "xgboost", 1, 37, 0.92),),
    ),
    BreakdownRequest: BreakdownRequest(PLATFORM_ID, (ARCHITECTURE,)),
    BreakdownResponse: BreakdownResponse(
        PLATFORM_ID,
        3,
        "lookup_table",
        1,
        False,
        "operators",
        (
            NetworkBreakdown(
                0,
                FINGERPRINT,
                0.705,
                (
                    LayerShare("conv2d[3×3]+relu", 0.61, (0, 1), "conv2d 3×3 + relu: 1×32×32×3 → 1×32×32×16", 0.63),
                    LayerShare("overhead", 0.095),
                ),
                0.712,
                "predicted",
            ),
        ),
    ),
    LatencyTable: LatencyTable(
        PLATFORM_ID,
        "nasbench201",
        to_json(NetworkConfig()),
        "execute",
        {"5": 3},
        2,
        "xgboost",
        1,
        0.31,
        (TablePlace("edge 0→1", ("none", "skip_connect", "nor_conv_1x1"), (0.0, 0.01, 0.08)),),
        300,
        TableError(250, 0.018, 0.93, 0.99, 0.13),
        TableError(112, 0.027, 0.81, 0.97, 0.16),
    ),
    KernelPrice: KernelPrice(
        "conv2d[3×3]+relu", "1×32×32×16→1×32×32×16", "conv2d", 2_359_296, 140_352, 0.21, 12, "solved"
    ),
    SlabRequest: SlabRequest(
        PLATFORM_ID,
        SlabOperator("conv2d", (1, 32, 32, 16), kernel=3, followed_by=("relu",)),
        SlabAxes(cout=(8, 16), rank=((), (4, 4))),
    ),
    Slab: Slab(
        PLATFORM_ID,
        3,
        "lookup_table",
        1,
        SlabAxes(cout=(8, 16), rank=((), (4, 4))),
        (2, 2),
        (0.11, 0.08, 0.21, None),
        {"must be 2 of 1 to 16 and 1 to 16, not [32, 4]": 1},
        {"conv2d 3×3 was not seen with these shapes": 1},
    ),
    WidthsRequest: WidthsRequest(PLATFORM_ID, ARCHITECTURE, 1, at_least=8, step=8, within_ms=0.7),
    Widths: Widths(
        PLATFORM_ID,
        1,
        "width",
        (8, 16),
        (0.64, 0.712),
        (0.61, 0.68),
        (0.67, 0.745),
        (0.67, 0.745),
        (False, False),
        (8, 16),
        0.8,
        0.9,
        8,
        0.67,
        "xgboost",
        1,
    ),
    Drift: Drift(
        PLATFORM_ID,
        2,
        "xgboost",
        1,
        120,
        _SUMMARY,
        (HeldIntervals(0.9, 64, 0.89),),
        (WeekScores("2026-01-26", _SUMMARY),),
        (Score(FINGERPRINT, 0.712, 0.81, -0.121, AT, AT),),
        Verdict("no-worse", _TEST, 64, 37, 0.021, 0.019, 0.53, 0.31),
        ReferenceDrift(2, 1.39, 0.006, (ReferenceDay("2026-01-31", 1.398, 240),)),
    ),
}
