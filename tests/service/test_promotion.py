"""Which predictor serves: chosen in cross-validation, replaced only by a better one, promoted and rolled back by hand."""

from __future__ import annotations

import pytest

from leti.core.codec import from_json
from leti.core.training import EvaluationReport, EvaluationRequest, Promotion

pytest.importorskip("sklearn", reason="needs the extra boosting")

DATABASES = ("sqlite", "postgresql")


def promotions(house):
    return [from_json(Promotion, one) for one in house.get(f"/platforms/{house.platform_id}/promotions").json()]


def served(house):
    return [(one.kind, one.version, one.reason) for one in promotions(house)]


def test_promoted_and_rolled_back(house, problem_of):
    house.add_campaign(count=40)
    house.measure_all()
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
    assert [info["id"] for info in house.get("/predictors").json() if info["active"]] == [first.id]
    problem_of(house.post("/platforms/nowhere/rollback"), 404, "not-found")
