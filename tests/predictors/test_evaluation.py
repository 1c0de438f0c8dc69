import itertools
import math

import pytest

from leti.core.errors import InvalidInput
from leti.core.prediction import Predictions

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
evaluation = pytest.importorskip("leti.predictors.evaluation")
registry = pytest.importorskip("leti.predictors.registry")


def predictions_of(latency, factor=1.2, coverage=0.9):
    latency = np.asarray(latency, dtype=np.float64)
    return Predictions.of(latency, latency / factor, latency * factor, coverage=coverage, predictor="test")


def metrics_of(measured, predicted, **more):
    return evaluation.metrics_of(
        measured, predictions_of(predicted, **more), n_train=7, fit_s=0.5, us_per_prediction=3.0
    )


@pytest.fixture(scope="module")
def sample(networks, latency):
    return evaluation.Sample(
        networks, tuple(latency(g, 0.02) for g in networks), tuple(str(i // 2) for i in range(len(networks)))
    )


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_their_definitions(seed):
    """R² as scikit-learn has it, rank correlations counted pair by pair and by ranks, ties among them."""
    random = np.random.default_rng(seed)
    measured = random.integers(1, 30, 80) / 2
    predicted = measured * random.lognormal(0, 0.1, 80)
    predicted[:10] = 4.0
    metrics = metrics_of(measured, predicted)
    error = [abs(p - m) / m for p, m in zip(predicted, measured, strict=True)]
    for name, tolerance in (("within_1", 0.01), ("within_5", 0.05), ("within_10", 0.1)):
        assert getattr(metrics, name) == pytest.approx(sum(e <= tolerance for e in error) / 80)
    assert metrics.mdape == pytest.approx(np.median(error))
    assert metrics.mape == pytest.approx(np.mean(error))
    score = pytest.importorskip("sklearn.metrics").r2_score(measured, predicted)
    assert metrics.r2 == pytest.approx(score)
    ranks = [[np.mean([2 * (x < v) + (x == v) for x in column]) for v in column] for column in (measured, predicted)]
    assert metrics.spearman == pytest.approx(np.corrcoef(ranks)[0, 1])
    signs = [
        (np.sign(measured[i] - measured[j]), np.sign(predicted[i] - predicted[j]))
        for i, j in itertools.combinations(range(80), 2)
    ]
    tau = sum(a * b for a, b in signs) / math.sqrt(sum(a * a for a, _ in signs) * sum(b * b for _, b in signs))
    assert metrics.kendall == pytest.approx(tau)
    inside = [p / 1.2 <= m <= p * 1.2 for p, m in zip(predicted, measured, strict=True)]
    assert metrics.interval_coverage == pytest.approx(np.mean(inside))
    assert (metrics.n_train, metrics.n_test, metrics.coverage, metrics.fit_s, metrics.us_per_prediction) == (
        7,
        80,
        0.9,
        0.5,
        3.0,
    )


def test_perfect_predictions():
    metrics = metrics_of([1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    assert (metrics.within_1, metrics.mdape, metrics.r2, metrics.interval_coverage) == (1, 0, 1, 1)
    assert (metrics.spearman, metrics.kendall) == (pytest.approx(1), pytest.approx(1))


def test_what_constant_latencies_leave_undefined_is_none():
    metrics = metrics_of([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    assert (metrics.r2, metrics.spearman, metrics.kendall) == (None, None, None)
    assert metrics.within_1 == pytest.approx(1 / 3)


def test_constant_predictions_have_no_rank_correlation():
    metrics = metrics_of([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert (metrics.r2, metrics.spearman, metrics.kendall) == (pytest.approx(0), None, None)


@pytest.mark.parametrize(("measured", "predicted"), [([], []), ([1.0], [1.0, 2.0])])
def test_lengths_must_agree(measured, predicted):
    with pytest.raises(InvalidInput):
        metrics_of(measured, predicted)


def test_a_sample_has_columns_of_one_length(networks):
    with pytest.raises(InvalidInput) as caught:
        evaluation.Sample(networks[:3], (1.0, 2.0), ("a", "b", "c"))
    assert caught.value.field == "latencies_ms"
    with pytest.raises(InvalidInput) as caught:
        evaluation.Sample(networks[:3], (1.0, 2.0, 3.0), ("a",))
    assert caught.value.field == "groups"


KINDS = ("flops", "lookup_table", "xgboost", "gcn_plain", "stacked")
"""Kinds of five manners: that each of the others learns and keeps its promises, the conformance suite shows."""


@pytest.mark.parametrize("kind", [kind for kind in registry.kinds() if kind in KINDS])
def test_judges_a_kind_on_what_it_has_not_seen(kind, sample):
    train, holdout = evaluation.split_by_group(sample.groups, train_count=100, seed=0)
    calls = []
    judged = evaluation.judge(
        kind, sample.part(train), sample.part(holdout), coverage=0.8, seed=1, progress=lambda *call: calls.append(call)
    )
    assert judged.predictor.kind == kind
    assert calls
    again = judged.predictor.predict(sample.part(holdout).graphs, coverage=0.8)
    assert list(again.latency_ms) == list(judged.predictions.latency_ms)
    assert (judged.metrics.n_train, judged.metrics.n_test, judged.metrics.coverage) == (100, 100, 0.8)
    assert judged.metrics.spearman > 0.7
    assert judged.metrics.fit_s > 0
    assert judged.metrics.us_per_prediction > 0


def test_an_empty_holdout_is_refused(sample):
    with pytest.raises(InvalidInput) as caught:
        evaluation.judge("flops", sample, sample.part([]))
    assert caught.value.field == "test"


def test_cross_validation_keeps_groups_apart(networks, latency):
    """Each network stands twice. With the twins in one group the error is that of unseen networks."""
    graphs = networks[:40] * 2
    noise = np.random.default_rng(0).lognormal(0, 0.3, 40)
    measured = tuple(float(latency(g) * n) for g, n in zip(networks[:40], noise, strict=True)) * 2
    apart = evaluation.Sample(graphs, measured, tuple(str(i % 40) for i in range(80)))
    leaking = evaluation.Sample(graphs, measured, tuple(str(i) for i in range(80)))
    kind = "xgboost"
    assert evaluation.cross_validate(kind, leaking) < 0.7 * evaluation.cross_validate(kind, apart)


def test_cross_validation_ranks_the_kinds(sample):
    """Latency here depends on the number of operators too, which a line over MACs cannot see."""
    small = sample.part(range(60))
    errors = {kind: evaluation.cross_validate(kind, small, seed=2) for kind in ("flops", "xgboost")}
    assert errors["xgboost"] < errors["flops"]
    assert errors["flops"] == evaluation.cross_validate("flops", small, seed=2)
