"""When a phone is fit to be measured, what is unknown, and what makes a run worthless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from leti.core.errors import DeviceFault, InvalidInput
from leti.core.measurement import Conditions
from leti.device_agents.android.adb import Adb
from leti.device_agents.android.gate import Gate, Limits, State, battery_state, hottest_zone, thermal_service
from leti.device_agents.android.process import Cut

MakeAdb = Callable[..., Adb]

THERMAL = """IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
Thermal Status: {status}
Cached temperatures:
	Temperature{{mValue=99.9, mType=0, mName=CPU, mStatus=6}}
HAL Ready: true
Current temperatures from HAL:
	Temperature{{mValue=38.2, mType=0, mName=cpu-0, mStatus=0}}
	Temperature{{mValue=41.5, mType=0, mName=cpu-1, mStatus=0}}
	Temperature{{mValue=NaN, mType=0, mName=cpu-2, mStatus=0}}
	Temperature{{mValue=70.0, mType=9, mName=npu, mStatus=0}}
	Temperature{{mValue=31.5, mType=3, mName=SKIN, mStatus=0}}
Current cooling devices from HAL:
	CoolingDevice{{mValue=0, mType=2, mName=cpu-0}}
Temperature static thresholds from HAL:
	TemperatureThreshold{{mType=0, mName=CPU, mHotThrottlingThresholds=[NaN, 95.0]}}
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  present: true
  level: 87
  scale: 100
  temperature: 301
  technology: Li-ion
"""

WELL = State(
    Conditions(
        frequency_cap_mhz=2000.0,
        temperature_c=38.0,
        thermal_status=0,
        battery_c=30.0,
        battery_percent=80.0,
        charging=True,
    ),
    overridden=False,
    saving=False,
)


def but(**differences: object) -> State:
    return replace(WELL, conditions=replace(WELL.conditions, **differences))  # type: ignore[arg-type]


def gate_of(adb: Adb, limits: Limits | None = None) -> Gate:
    return Gate(adb.link("S1"), (), limits or Limits())


def test_the_current_temperatures_count_not_the_cached_ones() -> None:
    assert thermal_service(THERMAL.format(status=2)) == (2, False, 41.5)
    assert thermal_service(THERMAL.format(status=0).replace("Override: false", "Override: true"))[1] is True
    skin = "\n".join(line for line in THERMAL.format(status=0).split("\n") if "mType=0, mName=cpu" not in line)
    assert thermal_service(skin)[2] == 31.5
    assert thermal_service("Can't find service: thermalservice") == (None, None, None)
    assert thermal_service("") == (None, None, None)


def test_batteries_count_in_tenths_and_may_be_absent() -> None:
    assert battery_state(BATTERY) == (87.0, 30.1, True)
    assert battery_state(BATTERY.replace("USB powered: true", "USB powered: false"))[2] is False
    assert battery_state(BATTERY.replace("scale: 100", "scale: 200"))[0] == 43.5
    assert battery_state(BATTERY.replace("present: true", "present: false")) == (None, None, True)
    assert battery_state("") == (None, None, None)


def test_zones_count_in_degrees_tenths_or_thousandths() -> None:
    assert hottest_zone("cpu-0 38200\ncpu-1 41\ntsens_tz_sensor3 405\nbattery 50000\npa-therm0 70000") == 41.0
    assert hottest_zone("cpu-0 -40000\ncpu-1 0\ncpu-2 999999") is None
    assert hottest_zone("") is None


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (but(thermal_status=1), "thermal status 1 (light)"),
        (replace(WELL, overridden=True), "overridden"),
        (but(battery_c=37.1), "battery at 37.1 °C"),
        (but(battery_percent=19.0), "battery at 19.0 %"),
        (replace(WELL, saving=True), "power saving is on"),
        (but(thermal_status=None, temperature_c=61.0), "processor at 61.0 °C"),
    ],
)
def test_each_reason_closes_the_gate(adb_of: MakeAdb, state: State, says: str) -> None:
    gate = gate_of(adb_of())
    (reason,) = gate.reasons(state)
    assert says in reason


def test_what_is_unknown_does_not_close_it_and_is_not_zero_degrees(adb_of: MakeAdb) -> None:
    gate = gate_of(adb_of())
    assert gate.reasons(WELL) == ()
    assert gate.reasons(State(Conditions())) == ()
    assert not State(Conditions()).thermal_known
    assert State(Conditions(battery_c=30.0)).thermal_known
    assert gate.reasons(but(temperature_c=90.0)) == (), "where the system judges, sensors do not"


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (WELL, ""),
        (but(battery_c=36.0), ""),
        (but(frequency_cap_mhz=2400.0), ""),
        (but(thermal_status=1), "thermal status rose to 1"),
        (but(frequency_cap_mhz=1500.0), "cap fell from 2000.0 to 1500.0"),
        (but(charging=False), "unplugged"),
        (replace(WELL, overridden=True), "overridden"),
        (replace(WELL, saving=True), "power saving"),
        (State(Conditions()), ""),
    ],
)
def test_what_changes_meanwhile_makes_a_run_worthless(adb_of: MakeAdb, after: State, says: str) -> None:
    disturbance = gate_of(adb_of()).disturbed(WELL, after)
    assert says in disturbance
    assert bool(says) == bool(disturbance)


DUMPSYS = """case "$1" in battery) cat "$0.battery" ;; thermalservice) cat "$0.thermal" ;; esac"""
SETTINGS = """echo 0"""


def phone(tmp_path: Path, adb_of: MakeAdb, *, status: int = 0, thermal: str = THERMAL) -> Adb:
    adb = adb_of(dumpsys=DUMPSYS, settings=SETTINGS)
    (tmp_path / "bin" / "dumpsys.battery").write_text(BATTERY)
    (tmp_path / "bin" / "dumpsys.thermal").write_text(thermal.format(status=status))
    return adb


def test_one_call_reads_it_all(tmp_path: Path, adb_of: MakeAdb) -> None:
    state = gate_of(phone(tmp_path, adb_of)).read()
    assert state.conditions.thermal_status == 0
    assert state.conditions.temperature_c == 41.5
    assert state.conditions.battery_c == 30.1
    assert state.conditions.battery_percent == 87
    assert state.conditions.charging is True
    assert state.conditions.load is not None
    assert state.overridden is False
    assert state.saving is False


def test_a_hot_phone_is_waited_for_and_measured_once_it_is_cool(tmp_path: Path, adb_of: MakeAdb) -> None:
    adb = phone(tmp_path, adb_of, status=3)
    said: list[str] = []

    def waiting(reason: str) -> None:
        said.append(reason)
        (tmp_path / "bin" / "dumpsys.thermal").write_text(THERMAL.format(status=0))

    state = gate_of(adb, Limits(poll_s=0.01, wait_s=60)).wait(lambda: True, waiting)
    assert state.conditions.thermal_status == 0
    assert said == ["thermal status 3 (severe)", ""]


@pytest.mark.parametrize("wait_s", [0.0, 0.05])
def test_a_phone_that_stays_hot_is_never_measured(tmp_path: Path, adb_of: MakeAdb, wait_s: float) -> None:
    gate = gate_of(phone(tmp_path, adb_of, status=4), Limits(poll_s=0.01, wait_s=wait_s))
    said: list[str] = []
    with pytest.raises(DeviceFault) as raised:
        gate.wait(lambda: True, said.append)
    assert said == ["thermal status 4 (critical)"]
    assert raised.value.details["failure"] == "too-hot"
    assert "thermal status 4 (critical)" in str(raised.value)


def test_waiting_ends_when_it_is_asked_to(tmp_path: Path, adb_of: MakeAdb) -> None:
    gate = gate_of(phone(tmp_path, adb_of, status=4), Limits(poll_s=600))
    with pytest.raises(Cut):
        gate.wait(lambda: False, lambda reason: None)


def test_a_battery_may_be_held_to_where_it_started(tmp_path: Path, adb_of: MakeAdb) -> None:
    gate = gate_of(phone(tmp_path, adb_of), Limits(rise_c=2.0))
    gate.wait(lambda: True, lambda reason: None)
    assert gate.reasons(but(battery_c=32.0)) == ()
    (reason,) = gate.reasons(but(battery_c=32.2))
    assert "more than 32.1 °C" in reason


@pytest.mark.parametrize("name", ["poll_s", "wait_s"])
def test_times_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Limits(**{name: -1.0})
    assert raised.value.field == name


@pytest.mark.parametrize(
    "lines", ["level: 87\n  scale: 1e-320", "level: 1e308\n  scale: 100", "level: 87\n  scale: -1"]
)
def test_a_battery_that_cannot_be_is_unknown(lines: str) -> None:
    level, celsius, charging = battery_state(BATTERY.replace("level: 87\n  scale: 100", lines))
    assert (level, celsius, charging) == (None, 30.1, True)
