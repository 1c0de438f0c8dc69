"""Readiness: whether this process can serve now, and if not, why not."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Final, final

from leti.core.errors import LetiError
from leti.service.settings import Settings
from leti.service.store import Store

FRESH_S: Final = 2.0
"""Seconds for which an answer is good: whoever asks more often costs nothing."""


@final
class Readiness:
    """Checks the database, its schema and the folder of artifacts; ``stopping`` is set once the process is to end."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.stopping: Final = threading.Event()
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._reasons: tuple[str, ...] = ()
        self._checked_at = -math.inf

    def reasons(self) -> tuple[str, ...]:
        """Return why this process is not ready, nothing where it is; they hold no address, path or name."""
        if self.stopping.is_set():
            return ("the service is stopping",)
        with self._lock:
            if time.monotonic() - self._checked_at > FRESH_S:
                self._reasons = tuple(self._check())
                self._checked_at = time.monotonic()
            return self._reasons

    def _check(self) -> Iterator[str]:
        try:
            schema = self._store.schema()
        except LetiError:
            yield "the database cannot be reached"
        else:
            if not schema.current:
                yield f"the schema is {schema.found or 'missing'}, this release needs {schema.needed}"
        try:
            with tempfile.TemporaryFile(dir=self._settings.home) as file:
                file.write(b"leti")
        except OSError:
            yield "artifacts cannot be written"
