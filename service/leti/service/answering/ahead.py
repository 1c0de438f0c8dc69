"""Ahead: the networks of a small search space are predicted before they are asked for, a few at a time.

A search that asks for one network after the other waits for each that was never seen, several times as long as for one
that was. A space like NAS-Bench-201's 15,625 is gone through in a minute or two, on a tenth of a core: from then on
each of its networks is known. It begins when somebody asks for the first of them.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Iterator
from typing import Final, NamedTuple, final

from leti.core.errors import LetiError
from leti.service.answering.reading import Named
from leti.service.answering.remembered import Predicted, RememberedPredictions
from leti.service.catalogue import Lowered, read_again
from leti.service.serving import LoadedPredictors

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Networks after which those who ask get their turn."""

SHARE: Final = 0.1
"""Of the time, at most."""

MOST_WAITING: Final = 16
"""Spaces that wait to be gone through, each in one config; others are predicted as they are asked for."""

MOST_SEEN: Final = 1_024
"""Spaces of which it is remembered that they need not be gone through again."""


class _Space(NamedTuple):
    """Networks of one space that are read alike, which a predictor is to be asked of."""

    sha256: str
    coverage: float
    like: Lowered


@final
class Ahead:
    """Predicts ahead, in a thread that is there while there is something to do. Nothing is done before :meth:`begin`.

    Spaces of up to ``most`` networks are gone through.
    """

    def __init__(self, loaded: LoadedPredictors, remembered: RememberedPredictions, most: int) -> None:
        self._loaded = loaded
        self._remembered = remembered
        self._most = most
        self._lock = threading.Lock()
        self._begun = False
        self._closing = threading.Event()
        self._seen: set[tuple[str, float, object]] = set()
        self._waiting: list[_Space] = []
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Take what is asked for from now on as a sign of what will be."""
        self._begun = self._most > 0

    def asked(self, sha256: str, coverage: float, network: Named) -> None:
        """Take note that a predictor was asked for a network that it had not been asked for."""
        if not self._begun or not isinstance(network, Lowered) or not isinstance(network.given, tuple):
            return
        key = sha256, coverage, network.reading
        if key in self._seen or math.prod(network.reading.space.positions) > self._most:
            return
        with self._lock:
            if key in self._seen or len(self._waiting) >= MOST_WAITING or self._closing.is_set():
                return
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()
            self._seen.add(key)
            self._waiting.append(_Space(sha256, coverage, network))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leti-ahead", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop, within some networks' time."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closing.is_set():
                    return
                if not self._waiting:
                    self._thread = None
                    return
                space = self._waiting.pop(0)
            try:
                self._go_through(space)
            except Exception:  # whatever a predictor trips over, other spaces are gone through
                log.exception("cannot predict ahead", extra={"space": space.like.reading.space.name})

    def _go_through(self, space: _Space) -> None:
        started, count = time.perf_counter(), 0
        for some in self._unknown(space):
            began = time.perf_counter()
            if space.sha256 not in self._loaded:
                break  # others are asked now
            said = self._loaded.get(space.sha256).predict([one.graph for one in some], coverage=space.coverage)
            self._remembered.put_all(space.sha256, space.coverage, zip(some, Predicted.each(said), strict=True))
            count += len(some)
            if self._closing.wait((time.perf_counter() - began) * (1 / SHARE - 1)):
                break
        took_s = round(time.perf_counter() - started, 1)
        name = space.like.reading.space.name
        log.info("predicted ahead", extra={"space": name, "networks": count, "duration_s": took_s})

    def _unknown(self, space: _Space) -> Iterator[list[Lowered]]:
        """Yield the networks that nobody asked for, some at a time."""
        found: list[Lowered] = []
        for choices in itertools.product(*map(range, space.like.reading.space.positions)):
            if self._remembered.knows(space.sha256, space.coverage, space.like, choices):
                continue
            try:
                found.append(read_again(space.like, choices))
            except LetiError:
                continue  # is no network of the space
            if len(found) == AT_ONCE:
                yield found
                found = []
        if found:
            yield found
