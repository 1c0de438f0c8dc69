"""The examples of searches run against a service, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xgboost", reason="needs the extra `boosting`")

from leti.service.server import running

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def url(learned):
    with running(learned.settings) as found:
        yield found


def run(name, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LETI_")}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.splitlines()


def test_evolution_keeps_the_limit_and_gets_better(url):
    *generations, cell = run("evolutionary_search.py", url)
    scores = [float(line.split("best score ")[1].split()[0]) for line in generations]
    assert len(scores) == 10
    assert scores == sorted(scores)
    last = generations[-1].split(" at ")[1]
    assert float(last.split(" ms")[0]) <= float(last.split(" of ")[1].split(" ms")[0])
    assert cell.startswith("nasbench201:")


def test_optuna_finds_a_front(url):
    pytest.importorskip("optuna", reason="an example alone needs it")
    told, *front = run("optuna_search.py", url, "200")
    assert " of 200 cells are on the front of " in told
    latencies = [float(line.split()[0]) for line in front]
    scores = [float(line.split()[-1]) for line in front]
    assert latencies == sorted(latencies)
    assert scores == sorted(scores), "a slower cell of the front scores higher"
