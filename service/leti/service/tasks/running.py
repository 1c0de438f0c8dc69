"""Running a task that is held: in this process, or in a child of its own, whose death costs the task and no more."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, final

from leti.core.codec import from_json
from leti.core.errors import LeaseLost, LetiError, TaskFailed
from leti.service import logs
from leti.service.reporter import Telling
from leti.service.settings import Settings
from leti.service.store import Claimed, Store
from leti.service.tasks.kinds import KINDS
from leti.service.tasks.work import Work

log = logging.getLogger(__name__)

NICE: Final = 10
"""How far a child stands back behind others on the same machine, the web process among them."""

BEAT_S: Final = 1.0
"""Seconds between heartbeats, or a third of a lease where that is less; a cancelled task ends as soon."""

END_S: Final = 10.0
"""Seconds that the process of a task that has ended gets to end as well."""

LOST_EXIT: Final = 3
"""Exit code of a child whose task was lost."""


def run_task(store: Store, settings: Settings, claimed: Claimed) -> None:
    """Run a task to its end: a report, or an error. Raises :class:`LeaseLost` where it was lost meanwhile."""
    kind = KINDS[claimed.kind]
    reporter = Telling(store, claimed.hold)
    try:
        with reporter.listening():
            request = from_json(kind.request, claimed.request)
            report = kind.run(Work(store, settings, claimed.created_by), request, reporter)
        reporter.flush()
        store.tasks.finish(claimed.hold, report)
    except LeaseLost:
        raise
    except LetiError as error:
        _fail(store, reporter, claimed, error)
    except Exception:
        log.exception("task %d failed", claimed.hold.task_id)
        _fail(store, reporter, claimed, LetiError("something went wrong in the worker", remedy="see the worker's log"))


def _fail(store: Store, reporter: Telling, claimed: Claimed, error: LetiError) -> None:
    reporter.flush()
    store.tasks.fail(claimed.hold, error)


class TaskProcess(Protocol):
    """A process that runs one task, here or elsewhere; a process of :mod:`multiprocessing` is one."""

    @property
    def exitcode(self) -> int | None:
        """Return how it ended, ``None`` while it has not; below 0 stands the signal that ended it."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, or so many seconds."""
        ...

    def is_alive(self) -> bool:
        """Return whether it runs."""
        ...

    def kill(self) -> None:
        """End it without ceremony."""
        ...


Launcher = Callable[[Settings, Claimed], TaskProcess]
"""Makes the process of a task."""


def spawn(settings: Settings, claimed: Claimed) -> TaskProcess:
    """Return a process of this machine: started afresh, as a fork would inherit the locks of other threads."""
    return multiprocessing.get_context("spawn").Process(
        target=_run_as_child, args=(settings, claimed), name=f"leti-task-{claimed.hold.task_id}"
    )


@final
class Child:
    """A task in a process of its own, watched by the worker that holds it."""

    def __init__(self, store: Store, settings: Settings, claimed: Claimed, process: TaskProcess) -> None:
        self._store = store
        self._settings = settings
        self._hold = claimed.hold
        self._process = process

    def run(self, stop: threading.Event) -> None:
        """Run the task and keep its hold until it has ended, was lost, took too long, or the worker is to stop."""
        self._process.start()
        try:
            self._watch(stop)
        finally:
            if self._process.is_alive():
                self._process.kill()
            self._process.join()

    def _watch(self, stop: threading.Event) -> None:
        beat_s = min(BEAT_S, self._settings.lease_s / 3)
        deadline = time.monotonic() + self._settings.task_timeout_s
        given_up: float | None = None
        while True:
            self._process.join(beat_s if given_up is None else min(beat_s, 0.2))
            if self._process.exitcode is not None:
                self._ended(self._process.exitcode)
                return
            if not self._store.tasks.renew(self._hold):
                if self._store.tasks.get(self._hold.task_id).state in ("done", "failed"):
                    self._process.join(END_S)  # it has just ended, and its process is about to
                else:
                    log.warning("task %d was lost: it is cancelled, or another worker's", self._hold.task_id)
                return
            now = time.monotonic()
            if now > deadline:
                self._overdue()
                return
            if stop.is_set():
                given_up = given_up or now + self._settings.stop_s
                if now > given_up:
                    self._process.kill()
                    self._process.join()
                    self._store.tasks.give_back(self._hold, "the worker is to stop")
                    return

    def _ended(self, code: int) -> None:
        """Count what ended without a word as a death; of what has ended in order, the store keeps how."""
        if code not in (0, LOST_EXIT):
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            self._store.tasks.died(self._hold, f"its process ended by {how}")

    def _overdue(self) -> None:
        limit_s = self._settings.task_timeout_s
        self._process.kill()
        self._process.join()
        with contextlib.suppress(LeaseLost):
            self._store.tasks.fail(
                self._hold,
                TaskFailed(
                    f"did not end within {limit_s:g} s", remedy="ask for less, or raise task_timeout_s", limit_s=limit_s
                ),
            )


def run_alone(settings: Settings, claimed: Claimed) -> int:
    """Run a task as all that this process does; return its exit code."""
    logs.configure(settings)
    store = Store.open(settings)
    try:
        run_task(store, settings, claimed)
    except LeaseLost:
        return LOST_EXIT
    finally:
        store.close()
    return 0


def _run_as_child(settings: Settings, claimed: Claimed) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the worker too, which decides
    threading.Thread(target=_end_with_worker, daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(NICE)
    code = run_alone(settings, claimed)
    if code:
        os._exit(code)


def _end_with_worker() -> None:
    """End at once when the worker is gone, however that came about: another will do the task anew."""
    worker = multiprocessing.parent_process()
    if worker is not None:
        worker.join()
        os._exit(LOST_EXIT)
