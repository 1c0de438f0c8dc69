"""This machine: what it is, what state it is in, and on which cores the measuring thread runs."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, final

from leti.core.device import Device, ModelPrecision, Platform, Precision
from leti.core.errors import DeviceFault
from leti.core.extras import needs
from leti.core.measurement import Conditions
from leti.device_agents.bench import KeepGoing, Waiting

with needs("agent"):
    import psutil

CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
"""Temperature sensors of processors, the most telling first."""

CPUS: Final = Path("/sys/devices/system/cpu")

TURBO: Final = {"intel_no_turbo": "intel_pstate/no_turbo", "cpu_boost": "cpufreq/boost", "smt": "smt/control"}
"""Where Linux says whether the clock may rise above the nominal one, and whether cores share their parts."""


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


def other_cores(cores: tuple[int, ...]) -> tuple[int, ...]:
    """Return the cores that this process may use beside ``cores``, empty where there are none or none are named."""
    return tuple(sorted(_affinity() - set(cores))) if cores else ()


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
    """Reads the state of this machine; the share of stolen time is that since the reading before.

    Frequencies are those of ``cores``, the highest of them, or the machine's where it tells no more.
    """

    def __init__(self, cores: tuple[int, ...] = ()) -> None:
        self._cores = cores
        self._ticks = _ticks()

    def conditions(self) -> Conditions:
        """Return load, steal, frequencies and temperature, each ``None`` where the system does not tell."""
        frequency_mhz = _cores_mhz(self._cores, "scaling_cur_freq")
        return Conditions(
            load=_load(),
            steal=self._steal(),
            frequency_mhz=_frequency() if frequency_mhz is None else frequency_mhz,
            temperature_c=temperature_c(),
            frequency_cap_mhz=_cores_mhz(self._cores, "scaling_max_freq"),
        )

    def _steal(self) -> float | None:
        before, self._ticks = self._ticks, _ticks()
        if before is None or self._ticks is None:
            return None
        stolen, total = self._ticks[0] - before[0], self._ticks[1] - before[1]
        return max(0.0, min(1.0, stolen / total)) if total > 0 else 0.0


@final
class Gate:
    """Keeps a hot device from being measured: waits until what ``read`` tells is at most ``hot_c``.

    ``read`` returns °C, or ``None`` where nothing is known, which keeps nobody waiting. It is asked every ``poll_s``,
    at most for ``patience_s``.
    """

    def __init__(
        self,
        hot_c: float,
        *,
        read: Callable[[], float | None] | None = None,
        poll_s: float = 5.0,
        patience_s: float = 600.0,
    ) -> None:
        self._hot_c = hot_c
        self._read = read or temperature_c
        self._poll_s = poll_s
        self._patience_s = patience_s

    def too_hot_c(self) -> float | None:
        """Return the temperature if it is too high, else ``None``."""
        now_c = self._read()
        return now_c if now_c is not None and now_c > self._hot_c else None

    def passed(self, keep_going: KeepGoing, waiting: Waiting) -> bool:
        """Wait until the device is cool enough; return false if ``keep_going`` said no.

        Raises :class:`~leti.core.errors.DeviceFault` where it stays hot.
        """
        start_s = time.monotonic()
        hot_c = self.too_hot_c()
        if hot_c is None:
            return True
        waiting(f"the processor has {hot_c:.0f} °C, above {self._hot_c:g} °C")
        while (hot_c := self.too_hot_c()) is not None:
            if time.monotonic() - start_s > self._patience_s:
                reason = f"the processor stayed above {self._hot_c:g} °C for {self._patience_s:g} s: {hot_c:.0f} °C"
                raise DeviceFault(reason, failure="too-hot", temperature_c=hot_c)
            if not self._sleep(keep_going):
                return False
        waiting("")
        return True

    def _sleep(self, keep_going: KeepGoing) -> bool:
        wake_s = time.monotonic() + self._poll_s
        while keep_going():
            left_s = wake_s - time.monotonic()
            if left_s <= 0:
                return True
            time.sleep(min(left_s, 1.0))
        return False


def run_facts(cores: tuple[int, ...] = ()) -> tuple[tuple[str, str], ...]:
    """Return what else tells two runs on this machine apart: its kernel, and how its clock is governed, where told."""
    facts = {"kernel": platform.release(), "python": platform.python_version()}
    governors = {_line(CPUS / f"cpu{core}" / "cpufreq" / "scaling_governor") for core in cores} - {""}
    if governors:
        facts["cpu_governor"] = " ".join(sorted(governors))
    for name, path in TURBO.items():
        if line := _line(CPUS / path):
            facts[name] = line
    return tuple(facts.items())


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()[:100]
    except OSError:
        return ""


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


def _cores_mhz(cores: tuple[int, ...], name: str) -> float | None:
    """Return the highest of a frequency among ``cores`` (cpufreq of Linux, in kHz), ``None`` where it is not told."""
    try:
        told = [int((CPUS / f"cpu{core}" / "cpufreq" / name).read_text()) / 1000 for core in cores]
    except (OSError, ValueError):
        return None
    return max(told, default=None)


def _frequency() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError, RuntimeError):
        return None
    return float(frequency.current) if frequency and frequency.current > 0 else None


def temperature_c() -> float | None:
    """Return the processor's temperature, the highest of its sensors, ``None`` where the system does not tell."""
    read = getattr(psutil, "sensors_temperatures", None)
    try:
        sensors = read() if read else {}
    except (OSError, RuntimeError):
        return None
    for name in CPU_SENSORS:
        if sensors.get(name):
            return float(max(reading.current for reading in sensors[name]))
    return None
