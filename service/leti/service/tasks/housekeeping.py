"""Housekeeping: what workers do by themselves now and then, so that what is needed is kept and no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from leti.core.errors import ArtifactError
from leti.service.artifacts import LEFT_BEHIND_S, ArtifactStore, Kind
from leti.service.datasets.intake import IMPORT_DATASET
from leti.service.settings import Settings
from leti.service.store import Store

log = logging.getLogger(__name__)


def _retire(store: Store, settings: Settings) -> Iterator[int]:
    """Retire predictors that are beyond the number kept; their files are among those that go next."""
    for platform_id in store.sweeper.platforms():
        while count := store.predictors.retire(platform_id, keep=settings.keep_predictors):
            yield count


def _delete_files(store: Store, settings: Settings) -> Iterator[int]:
    """Delete files that nothing in the database speaks of, and that nobody may be about to speak of."""
    artifacts = ArtifactStore.open(settings)
    for kind, needed in _NEEDED.items():
        there = artifacts.list(kind)
        wanted = needed(store) if there else frozenset()  # read after what is there
        for stored in there:
            if stored.artifact.sha256 in wanted:
                continue
            try:
                if artifacts.age_s(stored.artifact) < LEFT_BEHIND_S:  # it is written before a row speaks of it
                    continue
            except ArtifactError:  # another worker has swept it
                continue
            artifacts.delete(stored.artifact)
            yield 1


_NEEDED: Final[Mapping[Kind, Callable[[Store], frozenset[str]]]] = {
    "predictors": lambda store: store.predictors.files_needed(),
    "uploads": lambda store: store.sweeper.uploads_awaited(),
    "datasets": lambda store: store.sweeper.imports_awaited(IMPORT_DATASET),
}
"""Which files are needed, by their SHA-256. Model files are not looked through: each is some network's."""

_SWEEPS: Final[Mapping[str, Callable[[Store, Settings], Iterator[int]]]] = {
    "tasks": lambda store, settings: store.sweeper.tasks(days=settings.keep_tasks_days),
    "uploads": lambda store, settings: store.sweeper.uploads(days=settings.keep_tasks_days),
    "failures": lambda store, settings: store.sweeper.failures(days=settings.keep_failures_days),
    "predictions": lambda store, settings: store.sweeper.predictions(most=settings.keep_predictions),
    "workers": lambda store, settings: store.sweeper.workers(),
    "predictors": _retire,
    "files": _delete_files,
}
"""What goes, by its name, in this order."""


def sweep(store: Store, settings: Settings, stop: threading.Event) -> dict[str, int]:
    """Delete what has served its time, until nothing is left to go or ``stop`` is set; return how much of each went."""
    gone = dict.fromkeys(_SWEEPS, 0)
    for name, rows in _SWEEPS.items():
        for count in rows(store, settings):
            gone[name] += count
            if stop.is_set():
                break
        if gone[name]:
            log.info("%d %s have served their time", gone[name], name)
    return gone
