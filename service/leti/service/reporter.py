"""The reporter: through it a task says how far it is, and what it says is written to its log."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast, final, get_args

from typing_extensions import override

from leti.core.errors import LeaseLost, StorageError
from leti.core.tasks import LogLevel, TaskProgress
from leti.service.logs import redacted
from leti.service.store import Hold, NewLine, Store

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5
"""Seconds between what is written of one task."""

MOST_WAITING: Final = 1_000
"""Lines that wait to be written; a log keeps no more in all."""

_LEVELS: Final = frozenset(get_args(LogLevel))


class Reporter(ABC):
    """Hears how far a task is. ``hold`` is what its worker holds it by, ``None`` where it is nobody's task."""

    hold: Hold | None = None

    @abstractmethod
    def at(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Say what the task is at, and how many of its steps are done; 0 in all before that is known.

        Raises :class:`LeaseLost` where it is known that the task was cancelled, or is another worker's by now.
        """

    @abstractmethod
    def flush(self) -> None:
        """Write what was put off; raise :class:`LeaseLost` where the task is held no more."""


@final
class Silent(Reporter):
    """Tells nobody."""

    @override
    def at(self, stage: str, done: int = 0, total: int = 0) -> None:
        return

    @override
    def flush(self) -> None:
        return


@final
class Telling(Reporter):
    """Writes what it hears into the database, every :data:`EVERY_S` seconds while it is :meth:`listening`."""

    def __init__(self, store: Store, hold: Hold) -> None:
        self.hold = hold
        self._store = store
        self._lock = threading.Lock()
        self._progress = TaskProgress("")
        self._lines: list[NewLine] = []
        self._news = False
        self._lost: LeaseLost | None = None

    @override
    def at(self, stage: str, done: int = 0, total: int = 0) -> None:
        with self._lock:
            self._progress, self._news = TaskProgress(stage, done, total), True
            if self._lost is not None:
                raise self._lost

    @override
    def flush(self) -> None:
        with self._lock:
            if self._news:
                self._tell()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Write what is heard, and what LETI logs or warns of, for a block's length; :meth:`flush` writes the rest."""
        handler = _Handler(self)
        logger, before = logging.getLogger("leti"), logging.getLogger("leti").level
        warned = logging.getLogger("py.warnings")
        logger.addHandler(handler)
        warned.addHandler(handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
        over = threading.Event()
        telling = threading.Thread(target=self._tell_on, args=(over,), name="leti-reporter", daemon=True)
        telling.start()
        try:
            yield
        finally:
            over.set()
            telling.join()
            logger.setLevel(before)
            warned.removeHandler(handler)
            logger.removeHandler(handler)

    def hear(self, line: NewLine) -> None:
        """Put a line for the log by; it is written with what is said next."""
        with self._lock:
            if len(self._lines) < MOST_WAITING:
                self._lines.append(line)
                self._news = True

    def _tell_on(self, over: threading.Event) -> None:
        while not over.wait(EVERY_S):
            try:
                self.flush()
            except LeaseLost as error:
                self._lost = error
                return
            except StorageError:
                log.exception("the progress of a task could not be written")

    def _tell(self) -> None:
        assert self.hold is not None  # noqa: S101 - it is made with one
        lines, self._lines = self._lines, []
        self._store.tasks.report(self.hold, self._progress, lines)
        self._news = False


@final
class _Handler(logging.Handler):
    """Hands records of the log to a reporter."""

    def __init__(self, reporter: Telling) -> None:
        super().__init__(logging.INFO)
        self._reporter = reporter

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            name = record.levelname.lower()
            level = cast(LogLevel, name if name in _LEVELS else "error")
            self._reporter.hear(NewLine(record.created, level, redacted(record.getMessage())))
        except Exception:  # noqa: BLE001 - as logging's own handlers do: a faulty record ends no task
            self.handleError(record)
