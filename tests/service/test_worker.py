"""Workers, as real processes beside a real service: they train, die, are replaced, and are told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leti.client import LatencyClient
from leti.core.errors import TaskFailed
from leti.core.tasks import Task
from leti.core.training import EvaluationRequest, TrainingRequest
from leti.service.server import running
from leti.service.store.predictors import PredictorStore

pytest.importorskip("sklearn", reason="needs the extra boosting")

LEASE_S = 3.0
DEADLINE_S = 240.0


@pytest.fixture
def measured(measured):
    """It goes by the real time, as workers do."""
    measured.close()
    measured.settings = replace(measured.settings, lease_s=LEASE_S)
    measured.clock = time.time
    measured.open()
    return measured


@pytest.fixture
def client(measured, hold) -> Iterator[LatencyClient]:
    with running(measured.settings) as url, LatencyClient(url) as client:
        yield client


@contextmanager
def worker(home: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``leti worker`` for the length of a block."""
    command = [sys.executable, "-m", "leti.cli", "worker", "--home", str(home), *options]
    environment = {**os.environ, "LETI_LEASE_S": str(LEASE_S), "LETI_STOP_S": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_trains_while_the_service_answers(measured, client, hold):
    request = TrainingRequest(measured.platform_id, ("linear", "lookup_table", "held"))
    seen: list[Task] = []

    def watch(task: Task) -> None:
        seen.append(task)
        if task.progress.stage == "training held":
            assert client.health().status == "ok"
            assert client.register_platform(measured.platform).id == measured.platform_id
            hold.unlink(missing_ok=True)

    with worker(measured.settings.home, "--once"):
        report = client.train(request, on_progress=watch)
    assert not hold.exists()
    assert [info.kind for info in report.predictors] == ["linear", "lookup_table", "held"]
    task = seen[-1]
    assert (task.state, task.attempts, task.deaths) == ("done", 1, 0)
    assert task.progress.done == task.progress.total == 3
    lines = client.task_log(task.id).items
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0].message.startswith("begun by ")
    assert any(line.message.startswith("linear: off by ") for line in lines)
    assert client.task_log(task.id, after=len(lines)).items == ()
    (promotion,) = client.promotions(measured.platform_id)
    assert promotion.reason == "trained"
    assert client.tasks(kind="train", state="done").items == (task,)


def test_who_sees_the_end_of_a_training_finds_all_that_it_told(measured, monkeypatch):
    task = measured.store.tasks.add(
        "train", measured.platform_id, TrainingRequest(measured.platform_id, ("flops",)), by="somebody"
    )
    add, found = PredictorStore.add, []

    def look(*given: Any) -> Any:
        added = add(*given)
        found.append((measured.store.tasks.get(task.id), measured.store.tasks.log(task.id, after=0, limit=99)))
        return added

    monkeypatch.setattr(PredictorStore, "add", look)
    assert measured.run_tasks() == 1
    assert found == [(measured.store.tasks.get(task.id), measured.store.tasks.log(task.id, after=0, limit=99))]
    assert found[0][0].state == "done"
    assert len(found[0][1].items) > 1


def kill_tasks(process: subprocess.Popen[bytes]) -> None:
    """Kill the processes of tasks that a worker watches; one that has just ended needs it no more."""
    psutil = pytest.importorskip("psutil", reason="needs the extra agent")
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()


def test_killed_told_to_stop_and_cancelled(measured, client, hold):
    """A task outlives its workers: one that is killed, one that is told to stop; the third does it to the end."""
    home = measured.settings.home
    long = TrainingRequest(measured.platform_id, ("held",))
    task = client.start_training(long)
    assert task.state == "queued"

    def training(attempt: int, task: Task = task) -> Callable[[], bool]:
        def check() -> bool:
            found = measured.store.tasks.get(task.id)
            return found.attempts == attempt and found.progress.stage.startswith("training")

        return check

    with worker(home) as first:
        until(training(1))
        first.kill()
        first.wait()
    with worker(home) as second:
        until(training(2))
        assert len(measured.store.metrics.read().workers) == 2  # the first could not say that it ends
        second.send_signal(signal.SIGTERM)
        assert second.wait(DEADLINE_S) == 0
    assert len(measured.store.metrics.read().workers) == 1
    given_back = client.task(task.id)
    assert (given_back.state, given_back.deaths) == ("queued", 1)
    hold.unlink()
    with worker(home) as third:
        done = client.wait_for_task(task.id, timeout_s=DEADLINE_S)
        assert (done.attempts, done.deaths) == (3, 1)
        said = [line.message for line in client.task_log(task.id).items]
        assert any("fell silent" in line for line in said)
        assert any(line.startswith("given back") for line in said)
        assert len(client.predictors()) == 1  # those before left nothing behind

        hold.touch()
        another = client.start_training(long)
        until(training(1, another))
        assert client.cancel_task(another.id).state == "cancelled"
        with pytest.raises(TaskFailed, match="cancelled"):
            client.wait_for_task(another.id)
        (evaluation,) = client.evaluate(EvaluationRequest(measured.platform_id)).evaluations
        assert evaluation.metrics is None
        assert third.poll() is None
    assert [info.kind for info in client.predictors()] == ["held"]


def test_a_task_that_kills_its_process_costs_no_worker(measured, client):
    """As a native library that crashes would: here it is the test that kills the process, each time it begins."""
    task = client.start_training(TrainingRequest(measured.platform_id, ("held",)))
    with worker(measured.settings.home) as process:

        def killed() -> bool:
            kill_tasks(process)
            return measured.store.tasks.get(task.id).ended

        until(killed)
        with pytest.raises(TaskFailed, match="SIGKILL"):
            client.wait_for_task(task.id)
        assert client.task(task.id).deaths == measured.settings.max_deaths
        assert process.poll() is None


def test_trains_several_platforms_on_ray(measured, client):
    pytest.importorskip("ray", reason="needs the extra ray")
    tasks = [client.start_training(TrainingRequest(measured.platform_id, (kind,))) for kind in ("flops", "linear")]
    with worker(measured.settings.home, "--engine", "ray", "--processes", "2", "--once") as process:
        assert process.wait(DEADLINE_S) == 0
    ended = [client.task(task.id) for task in tasks]
    assert [task.state for task in ended] == ["done", "done"]
    assert [len(task.report["predictors"]) for task in ended] == [1, 2], "the champion's kind is trained beside"
    assert client.task_log(ended[0].id).items
