"""Housekeeping: what workers do by themselves now and then, so that the database keeps what is needed and no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from leti.service.settings import Settings
from leti.service.store import Store

log = logging.getLogger(__name__)

_SWEEPS: Final[Mapping[str, Callable[[Store, Settings], Iterator[int]]]] = {
    "tasks": lambda store, settings: store.sweeper.tasks(days=settings.keep_tasks_days),
    "predictions": lambda store, settings: store.sweeper.predictions(most=settings.keep_predictions),
    "workers": lambda store, settings: store.sweeper.workers(),
}
"""What goes, by its name."""


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
