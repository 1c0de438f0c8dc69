"""A platform of which little is measured, beside others that have predictors, by the real service."""

import random

import pytest

from leti.core.codec import from_json
from leti.core.device import Device, Platform
from leti.core.errors import NotPredictable
from leti.core.queries import PredictionRequest, PredictionResponse
from leti.core.training import TrainingRequest

pytest.importorskip("scipy", reason="needs the extra `boosting`")

from leti.predictors import artifacts
from leti.predictors.registry import predictor_class

DATABASES = ("sqlite", "postgresql")

NEW = Platform(Device("new", "desktop", "soc", 4), "litert", "2.3.0", "xnnpack")
OTHER = Platform(Device("other", "desktop", "soc", 8), "litert", "2.3.0", "xnnpack")
HALF = Platform(Device("box", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack", model_precision="float16")


def priced(house, a_mac, an_operator):
    """Let the agent of a house report latencies of its own prices, 1 % of them noise."""

    def ratio(fingerprint, repeat=0):
        (graph,) = house.store.networks.graphs([fingerprint])
        noise = random.Random(f"{fingerprint}{repeat}{house.platform_id}").uniform(0.99, 1.01)
        return (0.1 + a_mac * graph.macs / 1e6 + an_operator * len(graph.ops)) * noise

    house.ratio = ratio
    return house


def taught(house):
    priced(house, 0.1, 0.01).add_campaign(count=40)
    house.measure_all()
    house.train("linear")


@pytest.fixture
def source(house, prepared):
    """A platform with a predictor."""
    return prepared(house, taught)


@pytest.fixture
def new(source, house_on):
    """Open the house with an agent of a new platform, on which so many networks are measured."""

    def opened(count, platform=NEW):
        made = priced(house_on(platform), 0.4, 0.002)
        made.add_campaign(f"{count} of {platform.device.name}", count=count, seed=1)
        assert made.measure_all() == count
        return made

    return opened


def test_ten_networks_are_trained_on_and_serve(source, new):
    here = new(10)
    report = here.train(learning_curve=True)
    (info,) = report.predictors
    assert (info.kind, info.active, info.version) == ("adapted", True, 1)
    assert (info.metrics.n_train, info.metrics.n_test) == (8, 2)
    assert report.learning_curve.measured == report.learning_curve.expected == ()
    assert "adapted" in report.learning_curve.reason
    assert f"adapted: learnt from the linear of {source.platform_id}" in report.remarks
    assert len(here.get(f"/predictors/{info.id}/holdout").json()) == 2
    assert here.add_campaign("more", count=30, seed=2)["networks"] == 30
    asked = here.rows("SELECT fingerprint FROM jobs EXCEPT SELECT fingerprint FROM measurements")
    assert len(asked) >= 20
    before = answers(here, asked)
    for (fingerprint,), item in zip(asked, before, strict=True):
        assert (item.source, item.predictor) == ("predicted", "adapted")
        assert item.low_ms < item.latency_ms < item.high_ms
        assert item.latency_ms == pytest.approx(1.25 * here.ratio(fingerprint), rel=0.15)
    here.close()
    here.open()
    assert answers(here, asked) == before


def answers(house, asked):
    specs = tuple(house.get(f"/networks/{fingerprint}").json()["spec"] for (fingerprint,) in asked)
    answer = house.post("/predictions", PredictionRequest((house.platform_id,), specs))
    assert answer.status_code == 200, answer.text
    return from_json(PredictionResponse, answer.json()).platforms[0].items


@pytest.mark.sqlite
def test_an_artifact_holds_its_sources(source, new):
    """Whatever becomes of the predictors that it was made from."""
    here = new(6)
    (info,) = here.train().predictors
    assert (info.metrics.n_train, info.metrics.n_test) == (5, 1)
    (before,) = source.get("/predictors", platform_id=source.platform_id).json()["items"]
    for path in (source.settings.predictors / before["artifact_sha256"]).iterdir():
        path.unlink()
    loaded = artifacts.load(here.settings.predictors / info.artifact_sha256, info.artifact_sha256)
    graphs = here.store.networks.graphs([row[0] for row in here.rows("SELECT fingerprint FROM networks")])
    assert all(ms > 0 for ms in loaded.predict(graphs).latency_ms)


@pytest.mark.sqlite
@pytest.mark.usefixtures("few_kinds")
def test_beside_the_others_where_there_are_enough(new):
    here = new(36)
    report = here.train("flops", "adapted")
    flops, adapted = report.predictors
    assert (flops.kind, adapted.kind) == ("flops", "adapted")
    assert adapted.active == (adapted.cross_validation_mdape < flops.cross_validation_mdape)
    report = here.train(learning_curve=True)
    kinds = [info.kind for info in report.predictors]
    assert kinds[-1] == "adapted"
    assert {"flops", "linear", "stacked"} < set(kinds)
    assert report.learning_curve.kind not in ("adapted", "stacked")
    assert [info["active"] for info in here.get("/predictors", platform_id=here.platform_id).json()["items"]].count(
        True
    ) == 1


@pytest.mark.sqlite
@pytest.mark.usefixtures("few_kinds")
def test_not_by_default_where_many_are_measured(new, monkeypatch):
    monkeypatch.setattr("leti.service.training.plan.MANY", 35)
    here = new(36)
    assert [info.kind for info in here.train().predictors] == ["flops", "linear", "lookup_table", "stacked"]
    assert [info.kind for info in here.train("adapted").predictors] == ["adapted"]


@pytest.mark.sqlite
def test_too_few_say_what_would_do(source, new, problem_of):
    here = new(5)
    said = problem_of(here.post("/predictors", TrainingRequest(here.platform_id)), 409, "too-few-measurements")
    assert said["details"] == {"measured": 5, "needed": 6}
    request = TrainingRequest(here.platform_id, ("flops",))
    said = problem_of(here.post("/predictors", request), 409, "too-few-measurements")
    assert said["details"] == {"measured": 5, "needed": 33}
    assert "6 are enough to adapt" in said["remedy"]


@pytest.mark.sqlite
def test_nothing_to_adapt(house, problem_of):
    house.add_campaign(count=6)
    house.measure_all()
    request = TrainingRequest(house.platform_id, ("adapted",))
    said = problem_of(house.post("/predictors", request), 409, "conflict")
    assert "no other platform" in said["detail"]
    assert "same precision" in said["remedy"]
    said = problem_of(house.post("/predictors", TrainingRequest(house.platform_id)), 409, "too-few-measurements")
    assert "6 are enough to adapt" in said["remedy"]


@pytest.mark.sqlite
def test_platforms_of_another_precision_are_no_sources(source, house_on, problem_of):
    here = house_on(HALF)
    here.add_campaign("half", count=6)
    assert here.measure_all() == 6
    problem_of(here.post("/predictors", TrainingRequest(here.platform_id, ("adapted",))), 409, "conflict")


@pytest.mark.sqlite
def test_what_is_adapted_is_no_source(source, new):
    first = new(6)
    first.train()
    second = new(7, OTHER)
    report = second.train()
    assert f"adapted: learnt from the linear of {source.platform_id}" in report.remarks
    assert f"the predictor of {first.platform_id} is adapted itself, and no source" in report.remarks
    assert [info.active for info in report.predictors] == [True]


@pytest.mark.sqlite
def test_a_source_that_cannot_be_loaded_is_left_out(source, new, problem_of):
    there = new(34, OTHER)
    (info,) = there.train("flops").predictors
    for path in (there.settings.predictors / info.artifact_sha256).iterdir():
        path.write_bytes(b"")
    here = new(8)
    report = here.train()
    assert [new.kind for new in report.predictors] == ["adapted"]
    assert f"adapted: learnt from the linear of {source.platform_id}" in report.remarks
    assert any(f"the flops of {there.platform_id} cannot be loaded" in remark for remark in report.remarks)
    for folder in source.settings.predictors.iterdir():
        for path in folder.iterdir():
            path.write_bytes(b"")
    here.close()
    here.open()
    said = problem_of(here.post("/predictors", TrainingRequest(here.platform_id, ("adapted",))), 409, "conflict")
    assert "cannot be loaded" in said["detail"]


@pytest.mark.sqlite
def test_a_source_that_cannot_price_the_networks_is_left_out(source, new, problem_of, monkeypatch):
    there = new(34, OTHER)
    there.train("flops")
    here = new(8)

    def refuse(cls):
        priced = cls.predict

        def predict(self, graphs, **fields):
            if len(graphs) > 1:  # one is what is tried on loading
                raise NotPredictable("never saw the like")
            return priced(self, graphs, **fields)

        monkeypatch.setattr(cls, "predict", predict)

    refuse(predictor_class("flops"))
    report = here.train()
    assert f"adapted: learnt from the linear of {source.platform_id}" in report.remarks
    assert f"the predictor of {there.platform_id} is no source: never saw the like" in report.remarks
    refuse(predictor_class("linear"))
    task = here.task("/predictors", TrainingRequest(here.platform_id))
    assert (task.state, task.problem.status, task.problem.title) == ("failed", 409, "Conflict")
    assert "never saw the like" in task.problem.detail


@pytest.mark.sqlite
@pytest.mark.usefixtures("few_kinds")
def test_a_mix_of_others_is_a_source(source, new):
    source.train()
    source.train("stacked")
    here = new(6)
    report = here.train()
    assert f"adapted: learnt from the stacked of {source.platform_id}" in report.remarks
    (info,) = report.predictors
    artifacts.load(here.settings.predictors / info.artifact_sha256, info.artifact_sha256)
