"""The measuring process: it stays from batch to batch, is replaced when it must be, and ends with its agent."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from bench_suite import Told
from desktop_benches import ENDLESS, Make, await_end, child, is_alive, kill_child, linux, run
from mischief import MEGABYTE

from leti.core.errors import DeviceFault
from leti.device_agents.bench import Finding, Wanted

pytest.importorskip("psutil", reason="the agent extra is not installed")
keeper = pytest.importorskip("leti.device_agents.desktop.keeper", reason="the agent extra is not installed")


def test_the_process_stays_from_batch_to_batch(make: Make) -> None:
    bench = make()
    first = child(bench)
    for _ in range(3):
        assert isinstance(run(bench, "ok 100")[0], Finding)
    assert child(bench) == first
    assert list(bench._folder.glob("*.model")) == []  # type: ignore[attr-defined]


@linux
@pytest.mark.parametrize("realtime", [False, True])
def test_the_process_runs_where_and_how_the_recipe_says(make: Make, realtime: bool) -> None:
    bench = make(realtime=realtime)
    (found,) = run(bench, "ok 100")
    granted = os.sched_getscheduler(child(bench)) == os.SCHED_FIFO
    assert dict(found.recipe.protocol)["realtime"] == granted <= realtime
    assert tuple(os.sched_getaffinity(child(bench))) == bench.platform.affinity
    assert os.getsid(child(bench)) != os.getsid(0), "a terminal's signals must not reach it"


def test_an_interruption_in_the_middle_leaves_no_answer_behind(make: Make) -> None:
    bench = make()
    asked: list[None] = []

    def interrupted() -> bool:
        asked.append(None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.measure([Wanted(b"ok 100")] * 5, b"ok 200", keep_going=interrupted, waiting=lambda _: None)
    assert asked
    assert len(run(bench, "ok 100", "ok 300")) == 2


def test_a_process_that_dies_between_batches_is_replaced(make: Make) -> None:
    bench = make()
    kill_child(bench)
    assert isinstance(run(bench, "ok 100")[0], Finding)


def test_a_process_that_keeps_memory_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MOST_GROWTH_BYTES", 50 * MEGABYTE)
    bench = make()
    first = child(bench)
    run(bench, "ok 100")
    run(bench, "take 80")
    assert child(bench) == first
    run(bench, "leak 80")
    assert bench._keeper._child is None  # type: ignore[attr-defined]
    run(bench, "ok 100")
    assert child(bench) != first


def test_a_process_is_replaced_after_many_batches(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MOST_BATCHES", 2)
    bench = make()
    first = child(bench)
    for _ in range(3):
        assert isinstance(run(bench, "ok 100")[0], Finding)
    assert child(bench) != first


def test_closing_ends_the_process_and_leaves_no_files(make: Make) -> None:
    bench = make()
    pid, folder = child(bench), bench._folder  # type: ignore[attr-defined]
    bench.close()
    assert not is_alive(pid)
    assert not folder.exists()


@pytest.mark.parametrize("deed", ["ok 100", "doze run", "hang run", "hang load"])
def test_stopping_takes_moments_even_if_a_model_hangs(make: Make, deed: str) -> None:
    bench = make(protocol=ENDLESS)
    start_s = time.monotonic()
    until = start_s + 1.0

    def keep_going() -> bool:
        return time.monotonic() < until

    assert bench.measure([Wanted(deed.encode())], b"ok 100", keep_going=keep_going, waiting=lambda _: None) is None
    assert time.monotonic() - start_s < 30
    assert run(bench, "ok 100", told=Told(stop_after=1)) is None


def test_what_killed_agents_leave_behind_is_removed(
    make: Make, mischief: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(mischief), prepend=os.pathsep)
    monkeypatch.setattr(tempfile, "tempdir", None)
    in_use = make()
    foreign = tmp_path / "leti-bench-of-somebody"
    foreign.mkdir()
    doomed = subprocess.Popen([sys.executable, "-c", PARENT, "idle"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert doomed.stdin is not None
    assert doomed.stdout is not None
    with doomed.stdin, doomed.stdout:
        doomed.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 3
        doomed.kill()
        doomed.wait()
    make()
    left = set(tmp_path.iterdir())
    assert len(left) == 3
    assert {in_use._folder, foreign} < left  # type: ignore[attr-defined]
    assert isinstance(run(in_use, "ok 100")[0], Finding)


PARENT = """
import sys
from leti.device_agents.bench import Wanted
from leti.device_agents.desktop.bench import DesktopBench
from leti.device_agents.timing import Protocol
bench = DesktopBench("mischief", protocol=Protocol(passes=100_000, retries=0))
print(bench._keeper._child._process.pid, flush=True)
if sys.argv[1] != "idle":
    bench.measure([Wanted(sys.argv[1].encode())], b"ok 100", keep_going=lambda: True, waiting=print)
sys.stdin.read()
"""


@linux
@pytest.mark.parametrize("deed", ["idle", "ok 100", "hang run", "hang load"])
def test_the_process_ends_with_its_parent(mischief: Path, monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(mischief), prepend=os.pathsep)
    command = [sys.executable, "-c", PARENT, deed]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid = int(parent.stdout.readline())
        time.sleep(1.0)
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        await_end(pid)


def test_processes_leave_no_files_behind(make: Make) -> None:
    bench = make()
    folder = bench._folder  # type: ignore[attr-defined]
    for _ in range(3):
        kill_child(bench)
        assert isinstance(run(bench, "ok 100")[0], Finding)
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "progress-4"]


def test_a_folder_that_cannot_be_written_to_is_the_machines_fault_and_no_networks(make: Make) -> None:
    bench = make()
    shutil.rmtree(bench._folder)  # type: ignore[attr-defined]
    with pytest.raises(DeviceFault, match="cannot be written to") as caught:
        run(bench, "ok 100")
    assert caught.value.details["failure"] == "no-space"
    bench._folder.mkdir()  # type: ignore[attr-defined]
    assert isinstance(run(bench, "ok 100")[0], Finding)
