"""Predictors, datasets and tasks: what the pages say of real ones, and what their forms do."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from tests.service.dashboard.test_safety import Browser

from leti.core.tasks import Task
from leti.service.store import NewLine

pytestmark = pytest.mark.sqlite

HOME = "/dashboard"


def text_of(answer: Any, status: int = 200) -> str:
    """Return what a page says, without its tags."""
    assert answer.status_code == status, answer.text
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())


def led_to(answer: Any) -> str:
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def the_task(house: Any, address: str) -> Task:
    return house.store.tasks.get(int(address.rpartition("/")[2]))


def test_predictors_are_listed_with_how_they_did_beside_the_repeatability(learned: Any) -> None:
    linear, table, boosted = learned.store.predictors.list(None)
    said = text_of(learned.client.get(f"{HOME}/predictors"))
    for info in (linear, table, boosted):
        assert f"{info.kind} {info.version}" in said
        assert f"{100 * info.metrics.within_10:.1f} %" in said
    assert said.count(" 1 active ") == 1
    active = learned.store.predictors.active(learned.platform_id)
    assert f"Which served {learned.platform_id}" in said
    assert f"{active.kind} {active.version} trained anybody" in said
    only = text_of(learned.client.get(f"{HOME}/predictors?kind=linear&platform_id={learned.platform_id}"))
    assert "linear 1" in only
    assert "xgboost 1" not in only
    assert "No predictor fits" in text_of(learned.client.get(f"{HOME}/predictors?kind=gcn&platform_id="))
    text_of(learned.client.get(f"{HOME}/predictors?platform_id=nowhere"), 404)
    text_of(learned.client.get(f"{HOME}/predictors/999"), 404)


def test_a_predictor_says_what_it_was_trained_on_and_how_it_did(learned: Any) -> None:
    for info in learned.store.predictors.list(None):
        dataset = learned.store.datasets.get(info.dataset_id)
        said = text_of(learned.client.get(f"{HOME}/predictors/{info.id}"))
        assert f"{dataset.networks_train} trained on, {dataset.networks_holdout} held out" in said
        assert f"Median absolute error {100 * info.metrics.mdape:.1f} %" in said
        assert f"in cross-validation {100 * info.cross_validation_mdape:.1f} %" in said
        assert ("It never served." in said) != info.active
        assert "measured here" in said


def test_attributions_add_up_to_the_latencies_they_are_of(learned: Any) -> None:
    for info in learned.store.predictors.list(None):
        address = f"{HOME}/predictors/{info.id}/attributions"
        assert "largest are" in text_of(learned.client.get(address))
        file = learned.client.get(address, params={"format": "csv"})
        rows = list(csv.DictReader(io.StringIO(file.text)))
        sizes = [float(row["Mean size (ms)"]) for row in rows]
        assert sizes == sorted(sizes, reverse=True)
        assert all(abs(float(row["Mean (ms)"])) <= size + 1e-12 for row, size in zip(rows, sizes, strict=True))
        points = learned.store.predictors.holdout(info.id)
        mean_ms = sum(point.latency_ms for point in points) / len(points)
        assert sum(float(row["Mean (ms)"]) for row in rows) == pytest.approx(mean_ms, rel=1e-4)
        assert sum(float(row["Mean, of the latency (%)"]) for row in rows) == pytest.approx(100, rel=1e-4)
        labels = [row["Label"] for row in rows]
        assert len(set(labels)) == len(labels)


def test_training_by_the_form_makes_a_task_and_its_predictors_can_be_promoted_and_rolled_back(measured: Any) -> None:
    client = measured.client
    assert "No predictor is trained yet" in text_of(client.get(f"{HOME}/predictors"))
    form = {"platform_id": measured.platform_id, "kinds": ["flops", "linear"], "activate": "true"}
    address = led_to(client.post(f"{HOME}/predictors/train", data=form, follow_redirects=False))
    waiting = client.get(address)
    assert "waiting for a worker" in text_of(waiting)
    assert 'hx-trigger="every 2s"' in waiting.text
    assert measured.run_tasks() == 1
    task = the_task(measured, address)
    assert (task.state, task.request["kinds"]) == ("done", ["flops", "linear"])
    ended = client.get(f"{address}/live")
    assert "begun by" in text_of(ended)
    assert "began to serve" in text_of(ended)
    assert 'hx-trigger="every' not in ended.text
    flops, linear = measured.store.predictors.list(None)
    first, other = (flops, linear) if flops.active else (linear, flops)
    assert "cannot say" in text_of(client.get(f"{HOME}/predictors/{flops.id}/attributions"))
    said = text_of(client.post(f"{HOME}/predictors/roll-back", data={"platform_id": measured.platform_id}), 409)
    assert "no predictor served" in said
    assert led_to(client.post(f"{HOME}/predictors/{other.id}/promote", follow_redirects=False)).endswith(f"/{other.id}")
    assert measured.store.predictors.active(measured.platform_id).id == other.id
    back = client.post(
        f"{HOME}/predictors/roll-back", data={"platform_id": measured.platform_id}, follow_redirects=False
    )
    assert led_to(back) == f"{HOME}/predictors/{first.id}"
    reasons = re.findall(r"<td>(trained|promoted|rolled-back)</td>", client.get(f"{HOME}/predictors").text)
    assert reasons == ["rolled-back", "promoted", "trained"]
    address = led_to(
        client.post(
            f"{HOME}/predictors/evaluate",
            data={"platform_id": measured.platform_id, "every": "true"},
            follow_redirects=False,
        )
    )
    measured.run_tasks()
    assert text_of(client.get(address)).count("– – – no network was measured since that is new to it") == 2


def test_what_is_refused_is_said_beside_the_form_with_what_was_chosen(house: Any) -> None:
    house.add_campaign(count=2)
    house.measure_all()
    form = {"platform_id": house.platform_id, "kinds": "linear", "learning_curve": "true"}
    answer = house.client.post(f"{HOME}/predictors/train", data=form)
    assert "2 networks are measured" in text_of(answer, 409)
    assert re.search(r'value="linear" checked', answer.text)
    assert re.search(r'name="learning_curve" value="true" checked', answer.text)
    assert not re.search(r'name="activate" value="true" checked', answer.text)
    assert "is not a kind" in text_of(house.client.post(f"{HOME}/predictors/train", data={**form, "kinds": "x"}), 422)
    said = text_of(house.client.post(f"{HOME}/predictors/evaluate", data={"platform_id": house.platform_id}), 404)
    assert "has no active predictor" in said
    assert not house.store.tasks.page(platform_id=None, kind=None, state=None, cursor=0, limit=9).items


def test_who_only_reads_sees_no_forms(guarded: Any) -> None:
    guarded.headers = guarded.bearer("admin")
    guarded.client.headers.update(guarded.headers)
    guarded.add_campaign(count=1)
    del guarded.client.headers["authorization"]
    viewer, admin = Browser(guarded, "viewer"), Browser(guarded, "admin")
    for path, form in (
        ("predictors", "/predictors/train"),
        ("campaigns", "/campaigns/new"),
        ("campaigns/1", "/campaigns/1/retry"),
        ("jobs", "/jobs/cancel"),
    ):
        assert form not in viewer.get(f"{HOME}/{path}").text
        assert form in admin.get(f"{HOME}/{path}").text
    assert viewer.get(f"{HOME}/campaigns/new").status_code == 403


def test_a_task_can_be_cancelled_and_tells_its_newest_lines(measured: Any) -> None:
    client = measured.client
    assert "No task was asked for yet" in text_of(client.get(f"{HOME}/tasks"))
    form = {"platform_id": measured.platform_id, "kinds": "flops"}
    address = led_to(client.post(f"{HOME}/predictors/train", data=form, follow_redirects=False))
    claimed = measured.store.tasks.claim("somebody", ["train"])
    lines = [NewLine(measured.clock.now, "info", f"step {i}.") for i in range(300)]
    measured.store.tasks.report(claimed.hold, measured.store.tasks.get(1).progress, lines)
    assert "step 299." in text_of(client.get(address))
    assert "step 3." not in text_of(client.get(address))
    assert "step 3." in text_of(client.get(f"{address}?every_line=true"))
    assert led_to(client.post(f"{address}/cancel", follow_redirects=False)) == address
    assert "cancelled by anybody" in text_of(client.get(address))
    assert "1 train" in text_of(client.get(f"{HOME}/tasks?state=cancelled&kind=train"))
    assert "No task fits" in text_of(client.get(f"{HOME}/tasks?state=done"))


def test_datasets_are_listed_and_their_file_can_be_imported(learned: Any) -> None:
    (dataset,) = learned.store.datasets.page(platform_id=None, cursor=0, limit=9).items
    said = text_of(learned.client.get(f"{HOME}/datasets"))
    assert f"{dataset.id} {dataset.networks_train} {dataset.networks_holdout}" in said
    file = learned.client.get(f"{HOME}/datasets/{dataset.id}/file")
    assert file.headers["content-disposition"] == f'attachment; filename="dataset-{dataset.id}.csv"'
    same = learned.client.get(f"/v1/datasets/{dataset.id}/items", headers={"accept": "text/csv"})
    assert file.content == same.content
    assert learned.client.get(f"{HOME}/datasets/{dataset.id}/file?format=xml").status_code == 422
