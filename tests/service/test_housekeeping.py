"""What has served its time goes; what is waited for has an end; workers are known while they live."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest
from sqlalchemy import insert

from leti.core.codec import to_json
from leti.core.errors import NotFound
from leti.core.queries import Encodings, PredictionRequest
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
    gone = sweep(house.store, settings, threading.Event())
    assert (gone["tasks"], gone["uploads"]) == (4, 4), "they came to nothing: none of them is a model"
    for upload in sent:
        with pytest.raises(NotFound):
            house.store.tasks.get(upload["task_id"])
        with pytest.raises(NotFound):
            house.store.uploads.get(upload["id"])
    assert house.store.uploads.get(young["id"]).task_id == young["task_id"]
    assert house.store.tasks.get(young["task_id"]).state == "done"
    assert house.store.tasks.get(waiting["task_id"]).state == "running", "what has not ended has no time"
    assert {row[0] for row in house.rows("SELECT task_id FROM task_logs")} == {young["task_id"], waiting["task_id"]}
    again = send(house, b"one").json()
    assert house.store.tasks.get(again["task_id"]).state == "queued", "it can be read again"
    assert not any(sweep(house.store, settings, threading.Event()).values())


def age(path, seconds):
    """Make a file, or all of a folder, older."""
    for one in [path, *path.rglob("*")]:
        at = one.stat().st_mtime - seconds
        os.utime(one, (at, at))


def test_predictors_beyond_the_last_are_retired_and_their_files_go(measured, problem_of):
    house = measured
    settings = replace(house.settings, keep_predictors=2)
    infos = [house.train("flops", "linear", "lookup_table", activate=False).predictors for _ in range(2)]
    (flops, linear, table), (again, _, last) = infos
    assert again.artifact_sha256 == flops.artifact_sha256, "learnt from the same: one file for both"
    for info in (table, linear, flops, last, linear):  # what would be rolled back to, the last first: last, flops
        house.post(f"/predictors/{info.id}/promote")
    files = house.settings.predictors
    encoded = Encodings("nasbench201", ((0, 1, 2, 3, 4, 3),))
    asked = PredictionRequest((house.platform_id,), encodings=encoded, predictor_id=table.id)
    assert house.app.state.parts.answerer._info(table.id) == table, "it is known here, and not loaded"
    assert sweep(house.store, settings, threading.Event())["predictors"] == 2
    kept = {info.id: info for info in house.store.predictors.list(house.platform_id)}
    assert kept.keys().isdisjoint({table.id, again.id})
    assert {flops.id, linear.id, last.id} <= kept.keys()
    shown = house.get(f"/predictors/{table.id}").json()
    assert shown["retired_at"] is not None
    assert shown["metrics"] == to_json(table.metrics), "how it did is known for good"
    assert house.get(f"/predictors/{table.id}/holdout").json()
    said = problem_of(house.post(f"/predictors/{table.id}/promote"), 409, "conflict")
    assert "dataset_id" in said["remedy"]
    problem_of(house.post("/predictions", asked), 409, "conflict")
    for _ in range(2):
        assert house.post(f"/platforms/{house.platform_id}/rollback").status_code == 200
    for path in files.iterdir():
        age(path, DAY_S - 60)
    assert sweep(house.store, settings, threading.Event())["files"] == 0, "a row may be about to speak of it"
    for path in files.iterdir():
        age(path, 120)
    needed = {info.artifact_sha256 for info in house.store.predictors.list(None)}
    there = {path.name for path in files.iterdir()}
    assert sweep(house.store, settings, threading.Event())["files"] == len(there - needed)
    assert {path.name for path in files.iterdir()} == needed
    for info in house.store.predictors.list(None):
        house.store.predictors.promote(info.id, by="")
        assert house.post("/predictions", replace(asked, predictor_id=info.id)).status_code == 200


@pytest.mark.sqlite
def test_files_that_nobody_reads_any_more_go(house):
    sent = send(house, b"a model that a task is yet to read").json()
    dataset = house.client.post("/v1/datasets", params={"format": "csv"}, content=b"a,b", headers=BINARY).json()
    cancelled = house.client.post("/v1/datasets", params={"format": "csv"}, content=b"c,d", headers=BINARY).json()
    house.store.tasks.cancel(cancelled["id"], by="")
    folders = [house.settings.home / name for name in ("uploads", "datasets")]
    for folder in folders:
        age(folder, 2 * DAY_S)
    assert sweep(house.store, house.settings, threading.Event())["files"] == 1
    left = {path.name for folder in folders for path in folder.iterdir()}
    assert left == {f"{sent['sha256']}.tflite", f"{dataset['request']['sha256']}.csv"}
    house.store.tasks.cancel(sent["task_id"], by="")
    house.store.tasks.cancel(dataset["id"], by="")
    assert sweep(house.store, house.settings, threading.Event())["files"] == 2


def test_failures_go_when_their_time_is_over_but_the_newest_of_a_device(house, monkeypatch):
    monkeypatch.setattr(sweeping, "FAILURES_AT_ONCE", 2)
    settings = replace(house.settings, keep_failures_days=10)
    house.add_campaign(count=6)
    lease = house.lease(6)
    for job in lease.jobs[:5]:
        house.fail(lease, job, "bad-model")
    house.clock.now += 11 * DAY_S
    assert sweep(house.store, settings, threading.Event())["failures"] == 4
    assert count(house, "failures") == 1, "from it the row of failures is counted"
    assert house.device().failures == {"bad-model": 1}
    lease = house.lease(6)
    house.fail(lease, lease.jobs[0], "timeout")
    assert sweep(house.store, settings, threading.Event())["failures"] == 1
    assert set(house.device().failures) <= {"timeout", "lost"}
    assert count(house, "jobs") == 6, "what became of a job is known for good"


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
