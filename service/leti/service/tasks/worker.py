"""The worker: claims tasks one after the other and has each done; meanwhile it looks what is due by itself."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from importlib import metadata
from typing import Final, final

from leti.core.errors import LeaseLost, LetiError, StorageError
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.tasks.housekeeping import sweep
from leti.service.tasks.kinds import ALONE, KINDS
from leti.service.tasks.retraining import queue_due
from leti.service.tasks.running import Child, Launcher, run_task, spawn

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""Seconds between looks into an empty queue."""

LOOK_S: Final = 30.0
"""Seconds between signs of life, and looks for platforms that have outgrown their predictors."""

SWEEP_S: Final = 600.0
"""Seconds between sweeps."""

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
        self._swept_at = -math.inf
        self._started_at = time.time()

    def run(self, stop: threading.Event, *, until_idle: bool = False) -> None:
        """Do tasks until ``stop`` is set, or until none is left to begin.

        Told to stop, it gives a task that is under way ``stop_s`` seconds to end, then gives it back.
        """
        with ThreadPoolExecutor(self._processes, thread_name_prefix="leti-worker") as pool:
            self._look_after(stop)
            slots = [pool.submit(self._work, stop, until_idle, number) for number in range(self._processes)]
            try:
                while True:
                    ended, working = wait(slots, timeout=LOOK_S, return_when=FIRST_EXCEPTION)
                    for slot in ended:
                        slot.result()
                    if not working:
                        break
                    self._look_after(stop)
            finally:
                stop.set()  # where one slot ends by an error, so do the others
        with contextlib.suppress(LetiError):
            self._store.workers.ended(self.name)

    def _work(self, stop: threading.Event, until_idle: bool, number: int) -> None:
        name = self.name if self._processes == 1 else f"{self.name}/{number + 1}"
        while not stop.is_set():
            try:
                claimed = self._store.tasks.claim(name, tuple(KINDS), alone=ALONE)
                if claimed is not None:
                    log.info("task %d, %s", claimed.hold.task_id, claimed.kind)
                    Child(self._store, self._settings, claimed, self._launch(self._settings, claimed)).run(stop)
                    continue
            except StorageError as error:  # what is under way is lost after its lease; the queue is not
                log.error("%s", error)
                stop.wait(AGAIN_S)
                continue
            if until_idle:
                return
            stop.wait(POLL_S)

    def _look_after(self, stop: threading.Event) -> None:
        """Say that it is there, begin what is due by itself, and sweep now and then."""
        try:
            self._store.workers.seen(self.name, metadata.version("leti"), started_at=self._started_at)
            queue_due(self._store, self._settings)
            if time.monotonic() - self._swept_at >= SWEEP_S:
                sweep(self._store, self._settings, stop)
                self._swept_at = time.monotonic()
        except StorageError as error:
            log.error("%s", error)


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
