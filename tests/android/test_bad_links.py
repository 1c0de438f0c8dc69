"""What the agent answers where adb, the link, or the phone's own state is at fault: section by section of the guide."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import measuring
import pytest
from adb_server import AdbServer, every_adb, until
from phone import Phone

from leti.core.errors import DeviceFault
from leti.device_agents.android import process
from leti.device_agents.android.adb import Adb, choose, listed
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.android.process import Cut
from leti.device_agents.bench import Finding

Benches = Callable[..., AndroidBench]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait two seconds, not the usual ten, for adb to connect."""
    monkeypatch.setattr("leti.device_agents.android.adb.CONNECT_S", 2.0)


# adb itself


def test_without_adb_it_is_said_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DeviceFault) as raised:
        Adb(tmp_path / "adb")
    assert measuring.fault_of(raised) == ("tool-missing", "adb-missing")
    assert "apt install adb" in raised.value.remedy


def test_a_server_that_was_ended_is_started_again(
    adb_server: AdbServer, android_device: Phone, benches: Benches, models: dict[str, bytes]
) -> None:
    bench = benches(android_device)
    adb_server.stop()
    (outcome,) = measuring.outcomes(bench, models["small"], reference=models["small"])
    assert isinstance(outcome, Finding)


def test_a_server_that_cannot_be_started_is_said(adb_program: Path, tmp_path: Path) -> None:
    server = AdbServer(adb_program, tmp_path / "adb-home")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(server.environment["ANDROID_ADB_SERVER_PORT"])))
        adb = Adb(server.executable, environment=server.environment)
        with pytest.raises(DeviceFault) as raised:
            adb.devices()
        assert measuring.fault_of(raised) == ("tool-missing", "adb-server")


# Which phone


def test_no_phone_and_several_phones_are_told_apart(adb: Adb, phones: Callable[..., Phone]) -> None:
    with pytest.raises(DeviceFault) as raised:
        choose(adb.devices())
    assert measuring.fault_of(raised) == ("device-gone", "no-devices")
    one, two = phones(), phones()
    with pytest.raises(DeviceFault) as raised:
        choose(adb.devices())
    assert measuring.fault_of(raised) == ("device-gone", "several-devices")
    assert one.serial in str(raised.value)
    assert two.serial in str(raised.value)
    assert choose(adb.devices(), two.serial).serial == two.serial
    two.stop()
    until(lambda: all(each.serial != two.serial or each.state != "device" for each in adb.devices()), "two is there")
    assert choose(adb.devices()).serial == one.serial
    with pytest.raises(DeviceFault) as raised:
        choose(adb.devices(), "nope")
    assert measuring.fault_of(raised) == ("device-gone", "not-found")


def test_a_phone_that_does_not_trust_this_computer_is_said(benches: Benches, phones: Callable[..., Phone]) -> None:
    phone = phones(connected=False, auth="deny")
    start_s = time.monotonic()
    with pytest.raises(DeviceFault) as raised:
        benches(phone)
    assert measuring.fault_of(raised) == ("device-gone", "unauthorized")
    assert "accept the key" in raised.value.remedy
    assert time.monotonic() < start_s + 60, "nobody taps on Allow meanwhile: why wait?"


def test_a_phone_that_asks_first_is_used_once_it_was_allowed(
    benches: Benches, adb_server: AdbServer, phones: Callable[..., Phone]
) -> None:
    phone = phones(connected=False, auth="accept")
    adb_server.connect(phone.serial)
    assert benches(phone).platform.device.soc == "FS8000"


def test_permissions_are_read_from_the_list() -> None:
    text = "List of devices attached\nA1  no permissions (missing udev rules? user is in the plugdev group); see [http://x]\n"
    (device,) = listed(text)
    assert (device.serial, device.fault) == ("A1", "no-permissions")
    assert "plugdev" in device.reason
    with pytest.raises(DeviceFault) as raised:
        choose((device,))
    assert measuring.fault_of(raised) == ("device-gone", "no-permissions")


@pytest.mark.usefixtures("impatient")
def test_a_phone_that_does_not_answer_is_offline(benches: Benches, phones: Callable[..., Phone]) -> None:
    phone = phones(connected=False, silent=True)
    with pytest.raises(DeviceFault) as raised:
        benches(phone, back_s=4.0)
    assert measuring.fault_of(raised) == ("device-gone", "offline")


@pytest.mark.usefixtures("impatient")
def test_a_phone_that_answers_late_is_connected_to_again(benches: Benches, phones: Callable[..., Phone]) -> None:
    phone = phones(connected=False, silent=True)
    later = threading.Timer(1.0, phone.set, kwargs={"silent": False})
    later.start()
    assert benches(phone, back_s=60.0).platform.device.soc == "FS8000"
    later.join()


@every_adb
def test_a_phone_that_is_gone_before_the_start_is_said(benches: Benches, android_device: Phone) -> None:
    android_device.stop()
    with pytest.raises(DeviceFault) as raised:
        benches(android_device, back_s=2.0)
    assert raised.value.details["failure"] == "device-gone"
    assert raised.value.details["fault"] in ("not-found", "offline")


def test_a_phone_that_is_gone_between_batches_is_waited_for(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    bench = benches(android_device)
    android_device.stop()
    back = threading.Timer(2.0, android_device.start)
    back.start()
    (outcome,) = measuring.outcomes(bench, models["small"], reference=models["small"])
    measuring.finding(outcome)
    back.join()


def test_a_phone_that_has_not_booted_is_not_used(benches: Benches, phones: Callable[..., Phone]) -> None:
    with pytest.raises(DeviceFault) as raised:
        benches(phones(properties={"sys.boot_completed": ""}))
    assert measuring.fault_of(raised) == ("device-gone", "not-booted")


def test_another_phone_at_the_same_address_is_found_out(
    benches: Benches, phones: Callable[..., Phone], models: dict[str, bytes], adb_server: AdbServer
) -> None:
    phone = phones()
    bench = benches(phone)
    adb_server("disconnect", phone.serial)
    phone.stop()
    other = phones(connected=False, port=phone.port, serial_number="OTHER")
    adb_server.connect(other.serial)
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(bench, models["small"], reference=models["small"])
    assert measuring.fault_of(raised) == ("device-gone", "another-phone")
    measuring.untouched(other)


# The link while it works


@every_adb
def test_a_link_that_is_lost_while_the_tool_runs_costs_that_run_alone(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    android_device.fault("shell", match="--num_runs", after_bytes=100, refuse_s=1.0)
    said: list[str] = []
    (outcome,) = measuring.outcomes(
        benches(android_device), models["small"], reference=models["small"], waiting=said.append
    )
    found = measuring.finding(outcome)
    assert len(found.processes) == 1
    assert found.recipe.facts
    assert measuring.facts(found)["redone"] != ""
    assert said[0] != ""
    assert said[-1] == ""
    measuring.untouched(android_device)


def test_a_phone_that_goes_off_while_the_tool_runs_is_waited_for_and_cleaned(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    phone = android_device
    phone.fault("start", then="off", match="--num_runs", delay_s=0.2)

    def on_again() -> None:
        until(lambda: not phone.is_on, "it is on")
        phone.stop()
        phone.start()

    waiting = threading.Thread(target=on_again)
    waiting.start()
    bench = benches(phone)
    (outcome,) = measuring.outcomes(bench, models["small"], reference=models["small"])
    waiting.join()
    measuring.finding(outcome)
    measuring.untouched(phone)


def test_a_phone_that_stays_away_ends_the_batch_and_the_next_one_cleans_up(
    benches: Benches, android_device: Phone, models: dict[str, bytes], adb_server: AdbServer
) -> None:
    phone = android_device
    phone.fault("start", then="off", match="--num_runs", delay_s=0.2)
    bench = benches(phone, back_s=2.0)
    said: list[str] = []
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(bench, models["small"], reference=models["small"])
    assert raised.value.details["failure"] in ("device-gone", "link-lost")
    assert phone.files() != []
    assert phone.read("settings/global/stay_on_while_plugged_in") == "7"
    phone.stop()
    phone.start()
    adb_server.connect(phone.serial)
    assert bench.measure((), models["small"], keep_going=lambda: True, waiting=said.append) == (), "the reference alone"
    measuring.untouched(phone)


def test_a_link_that_goes_silent_is_given_up_and_made_anew(
    benches: Benches, android_device: Phone, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = android_device
    phone.fault("shell", then="stall", match="--num_runs", after_bytes=100)
    # An hour goes by once the link is silent, and all of it for who waits already.
    hours = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * len(phone.requests("fault")), sleep=time.sleep)
    monkeypatch.setattr(process, "time", hours)

    def wake() -> None:
        until(lambda: bool(phone.requests("fault")), "it is not silent")
        time.sleep(1.0)  # in which the phone is asked to end the tool
        phone.cut()

    awake = threading.Thread(target=wake)
    awake.start()
    try:
        (outcome,) = measuring.outcomes(benches(phone), models["small"], reference=models["small"])
    finally:
        awake.join()
    measuring.finding(outcome)
    measuring.untouched(phone)


def test_a_link_that_is_lost_again_and_again_ends_the_batch(
    benches: Benches, android_device: Phone, models: dict[str, bytes]
) -> None:
    phone = android_device
    bench = benches(phone)
    phone.fault("start", match="--num_runs", times=99)
    with pytest.raises(DeviceFault) as raised:
        measuring.outcomes(bench, models["small"], reference=models["small"])
    assert measuring.fault_of(raised)[0] == "link-lost"
    phone.no_faults()
    bench.close()
    until(lambda: phone.processes() == [], "it runs on")


# Phones before Android 7


def test_a_phone_without_exit_codes_is_measured_all_the_same(
    benches: Benches, phones: Callable[..., Phone], models: dict[str, bytes]
) -> None:
    phone = phones(android_6=True)
    crashing = measuring.variant(models["small"], 1)
    phone.tool(crashing, end="segv", at="runs")
    damaged = models["large"][: len(models["large"]) // 2]
    good, crashed, bad = measuring.outcomes(
        benches(phone), models["small"], crashing, damaged, reference=models["small"]
    )
    assert measuring.facts(good)["shell"] == "v1"
    assert measuring.failure(crashed) == "crashed"
    assert measuring.failure(bad) == "bad-model"
    measuring.untouched(phone)


def test_calls_end_when_nobody_waits_any_more(adb: Adb, android_device: Phone) -> None:
    link = adb.link(android_device.serial)
    start_s = time.monotonic()
    with pytest.raises(Cut):
        link.shell("sleep 60", 60, keep_going=lambda: time.monotonic() < start_s + 0.5)
    assert time.monotonic() < start_s + 20
    until(lambda: android_device.processes() == [], "it runs on")
