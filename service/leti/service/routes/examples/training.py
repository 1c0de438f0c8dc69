"""Examples of trainings and predictors."""

from __future__ import annotations

from typing import Any, Final

from leti.core.prediction import Metrics
from leti.core.training import (
    Evaluation,
    EvaluationReport,
    EvaluationRequest,
    HoldoutPoint,
    PredictorInfo,
    PredictorPage,
    Promotion,
    PromotionPage,
    TrainingReport,
    TrainingRequest,
)
from leti.service.routes.examples.values import AGREEMENT, AT, FINGERPRINT, PLATFORM_ID, SHA256

METRICS: Final = Metrics(113, 37, 0.35, 0.86, 0.97, 0.015, 0.021, 0.99, 0.99, 0.93, 0.9, 0.92, 1.8, 41.0)
PREDICTOR: Final = PredictorInfo(2, "xgboost", PLATFORM_ID, 1, 1, True, SHA256, METRICS, 0.017, AT)

PROMOTION: Final = Promotion(
    3, PLATFORM_ID, 2, "xgboost", 1, AT, "auto", "retrained", "the new xgboost serves: 1.5 % against 1.9 %"
)

EXAMPLES: Final[dict[type, Any]] = {
    TrainingRequest: TrainingRequest(PLATFORM_ID),
    TrainingReport: TrainingReport(1, PLATFORM_ID, 1, (PREDICTOR,), AGREEMENT),
    PredictorInfo: PREDICTOR,
    HoldoutPoint: HoldoutPoint(FINGERPRINT, "nasbench101", 0.705, 0.712, 0.68, 0.745),
    PredictorPage: PredictorPage((PREDICTOR,), None),
    PromotionPage: PromotionPage((PROMOTION,), None),
    EvaluationRequest: EvaluationRequest(PLATFORM_ID),
    EvaluationReport: EvaluationReport(PLATFORM_ID, 1, (Evaluation(PREDICTOR, METRICS),), AGREEMENT),
}
