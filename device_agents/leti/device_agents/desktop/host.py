"""This machine: what it is, what state it is in, and on which cores the measuring thread runs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from leti.core.device import Device, ModelPrecision, Platform, Precision
from leti.core.extras import needs
from leti.core.measurement import Conditions

with needs("agent"):
    import psutil

CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
"""Temperature sensors of processors, the most telling first."""


class Executes(Protocol):
    """What a platform says of a runtime: a :class:`~leti.device_agents.backend.Backend`, or what is known of one."""

    @property
    def runtime(self) -> str:
        """Return the runtime's name."""

    @property
    def runtime_version(self) -> str:
        """Return its version."""

    @property
    def delegate(self) -> str:
        """Return the delegate or provider that it executes with."""

    @property
    def threads(self) -> int:
        """Return the number of its threads."""

    @property
    def precision(self) -> Precision:
        """Return what it may compute in."""


def desktop_device(name: str = "") -> Device:
    """Return this machine as a device; ``name`` defaults to the host's."""
    return Device(
        name=name or platform.node() or "localhost",
        kind="desktop",
        soc=_processor()[:200],
        cores=os.cpu_count() or 1,
        os=f"{platform.system()} {platform.machine()}".strip(),
    )


def desktop_platform(
    backend: Executes, *, name: str = "", pin: bool = True, model_precision: ModelPrecision = "float32"
) -> Platform:
    """Return this machine with ``backend`` on it, pinned to :func:`measuring_cores` unless ``pin`` is false."""
    return Platform(
        device=desktop_device(name),
        runtime=backend.runtime,
        runtime_version=backend.runtime_version,
        delegate=backend.delegate,
        threads=backend.threads,
        affinity=measuring_cores(backend.threads) if pin else (),
        precision=backend.precision,
        model_precision=model_precision,
    )


def measuring_cores(threads: int = 1) -> tuple[int, ...]:
    """Return the cores to pin ``threads`` threads to, empty where that cannot be done or there are too few.

    They are the last cores that this process may use: the first ones serve most interrupts.
    """
    allowed = sorted(_affinity())
    return tuple(allowed[-threads:]) if threads <= len(allowed) else ()


@contextmanager
def scheduled(cores: tuple[int, ...], *, realtime: bool = False) -> Iterator[bool]:
    """Keep the calling thread, and threads that it starts, on ``cores`` inside the block; empty leaves it free.

    ``realtime`` asks for first-in-first-out scheduling above other processes. Yields whether that was granted: the
    system may refuse, and the measurement goes on without it.
    """
    before = _affinity()
    if cores and before:
        os.sched_setaffinity(0, cores)
    granted = realtime and _set_realtime()
    try:
        yield granted
    finally:
        if granted:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        if cores and before:
            os.sched_setaffinity(0, before)


class Monitor:
    """Reads the state of this machine; the share of stolen time is that since the reading before."""

    def __init__(self) -> None:
        self._ticks = _ticks()

    def conditions(self) -> Conditions:
        """Return load, steal, frequency and temperature, each ``None`` where the system does not tell."""
        return Conditions(load=_load(), steal=self._steal(), frequency_mhz=_frequency(), temperature_c=_temperature())

    def _steal(self) -> float | None:
        before, self._ticks = self._ticks, _ticks()
        if before is None or self._ticks is None:
            return None
        stolen, total = self._ticks[0] - before[0], self._ticks[1] - before[1]
        return max(0.0, min(1.0, stolen / total)) if total > 0 else 0.0


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else set()


def _set_realtime() -> bool:
    if sys.platform != "linux":
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    return True


def _processor() -> str:
    """Return the processor's name: ``model name`` or ``Model`` of Linux, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    for name in ("model name", "Model", "Hardware"):
        if fields.get(name):
            return fields[name]
    return platform.processor() or platform.machine() or "unknown"


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _ticks() -> tuple[int, int] | None:
    """Return the processors' stolen ticks and all ticks since start (``/proc/stat``, see proc(5))."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        # user nice system idle iowait irq softirq steal; guest time is in user's already.
        counts = [int(field) for field in first[1:9]]
    except (OSError, ValueError):
        return None
    return (counts[7], sum(counts)) if len(counts) == 8 else None


def _frequency() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError, RuntimeError):
        return None
    return float(frequency.current) if frequency and frequency.current > 0 else None


def _temperature() -> float | None:
    read = getattr(psutil, "sensors_temperatures", None)
    try:
        sensors = read() if read else {}
    except (OSError, RuntimeError):
        return None
    for name in CPU_SENSORS:
        if sensors.get(name):
            return float(max(reading.current for reading in sensors[name]))
    return None
