"""The life of a latency: platform, campaign, lease, result, training, prediction; and that a restart keeps it all."""

from __future__ import annotations

import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from leti.core.codec import from_json, to_json
from leti.core.farm import CampaignRequest, Sample
from leti.core.measurement import Measurement
from leti.core.queries import PredictionRequest, PredictionResponse
from leti.core.training import TrainingReport, TrainingRequest
from leti.core.wire import NetworksRequest
from leti.generator.reference import reference_spec
from leti.generator.spaces import get_space
from leti.service.training.plan import networks_needed

DATABASES = ("sqlite", "postgresql")


def test_a_platform_is_kept_once_with_its_reference(house):
    first = house.add_platform()
    assert house.add_platform() == first
    assert first["id"] == house.platform_id
    assert first["reference_latency_ms"] is None
    assert first["reference_version"] == 0
    reference = house.get(f"/networks/{first['reference']}").json()
    assert reference["spec"] == to_json(reference_spec())
    assert house.get("/platforms").json() == [first]
    assert house.get(f"/platforms/{first['id']}").json() == first


def test_networks_are_lowered_and_kept_by_fingerprint(house):
    request = NetworksRequest((house.architecture, house.architecture, to_json(reference_spec())))
    answer = house.post("/networks", request)
    assert answer.status_code == 200
    one, twin, reference = answer.json()
    assert one == twin != reference
    assert one["macs"] > 0
    assert one["peak_memory_bytes"] > 0
    assert house.get(f"/networks/{one['fingerprint']}").json() == one
    assert house.post("/networks", request).json() == [one, twin, reference]


@pytest.mark.sqlite
def test_a_degenerate_cell_is_valid_and_flagged(house):
    nothing = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    (network,) = house.post("/networks", NetworksRequest((nothing,))).json()
    assert network["degenerate"] is True


@pytest.mark.sqlite
def test_a_model_file_is_had_with_its_sha256_and_written_again_when_damaged(house):
    (network,) = house.post("/networks", NetworksRequest((house.architecture,))).json()
    path = f"/networks/{network['fingerprint']}/model"
    answer = house.get(path)
    assert answer.status_code == 200
    assert answer.content[4:8] == b"TFL3"
    sha256 = answer.headers["leti-model-sha256"]
    assert hashlib.sha256(answer.content).hexdigest() == sha256
    file = house.settings.models / f"{sha256}.tflite"
    assert file.read_bytes() == answer.content
    file.write_bytes(answer.content[:100])
    assert house.get(path).content == answer.content
    assert file.read_bytes() == answer.content
    file.unlink()
    assert house.get(path).content == answer.content
    assert [found.name for found in house.settings.models.iterdir()] == [file.name]


def test_a_campaign_draws_its_samples_and_repeats_a_share(house):
    campaign = house.add_campaign(count=10, repeats=3, repeat_share=0.2)
    assert campaign["networks"] == 10
    assert campaign["queued"] == 10 + 2 * 2
    assert house.get(f"/campaigns/{campaign['id']}").json() == campaign
    assert house.get("/campaigns").json()["items"] == [campaign]
    lease = house.lease(64)
    assert {job.repeat for job in lease.jobs} == {0}
    assert len({job.fingerprint for job in lease.jobs}) == 10
    repeats = [house.lease(64) for _ in range(3)]
    assert [len(more.jobs) for more in repeats[:2]] == [2, 2]
    assert [{job.repeat for job in more.jobs} for more in repeats[:2]] == [{1}, {2}]
    assert repeats[2] is None


def test_the_same_campaign_is_found_and_another_of_its_name_is_a_conflict(house, problem_of):
    house.add_platform()
    request = CampaignRequest("first", house.platform_id, (Sample("nasbench201", 3),))
    created = house.post("/campaigns", request)
    again = house.post("/campaigns", request)
    assert (created.status_code, again.status_code) == (201, 200)
    assert created.json() == again.json()
    other = CampaignRequest("first", house.platform_id, (Sample("nasbench201", 4),))
    assert problem_of(house.post("/campaigns", other), 409, "conflict")["field"] == "name"
    assert len(house.get("/campaigns").json()["items"]) == 1


def test_a_measurement_is_kept_sample_by_sample(house):
    campaign = house.add_campaign(count=3)
    lease = house.lease()
    sent = house.result(lease, lease.jobs[0])
    receipt = house.post("/results", sent).json()
    found = house.get(f"/measurements/{receipt['measurement_id']}")
    assert from_json(Measurement, found.json()) == sent.measurement
    info = house.get(f"/platforms/{house.platform_id}").json()
    assert info["reference_latency_ms"] == pytest.approx(1.25)
    assert info["reference_version"] == 1
    assert (info["networks_measured"], info["measurements"]) == (1, 1)
    (row,) = house.get("/measurements", campaign_id=campaign["id"]).json()["items"]
    assert row["latency_ms"] == pytest.approx(sent.measurement.ratio * 1.25)
    assert row["job_id"] == lease.jobs[0].id


def test_measurements_are_read_page_by_page(house):
    house.add_campaign(count=7)
    assert house.measure_all() == 7
    pages, cursor = [], 0
    while cursor is not None:
        page = house.get("/measurements", platform_id=house.platform_id, limit=3, cursor=cursor).json()
        pages.append(page["items"])
        cursor = page["next"]
    assert [len(page) for page in pages] == [3, 3, 1]
    ids = [row["id"] for page in pages for row in page]
    assert ids == sorted(set(ids))
    fingerprint = pages[0][0]["fingerprint"]
    assert [r["fingerprint"] for r in house.get("/measurements", fingerprint=fingerprint).json()["items"]] == [
        fingerprint
    ]
    assert house.get("/measurements", campaign_id=99).json() == {"items": [], "next": None}


def test_repeatability_comes_from_networks_measured_more_than_once(house):
    house.add_campaign(count=5, repeats=3, repeat_share=0.4)
    house.measure_all()
    found = house.get(f"/platforms/{house.platform_id}").json()["repeatability"]
    assert (found["networks"], found["measurements"]) == (2, 6)
    assert found["within"]["0.05"] == 1.0


def predictions(house, networks, **fields):
    answer = house.post("/predictions", PredictionRequest((house.platform_id,), tuple(networks), **fields))
    assert answer.status_code == 200, answer.text
    return from_json(PredictionResponse, answer.json()).platforms[0].items


def trained(house, count=40, **fields) -> TrainingReport:
    house.add_campaign(count=count, repeats=2, repeat_share=0.2)
    house.measure_all()
    return house.train(*fields.pop("kinds", ()), **fields)


@pytest.fixture
def boosting() -> None:
    pytest.importorskip("sklearn", reason="needs the extra boosting")
    pytest.importorskip("xgboost", reason="needs the extra boosting")


@pytest.mark.usefixtures("boosting")
def test_the_whole_life(house):
    report = trained(house)
    assert report.reference_version == 2  # pooled anew: forty times the measurements of the first pooling
    assert report.predictors[0].kind == "flops"
    assert report.repeatability.networks == 8
    active = [info for info in report.predictors if info.active]
    assert active == [min(report.predictors, key=lambda info: info.cross_validation_mdape)]
    for info in report.predictors:
        assert info.metrics.n_train + info.metrics.n_test == 40
        points = house.get(f"/predictors/{info.id}/holdout").json()
        assert len(points) == info.metrics.n_test
        assert all(point["low_ms"] <= point["latency_ms"] <= point["high_ms"] for point in points)
        assert (house.settings.predictors / info.artifact_sha256).is_dir()
    assert house.get("/predictors", platform_id=house.platform_id).json()["items"] == to_json(report.predictors)

    new = [to_json(s) for s in get_space("nasbench201").sample(60, 99, reference_spec().config)]
    items = predictions(house, [*new, new[0]])
    assert items[0] == items[-1]
    assert {item.source for item in items} == {"predicted"}
    for item in items:
        assert item.low_ms <= item.latency_ms <= item.high_ms
        assert (item.predictor, item.version, item.coverage) == (active[0].kind, 1, 0.9)

    house.store.predictions.flush()
    kept = house.rows("SELECT predictor_id, fingerprint, coverage, latency_ms FROM predictions")
    assert {(row[0], row[2]) for row in kept} == {(active[0].id, 0.9)}
    assert {row[1]: row[3] for row in kept} == {item.fingerprint: item.latency_ms for item in items}
    assert predictions(house, new)[0] == items[0]
    house.store.predictions.flush()
    assert len(house.rows("SELECT * FROM predictions")) == len(kept)

    flops = report.predictors[0]
    named = predictions(house, new[:2], predictor_id=flops.id)
    assert {item.predictor for item in named} == {"flops"}
    assert house.post(f"/predictors/{flops.id}/promote").json()["active"] is True
    assert [i["active"] for i in house.get("/predictors").json()["items"]] == [
        i.id == flops.id for i in report.predictors
    ]
    assert {item.predictor for item in predictions(house, new[:2])} == {"flops"}


def test_what_is_measured_is_answered_as_measured(house):
    house.add_campaign(count=0, networks=(house.architecture,), repeats=3, repeat_share=1.0)
    for ratio in (0.5, 0.52, 0.6):
        lease = house.lease()
        house.report(lease, lease.jobs[0], ratio=ratio)
    (item,) = predictions(house, [house.architecture])
    assert (item.source, item.count, item.predictor) == ("measured", 3, "")
    assert item.latency_ms == pytest.approx(0.52 * 1.25)
    assert item.high_ms == pytest.approx(0.6 * 1.25)
    assert item.low_ms == pytest.approx(0.44 * 1.25)
    other = house.architecture.replace("avg_pool_3x3", "none")
    answer = house.post("/predictions", PredictionRequest((house.platform_id,), (house.architecture, other)))
    (failure,) = from_json(PredictionResponse, answer.json()).failures
    assert (failure.index, failure.problem.title) == (1, "Not found")
    assert "train" in failure.problem.remedy


@pytest.mark.usefixtures("boosting")
def test_a_restart_keeps_everything(house):
    report = trained(house, kinds=("flops",))
    new = [to_json(s) for s in get_space("nasbench201").sample(5, 99, reference_spec().config)]
    paths = ("/platforms", "/campaigns", "/predictors", "/measurements")
    before = [predictions(house, new), *(house.get(path).json() for path in paths)]
    house.close()
    house.open()
    assert [predictions(house, new), *(house.get(path).json() for path in paths)] == before
    again = house.train("flops")
    assert again.dataset_id == report.dataset_id + 1
    assert again.reference_version == report.reference_version  # not twice the measurements
    assert [(info.version, info.active) for info in again.predictors] == [(2, False)]  # nothing new was measured
    assert sum(info["active"] for info in house.get("/predictors").json()["items"]) == 1


@pytest.mark.sqlite
@pytest.mark.usefixtures("boosting")
def test_a_platform_is_trained_by_one_at_a_time(measured):
    for _ in range(2):
        assert measured.post("/predictors", TrainingRequest(measured.platform_id, ("xgboost",))).status_code == 202
    workers = Barrier(2)

    def claim(number):
        workers.wait()
        return measured.store.tasks.claim(f"worker {number}", ("train",), alone=("train",))

    with ThreadPoolExecutor(2) as pool:
        claimed = [one for one in pool.map(claim, range(2)) if one is not None]
    assert len(claimed) == 1
    measured.store.tasks.give_back(claimed[0].hold, "so that both are done")
    assert measured.run_tasks() == 2
    assert len(measured.get("/predictors").json()["items"]) == 2


@pytest.mark.sqlite
@pytest.mark.usefixtures("boosting")
def test_a_predictor_of_another_platform_is_refused(house, problem_of):
    report = trained(house, kinds=("flops",), activate=False)
    other = dataclasses.replace(house.platform, threads=2)
    assert house.post("/platforms", other).status_code == 200
    wrong = PredictionRequest((other.id,), (house.architecture,), predictor_id=report.predictors[0].id)
    assert problem_of(house.post("/predictions", wrong), 422)["field"] == "predictor_id"
    unknown = PredictionRequest((house.platform_id,), (house.architecture,), predictor_id=99)
    assert problem_of(house.post("/predictions", unknown), 404)["field"] == "predictor_id"
    assert [info["active"] for info in house.get("/predictors").json()["items"]] == [False]
    for coverage in (0.0, 1.0, -3.0, 0.99999):  # the last: more than so few networks can promise
        request = PredictionRequest(
            (house.platform_id,), (house.architecture,), coverage=coverage, predictor_id=report.predictors[0].id
        )
        assert problem_of(house.post("/predictions", request), 422)["field"] == "coverage"


@pytest.mark.sqlite
@pytest.mark.usefixtures("boosting")
def test_a_damaged_predictor_is_not_served(house, problem_of):
    report = trained(house, kinds=("flops",))
    folder = house.settings.predictors / report.predictors[0].artifact_sha256
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    house.close()
    house.open()
    request = PredictionRequest((house.platform_id,), (house.architecture,))
    problem_of(house.post("/predictions", request), 500, "artifact-error")


def test_noisy_measurements_are_kept_and_do_not_count(house):
    campaign = house.add_campaign(count=2)
    lease = house.lease()
    house.report(lease, lease.jobs[0], noisy=True)
    info = house.get(f"/platforms/{house.platform_id}").json()
    assert (info["measurements"], info["reference_latency_ms"]) == (0, None)
    found = house.get(f"/campaigns/{campaign['id']}").json()
    assert (found["done"], found["noisy"], found["leased"]) == (1, 1, 1)
    (row,) = house.get("/measurements").json()["items"]
    assert row["noisy"] is True


def test_too_few_measurements_say_how_many_are_needed(house, problem_of):
    house.add_campaign(count=3)
    house.measure_all()
    said = problem_of(house.post("/predictors", TrainingRequest(house.platform_id)), 409, "too-few-measurements")
    assert said["details"] == {"measured": 3, "needed": 33}
    assert "30 more" in said["remedy"]
    assert house.get("/predictors").json()["items"] == []


@pytest.mark.sqlite
@pytest.mark.usefixtures("boosting")
@pytest.mark.parametrize("share", [0.01, 0.4])
def test_as_many_as_are_said_to_be_needed_suffice(house, problem_of, share):
    needed = networks_needed(house.settings.min_networks, share)
    house.add_campaign("most", count=needed - 1)
    house.measure_all()
    request = TrainingRequest(house.platform_id, kinds=("flops",), holdout_share=share)
    said = problem_of(house.post("/predictors", request), 409, "too-few-measurements")
    assert said["details"] == {"measured": needed - 1, "needed": needed}
    house.add_campaign("one more", count=0, networks=(house.architecture.replace("3x3~1", "1x1~1"),))
    assert house.measure_all() == 1
    assert house.task("/predictors", request).state == "done"


@pytest.mark.sqlite
def test_a_failed_training_leaves_no_predictor_and_no_folder(house, problem_of):
    house.add_campaign(count=3)
    problem_of(house.post("/predictors", TrainingRequest(house.platform_id, kinds=("oracle",))), 422, "invalid-input")
    problem_of(house.post("/predictors", TrainingRequest(house.platform_id, holdout_share=1.0)), 422)
    problem_of(house.post("/predictors", TrainingRequest(house.platform_id, seed=-1)), 422)
    assert not house.settings.predictors.exists()
