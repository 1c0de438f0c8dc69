"""The worker: claims tasks one after the other and has each done; between them it looks what is due by itself."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final

from leti.core.errors import LeaseLost, StorageError
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.tasks.kinds import ALONE, KINDS
from leti.service.tasks.retraining import queue_due
from leti.service.tasks.running import Child, Launcher, run_task, spawn

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""Seconds between looks into an empty queue."""

LOOK_S: Final = 30.0
"""Seconds between looks for platforms that have outgrown their predictors."""

AGAIN_S: Final = 5.0
"""Seconds until a worker tries again whose database did not answer."""


@final
class Worker:
    """Does tasks of a store, ``processes`` at a time, each in a process of its own, which ``launch`` makes."""

    def __init__(
        self, store: Store, settings: Settings, *, processes: int = 1, name: str = "", launch: Launcher = spawn
    ) -> None:
        self._store = store
        self._settings = settings
        self._processes = processes
        self._launch = launch
        self.name: Final = name or f"{socket.gethostname()}:{os.getpid()}"

    def run(self, stop: threading.Event, *, until_idle: bool = False) -> None:
        """Do tasks until ``stop`` is set, or until none is left to begin.

        Told to stop, it gives a task that is under way ``stop_s`` seconds to end, then gives it back.
        """
        with ThreadPoolExecutor(self._processes, thread_name_prefix="leti-worker") as pool:
            slots = [pool.submit(self._work, stop, until_idle, number) for number in range(self._processes)]
            try:
                for slot in slots:
                    slot.result()
            finally:
                stop.set()  # where one slot ends by an error, so do the others

    def _work(self, stop: threading.Event, until_idle: bool, number: int) -> None:
        name = self.name if self._processes == 1 else f"{self.name}/{number + 1}"
        looked_at = -LOOK_S
        while not stop.is_set():
            try:
                claimed = self._store.tasks.claim(name, tuple(KINDS), alone=ALONE)
                if claimed is not None:
                    log.info("task %d, %s", claimed.hold.task_id, claimed.kind)
                    Child(self._store, self._settings, claimed, self._launch(self._settings, claimed)).run(stop)
                    continue
                if number == 0 and time.monotonic() - looked_at >= LOOK_S:
                    looked_at = time.monotonic()
                    if queue_due(self._store, self._settings):
                        continue
            except StorageError as error:  # what is under way is lost after its lease; the queue is not
                log.error("%s", error)
                stop.wait(AGAIN_S)
                continue
            if until_idle:
                return
            stop.wait(POLL_S)


def run_tasks(store: Store, settings: Settings, *, name: str = "inline") -> int:
    """Do every task that can begin in this very process, one after the other; return how many there were."""
    count = 0
    while (claimed := store.tasks.claim(name, tuple(KINDS), alone=ALONE)) is not None:
        count += 1
        try:
            run_task(store, settings, claimed)
        except LeaseLost as error:
            log.warning("%s", error)
    return count
