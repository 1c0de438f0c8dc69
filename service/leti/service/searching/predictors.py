"""The predictors that searches ask for."""

from __future__ import annotations

from leti.core.errors import InvalidInput, NotFound
from leti.core.training import PredictorInfo
from leti.service.store import Store


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
    if info.platform_id != platform_id:
        raise InvalidInput(
            f"predictor {predictor_id} is for {info.platform_id}",
            field="predictor_id",
            remedy="name one of GET /v1/predictors?platform_id=…, or none for the active one",
        )
    return info
