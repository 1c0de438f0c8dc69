"""Which predictor serves: chosen in cross-validation, replaced only by a better one, promoted, rolled back."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("sklearn", reason="needs the extra boosting")

import numpy as np

from leti.core.codec import from_json
from leti.core.tasks import Task
from leti.core.training import EvaluationReport, EvaluationRequest, PredictorPage, PromotionPage, TrainingRequest
from leti.service.tasks.retraining import queue_due
from leti.service.training.champion import chance_of, decide

DATABASES = ("sqlite", "postgresql")


def promotions(house):
    return list(from_json(PromotionPage, house.get(f"/platforms/{house.platform_id}/promotions").json()).items)


def test_promoted_and_rolled_back(measured, problem_of):
    house = measured
    rollback = f"/platforms/{house.platform_id}/rollback"
    problem_of(house.post(rollback), 409, "conflict")
    first, second = house.train("flops", "linear", activate=False).predictors
    assert promotions(house) == []
    assert house.get(f"/predictors/{first.id}").json()["active"] is False
    for info in (first, second, second, first):
        assert house.post(f"/predictors/{info.id}/promote").json()["active"] is True
    assert [(one.predictor_id, one.by) for one in promotions(house)] == [
        (info.id, "anybody") for info in (first, second, first)
    ]
    assert house.post(rollback).json()["id"] == second.id
    assert house.post(rollback).json()["id"] == first.id
    problem_of(house.post(rollback), 409, "conflict")
    assert [one.reason for one in promotions(house)] == ["rolled-back"] * 2 + ["promoted"] * 3
    assert [info["id"] for info in house.get("/predictors").json()["items"] if info["active"]] == [first.id]
    problem_of(house.post("/platforms/nowhere/rollback"), 404, "not-found")


def test_predictors_and_promotions_are_listed_page_by_page(measured):
    house = measured
    of_platform = f"/platforms/{house.platform_id}/promotions"
    assert house.get("/predictors").json() == house.get(of_platform).json() == {"items": [], "next": None}
    infos = house.train("flops", "linear", "lookup_table", activate=False).predictors
    for info in infos:
        house.post(f"/predictors/{info.id}/promote")
    first = from_json(PredictorPage, house.get("/predictors", platform_id=house.platform_id, limit=2).json())
    rest = from_json(PredictorPage, house.get("/predictors", cursor=first.next, limit=2).json())
    assert [info.id for info in (*first.items, *rest.items)] == [info.id for info in infos]
    assert (first.next, rest.next) == (infos[1].id, None)
    newest = from_json(PromotionPage, house.get(of_platform, limit=2).json())
    oldest = from_json(PromotionPage, house.get(of_platform, cursor=newest.next, limit=2).json())
    assert [one.predictor_id for one in (*newest.items, *oldest.items)] == [info.id for info in reversed(infos)]
    assert oldest.next is None


# --- the champion ----------------------------------------------------------------------------------------------------

CLASSES = [f"class {i}" for i in range(60)]
OLD = frozenset(CLASSES[:40])
RNG = np.random.default_rng(0)
NOISE = [  # of the same medians on old and on new classes
    np.concatenate([RNG.permutation(np.linspace(0.8, 1.2, count)) for count in (40, 20)]) for _ in range(3)
]


def verdict(own=0.05, known=OLD, **levels):
    """Decide between kinds that are off by so much in the middle, each with a noise of its own."""
    errors = {kind: level * noise for (kind, level), noise in zip(levels.items(), NOISE[:2], strict=False)}
    own = None if own is None else own * NOISE[2]
    return decide(errors, CLASSES, "linear", known=known, own=own)


def test_a_better_kind_takes_the_place_of_the_champion():
    assert verdict(linear=0.05, xgboost=0.04).kind == "xgboost"
    assert verdict(linear=0.05, xgboost=0.04, known=frozenset(CLASSES)).kind == "xgboost"
    assert "4 % against" in verdict(linear=0.05, xgboost=0.04).reason


def test_a_kind_that_is_no_clear_winner_does_not():
    found = verdict(linear=0.05, xgboost=0.0498)
    assert found.kind == "linear"  # trained anew on more
    assert "xgboost is not clearly better" in found.reason


def test_the_champion_stays_where_nothing_is_new_or_where_it_is_better():
    assert verdict(linear=0.05, known=frozenset(CLASSES)).kind is None
    assert verdict(linear=0.05, own=0.03).kind is None
    assert verdict(linear=0.05, xgboost=0.04, own=0.02).kind is None
    assert verdict(linear=0.05, own=0.055).kind == "linear"


def test_a_champion_that_cannot_be_trained_anew_or_asked():
    assert verdict(xgboost=0.049).kind is None
    assert verdict(xgboost=0.03).kind == "xgboost"
    assert verdict(xgboost=0.03, known=frozenset(CLASSES)).kind is None
    assert verdict(xgboost=0.5, own=None).kind == "xgboost"


def test_chance_counts_classes_and_not_networks():
    better, worse = np.full(100, 0.01), np.full(100, 0.02)
    assert chance_of(better, worse, [f"class {i}" for i in range(100)]) < 1e-6
    assert chance_of(better, worse, ["one class"] * 100) == 0.5
    assert chance_of(worse, better, CLASSES) == chance_of(better, better, CLASSES) == 1.0


# --- trainings that follow each other --------------------------------------------------------------------------------


def parts(house, dataset_id):
    rows = house.rows(f'SELECT part, "group" FROM dataset_items WHERE dataset_id = {dataset_id}')
    return {part: {group for side, group in rows if side == part} for part in ("train", "test")}


@pytest.mark.sqlite
def test_what_is_held_out_stays_held_out_and_the_champion_is_judged_without_it(measured):
    house = measured
    first = house.train("flops", "linear", holdout_share=0.25)
    champion = next(info for info in first.predictors if info.active)
    assert house.get(f"/datasets/{first.dataset_id}").json()["networks_holdout"] == 10

    same = house.train("flops", seed=7, holdout_share=0.3)  # nothing new: the same split, the champion stays
    assert parts(house, same.dataset_id) == parts(house, first.dataset_id)
    assert {info.kind for info in same.predictors} == {"flops", champion.kind}  # which was trained to compare with
    assert not any(info.active for info in same.predictors)
    assert "no network is new" in same.remarks[-1]
    assert len(promotions(house)) == 1

    house.add_campaign("second", count=24, seed=5)
    house.measure_all()
    task = house.task("/evaluations", EvaluationRequest(house.platform_id))
    (evaluation,) = from_json(EvaluationReport, task.report).evaluations
    grown = house.train("flops", "linear", holdout_share=0.25)
    before, after = parts(house, first.dataset_id), parts(house, grown.dataset_id)
    assert before["train"] <= after["train"]
    assert before["test"] < after["test"]
    fresh = (after["train"] | after["test"]) - before["train"] - before["test"]
    assert evaluation.predictor.id == champion.id
    assert evaluation.metrics.n_test == len(fresh)
    listed = house.get("/datasets", platform_id=house.platform_id, limit=2).json()
    assert [one["id"] for one in listed["items"]] == [first.dataset_id, same.dataset_id]
    assert listed["next"] == same.dataset_id
    (serving,) = [info for info in house.get("/predictors").json()["items"] if info["active"]]
    assert serving["dataset_id"] == grown.dataset_id
    assert promotions(house)[0].reason == "trained"
    assert "networks new to both" in promotions(house)[0].remark


@pytest.mark.sqlite
@pytest.mark.usefixtures("few_kinds")
def test_a_platform_that_has_outgrown_its_predictor_is_trained_by_itself(house):
    settings = dataclasses.replace(house.settings, retrain_growth=1.5, retrain_minimum=50)
    house.add_campaign("first", count=33)
    house.measure_all()
    assert queue_due(house.store, settings) == ()  # nobody has trained anything yet
    asked = TrainingRequest(house.platform_id, ("flops",))
    house.store.tasks.add("train", house.platform_id, asked, by="auto")  # a token may be called so
    assert house.run_tasks() == 1
    assert promotions(house)[0].reason == "trained"
    assert queue_due(house.store, settings) == ()
    house.clock.now += 60
    house.add_campaign("second", count=17, seed=5)
    house.measure_all()
    assert queue_due(house.store, dataclasses.replace(settings, retrain_minimum=60)) == ()
    assert queue_due(house.store, dataclasses.replace(settings, retrain_growth=0)) == ()
    (task,) = queue_due(house.store, settings)
    assert (task.kind, task.created_by, task.platform_id) == ("train", "", house.platform_id)
    assert queue_due(house.store, settings) == ()  # it waits already
    house.store.tasks.cancel(task.id, by="somebody")
    assert queue_due(house.store, settings) == ()  # somebody did not want it
    house.clock.now += 60
    house.train("flops", activate=False)
    house.add_campaign("third", count=26, seed=7)
    house.measure_all()
    house.clock.now += 60
    (task,) = queue_due(house.store, settings)
    assert house.run_tasks() == 1
    assert from_json(Task, house.get(f"/tasks/{task.id}").json()).state == "done"
    assert (promotions(house)[0].reason, promotions(house)[0].by) == ("retrained", "")
    assert queue_due(house.store, settings) == ()
