"""The phone of these tests behaves to real adb clients as a phone does."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from adb_server import AdbServer, every_adb, until
from phone import Phone


@every_adb
def test_commands_run_in_androids_shell_with_streams_apart_and_their_exit_codes(
    adb_server: AdbServer, android_device: Phone
) -> None:
    def shell(command: str) -> tuple[int, str, str]:
        ran = adb_server("-s", android_device.serial, "shell", command)
        return ran.returncode, ran.stdout, ran.stderr

    assert shell("echo out; echo err >&2; exit 42") == (42, "out\n", "err\n")
    assert shell("getprop ro.product.model") == (0, "Fake Phone\n", "")
    assert shell("id")[1].startswith("uid=2000(shell)")
    assert shell("kill -SEGV $$")[0] == 139
    assert shell("timeout -s KILL 1 sleep 60")[0] == 137
    assert shell("/data/local/tmp/nothing")[0] == 127
    assert shell("cat")[:2] == (0, ""), "a command reads nothing of the caller's"
    assert shell("touch /system/bin/new")[0] == 1, "the system is not for writing"
    assert shell("ls /root /home /etc/shadow")[0] != 0, "nothing of this machine is there"
    assert "status 0 mask 1" in shell("taskset 1 true; echo status $? mask 1")[1]


@every_adb
def test_files_arrive_equal_both_ways(adb_server: AdbServer, android_device: Phone, tmp_path: Path) -> None:
    there = "/data/local/tmp/new/folder/big file"
    big = tmp_path / "big"
    big.write_bytes(os.urandom(20_000_001))
    device = ("-s", android_device.serial)
    assert adb_server(*device, "push", str(big), there).returncode == 0
    digest = hashlib.sha256(big.read_bytes()).hexdigest()
    assert adb_server(*device, "shell", f"sha256sum '{there}'").stdout.split()[0] == digest
    assert adb_server(*device, "pull", there, str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    assert adb_server(*device, "pull", "/data/local/tmp/nothing", str(tmp_path / "nothing")).returncode == 1
    assert "big file" in adb_server(*device, "shell", "ls /data/local/tmp/new/folder").stdout


def test_a_folder_is_pushed_and_pulled(adb_server: AdbServer, android_device: Phone, tmp_path: Path) -> None:
    (tmp_path / "from" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        (tmp_path / "from" / name).write_text(name)
    device = ("-s", android_device.serial)
    assert adb_server(*device, "push", str(tmp_path / "from"), "/data/local/tmp/to").returncode == 0
    assert adb_server(*device, "pull", "/data/local/tmp/to", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back" / "deep" / "b").read_text() == "deep/b"


def test_an_old_phone_merges_streams_and_knows_no_exit_code(
    adb_server: AdbServer, phones: Callable[..., Phone]
) -> None:
    phone = phones(android_6=True)
    ran = adb_server("-s", phone.serial, "shell", "echo out; echo err >&2; exit 42")
    assert ran.returncode == 0
    assert "out" in ran.stdout
    assert "err" in ran.stdout
    assert "shell_v2" not in adb_server("-s", phone.serial, "features").stdout


def test_storage_that_is_full_says_so(adb_server: AdbServer, phones: Callable[..., Phone], tmp_path: Path) -> None:
    phone = phones(storage_bytes=8 << 20)
    big = tmp_path / "big"
    big.write_bytes(bytes(9 << 20))
    ran = adb_server("-s", phone.serial, "push", str(big), "/data/local/tmp/big")
    assert ran.returncode == 1
    assert "No space left on device" in ran.stdout + ran.stderr


@every_adb
@pytest.mark.parametrize(("auth", "state"), [("accept", "device"), ("deny", "unauthorized")])
def test_a_key_is_accepted_or_not(adb_server: AdbServer, phones: Callable[..., Phone], auth: str, state: str) -> None:
    phone = phones(connected=False, auth=auth)
    adb_server.connect(phone.serial, state)
    if auth == "accept":
        phone.set(auth="deny")  # a key that was accepted once is known
        adb_server("disconnect", phone.serial)
        adb_server.connect(phone.serial, "device")


@every_adb
def test_what_runs_hears_that_its_link_was_cut_and_the_next_link_works(
    adb_server: AdbServer, android_device: Phone
) -> None:
    phone = android_device
    phone.fault("shell", match="count", after_bytes=10)
    command = "for i in 1 2 3 4 5 6 7 8; do echo count $i; sleep 0.1; done; echo end"
    ran = adb_server("-s", phone.serial, "shell", command)
    assert "end" not in ran.stdout
    until(lambda: phone.processes() == [], "the command runs on")
    until(lambda: adb_server.state(phone.serial) == "device", "the link does not come back")
    assert adb_server("-s", phone.serial, "shell", "echo again").stdout == "again\n"


def test_a_phone_that_is_off_keeps_its_files_and_a_half_pushed_one(
    adb_server: AdbServer, android_device: Phone, tmp_path: Path
) -> None:
    phone = android_device
    big = tmp_path / "big"
    big.write_bytes(os.urandom(4_000_000))
    phone.fault("push", then="off", after_bytes=3_000_000)
    assert adb_server("-s", phone.serial, "push", str(big), "/data/local/tmp/big").returncode == 1
    until(lambda: not phone.is_on, "it is on")
    phone.stop()
    phone.start()
    adb_server("disconnect", phone.serial)
    adb_server.connect(phone.serial)
    size = int(adb_server("-s", phone.serial, "shell", "stat -c %s /data/local/tmp/big").stdout)
    assert 0 < size < 4_000_000


def test_connections_are_refused_for_a_while(adb_server: AdbServer, android_device: Phone) -> None:
    phone = android_device
    start = time.monotonic()
    phone.cut(refuse_s=1.5)
    until(lambda: adb_server.state(phone.serial) != "device", "the link holds")
    adb_server("disconnect", phone.serial)
    while adb_server.state(phone.serial) != "device":
        adb_server("connect", phone.serial)
        assert time.monotonic() < start + 60
    assert time.monotonic() >= start + 1.5


def test_a_line_goes_silent_without_closing(adb_server: AdbServer, android_device: Phone) -> None:
    phone = android_device
    phone.fault("start", then="stall", match="sleep")
    ended = threading.Event()

    def run() -> None:
        adb_server("-s", phone.serial, "shell", "sleep 0.1")
        ended.set()

    waiting = threading.Thread(target=run)
    waiting.start()
    assert not ended.wait(1.5)
    phone.cut()
    assert ended.wait(30)
    waiting.join()


def test_values_are_what_was_written_and_what_the_phone_is_told_is_kept(
    adb_server: AdbServer, android_device: Phone
) -> None:
    phone = android_device

    def shell(command: str) -> str:
        return adb_server("-s", phone.serial, "shell", command).stdout

    phone.temperature(status=3, battery_c=41.5)
    assert "Thermal Status: 3" in shell("dumpsys thermalservice")
    assert "temperature: 415" in shell("dumpsys battery")
    shell("cmd thermalservice override-status 1")
    assert "IsStatusOverride: true" in shell("dumpsys thermalservice")
    shell("svc power stayon true")
    assert phone.read("settings/global/stay_on_while_plugged_in") == "7"
    assert shell("settings get global nothing") == "null\n"
    (phone.root / "sys/class/thermal/thermal_zone0/temp").chmod(0)
    ran = adb_server("-s", phone.serial, "shell", "cat /sys/class/thermal/thermal_zone0/temp")
    assert (ran.returncode, "Permission denied" in ran.stderr) == (1, True)


def test_one_phone_sees_the_processes_of_all_links(adb_server: AdbServer, android_device: Phone) -> None:
    phone = android_device
    shell = ("-s", phone.serial, "shell")
    running = threading.Thread(target=adb_server, args=(*shell, "echo $$ > /data/local/tmp/pid; exec sleep 600"))
    running.start()
    until(lambda: phone.processes() == ["sleep 600"], "nothing runs")
    assert adb_server(*shell, "kill -9 $(cat /data/local/tmp/pid)").returncode == 0
    running.join(30)
    assert not running.is_alive()
    assert phone.processes() == []
