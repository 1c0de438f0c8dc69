"""Predictions, kept to be scored when their networks are measured; written a little later, many at once.

What a request is answered must not cost it a transaction of its own. A service that is killed loses what it predicted
in its last :data:`INTERVAL_S` seconds; one that is stopped loses nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, final

from leti.core.errors import LetiError
from leti.service.database import Database
from leti.service.tables import predictions

log = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
"""Seconds between writes."""

AT_ONCE: Final = 2_000
"""Predictions in one transaction: others who write wait no longer than for these."""

MAX_PENDING: Final = 100_000
"""Predictions that wait to be written; more are not kept while the database does not take them."""

MAX_REMEMBERED: Final = 200_000
"""Predictions that are known to be kept, so that a repeat is not written again."""

Column = Sequence[float]


@final
class PredictionStore:
    """Keeps predictions by predictor, fingerprint and coverage; the first answer stays."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: list[dict[str, Any]] = []
        self._kept: dict[tuple[int, float], set[str]] = {}
        self._remembered = 0
        self._writer: threading.Thread | None = None
        self._closing = threading.Event()

    def keep(
        self,
        predictor_id: int,
        coverage: float,
        fingerprints: Sequence[str],
        latency_ms: Column,
        low_ms: Column,
        high_ms: Column,
    ) -> None:
        """Keep predictions, columns of one length, from the next write on."""
        with self._lock:
            kept: Collection[str] = self._kept.get((predictor_id, coverage), ())
            new = [i for i, fingerprint in enumerate(fingerprints) if fingerprint not in kept]
            if not new:
                return
            if len(self._pending) + len(new) > MAX_PENDING:
                log.warning("%d predictions are not kept: %d wait to be written", len(new), len(self._pending))
                return
            now = self._clock()
            self._pending += [
                {
                    "predictor_id": predictor_id,
                    "fingerprint": fingerprints[i],
                    "coverage": coverage,
                    "latency_ms": latency_ms[i],
                    "low_ms": low_ms[i],
                    "high_ms": high_ms[i],
                    "created_at": now,
                }
                for i in new
            ]
            self._remember((predictor_id, coverage), [fingerprints[i] for i in new])
            if self._writer is None and not self._closing.is_set():
                self._writer = threading.Thread(target=self._write_on, name="leti-predictions", daemon=True)
                self._writer.start()

    def flush(self) -> None:
        """Write what waits; what the database refuses goes on waiting."""
        with self._writing:
            while True:
                with self._lock:
                    rows, self._pending = self._pending[:AT_ONCE], self._pending[AT_ONCE:]
                if not rows:
                    return
                try:
                    with self._database.writing() as connection:
                        self._database.insert_new(connection, predictions, rows)
                except LetiError:
                    with self._lock:
                        self._pending = rows + self._pending
                    raise

    def close(self) -> None:
        """Write what waits, for the last time."""
        self._closing.set()
        if self._writer is not None:
            self._writer.join()
        try:
            self.flush()
        except LetiError as error:
            log.warning("%d predictions are lost: %s", len(self._pending), error)

    def _remember(self, key: tuple[int, float], new: Sequence[str]) -> None:
        if self._remembered + len(new) > MAX_REMEMBERED:  # what is written twice is refused by its key
            self._kept, self._remembered = {}, 0
        self._kept.setdefault(key, set()).update(new)
        self._remembered += len(new)

    def _write_on(self) -> None:
        while not self._closing.wait(INTERVAL_S):
            try:
                self.flush()
            except LetiError as error:
                log.warning("predictions wait to be written: %s", error)
