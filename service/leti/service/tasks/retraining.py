"""Retraining: a platform of which much more is known than its predictors were trained on is trained anew by itself."""

from __future__ import annotations

import logging

from leti.core.tasks import Task
from leti.core.training import PredictorInfo, TrainingRequest
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.tasks.training import NOBODY

log = logging.getLogger(__name__)


def queue_due(store: Store, settings: Settings) -> tuple[Task, ...]:
    """Queue a training of each platform that has outgrown its newest dataset; return those that were queued.

    It has when ``retrain_growth`` times as many networks are measured, and ``retrain_minimum`` at least. One platform
    has no second training while one waits or runs, nor after one by itself that left no dataset: what is amiss there
    is for somebody to see to.
    """
    if settings.retrain_growth <= 1:
        return ()
    queued = []
    for active in _serving(store):
        if _is_due(store, settings, active):
            request = TrainingRequest(active.platform_id)
            task = store.tasks.add_if_none_waits("train", active.platform_id, request, by=NOBODY)
            if task is not None:
                log.info("task %d retrains %s", task.id, active.platform_id)
                queued.append(task)
    return tuple(queued)


def _serving(store: Store) -> tuple[PredictorInfo, ...]:
    return tuple(info for info in store.predictors.list(None) if info.active)


def _is_due(store: Store, settings: Settings, active: PredictorInfo) -> bool:
    newest = store.datasets.newest(active.platform_id)
    if newest is None:
        return False
    known = newest.networks_train + newest.networks_holdout
    measured = store.platforms.get(active.platform_id).networks_measured
    if measured < max(settings.retrain_growth * known, settings.retrain_minimum):
        return False
    last = store.tasks.newest("train", active.platform_id, by=NOBODY)
    return last is None or last.created_at <= newest.created_at
