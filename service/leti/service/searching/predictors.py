"""The predictors that searches ask for."""

from __future__ import annotations

from leti.core.errors import NotFound
from leti.core.training import PredictorInfo
from leti.service.store import Store
from leti.service.store.predictors import check_platform


def find_predictor(store: Store, platform_id: str, predictor_id: int | None) -> PredictorInfo:
    """Return the predictor of a platform that is named, or the active one where none is.

    Raises :class:`NotFound` where there is none, and :class:`InvalidInput` for one of another platform.
    """
    if predictor_id is None:
        active = store.predictors.active(platform_id)
        if active is None:
            raise NotFound(
                f"no predictor is active on {platform_id}",
                field="platform_id",
                remedy="train one: POST /v1/predictors, or leti train",
            )
        return active
    info = store.predictors.get(predictor_id)
    check_platform(info, platform_id)
    return info
