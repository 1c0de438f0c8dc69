"""Whether a phone is fit to be measured: temperature, battery, power saving, clocks; and waiting until it is.

Thresholds are settings, not findings. What cannot be read is unknown and never 0 °C: it does not close the gate, and
is marked in the recipe.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import InvalidInput
from leti.core.measurement import Conditions
from leti.device_agents.android.adb import Link
from leti.device_agents.android.faults import device_fault
from leti.device_agents.android.process import Cut
from leti.device_agents.bench import KeepGoing, Waiting

STATUS_NAMES: Final = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's thermal status, from 0 (API 29 and later)."""

CPU_TYPE, SKIN_TYPE = 0, 3
"""Kinds of temperature of the thermal service."""

CPU_ZONES: Final = re.compile(r"cpu|soc|tsens|cluster|apc|big|little|mid", re.IGNORECASE)
"""Thermal zones of processors, as the kernels of phones name them."""

NAP_S: Final = 0.2

MOST: Final = 1e12
"""Numbers beyond this are not what they should be."""

_ZONES: Final = (
    "for z in /sys/class/thermal/thermal_zone*; do t=; v=; read -r t <$z/type; read -r v <$z/temp; echo $t $v; done"
)
_CLOCKS: Final = (
    "f=; m=; d=/sys/devices/system/cpu/cpu{core}/cpufreq; read -r f <$d/scaling_cur_freq;"
    " read -r m <$d/scaling_max_freq; echo ${{f:--}} ${{m:--}}"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a phone is fit.

    The battery is at most at ``battery_c``, or at most ``rise_c`` above where it was at the start, if given, and holds
    at least ``battery_percent``; Android's thermal status is 0; where there is no thermal service, zones of processors
    are at most at ``zone_c``. It is asked every ``poll_s`` and waited for ``wait_s``.
    """

    battery_c: float = 37.0
    rise_c: float | None = None
    battery_percent: float = 20.0
    zone_c: float = 60.0
    poll_s: float = 5.0
    wait_s: float = 600.0

    def __post_init__(self) -> None:
        """Refuse times that cannot be."""
        for name in ("poll_s", "wait_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInput(f"must be 0 or more, not {getattr(self, name)}", field=name)


@dataclass(frozen=True, slots=True)
class State:
    """One reading: the conditions, whether somebody overrides the thermal status, and whether power is saved."""

    conditions: Conditions
    overridden: bool | None = None
    saving: bool | None = None

    @property
    def thermal_known(self) -> bool:
        """Whether anything tells how warm it is."""
        said = self.conditions
        return any(value is not None for value in (said.thermal_status, said.temperature_c, said.battery_c))


@final
class Gate:
    """The gate in front of every process on one phone; ``cores`` are those that it will be pinned to."""

    def __init__(self, link: Link, cores: Sequence[int], limits: Limits) -> None:
        self._link = link
        self._cores = tuple(cores)
        self._limits = limits
        self._start_c: float | None = None
        self._highest_cap_mhz = 0.0

    def read(self) -> State:
        """Read the state of the phone."""
        clocks = "; ".join(_CLOCKS.format(core=core) for core in self._cores)
        thermal, battery, saving, load, zones, frequencies = self._link.answers(
            "dumpsys thermalservice",
            "dumpsys battery",
            "settings get global low_power",
            "cat /proc/loadavg",
            _ZONES,
            clocks or ":",
        )
        status, overridden, warm_c = thermal_service(thermal)
        current_mhz, cap_mhz = _clocks(frequencies)
        percent, battery_c, charging = battery_state(battery)
        conditions = Conditions(
            load=_number(load.split(" ")[0]),
            frequency_mhz=current_mhz,
            temperature_c=hottest_zone(zones) if warm_c is None else warm_c,
            frequency_cap_mhz=cap_mhz,
            thermal_status=status,
            battery_c=battery_c,
            battery_percent=percent,
            charging=charging,
        )
        return State(conditions, overridden, {"0": False, "1": True}.get(saving))

    def reasons(self, state: State) -> tuple[str, ...]:
        """Return why the phone is not fit now; none where it is."""
        said, limits = state.conditions, self._limits
        most_c = limits.battery_c
        if limits.rise_c is not None and self._start_c is not None:
            most_c = self._start_c + limits.rise_c
        checks = (
            (bool(said.thermal_status), f"thermal status {_status(said.thermal_status)}"),
            (state.overridden, "the thermal status is overridden (cmd thermalservice reset)"),
            (_over(said.battery_c, most_c), f"battery at {said.battery_c} °C, more than {most_c:.1f} °C"),
            (
                said.thermal_status is None and _over(said.temperature_c, limits.zone_c),
                f"processor at {said.temperature_c} °C, more than {limits.zone_c:.1f} °C",
            ),
            (
                _over(limits.battery_percent, said.battery_percent),
                f"battery at {said.battery_percent} %, less than {limits.battery_percent:.0f} %",
            ),
            (state.saving, "power saving is on"),
            (
                _over(self._highest_cap_mhz, said.frequency_cap_mhz),
                f"clock capped at {said.frequency_cap_mhz} MHz, it was {self._highest_cap_mhz} MHz",
            ),
        )
        return tuple(reason for closed, reason in checks if closed)

    def wait(self, keep_going: KeepGoing, waiting: Waiting) -> State:
        """Return the state of the phone once it is fit.

        Raises :class:`~leti.core.errors.DeviceFault` (fault ``hot``, with the reasons) when the time is over, and
        :class:`~leti.device_agents.android.process.Cut` once ``keep_going`` says no.
        """
        deadline_s = time.monotonic() + self._limits.wait_s
        told = ""
        while True:
            state = self.read()
            self._remember(state)
            reasons = "; ".join(self.reasons(state))
            if not reasons:
                if told:
                    waiting("")
                return state
            if reasons != told:
                waiting(reasons)
            told = reasons
            if time.monotonic() >= deadline_s:
                raise device_fault("hot", f"{reasons}, after {self._limits.wait_s:.0f} s")
            pause(min(self._limits.poll_s, max(0.0, deadline_s - time.monotonic())), keep_going)

    def disturbed(self, before: State, after: State) -> str:
        """Return what changed while a process ran that makes its times worthless, the empty string for nothing."""
        was, now = before.conditions, after.conditions
        checks = (
            (bool(now.thermal_status), f"thermal status rose to {_status(now.thermal_status)}"),
            (after.overridden, "the thermal status is overridden"),
            (
                _over(was.frequency_cap_mhz, now.frequency_cap_mhz),
                f"the clock's cap fell from {was.frequency_cap_mhz} to {now.frequency_cap_mhz} MHz",
            ),
            (
                None not in (was.charging, now.charging) and was.charging != now.charging,
                f"the charger was {'plugged in' if now.charging else 'unplugged'}",
            ),
            (after.saving, "power saving is on"),
        )
        return "; ".join(reason for changed, reason in checks if changed)

    def _remember(self, state: State) -> None:
        if self._start_c is None:
            self._start_c = state.conditions.battery_c
        self._highest_cap_mhz = max(self._highest_cap_mhz, state.conditions.frequency_cap_mhz or 0.0)


def pause(seconds: float, keep_going: KeepGoing) -> None:
    """Sleep, and wake early where ``keep_going`` says no: then :class:`Cut` is raised."""
    until_s = time.monotonic() + seconds
    while True:
        if not keep_going():
            raise Cut("stopped")
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(NAP_S, left_s))


def thermal_service(text: str) -> tuple[int | None, bool | None, float | None]:
    """Return status, whether it is overridden, and the processor's temperature in ``dumpsys thermalservice``.

    Temperatures are the current ones of the hardware: cached ones and thresholds stand in the same text. Where no
    sensor of the processor is told, it is that of the skin.
    """
    status = re.search(r"^\s*Thermal Status:\s*(\d)\b", text, re.MULTILINE)
    overridden = re.search(r"^\s*IsStatusOverride:\s*(true|false)", text, re.MULTILINE)
    current = re.search(r"^Current temperatures from HAL:[^\n]*\n((?:[ \t]+[^\n]*\n?)*)", text, re.MULTILINE)
    warm: dict[int, list[float]] = {}
    for value, kind in re.findall(r"mValue=([^,]+), mType=(-?\d+)", current[1] if current else ""):
        celsius = _number(value)
        if celsius is not None and -30 < celsius < 150:
            warm.setdefault(int(kind), []).append(celsius)
    told = warm.get(CPU_TYPE) or warm.get(SKIN_TYPE)
    return (
        int(status[1]) if status else None,
        overridden[1] == "true" if overridden else None,
        max(told or (), default=None),
    )


def battery_state(text: str) -> tuple[float | None, float | None, bool | None]:
    """Return level in percent, temperature in °C, and whether it is plugged in, of ``dumpsys battery``.

    A device without a battery has no level and no temperature.
    """
    said = dict(re.findall(r"^\s*([A-Za-z ]+):\s*(\S+)", text, re.MULTILINE))
    plugs = [value == "true" for name, value in said.items() if name.endswith("powered")]
    charging = any(plugs) if plugs else None
    if said.get("present") == "false":
        return None, None, charging
    level, scale, tenths = (_number(said.get(name, "")) for name in ("level", "scale", "temperature"))
    percent = None if level is None else 100 * level / (scale or 100)
    if percent is not None and not 0 <= percent <= 100:
        percent = None
    return percent, None if tenths is None else tenths / 10, charging


def hottest_zone(text: str) -> float | None:
    """Return the highest temperature in lines of type and value that tell of a processor.

    Kernels count in degrees, tenths or thousandths of them; values that cannot be (a sensor that is off) are left out.
    """
    found = []
    for line in text.splitlines():
        words = line.rsplit(None, 1)
        value = _number(words[1]) if len(words) == 2 and CPU_ZONES.search(words[0]) else None
        if value is not None:
            celsius = value / (1000 if value >= 1000 else 10 if value >= 200 else 1)
            if 0 < celsius < 150:
                found.append(celsius)
    return max(found, default=None)


def _clocks(text: str) -> tuple[float | None, float | None]:
    """Return the mean clock and the lowest cap, in MHz, in lines of both in kHz."""
    rows = [line.split() for line in text.splitlines()]
    now = [khz for row in rows if len(row) == 2 and (khz := _number(row[0])) is not None]
    caps = [khz for row in rows if len(row) == 2 and (khz := _number(row[1])) is not None]
    return sum(now) / len(now) / 1e3 if now else None, min(caps) / 1e3 if caps else None


def _status(status: int | None) -> str:
    known = status is not None and status < len(STATUS_NAMES)
    return f"{status} ({STATUS_NAMES[status]})" if known and status is not None else str(status)


def _over(value: float | None, limit: float | None) -> bool:
    """Return whether both are known and ``value`` is more than ``limit``."""
    return value is not None and limit is not None and value > limit


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < MOST else None
