"""Drift: predictions that were kept, scored against what was measured later."""

from __future__ import annotations

import datetime
import math
import statistics

import pytest

pytest.importorskip("scipy", reason="needs the extra `boosting`")

from scipy import stats

from leti.core.codec import from_json
from leti.core.measurement import Pass
from leti.core.queries import PredictionRequest, PredictionResponse
from leti.core.searching import Drift, ScoreSummary
from leti.generator.spaces import get_space

DATABASES = ("sqlite", "postgresql")
DAY_S = 86_400.0


def train(house):
    house.add_campaign(count=40)
    house.measure_all()
    house.train("linear")


@pytest.fixture
def trained(house, prepared):
    """A house with a predictor that is active, on a Monday at noon."""
    monday = datetime.datetime(2027, 1, 18, 12, tzinfo=datetime.UTC)
    house.clock.now = monday.timestamp()
    return prepared(house, train)


def fresh(count, seed=99):
    """Networks that nobody has measured, as strings."""
    return tuple(
        "nasbench201:" + ",".join(map(str, get_space("nasbench201").encode(spec)))
        for spec in get_space("nasbench201").sample(count, seed, get_space("nasbench201").default_config)
    )


def predict(house, networks, **fields):
    answer = house.post("/predictions", PredictionRequest((house.platform_id,), networks, **fields))
    items = from_json(PredictionResponse, answer.json()).only()
    assert {item.source for item in items} == {"predicted"}
    house.store.predictions.flush()
    return items


def measure(house, networks, items, factors, name="later", reference_ms=1.25, **fields):
    """Have networks measured, so many times slower than predicted."""
    wanted = {item.fingerprint: item.latency_ms * factor for item, factor in zip(items, factors, strict=True)}
    house.add_campaign(name, count=0, networks=networks)
    while (lease := house.lease(64)) is not None:
        for job in lease.jobs:
            ratio = wanted[job.fingerprint] / 1.25
            passes = tuple(Pass((reference_ms * ratio,) * 2, (reference_ms,) * 2) for _ in range(3))
            house.report(lease, job, passes=passes, **fields)


def drift_of(house, **params):
    answer = house.get(f"/platforms/{house.platform_id}/drift", **params)
    assert answer.status_code == 200, answer.text
    return from_json(Drift, answer.json())


def test_metrics_count_what_drift_counts(trained):
    networks = fresh(5)
    items = predict(trained, networks)
    trained.clock.now += 60
    measure(trained, networks[:2], items[:2], (2.0, 3.0), "noisy", noisy=True)
    assert trained.store.metrics.read().scored == []
    assert drift_of(trained).summary == ScoreSummary(0)
    measure(trained, networks[2:], items[2:], (1.0, 1.25, 0.8))
    (found,) = trained.store.metrics.read().scored
    assert sorted(found.errors) == pytest.approx([0.0, 0.2, 0.25])
    assert drift_of(trained).summary.networks == 3


def test_figures_are_those_that_a_hand_finds(trained):
    assert drift_of(trained).summary == ScoreSummary(0)
    items = predict(trained, fresh(4))
    predict(trained, fresh(2), coverage=0.5)
    assert drift_of(trained).summary == ScoreSummary(0)  # none of them is measured yet
    trained.clock.now += 8 * DAY_S
    factors = (1.0, 1.04, 1.08, 1.5)  # measured over predicted
    measure(trained, fresh(4), items, factors)
    found = drift_of(trained)
    errors = [abs(1 / factor - 1) for factor in factors]
    assert found.summary.networks == 4
    assert found.summary.mdape == pytest.approx((errors[1] + errors[2]) / 2)
    assert (found.summary.within_5, found.summary.within_10) == (0.5, 0.75)
    assert found.summary.bias == pytest.approx(0.06)
    assert found.examined == 44
    held = [
        item.low_ms <= item.latency_ms * factor <= item.high_ms for item, factor in zip(items, factors, strict=True)
    ]
    assert [(one.coverage, one.networks) for one in found.intervals] == [(0.5, 2), (0.9, 4)]
    assert found.intervals[1].held == sum(held) / 4
    assert [one.error for one in found.worst] == pytest.approx([1 / factor - 1 for factor in reversed(factors)])
    assert found.worst[0].fingerprint == items[3].fingerprint
    assert found.worst[0].measured_ms == pytest.approx(1.5 * items[3].latency_ms)
    assert found.worst[0].predicted_at.startswith("2027-01-18T12:00")
    assert found.worst[0].measured_at.startswith("2027-01-26T12:00")
    assert [week.week for week in found.weeks] == ["2027-01-25"]
    assert found.weeks[0].summary == found.summary
    active = trained.store.predictors.active(trained.platform_id)
    assert (found.predictor_id, found.predictor, found.version) == (active.id, "linear", 1)
    assert len(drift_of(trained, worst=1).worst) == 1
    assert drift_of(trained, last=1).summary.networks == 1


@pytest.mark.sqlite
def test_windows_are_by_time_and_by_number(trained):
    networks = fresh(6)
    items = predict(trained, networks)
    for week in range(3):
        trained.clock.now += 7 * DAY_S
        two = slice(2 * week, 2 * week + 2)
        measure(trained, networks[two], items[two], (1.1**week,) * 2, name=f"week {week}")
    found = drift_of(trained)
    assert [(one.week, one.summary.networks) for one in found.weeks] == [
        ("2027-01-25", 2),
        ("2027-02-01", 2),
        ("2027-02-08", 2),
    ]
    assert [one.summary.bias for one in found.weeks] == pytest.approx([0.0, 0.1, 0.21], abs=1e-9)
    assert [one.week for one in drift_of(trained, days=10).weeks] == ["2027-02-01", "2027-02-08"]
    assert [one.week for one in drift_of(trained, last=2).weeks] == ["2027-02-08"]
    assert drift_of(trained, days=3).examined == 2


@pytest.mark.sqlite
def test_errors_that_chance_does_not_make_are_called_worse(house):
    house.add_campaign(count=90)
    house.measure_all()
    house.train("linear", holdout_share=0.3)
    networks = fresh(44)
    items = predict(house, networks)
    points = house.store.predictors.holdout(house.store.predictors.active(house.platform_id).id)
    held = [abs(math.log(point.measured_ms / point.latency_ms)) for point in points]
    assert len(points) >= 20
    for first, last, off, verdict in ((0, 19, 0.0, "too-few"), (19, 20, 0.0, "no-worse"), (20, 44, 0.3, "worse")):
        factors = [1 + off + i * 1e-5 for i in range(first, last)]
        measure(house, networks[first:last], items[first:last], factors, f"from {first}")
        house.clock.now += DAY_S
        new = 24 if verdict == "worse" else last
        found = drift_of(house, last=new).verdict
        assert (found.verdict, found.scored, found.holdout) == (verdict, new, len(points))
        assert found.holdout_mdape == pytest.approx(
            statistics.median(abs(point.latency_ms / point.measured_ms - 1) for point in points)
        )
        assert found.scored_mdape == pytest.approx(statistics.median(abs(1 / f - 1) for f in factors), abs=2e-4)
        if verdict == "too-few":
            assert (found.larger, found.p) == (None, None)
    errors = [math.log(factor) for factor in factors]
    assert found.larger == pytest.approx(sum(a > b for a in errors for b in held) / len(errors) / len(held))
    assert found.p == pytest.approx(stats.mannwhitneyu(errors, held, alternative="greater").pvalue)


def test_a_slower_device_shows_in_its_reference(trained, monkeypatch):
    networks = fresh(4)
    items = predict(trained, networks)
    for day, reference_ms in ((1, 1.25), (2, 1.5)):
        trained.clock.now += DAY_S
        two = slice(2 * day - 2, 2 * day)
        measure(trained, networks[two], items[two], (1.0, 1.0), f"day {day}", reference_ms)
    found = drift_of(trained)
    assert found.summary.mdape == pytest.approx(0.0, abs=1e-9)  # ratios to the reference are as they were
    assert [(day.day, day.measurements) for day in found.reference.days] == [
        ("2027-01-18", 40),
        ("2027-01-19", 2),
        ("2027-01-20", 2),
    ]
    assert [day.latency_ms for day in found.reference.days] == pytest.approx([1.25, 1.25, 1.5])
    assert found.reference.pooled_ms == pytest.approx(1.25)
    assert found.reference.change == pytest.approx(0.2)
    monkeypatch.setattr("leti.service.store.scores.BLOCK", 3)
    monkeypatch.setattr("leti.service.store.scores.BLOCKS", 4)
    days = drift_of(trained).reference.days  # of many measurements blocks are read, and the newest ones
    assert [day.measurements for day in days] == [12, 1, 2]


@pytest.mark.sqlite
def test_predictors_are_told_apart(trained, problem_of):
    items = predict(trained, fresh(3))
    trained.train("flops")
    flops = next(one for one in trained.store.predictors.list(trained.platform_id) if one.kind == "flops")
    measure(trained, fresh(3), items, (1.0, 1.0, 1.0))
    linear = next(one for one in trained.store.predictors.list(trained.platform_id) if one.kind == "linear")
    assert drift_of(trained, predictor_id=linear.id).summary.networks == 3
    assert drift_of(trained, predictor_id=flops.id).summary.networks == 0
    path = f"/platforms/{trained.platform_id}/drift"
    problem_of(trained.get(path, predictor_id=99), 404)
    problem_of(trained.get("/platforms/nowhere/drift"), 404)
    for name, value in (("last", 0), ("days", 0), ("worst", 101), ("days", "nan")):
        assert problem_of(trained.get(path, **{name: value}), 422)["field"] == name


@pytest.mark.sqlite
def test_a_platform_without_predictor_has_no_drift(house, problem_of):
    house.add_platform()
    said = problem_of(house.get(f"/platforms/{house.platform_id}/drift"), 404, "not-found")
    assert "train" in said["remedy"]
