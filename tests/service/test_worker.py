"""Workers, as real processes beside a real service: they train, die, are replaced, and are told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from leti.client import LatencyClient
from leti.core.errors import TaskFailed
from leti.core.tasks import Task
from leti.core.training import EvaluationRequest, TrainingRequest
from leti.service.server import running

pytest.importorskip("sklearn", reason="needs the extra boosting")

LEASE_S = 3.0
DEADLINE_S = 120.0


@pytest.fixture
def measured(measured):
    """It goes by the real time, as workers do."""
    measured.close()
    measured.settings = replace(measured.settings, lease_s=LEASE_S)
    measured.clock = time.time
    measured.open()
    return measured


@pytest.fixture
def client(measured) -> Iterator[LatencyClient]:
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


def test_trains_while_the_service_answers(measured, client):
    request = TrainingRequest(measured.platform_id, ("flops", "linear", "lookup_table"))
    seen: list[Task] = []
    answered_at: list[datetime] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            client.health()
            answered_at.append(datetime.now(UTC))

    asking = threading.Thread(target=ask)
    with worker(measured.settings.home, "--once"):
        asking.start()
        try:
            report = client.train(request, on_progress=seen.append)
        finally:
            over.set()
            asking.join()
    assert [info.kind for info in report.predictors] == ["flops", "linear", "lookup_table"]
    task = seen[-1]
    began, ended = (datetime.fromisoformat(at) for at in (task.started_at, task.ended_at))
    assert sum(began < at < ended for at in answered_at) >= 3
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


def children(process: subprocess.Popen[bytes]) -> list[Any]:
    """Return the processes of tasks that a worker watches."""
    psutil = pytest.importorskip("psutil", reason="needs the extra agent")
    return [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def test_killed_told_to_stop_and_cancelled(measured, client):
    """A task outlives its workers: one that is killed, one that is told to stop; the third does it to the end."""
    home = measured.settings.home
    long = TrainingRequest(measured.platform_id, ("stacked",))
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
        for child in children(second):
            child.suspend()  # so that the task is not done before the worker gives it back
        second.send_signal(signal.SIGTERM)
        assert second.wait(DEADLINE_S) == 0
    assert len(measured.store.metrics.read().workers) == 1
    given_back = client.task(task.id)
    assert (given_back.state, given_back.deaths) == ("queued", 1)
    with worker(home) as third:
        done = client.wait_for_task(task.id, timeout_s=DEADLINE_S)
        assert (done.attempts, done.deaths) == (3, 1)
        said = [line.message for line in client.task_log(task.id).items]
        assert any("fell silent" in line for line in said)
        assert any(line.startswith("given back") for line in said)
        assert len(client.predictors()) == 1  # those before left nothing behind

        another = client.start_training(long)
        until(training(1, another))
        assert client.cancel_task(another.id).state == "cancelled"
        with pytest.raises(TaskFailed, match="cancelled"):
            client.wait_for_task(another.id)
        (evaluation,) = client.evaluate(EvaluationRequest(measured.platform_id)).evaluations
        assert evaluation.metrics is None
        assert third.poll() is None
    assert [info.kind for info in client.predictors()] == ["stacked"]


def test_a_task_that_kills_its_process_costs_no_worker(measured, client, tmp_path):
    """As a native library that crashes would: here it is the test that kills the process, each time it begins."""
    task = client.start_training(TrainingRequest(measured.platform_id, ("flops",)))
    with worker(measured.settings.home) as process:

        def killed() -> bool:
            for child in children(process):
                child.kill()
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
