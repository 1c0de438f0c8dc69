"""Examples of what a search asks."""

from __future__ import annotations

from typing import Any, Final

from leti.core.errors import NotFound
from leti.core.patches import Patch
from leti.core.queries import (
    Encodings,
    ItemFailure,
    Patches,
    PlatformColumns,
    PlatformPredictions,
    PredictionColumns,
    PredictionItem,
    PredictionRequest,
    PredictionResponse,
)
from leti.service.problems import problem
from leti.service.routes.examples.values import ARCHITECTURE, FINGERPRINT, PLATFORM_ID

_FAILURE: Final = ItemFailure(
    1, "read", problem(NotFound(f"no network has the fingerprint {FINGERPRINT!r}", field="networks[1]"))
)

EXAMPLES: Final[dict[type, Any]] = {
    PredictionRequest: PredictionRequest((PLATFORM_ID,), (ARCHITECTURE, "nasbench201:3,1,2,4,3,1")),
    Encodings: PredictionRequest((PLATFORM_ID,), encodings=Encodings("nasbench201", ((3, 1, 2, 4, 3, 1),))),
    Patches: PredictionRequest(
        (PLATFORM_ID,), patches=Patches(ARCHITECTURE, (Patch(widths={2: 8}), Patch(ranks={0: (2, 4)}))), form="columns"
    ),
    PredictionResponse: PredictionResponse(
        (
            PlatformPredictions(
                PLATFORM_ID,
                (PredictionItem(FINGERPRINT, 0.712, 0.68, 0.745, 0.9, "predicted", "xgboost", 1, (), False), None),
            ),
        ),
        (_FAILURE,),
    ),
    PredictionColumns: PredictionColumns(
        0.9,
        {"float32": (FINGERPRINT, None)},
        (),
        (
            PlatformColumns(
                PLATFORM_ID,
                "float32",
                "xgboost",
                1,
                (0.712, None),
                (0.68, None),
                (0.745, None),
                (False, False),
                (0, 0),
                (0.4, None),
            ),
        ),
        (_FAILURE,),
    ),
}
