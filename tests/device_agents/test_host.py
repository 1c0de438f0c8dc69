"""What an agent says of its machine, and what it does to its own thread."""

import os
import sys
import threading
from pathlib import Path

import pytest

from leti.core.measurement import Conditions

pytest.importorskip("psutil", reason="the agent extra is not installed")
host = pytest.importorskip("leti.device_agents.desktop.host", reason="the agent extra is not installed")

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux schedules by affinity")


def test_the_device_is_this_machine() -> None:
    device = host.desktop_device()
    assert device.kind == "desktop"
    assert device.cores == os.cpu_count()
    assert device.name
    assert device.soc
    assert host.desktop_device() == device


def test_conditions_are_plausible_or_absent() -> None:
    monitor = host.Monitor()
    for _ in range(2):
        conditions = monitor.conditions()
        assert isinstance(conditions, Conditions)
        assert conditions.load is None or conditions.load >= 0
        assert conditions.steal is None or 0 <= conditions.steal <= 1
        assert conditions.frequency_mhz is None or 100 < conditions.frequency_mhz < 20_000
        assert conditions.temperature_c is None or -50 < conditions.temperature_c < 150


def test_a_system_that_tells_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(host.os, "getloadavg", refuse)
    monkeypatch.setattr(host.psutil, "cpu_freq", refuse)
    monkeypatch.setattr(host.psutil, "sensors_temperatures", refuse, raising=False)
    monkeypatch.setattr(host.Path, "read_text", refuse)
    assert host.Monitor().conditions() == Conditions()
    assert host.desktop_device().soc


@linux
def test_measuring_cores_are_the_last_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: {0, 2, 5})
    assert host.measuring_cores() == (5,)
    assert host.measuring_cores(2) == (2, 5)
    assert host.measuring_cores(4) == ()
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: {0})
    assert host.measuring_cores() == (0,)


@linux
def test_pinning_holds_inside_the_block_and_for_this_thread_alone() -> None:
    before = os.sched_getaffinity(0)
    seen: dict[str, set[int]] = {}
    go, done = threading.Event(), threading.Event()

    def other() -> None:
        go.wait(60)
        seen["other"] = os.sched_getaffinity(0)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    core = max(before)
    with host.scheduled((core,)) as realtime:
        assert os.sched_getaffinity(0) == {core}
        assert realtime is False
        go.set()
        assert done.wait(60)
    thread.join()
    assert seen["other"] == before
    assert os.sched_getaffinity(0) == before
    with host.scheduled(()):
        assert os.sched_getaffinity(0) == before


@linux
def test_realtime_is_asked_for_and_given_back() -> None:
    with host.scheduled((), realtime=True) as granted:
        assert (os.sched_getscheduler(0) == os.SCHED_FIFO) is granted
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@linux
def test_realtime_that_is_refused_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(host.os, "sched_setscheduler", refuse)
    with host.scheduled((), realtime=True) as granted:
        assert granted is False


def test_other_cores_are_those_beside_the_measuring_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_affinity", lambda: {0, 2, 5})
    assert host.other_cores((5,)) == (0, 2)
    assert host.other_cores((0, 2, 5)) == ()
    assert host.other_cores(()) == ()


def lay_clocks(folder: Path) -> None:
    """Lay the files that Linux tells clocks by: cores 3 and 4, with one governor each."""
    for core, lines in {3: ("1800000", "3600000", "performance"), 4: ("900000", "2000000", "powersave")}.items():
        at = folder / f"cpu{core}" / "cpufreq"
        at.mkdir(parents=True)
        for name, line in zip(("scaling_cur_freq", "scaling_max_freq", "scaling_governor"), lines, strict=True):
            (at / name).write_text(f"{line}\n")
    (folder / "intel_pstate").mkdir()
    (folder / "intel_pstate" / "no_turbo").write_text("1\n")


def test_clocks_are_those_of_the_measuring_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lay_clocks(tmp_path)
    monkeypatch.setattr(host, "CPUS", tmp_path)
    both, slow = host.Monitor((3, 4)).conditions(), host.Monitor((4,)).conditions()
    assert (both.frequency_mhz, both.frequency_cap_mhz) == (1800, 3600)
    assert (slow.frequency_mhz, slow.frequency_cap_mhz) == (900, 2000)
    untold = host.Monitor((5,)).conditions()
    assert untold.frequency_cap_mhz is None


def test_what_tells_runs_apart_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lay_clocks(tmp_path)
    monkeypatch.setattr(host, "CPUS", tmp_path)
    facts = dict(host.run_facts((3, 4)))
    assert facts["kernel"] == os.uname().release
    assert facts["cpu_governor"] == "performance powersave"
    assert facts["intel_no_turbo"] == "1"
    assert dict(host.run_facts((3,)))["cpu_governor"] == "performance"
    assert "cpu_governor" not in dict(host.run_facts())


def test_a_platform_says_what_networks_are_stored_in() -> None:
    class Runtime:
        runtime, runtime_version, delegate, threads, precision = "r", "1", "none", 1, "fp16"

    platform = host.desktop_platform(Runtime(), pin=False, model_precision="full_integer")
    assert (platform.precision, platform.model_precision, platform.affinity) == ("fp16", "full_integer", ())
    assert platform.id != host.desktop_platform(Runtime(), pin=False).id
