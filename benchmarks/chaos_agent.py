"""An agent of the chaos benchmark, in a process of its own: the real one; its bench is fake or real.

``python chaos_agent.py NAME URL FOLDER SEED SKEW_S (fake|litert)``. Everything that it has put into its spool is then
written to a journal: what stands there and not in the database is lost.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from leti.client import Backoff, LatencyClient
from leti.core.device import Device, Platform
from leti.core.errors import DeviceFault, MeasurementFailed
from leti.core.farm import Result
from leti.core.measurement import Conditions, Pass, Recipe
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted
from leti.device_agents.spool import Spool
from leti.device_agents.timing import Protocol
from leti.device_agents.worker import Agent

FAKE_PLATFORM = Platform(Device("chaos", "desktop", "none", 1), runtime="fake", runtime_version="1")
BAD_MODELS = 0.02
FLAKY = 0.01


class FakeBench(Bench):
    """Measures by its own clock: a model's time and fate follow from its bytes; now and then the device is at fault."""

    model_format = "tflite"
    platform = FAKE_PLATFORM

    def __init__(self, seed: int, skew_s: float) -> None:
        self._chance = random.Random(seed)
        self._skew_s = skew_s

    @override
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        if self._chance.random() < FLAKY:
            raise DeviceFault("the fake device fell asleep", failure="link-lost", remedy="none: it is part of the game")
        outcomes: list[Outcome] = []
        for each in wanted:
            time.sleep(self._chance.uniform(0.005, 0.05))
            if not keep_going():
                return None
            outcomes.append(self._outcome(each.model))
        return tuple(outcomes)

    def _outcome(self, model: bytes) -> Outcome:
        digest = hashlib.sha256(model)
        fate = int.from_bytes(digest.digest()[:4], "big") / 2**32
        if fate < BAD_MODELS:
            return MeasurementFailed("the fake runtime cannot run it", field="model", failure="unsupported")
        base_ms = 1 + 10 * fate
        passes = tuple(
            Pass((base_ms * self._chance.uniform(1, 1.02),), (2.0 * self._chance.uniform(1, 1.02),)) for _ in range(4)
        )
        measured_at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + self._skew_s))
        recipe = Recipe("chaos", "1", digest.hexdigest(), before=Conditions(), measured_at=measured_at)
        return Finding(passes, False, recipe)

    @override
    def effort(self) -> Mapping[str, float]:
        return {}

    @override
    def close(self) -> None:
        pass


def main(name: str, url: str, folder: str, seed: str, skew_s: str, kind: str) -> None:
    """Work until killed."""
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    _keep_a_journal(home / "journal")
    bench: Bench
    if kind == "fake":
        bench = FakeBench(int(seed), float(skew_s))
    else:
        from leti.device_agents.desktop.bench import DesktopBench

        quick = Protocol(passes=4, retries=0, warmup_ms=20, pass_ms=3, reference_ms=2)
        bench = DesktopBench(kind, name="chaos", protocol=quick)
    with LatencyClient(url, timeout_s=20.0) as client:
        backoff = Backoff(first_s=0.1, most_s=1.0)
        agent = Agent(client, [bench], spool=home / "spool", name=name, poll_s=0.2, backoff=backoff)
        agent.run(threading.Event())


def _keep_a_journal(path: Path) -> None:
    put = Spool.put

    def journalled(spool: Spool, result: Result) -> Path:
        line = f"{result.job_id} {result.repeat} {result.lease_id} {'m' if result.measurement else 'f'}\n"
        found = put(spool, result)
        # After the spool: a process killed between the two has the result on disk, and nobody counts on the line.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return found

    Spool.put = journalled  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
