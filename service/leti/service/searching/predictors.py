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


def find_candidates(store: Store, platform_id: str, predictor_id: int | None) -> list[PredictorInfo]:
    """Return the predictor that is named, else the active one and the newest of each other kind, the best first.

    Raises what :func:`find_predictor` raises.
    """
    if predictor_id is not None:
        return [find_predictor(store, platform_id, predictor_id)]
    newest = {info.kind: info for info in store.predictors.list(platform_id)}
    active = store.predictors.active(platform_id)
    others = sorted(newest.values(), key=lambda info: info.cross_validation_mdape)
    found = [*([active] if active else []), *(info for info in others if active is None or info.id != active.id)]
    if not found:
        raise NotFound(
            f"no predictor of {platform_id} is trained",
            field="platform_id",
            remedy="train one: POST /v1/predictors, or leti train",
        )
    return found
