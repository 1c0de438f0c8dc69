"""What the agent answers where the phone is not fit to be measured, becomes so meanwhile, or does not tell."""

from __future__ import annotations

from collections.abc import Callable

import measuring
import pytest
from phone import Phone

from leti.core.errors import DeviceFault, InvalidInput
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.android.gate import Limits

Benches = Callable[..., AndroidBench]
HASTY = Limits(poll_s=0.05, wait_s=0.3)


def hot(phone: Phone) -> None:
    phone.temperature(status=2)


def warm_battery(phone: Phone) -> None:
    phone.temperature(battery_c=41.0)


def overridden(phone: Phone) -> None:
    phone.write("thermal/override", 0)


def drained(phone: Phone) -> None:
    phone.write("battery/level", 7)


def saving(phone: Phone) -> None:
    phone.write("settings/global/low_power", 1)


def hot_without_a_thermal_service(phone: Phone) -> None:
    (phone.root / "phone/thermal/status").unlink()
    (phone.root / "sys/class/thermal/thermal_zone0/temp").write_text("81000\n")


UNFIT = {
    hot: "thermal status 2 (moderate)",
    warm_battery: "battery at 41.0 °C",
    overridden: "overridden",
    drained: "battery at 7.0 %",
    saving: "power saving",
    hot_without_a_thermal_service: "processor at 81.0 °C",
}


@pytest.mark.parametrize("state", UNFIT, ids=lambda state: state.__name__)
def test_a_phone_that_is_not_fit_is_waited_for_and_never_measured(
    benches: Benches, android_device: Phone, models: dict[str, bytes], state: Callable[[Phone], None]
) -> None:
    state(android_device)
    said: list[str] = []
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(
            benches(android_device, limits=HASTY), models["small"], reference=models["small"], waiting=said.append
        )
    assert measuring.fault_of(raised) == ("too-hot", "hot")
    assert UNFIT[state] in str(raised.value)
    assert UNFIT[state] in said[0]
    assert not any("--num_runs" in command for command in android_device.requests("shell")), "it was measured"
    measuring.untouched(android_device)


HEATED = {"/phone/thermal/status": "3"}
UNPLUGGED = {"/phone/battery/plugged": "none"}


@pytest.mark.parametrize(
    ("writes", "reason"),
    [(HEATED, "thermal status rose to 3"), (UNPLUGGED, "unplugged")],
    ids=["heated", "unplugged"],
)
def test_a_run_during_which_the_phone_changed_is_made_again(
    benches: Benches, android_device: Phone, models: dict[str, bytes], writes: dict[str, str], reason: str
) -> None:
    model = measuring.variant(models["small"], 1)
    android_device.tool(model, writes=writes, times=1)

    def cool(said: str) -> None:
        android_device.temperature(status=0)

    (outcome,) = measuring.outcomes(benches(android_device), model, reference=models["small"], waiting=cool)
    assert reason in measuring.facts(outcome)["redone"]
    assert measuring.finding(outcome).recipe.after.thermal_status == 0


def test_clocks_that_are_capped_are_noticed(benches: Benches, android_device: Phone, models: dict[str, bytes]) -> None:
    bench = benches(android_device)
    core = bench.platform.affinity[0]
    model = measuring.variant(models["small"], 1)
    capped = f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_max_freq"
    android_device.tool(model, writes={capped: "1100000"}, times=1)
    said: list[str] = []

    def cool(reason: str) -> None:
        said.append(reason)
        android_device.cap(2_841_600)

    (outcome,) = measuring.outcomes(bench, model, reference=models["small"], waiting=cool)
    assert "cap fell" in measuring.facts(outcome)["redone"]
    assert "capped at 1100.0 MHz" in said[0]


def test_a_phone_that_is_disturbed_again_and_again_is_given_up(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    android_device.tool(writes=HEATED)

    def cool(said: str) -> None:
        android_device.temperature(status=0)

    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(benches(android_device), models["small"], reference=models["small"], waiting=cool)
    assert measuring.fault_of(raised) == ("too-hot", "hot")
    measuring.untouched(android_device)


def test_what_cannot_be_read_is_unknown_and_not_zero(
    benches: Benches, phones: Callable[..., Phone], models: dict[str, bytes]
) -> None:
    phone = phones(properties={"ro.build.version.sdk": "26"})
    (phone.root / "phone/thermal/status").unlink()
    (phone.root / "sys/class/thermal/thermal_zone0/temp").chmod(0)
    for script in ("dumpsys", "settings"):
        (phone.root / "system/bin" / script).unlink()
    (outcome,) = measuring.outcomes(benches(phone), models["small"], reference=models["small"])
    conditions = measuring.finding(outcome).recipe.before
    assert conditions.thermal_status is None
    assert conditions.temperature_c is None
    assert conditions.battery_c is None
    assert conditions.battery_percent is None
    assert conditions.charging is None
    assert measuring.facts(outcome)["thermal"] == "unknown"


def test_cores_that_cannot_be_read_or_pinned_are_no_cluster(
    benches: Benches, phones: Callable[..., Phone], models: dict[str, bytes]
) -> None:
    phone = phones()
    taskset = phone.root / "system/bin/taskset"
    taskset.unlink()
    with pytest.raises(InvalidInput) as raised:
        benches(phone)
    assert raised.value.field == "cluster"
    assert "taskset" in str(raised.value)
    assert "any" in raised.value.remedy
    (outcome,) = measuring.outcomes(benches(phone, cluster="any"), models["small"], reference=models["small"])
    measuring.finding(outcome)
