"""Examples of what a search asks."""

from __future__ import annotations

from typing import Any, Final

from leti.core.queries import PredictionItem, PredictionRequest, PredictionResponse
from leti.service.routes.examples.values import ARCHITECTURE, FINGERPRINT, PLATFORM_ID

EXAMPLES: Final[dict[type, Any]] = {
    PredictionRequest: PredictionRequest(PLATFORM_ID, (ARCHITECTURE,)),
    PredictionResponse: PredictionResponse(
        PLATFORM_ID,
        (PredictionItem(FINGERPRINT, 0.712, 0.68, 0.745, 0.9, "predicted", "xgboost", 1, (), False),),
    ),
}
