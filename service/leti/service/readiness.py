"""Readiness: whether this process can serve now, and if not, why not."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Final, final

from leti.core.errors import LetiError
from leti.service.artifacts import ArtifactStore
from leti.service.store import Store

FRESH_S: Final = 2.0
"""Seconds for which an answer is good: whoever asks more often costs nothing."""

WRITTEN_FRESH_S: Final = 30.0
"""Seconds until it is tried again whether artifacts can be written: an object store takes money for it."""


@final
class Readiness:
    """Checks the database, its schema and the artifacts; ``stopping`` is set once the process is to end."""

    def __init__(self, store: Store, artifacts: ArtifactStore) -> None:
        self.stopping: Final = threading.Event()
        self._store = store
        self._artifacts = artifacts
        self._lock = threading.Lock()
        self._reasons: tuple[str, ...] = ()
        self._checked_at = -math.inf
        self._written_at = -math.inf

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
        if time.monotonic() - self._written_at > WRITTEN_FRESH_S:
            try:
                try_writing(self._artifacts)
            except (LetiError, OSError):
                yield "artifacts cannot be written"
            else:
                self._written_at = time.monotonic()


def try_writing(artifacts: ArtifactStore) -> None:
    """Write a small artifact and take it away again; raise :class:`StorageError` or ``OSError`` where that fails."""
    artifacts.delete(artifacts.put(b"written to see whether that can be done", "uploads"))
