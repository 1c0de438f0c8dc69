"""What the tests of this machine as a bench have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest
from bench_suite import Told

from leti.core.errors import DeviceFault, MeasurementFailed
from leti.device_agents.bench import Bench, Outcome, Wanted
from leti.device_agents.timing import Protocol

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells, and holds processes to it")

QUICK = Protocol(passes=3, retries=0)
ENDLESS = Protocol(passes=100_000, retries=0)

Make = Callable[..., Bench]
"""Makes benches with the backend of mischief: see the fixture."""


def run(bench: Bench, *models: str, reference: str = "ok 200", profile: bool = False, told: Told | None = None):  # type: ignore[no-untyped-def]
    told = told or Told()
    wanted = [Wanted(model.encode(), profile) for model in models]
    return bench.measure(wanted, reference.encode(), keep_going=told.keep_going, waiting=told.reasons.append)


def is_failure(outcome: Outcome, kind: str, *words: str) -> bool:
    assert isinstance(outcome, MeasurementFailed), outcome
    assert not isinstance(outcome, DeviceFault)
    assert outcome.details["failure"] == kind, outcome
    for word in words:
        assert word in str(outcome)
    return True


def child(bench: Bench) -> int:
    return bench._keeper._child._process.pid  # type: ignore[attr-defined,no-any-return]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has died and waits to be noticed does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_end(pid: int) -> None:
    """Return once a process runs no more: one that was killed ends when the kernel comes to it."""
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


def kill_child(bench: Bench) -> None:
    process = bench._keeper._child._process  # type: ignore[attr-defined]
    process.kill()
    process.wait(60)
