"""Listing, choosing, and the rule of the token: what adb says of a command is believed only with it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from leti.core.errors import DeviceFault, InvalidInput
from leti.device_agents.android import process
from leti.device_agents.android.adb import Adb, AdbDevice, choose, is_network, listed
from leti.device_agents.android.faults import FAULTS, SIGNS, fault_in
from leti.device_agents.android.process import Cut

MakeAdb = Callable[..., Adb]

LISTING = """* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
28051FDH2000AB         device usb:1-4 product:panther model:Pixel_7 device:panther transport_id:3
R5CT1234               no permissions (user in plugdev group; are your udev rules wrong?); see \
[http://developer.android.com/tools/device.html] usb:1-2 transport_id:5
192.168.1.7:5555       offline product:x transport_id:9
adb-28051F (2)._adb-tls-connect._tcp device product:panther model:Pixel_7
ABC\tunauthorized usb:2-1
????????????           connecting
ODD                    melting

"""


def fault(raised: pytest.ExceptionInfo[DeviceFault]) -> tuple[object, object]:
    return raised.value.details["failure"], raised.value.details["fault"]


def test_every_state_is_listed_with_what_helps() -> None:
    devices = {device.serial: device for device in listed(LISTING.replace("\n", "\r\n"))}
    assert {serial: device.state for serial, device in devices.items()} == {
        "28051FDH2000AB": "device",
        "R5CT1234": "no permissions",
        "192.168.1.7:5555": "offline",
        "adb-28051F (2)._adb-tls-connect._tcp": "device",
        "ABC": "unauthorized",
        "????????????": "connecting",
        "ODD": "melting",
    }
    assert devices["28051FDH2000AB"].facts["model"] == "Pixel_7"
    assert devices["28051FDH2000AB"].reason == ""
    assert devices["R5CT1234"].facts == {"usb": "1-2", "transport_id": "5"}
    assert "plugdev" in devices["R5CT1234"].reason
    assert "accept the key" in devices["ABC"].reason
    assert devices["ODD"].fault == "wrong-state"
    assert listed("List of devices attached\n\n") == ()


@pytest.mark.parametrize(
    ("states", "serial", "expected"),
    [
        ({}, "", "no-devices"),
        ({"a": "device", "b": "device"}, "", "several-devices"),
        ({"a": "unauthorized"}, "", "unauthorized"),
        ({"a": "no permissions"}, "", "no-permissions"),
        ({"a": "recovery"}, "", "wrong-state"),
        ({"a": "offline", "b": "unauthorized"}, "", "no-devices"),
        ({"a": "device"}, "z", "not-found"),
    ],
)
def test_a_choice_that_cannot_be_made_says_what_is_there(states: dict[str, str], serial: str, expected: str) -> None:
    devices = [AdbDevice(name, state) for name, state in states.items()]
    with pytest.raises(DeviceFault) as raised:
        choose(devices, serial)
    assert fault(raised) == ("device-gone", expected)
    assert all(f"{name} ({state})" in str(raised.value) for name, state in states.items())
    assert raised.value.remedy


def test_the_only_usable_phone_is_chosen_and_a_named_one_always() -> None:
    devices = [AdbDevice("a", "offline"), AdbDevice("b", "device")]
    assert choose(devices).serial == "b"
    assert choose(devices, "a").state == "offline"


def test_network_serials_are_told_from_those_of_cables() -> None:
    assert all(map(is_network, ("10.0.0.2:5555", "phone.local:40001", "adb-1 (2)._adb-tls-connect._tcp")))
    assert not any(map(is_network, ("28051FDH2000AB", "emulator-5554")))


def test_exit_codes_are_the_commands_own(adb_of: MakeAdb) -> None:
    link = adb_of().link("S1")
    ran = link.shell("echo out; echo err >&2; exit 7")
    assert (ran.rc, ran.stdout, ran.stderr) == (7, "out\n", "err\n")
    assert link.shell("printf 'no line end'").stdout == "no line end"
    assert link.shell("echo hello # a comment").stdout == "hello\n"
    assert link.shell("sh -c 'kill -SEGV $$'").rc == 139


def test_what_a_command_says_is_not_taken_for_adbs_words(adb_of: MakeAdb) -> None:
    with pytest.raises(DeviceFault) as raised:
        adb_of("echo 'ERROR: No space left on device, unauthorized' >&2").link("S1").shell("true")
    assert fault(raised) == ("link-lost", "link-lost")


@pytest.mark.parametrize("rc", [0, 255])
def test_an_answer_without_the_token_is_a_lost_link(adb_of: MakeAdb, rc: int) -> None:
    link = adb_of(f'echo "count=50 first=1 avg=1"; exit {rc}').link("S1")
    with pytest.raises(DeviceFault) as raised:
        link.shell("./benchmark_model")
    assert fault(raised) == ("link-lost", "link-lost")


def test_a_token_that_is_cut_off_is_none(adb_of: MakeAdb) -> None:
    cut = """t=${4##*echo }; t=${t%%:*}; printf 'out\\n%s:' "$t" """
    with pytest.raises(DeviceFault) as raised:
        adb_of(cut).link("S1").shell("true")
    assert fault(raised) == ("link-lost", "link-lost")


def test_carriage_returns_of_old_phones_are_taken(adb_of: MakeAdb) -> None:
    old = """sh -c "$4" 2>&1 | sed 's/$/\\r/'"""
    ran = adb_of(old).link("S1").shell("echo out; echo err >&2; exit 42")
    assert ran.rc == 42
    assert ran.stdout.replace("\r", "") == "out\nerr\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "unauthorized"),
        ("adb: device offline", "offline"),
        ("error: device 'S1' not found", "not-found"),
        ("adb: more than one device/emulator", "several-devices"),
        ("error: insufficient permissions for device: user in plugdev group", "no-permissions"),
        ("error: protocol fault (couldn't read status): Connection reset by peer", "link-lost"),
    ],
)
def test_what_adb_says_becomes_its_fault(adb_of: MakeAdb, text: str, expected: str) -> None:
    link = adb_of(f"cat >&2 <<'EOT'\n{text}\nEOT\nexit 1").link("S1")
    with pytest.raises(DeviceFault) as raised:
        link.shell("true")
    assert raised.value.details["fault"] == expected
    assert raised.value.remedy


def test_every_sign_names_a_fault_and_every_fault_has_a_kind() -> None:
    assert {name for _, name in SIGNS} <= FAULTS.keys()
    assert all(sign == sign.lower() for sign, _ in SIGNS)
    assert fault_in("all is well") == ""


def test_what_does_not_end_is_killed_with_its_children(
    adb_of: MakeAdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    link = adb_of(f"sleep 600 & echo $! >{pid}.new; mv {pid}.new {pid}; wait").link("S1")
    asked = itertools.count()

    def clock() -> float:
        """An hour goes by once the program was started, and has a child."""
        return time.monotonic() + 3600 * (next(asked) > 0 and pid.exists())

    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    with pytest.raises(DeviceFault) as raised:
        link.shell("true", timeout_s=600)
    assert fault(raised) == ("link-lost", "no-answer")
    child = int(pid.read_text())
    deadline_s = time.monotonic() + 60
    while _alive(child):
        assert time.monotonic() < deadline_s, "the child lives on"
        time.sleep(0.01)


def test_who_writes_without_end_is_stopped(adb_of: MakeAdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_OUTPUT_BYTES", 100_000)
    with pytest.raises(DeviceFault) as raised:
        adb_of("yes").link("S1").shell("true", timeout_s=60)
    assert raised.value.details["cut"] == "output"


def test_nobody_is_waited_for_who_is_not_wanted_any_more(adb_of: MakeAdb) -> None:
    with pytest.raises(Cut):
        adb_of("sleep 600").link("S1").shell("true", timeout_s=60, keep_going=lambda: False)


def test_a_daemon_left_behind_is_not_waited_for(adb_of: MakeAdb, tmp_path: Path) -> None:
    adb = adb_of(f"sleep 60 & echo $! >{tmp_path}/child; echo Version 1")
    assert adb.version() == "1"
    os.kill(int((tmp_path / "child").read_text()), 9)


def test_a_server_that_cannot_be_reached_is_started_once(adb_of: MakeAdb, tmp_path: Path) -> None:
    body = """echo "$1" >>"$0.log"
    if [ "$1" = start-server ]; then touch "$0.up"; exit 0; fi
    if [ ! -e "$0.up" ]; then echo "error: cannot connect to daemon" >&2; exit 1; fi
    echo "List of devices attached"; echo "S1 device" """
    assert [device.serial for device in adb_of(body).devices()] == ["S1"]
    assert (tmp_path / "bin" / "adb.log").read_text().split() == ["devices", "start-server", "devices"]
    with pytest.raises(DeviceFault) as raised:
        adb_of('[ "$1" = start-server ] || { echo "error: cannot connect to daemon" >&2; exit 1; }').devices()
    assert fault(raised) == ("tool-missing", "adb-server")


def test_without_adb_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leti.device_agents.android.adb.util.find_spec", lambda name: None)
    with pytest.raises(DeviceFault) as raised:
        Adb(environment={"PATH": str(tmp_path)})
    assert fault(raised) == ("tool-missing", "adb-missing")
    assert "apt install adb" in str(raised.value)
    with pytest.raises(DeviceFault, match="no program"):
        Adb(tmp_path / "nowhere")


def test_the_program_may_be_named_in_the_environment(adb_of: MakeAdb, tmp_path: Path) -> None:
    named = adb_of().executable
    assert Adb(environment={"PATH": "", "LETI_ADB": named}).executable == named


@pytest.mark.parametrize("serial", ["", "-a", "a\nb", "a;reboot", "x" * 300])
def test_what_is_no_serial_is_refused(adb_of: MakeAdb, serial: str) -> None:
    with pytest.raises(InvalidInput):
        adb_of().link(serial)


def test_several_answers_come_from_one_call(adb_of: MakeAdb) -> None:
    link = adb_of().link("S1")
    assert link.answers("echo a; echo b", "cat /nowhere", "printf c", ":") == ("a\nb", "", "c", "")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state != "Z"


def test_answers_of_another_number_than_questions_are_refused(adb_of: MakeAdb) -> None:
    """A shell that says things twice has the words between two answers as often."""
    liar = adb_of("""case "$3" in shell) sh -c "$4" | sed p ;; esac""").link("S1")
    with pytest.raises(DeviceFault) as raised:
        liar.answers("echo a", "echo b")
    assert fault(raised) == ("device-gone", "refused")
