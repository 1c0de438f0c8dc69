"""There is always a child to ask: started when it is needed, kept, and replaced when it has died or grown old."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import Final, final

from leti.core.errors import DeviceFault
from leti.device_agents.bench import KeepGoing
from leti.device_agents.desktop.isolation import Child, Death, Limits
from leti.device_agents.desktop.messages import Answer, Hello, Report, Request, Setup

log = logging.getLogger(__name__)

MOST_BATCHES: Final = 200
MOST_GROWTH_BYTES: Final = 256 * 1024 * 1024
"""A child is replaced after so many batches, or when it keeps so much more memory than after its first."""


@final
class Keeper:
    """Keeps a child made by ``setup`` within ``limits``; adds the seconds that starting takes to ``effort_s``."""

    def __init__(self, setup: Setup, limits: Limits, folder: Path, effort_s: defaultdict[str, float]) -> None:
        self._setup = setup
        self._limits = limits
        self._folder = folder
        self._effort_s = effort_s
        self._child: Child | None = None
        self._started = 0
        self._batches = 0
        self._first_bytes: int | None = None

    def start(self, keep_going: KeepGoing) -> Hello | None:
        """Start a child; return what it says of its backend, ``None`` if ``keep_going`` said no.

        Raises what keeps the backend from being created, and :class:`~leti.core.errors.DeviceFault` where the child
        dies over it.
        """
        self.drop()
        start_s = time.monotonic()
        self._started += 1
        self._batches, self._first_bytes = 0, None
        self._child = Child(self._setup, self._limits, self._folder / f"progress-{self._started}")
        hello: Hello | Death | None = None
        try:
            hello = self._child.hello(keep_going)
        finally:
            self._effort_s["start"] += time.monotonic() - start_s
            if not isinstance(hello, Hello):
                self.drop()
        if isinstance(hello, Death):
            said = f"the backend {self._setup.backend} cannot be used: {hello.message}"
            raise DeviceFault(said, field="backend", failure="tool-missing")
        return hello

    def ask(self, request: Request, keep_going: KeepGoing) -> Answer | Death | None:
        """Return what a child answers, how it died over it, or ``None`` if ``keep_going`` said no."""
        if self._child is None or not self._child.alive:
            if self._child is not None:
                log.warning("a measuring process died between batches; another one is started")
            if self.start(keep_going) is None:
                return None
        assert self._child is not None  # noqa: S101 - just started
        try:
            answer = self._child.ask(request, keep_going)
        except BaseException:
            self.drop()  # or its answer would be taken for that to the next request
            raise
        if isinstance(answer, Death) or not self._child.alive:
            self.drop()
        elif isinstance(answer, Answer) and answer.report is not None and self._has_aged(answer.report):
            log.info("the measuring process is replaced after %d batches", self._batches)
            self.drop()
        return answer

    def drop(self) -> None:
        """End the child, if there is one: the next request has a fresh one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _has_aged(self, report: Report) -> bool:
        self._batches += 1
        if report.resident_bytes is None:
            return self._batches >= MOST_BATCHES
        if self._first_bytes is None:
            self._first_bytes = report.resident_bytes
        return self._batches >= MOST_BATCHES or report.resident_bytes - self._first_bytes > MOST_GROWTH_BYTES
