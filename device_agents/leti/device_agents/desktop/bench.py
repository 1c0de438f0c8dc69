"""This machine with a backend on it."""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import metadata
from typing import Final, final

from typing_extensions import override

from leti.core.device import ModelPrecision, Precision
from leti.core.errors import MeasurementFailed
from leti.core.measurement import Recipe
from leti.device_agents.backend import Session
from leti.device_agents.backends import create
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted
from leti.device_agents.desktop.host import Monitor, desktop_platform, scheduled
from leti.device_agents.timing import Clocked, Protocol, measure

DEFAULT_PROTOCOL: Final = Protocol()


@final
class DesktopBench(Bench):
    """This machine with the backend that is registered as ``backend``."""

    def __init__(
        self,
        backend: str,
        *,
        delegate: str = "",
        threads: int = 1,
        precision: Precision = "fp32",
        model_precision: ModelPrecision = "float32",
        name: str = "",
        pin: bool = True,
        realtime: bool = False,
        protocol: Protocol = DEFAULT_PROTOCOL,
        order: random.Random | None = None,
    ) -> None:
        self._backend = create(backend, threads=threads)
        self.model_format = self._backend.model_format
        self.platform = desktop_platform(self._backend, name=name, pin=pin, model_precision=model_precision)
        self._protocol = protocol
        self._realtime = realtime
        self._order = order or random.Random()  # noqa: S311
        self._monitor = Monitor()
        self._agent_version = metadata.version("leti")
        self._effort: Counter[str] = Counter()

    @override
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        outcomes: dict[int, Outcome] = {}
        sessions: dict[int, Session] = {}
        with ExitStack() as stack:
            realtime = stack.enter_context(scheduled(self.platform.affinity, realtime=self._realtime))
            pace = self._backend.load(reference)
            stack.callback(pace.close)
            for i, each in enumerate(wanted):
                try:
                    sessions[i] = self._backend.load(each.model)
                    stack.callback(sessions[i].close)
                except MeasurementFailed as error:
                    outcomes[i] = error
            before, started_at = self._monitor.conditions(), datetime.now(UTC).isoformat(timespec="seconds")
            timings = measure(
                [Clocked(session, time.perf_counter_ns) for session in sessions.values()],
                Clocked(pace, time.perf_counter_ns),
                self._protocol,
                order=self._order,
                keep_going=keep_going,
            )
            after = self._monitor.conditions()
        if timings is None:
            return None
        for (i, session), timing in zip(sessions.items(), timings.items, strict=True):
            recipe = Recipe(
                agent_version=self._agent_version,
                runtime_version=self._backend.runtime_version,
                model_sha256=hashlib.sha256(wanted[i].model).hexdigest(),
                protocol=(*self._protocol.pairs(), ("realtime", float(realtime))),
                before=before,
                after=after,
                measured_at=started_at,
            )
            outcomes[i] = timing.failure or Finding(
                timing.passes, timing.noisy, recipe, "invoke", session.init_ms, session.first_inference_ms
            )
        return tuple(outcomes[i] for i in range(len(wanted)))

    @override
    def effort(self) -> Mapping[str, float]:
        return dict(self._effort)

    @override
    def close(self) -> None:
        pass
