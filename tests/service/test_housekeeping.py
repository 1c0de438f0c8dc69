"""What has served its time goes; what is waited for has an end; workers are known while they live."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import insert

from leti.core.errors import NotFound
from leti.service.store import NewLine, sweeping
from leti.service.store import predictions as kept
from leti.service.tables import datasets, predictors, reference_latencies
from leti.service.tasks.housekeeping import sweep

DATABASES = ("sqlite", "postgresql")
BINARY = {"content-type": "application/octet-stream"}
DAY_S = 86_400.0


def send(house, content, **headers):
    return house.client.post("/v1/uploads", params={"format": "tflite"}, content=content, headers={**BINARY, **headers})


def count(house, table):
    return house.rows(f"SELECT count(*) FROM {table}")[0][0]


def test_tasks_go_when_their_time_is_over_with_their_logs(house, monkeypatch):
    monkeypatch.setattr(sweeping, "TASKS_AT_ONCE", 2)
    settings = replace(house.settings, keep_tasks_days=10)
    sent = [send(house, content).json() for content in (b"one", b"two", b"three", b"four")]
    assert house.run_tasks() == 4
    house.clock.now += 6 * DAY_S
    young = send(house, b"five").json()
    assert house.run_tasks() == 1
    waiting = send(house, b"six").json()
    held = house.store.tasks.claim("somebody", ("read-upload",))
    house.store.tasks.report(held.hold, house.store.tasks.get(held.hold.task_id).progress, [NewLine(1.0, "info", "x")])
    house.clock.now += 5 * DAY_S
    assert sweep(house.store, settings, threading.Event())["tasks"] == 4
    for upload in sent:
        with pytest.raises(NotFound):
            house.store.tasks.get(upload["task_id"])
        assert house.store.uploads.get(upload["id"]).task_id is None, "what was uploaded stays"
    assert house.store.tasks.get(young["task_id"]).state == "done"
    assert house.store.tasks.get(waiting["task_id"]).state == "running", "what has not ended has no time"
    assert {row[0] for row in house.rows("SELECT task_id FROM task_logs")} == {young["task_id"], waiting["task_id"]}
    again = send(house, b"one").json()
    assert again["id"] == sent[0]["id"]
    assert house.store.tasks.get(again["task_id"]).state == "queued", "it can be read again"
    assert not any(sweep(house.store, settings, threading.Event()).values())


@pytest.fixture
def predicting(house):
    """A house with a predictor in its database, which nobody trained."""
    house.add_platform()
    reference = house.store.platforms.get(house.platform_id).reference
    made = {"platform_id": house.platform_id, "created_at": 1.0}
    with house.store._database.writing() as connection:
        connection.execute(
            insert(reference_latencies).values(
                id=1, version=1, reference=reference, latency_ms=1.0, measurements=1, **made
            )
        )
        connection.execute(insert(datasets).values(id=1, reference_latency_id=1, holdout_share=0.2, seed=0, **made))
        connection.execute(
            insert(predictors).values(
                id=1, dataset_id=1, kind="flops", version=1, active=True, artifact_sha256="a" * 64, metrics={},
                cross_validation_mdape=0.1, **made,
            )
        )  # fmt: skip
    return house


def keep(house, names, coverage=0.9):
    columns = [1.0] * len(names), [0.5] * len(names), [2.0] * len(names)
    house.store.predictions.keep(1, coverage, names, *columns)


@pytest.mark.sqlite
def test_what_is_remembered_of_predictions_has_an_end(predicting, monkeypatch):
    monkeypatch.setattr(kept, "MAX_REMEMBERED", 10)
    for coverage in range(1, 100):
        keep(predicting, ["a" * 64], coverage / 100)
        keep(predicting, ["a" * 64], coverage / 100)
    assert sum(map(len, predicting.store.predictions._kept.values())) <= 10
    assert len(predicting.store.predictions._kept) <= 10, "whoever asks may choose any coverage"
    predicting.store.predictions.flush()
    assert count(predicting, "predictions") == 99


def test_the_oldest_predictions_go_first(predicting, monkeypatch):
    monkeypatch.setattr(sweeping, "PREDICTIONS_AT_ONCE", 3)
    house = predicting
    for start in (0, 4, 8):
        names = [f"{i:064x}" for i in range(start, start + 4)]
        keep(house, names)
        house.clock.now += 1
    house.store.predictions.flush()
    assert sweep(house.store, replace(house.settings, keep_predictions=12), threading.Event())["predictions"] == 0
    gone = sweep(house.store, replace(house.settings, keep_predictions=7), threading.Event())["predictions"]
    assert gone == 8, "those of one moment go together"
    left = {int(row[0], 16) for row in house.rows("SELECT fingerprint FROM predictions")}
    assert left == {8, 9, 10, 11}


def test_what_waits_for_workers_has_an_end(guarded_by, problem_of):
    house = guarded_by(max_waiting_tasks=2)
    client = house.bearer("client")
    sent = [send(house, content, **client) for content in (b"one", b"two", b"three")]
    assert [answer.status_code for answer in sent[:2]] == [201, 201]
    said = problem_of(sent[2], 429, "too-many-requests")
    assert "2 tasks of the kind read-upload wait" in said["detail"]
    assert sent[2].headers["retry-after"] == "60"
    house.run_tasks()
    again = send(house, b"three", **client)
    assert again.status_code in (200, 201)
    assert house.store.tasks.get(again.json()["task_id"]).state == "queued"


def test_workers_are_known_until_they_end_or_are_forgotten(house):
    workers = house.store.workers
    workers.seen("one", "1.0")
    house.clock.now += 30
    workers.seen("two", "1.0")
    assert [(worker.name, worker.silent_s) for worker in house.store.metrics.read().workers] == [
        ("one", 30.0),
        ("two", 0.0),
    ]
    workers.ended("two")
    workers.seen("one", "1.1", started_at=house.clock.now - 30)
    assert [(worker.version, worker.silent_s) for worker in house.store.metrics.read().workers] == [("1.1", 0.0)]
    house.clock.now += 2 * DAY_S
    assert sweep(house.store, house.settings, threading.Event())["workers"] == 1
    assert house.store.metrics.read().workers == ()
