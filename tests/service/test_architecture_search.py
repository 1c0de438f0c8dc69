"""Architecture search against the real service: two platforms, whose predictors learnt different things."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xgboost", reason="needs the extra `boosting`")
pytest.importorskip("optuna", reason="needs the extra `compression`")

from leti.client import LatencyClient
from leti.compression.architecture.fronts import hypervolume
from leti.compression.architecture.search import search
from leti.core.device import Device, Platform
from leti.core.errors import ArtifactError, Conflict, InvalidInput, NotFound
from leti.core.queries import Encodings, PredictionRequest
from leti.core.searching import LatencyLimit
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.service.server import running

OTHER = Platform(Device("phone", "android", "soc", 8), "litert", "2.3.0", "xnnpack")
WORTH = (0.0, 0.3, 0.7, 1.0, 0.4)


@pytest.fixture(scope="module")
def learned(learned_apart):
    return learned_apart


@pytest.fixture(scope="module")
def platforms(learned):
    """Both platforms of the service, the second with a predictor that counts FLOPs alone."""
    made = type(learned)(learned.settings, OTHER)
    made.add_campaign("other", count=60, seed=1)
    made.measure_all()
    made.train("flops")
    made.close()
    return learned.platform_id, OTHER.id


@pytest.fixture(scope="module")
def url(learned, platforms):
    with running(learned.settings) as found:
        yield found


@pytest.fixture(scope="module")
def client(url):
    with LatencyClient(url) as made:
        yield made


@pytest.fixture(scope="module")
def limits(client, platforms, learned):
    """What about a third of all networks keep on both platforms."""
    vectors = tuple(get_space("nasbench201").encode(s) for s in get_space("nasbench201").sample(200, 9, learned.small))
    answer = client.predict_columns(
        PredictionRequest(platforms, encodings=Encodings("nasbench201", vectors, learned.small), coverage=0.8)
    )
    return tuple(
        LatencyLimit(columns.platform_id, sorted(columns.high_ms)[count])
        for columns, count in zip(answer.platforms, (80, 100), strict=True)
    )


def score(spec, graph):
    choices = get_space(spec.space).encode(spec)
    assert graph.fingerprint() == lower(spec).fingerprint()
    return sum(WORTH[c] * (1 + 0.1 * edge) for edge, c in enumerate(choices)) - 0.5 * (choices[0] == choices[5])


def searched(client, limits, learned, objective=score, **how):
    how = {"generations": 4, "population": 8, "draws": 100, **how}
    return search("nasbench201", client=client, limits=limits, objective=objective, config=learned.small, **how)


def untimed(result):
    return [(point.choices, point.generation, point.latencies, point.values, point.failure) for point in result.points]


@pytest.mark.parametrize("strategy", ["evolution", "random", "nsga2"])
def test_every_point_keeps_both_limits_and_a_seed_says_all(client, limits, learned, strategy):
    told = []
    found = searched(client, limits, learned, strategy=strategy, seed=3, progress=told.append)
    assert untimed(found) == untimed(searched(client, limits, learned, strategy=strategy, seed=3))
    kinds = {get_space("nasbench201").isomorphism_class(point.spec) for point in found.points}
    assert found.counts.evaluated == len(found.points) == len(kinds) == 32
    ids = tuple(limit.platform_id for limit in limits)
    specs = tuple(point.spec.to_json() for point in found.points)
    answers = client.predict(PredictionRequest(ids, specs, coverage=0.8)).platforms
    for i, point in enumerate(found.points):
        for latency, limit, answer in zip(point.latencies, limits, answers, strict=True):
            assert latency.bound_ms == answer.items[i].high_ms
            assert latency.bound_ms <= limit.at_most_ms
            assert latency.latency_ms == answer.items[i].latency_ms
            assert (latency.source == "measured") == (answer.items[i].source == "measured")
            assert latency.low_ms <= latency.latency_ms <= latency.high_ms
        assert point.values == {"objective": score(point.spec, lower(point.spec))}
    aims = {id(p): (p.values["objective"], *(-one.latency_ms for one in p.latencies)) for p in found.points}
    for point in found.points:  # nothing on the front is beaten, and everything else is
        beaten = any(
            all(a >= b for a, b in zip(other, aims[id(point)], strict=True)) and other != aims[id(point)]
            for other in aims.values()
        )
        assert beaten != any(point is one for one in found.front)
    counts = found.counts
    assert counts.requests == 4
    assert counts.latencies == 2 * counts.drawn
    assert counts.drawn > counts.fitting >= 32
    assert [step.evaluated for step in told] == 4 * list(range(9))
    for limit in limits:
        assert 0 < found.least_ms[limit.platform_id] < limit.at_most_ms


def test_evolution_dominates_more_than_chance_at_equal_evaluations(client, limits, learned):
    def volume(strategy, seed):
        found = searched(client, limits, learned, strategy=strategy, seed=seed, generations=5, draws=120)
        values = [(p.values["objective"], *(-one.latency_ms for one in p.latencies)) for p in found.front]
        return hypervolume(np.array(values), np.array([-1.0, *(-limit.at_most_ms for limit in limits)]))

    for seed in range(2):
        assert volume("evolution", seed) > volume("random", seed)


def test_a_search_that_was_interrupted_goes_on(client, limits, learned, tmp_path):
    calls = []

    def objective(spec, graph):
        if len(calls) == 13:
            calls.append(None)
            raise KeyboardInterrupt
        calls.append(spec)
        if len(calls) % 5 == 0:
            return float("nan")
        if len(calls) % 7 == 0:
            raise ValueError("no room on the disk")
        return {"worth": score(spec, graph), "thrift": -float(graph.params)}

    with pytest.raises(KeyboardInterrupt):
        searched(client, limits, learned, objective, out=tmp_path)
    file = tmp_path / "evaluations.jsonl"
    whole = file.read_bytes()
    assert whole.count(b"\n") == 1 + 13
    file.write_bytes(whole + b'{"choices": [1, 2')  # as a process that was killed leaves it
    found = searched(client, limits, learned, objective, out=tmp_path)
    assert found.counts.reused == 13
    assert found.counts.evaluated == 32 - 13 == len(calls) - 14
    failures = [point.failure for point in found.points if point.failure]
    assert failures[0].startswith("InvalidInput: objective is nan")
    assert "ValueError: no room on the disk" in failures
    assert found.objectives == ("worth", "thrift")
    assert len(failures) == found.counts.failed > 5
    assert any(str(len(failures)) in note for note in found.notes)
    again = searched(client, limits, learned, objective, out=tmp_path)
    assert untimed(again) == untimed(found)
    assert (again.counts.evaluated, again.counts.reused) == (0, 32)
    assert file.read_bytes().startswith(whole)
    with pytest.raises(Conflict, match="another"):
        searched(client, limits, learned, score, out=tmp_path)
    file.write_bytes(whole.replace(b'"failure"', b'"fate"', 1))
    with pytest.raises(ArtifactError, match="line 2"):
        searched(client, limits, learned, objective, out=tmp_path)


@pytest.mark.parametrize("strategy", ["evolution", "nsga2"])
def test_a_budget_that_hardly_anything_keeps_is_approached(client, limits, learned, strategy):
    def tight(least):
        return [LatencyLimit(one.platform_id, 1.05 * least[one.platform_id]) for one in limits]

    nothing = [LatencyLimit(one.platform_id, 1e-6) for one in limits]
    found = searched(client, nothing, learned, strategy=strategy, generations=2)
    assert (found.points, found.front, found.notes) == ((), (), ("nothing that was drawn keeps every limit",))
    found = searched(client, tight(found.least_ms), learned, strategy=strategy, draws=100, population=4)
    assert 0 < len(found.points) <= 16
    for point in found.points:
        for latency, limit in zip(point.latencies, tight(found.least_ms), strict=True):
            assert latency.bound_ms <= 1.05 * limit.at_most_ms


def test_what_cannot_be_searched_is_said(client, limits, learned):
    for field, how in {
        "strategy": {"strategy": "luck"},
        "generations": {"generations": 0},
        "draws": {"draws": 4},
        "objective": {"objective": "no.such:thing"},
        "out": {"out": Path(os.devnull)},
    }.items():
        with pytest.raises(InvalidInput) as told:
            searched(client, limits, learned, **how)
        assert told.value.field == field
    for wrong in ((), limits[:1] * 2):
        with pytest.raises(InvalidInput, match="limits"):
            searched(client, wrong, learned)
    with pytest.raises(NotFound):
        searched(client, (LatencyLimit("nowhere", 1.0),), learned)


OBJECTIVE = """
import os, pathlib, signal
from leti.generator.spaces import get_space

def worth(spec, graph):
    calls = pathlib.Path("calls")
    with calls.open("a") as file:
        file.write("x")
    if len(calls.read_text()) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(get_space(spec.space).encode(spec))
"""


def test_the_command_goes_on_after_it_was_killed(url, limits, tmp_path):
    (tmp_path / "my_search.py").write_text(OBJECTIVE)
    ids, budgets = ",".join(one.platform_id for one in limits), ",".join(f"{one.at_most_ms}ms" for one in limits)
    command = [sys.executable, "-m", "leti.cli", "search", "--space", "nasbench201", "--platform", ids]
    command += ["--budget", budgets, "--objective", "my_search:worth", "--url", url, "--generations", "2"]
    command += ["--population", "5", "--draws", "60", "--config", '{"modules_per_stack": 1}', "--out", "kept"]
    command += ["--json", "found.json", "--csv", "found.csv", "--plot", "found", "--only", "1=0,1,3/5=2,3"]
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    how = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 140, "check": False}
    assert subprocess.run(command, **how).returncode == -signal.SIGKILL
    done = subprocess.run(command, **how)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "calls").read_text()) == 6 + 5  # the sixth was lost, the five before it were not
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["counts"]["evaluated"], found["counts"]["reused"]) == (5, 5)
    assert "5 evaluations, 5 more from" in done.stdout
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert len(rows) == 10
    for row in rows:
        choices = row["network"].removeprefix("nasbench201:").split(",")
        assert choices[1] in "013"
        assert choices[5] in "23"
    on_front = [row["network"] for row in rows if row["front"] == "yes"]
    assert sorted(on_front) == sorted(f"nasbench201:{','.join(map(str, p['choices']))}" for p in found["front"])
    for network in on_front:
        assert network in done.stdout
