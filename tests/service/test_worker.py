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
from pathlib import Path

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
def measured(house):
    """A house in which enough was measured to train on; its clock is the real one, as workers' are."""
    house.close()
    house.settings = replace(house.settings, lease_s=LEASE_S, auth=False)
    house.clock = time.time
    house.open()
    house.add_campaign(count=40)
    house.measure_all()
    return house


@pytest.fixture
def client(measured) -> Iterator[LatencyClient]:
    with running(measured.settings) as url, LatencyClient(url) as client:
        yield client


@contextmanager
def worker(home: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``leti worker`` for the length of a block."""
    command = [sys.executable, "-m", "leti.cli", "worker", "--home", str(home), *options]
    environment = {**os.environ, "LETI_LEASE_S": str(LEASE_S), "OMP_NUM_THREADS": "1"}
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
    slowest = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            started = time.monotonic()
            client.health()
            slowest.append(time.monotonic() - started)

    asking = threading.Thread(target=ask)
    with worker(measured.settings.home, "--once"):
        asking.start()
        try:
            report = client.train(request, on_progress=seen.append)
        finally:
            over.set()
            asking.join()
    assert [info.kind for info in report.predictors] == ["flops", "linear", "lookup_table"]
    assert max(slowest) < 5
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
