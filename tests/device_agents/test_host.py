"""What an agent says of its machine, and what it does to its own thread."""

import os
import sys
import threading

import pytest

from leti.core.measurement import Conditions

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
        go.wait(10)
        seen["other"] = os.sched_getaffinity(0)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    core = max(before)
    with host.scheduled((core,)) as realtime:
        assert os.sched_getaffinity(0) == {core}
        assert realtime is False
        go.set()
        assert done.wait(10)
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
