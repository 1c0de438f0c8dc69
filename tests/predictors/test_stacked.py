"""The convex mix: its weights, its members, and what it costs."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the extra boosting")
pytest.importorskip("xgboost", reason="needs the extra boosting")

from leti.core.errors import InvalidInput
from leti.predictors import evaluation
from leti.predictors.batch import Batch
from leti.predictors.evaluation import Sample, cross_validate, held_out_error
from leti.predictors.flops import FlopsPredictor
from leti.predictors.kernel_sum.predictor import KernelSumPredictor
from leti.predictors.linear import LinearPredictor
from leti.predictors.stacking.mixing import LEAST_WEIGHT, fit_weights, mix, mix_unseen
from leti.predictors.stacking.predictor import Encoders, StackedPredictor
from leti.predictors.training import Training


def columns(predictions):
    return np.array([predictions.latency_ms, predictions.low_ms, predictions.high_ms])


@pytest.fixture(scope="module")
def measured(networks, latency):
    return [latency(graph, 0.05) for graph in networks]


@pytest.fixture(scope="module")
def members(networks, measured):
    made = {"flops": FlopsPredictor(), "linear": LinearPredictor(), "kernel_sum": KernelSumPredictor()}
    return {kind: p.fit(networks[:100], measured[:100], seed=5) for kind, p in made.items()}


def test_errors_that_cancel_are_mixed_and_strays_do_not_choose():
    chance = np.random.default_rng(0)
    truth = chance.uniform(1, 9, 400)
    one, other = chance.normal(0, 0.1, (2, 400))
    unseen = truth[:, None] * np.exp(np.column_stack([one, other, np.full(400, 0.5)]))
    weights = fit_weights(unseen, truth)
    np.testing.assert_allclose(weights, [0.5, 0.5, 0.0], atol=0.07)
    assert weights.sum() == pytest.approx(1)
    mixed = np.log(mix(unseen, weights) / truth)
    assert np.abs(mixed).mean() < 0.8 * np.abs(one).mean()
    truth[::25] *= 100
    np.testing.assert_allclose(fit_weights(unseen, truth), [0.5, 0.5, 0.0], atol=0.1)


def test_a_member_that_is_right_gets_all_and_small_weights_are_dropped():
    chance = np.random.default_rng(1)
    truth = chance.uniform(1, 9, 200)
    noise = chance.normal(0, 1, (200, 3))
    unseen = truth[:, None] * np.exp(noise * [0.001, 0.1, 0.1])
    np.testing.assert_array_equal(fit_weights(unseen, truth), [1.0, 0.0, 0.0])
    weights = fit_weights(truth[:, None] * np.exp(chance.normal(0, 0.1, (200, 9))), truth)
    assert all(weight == 0 or weight > LEAST_WEIGHT / 2 for weight in weights)


def test_a_mix_of_one_and_of_members_that_agree():
    truth = np.linspace(1, 2, 50)
    unseen = truth[:, None] * 1.1
    np.testing.assert_array_equal(fit_weights(unseen, truth), [1.0])
    np.testing.assert_allclose(fit_weights(np.hstack([unseen, unseen]), truth), [0.5, 0.5], atol=1e-6)


def test_what_is_mixed_out_of_fold_has_weights_that_saw_no_network_of_the_group():
    """Noise alone: weights fitted to it look better on it than they are, mixed out of fold they do not."""
    chance = np.random.default_rng(2)
    truth = np.ones(60)
    unseen = np.exp(chance.normal(0, 0.1, (60, 12)))
    groups = [str(i // 2) for i in range(60)]
    fitted = np.abs(np.log(mix(unseen, fit_weights(unseen, truth)))).mean()
    apart = np.abs(np.log(mix_unseen(unseen, truth, groups, seed=0))).mean()
    assert apart > fitted
    np.testing.assert_array_equal(mix_unseen(unseen, truth, groups, seed=0), mix_unseen(unseen, truth, groups, seed=0))


def test_members_that_are_fitted_make_the_same_mix_as_fitting_it(members, networks, measured):
    made = StackedPredictor.of(members, seed=5)
    fitted = StackedPredictor(tuple(members)).fit(networks[:100], measured[:100], seed=5)
    assert made.weights == fitted.weights
    np.testing.assert_array_equal(columns(made.predict(networks)), columns(fitted.predict(networks)))
    np.testing.assert_array_equal(made.unseen_ms, fitted.unseen_ms)
    assert sum(made.weights.values()) == pytest.approx(1)
    assert list(made.weights.values()) == sorted(made.weights.values(), reverse=True)
    assert "flops" not in made.weights
    assert made.remarks == (f"stacked mixes {', '.join(f'{100 * w:.0f} % {k}' for k, w in made.weights.items())}",)


def test_a_mix_is_the_weighted_geometric_mean_of_its_members(members, networks):
    stacked = StackedPredictor.of(members, seed=5)
    each = np.column_stack([members[kind].predict(networks[100:]).latency_ms for kind in stacked.weights])
    expected = np.exp(np.log(each) @ np.array(list(stacked.weights.values())))
    np.testing.assert_allclose(stacked.predict(networks[100:]).latency_ms, expected, rtol=1e-12)


def test_what_members_do_not_know_the_mix_does_not(members, builder):
    alone = builder((1, 16, 16, 8))
    graph = alone.graph(alone.place("conv2d", (0,), (1, 16, 16, 16), 294_912, 1_168, kernel=(3, 3)))
    said = StackedPredictor.of(members, seed=5).predict([graph])[0].unknown
    assert "kernel: conv2d[kernel=3x3] not in training" in said


def test_members_of_other_data_are_refused(members, networks, measured, tmp_path):
    other = LinearPredictor().fit(networks[:99], measured[:99], seed=5)
    with pytest.raises(InvalidInput, match="same measurements"):
        StackedPredictor.of({**members, "linear": other})
    again = LinearPredictor().fit(networks[:100], [ms + 1 for ms in measured[:100]], seed=5)
    with pytest.raises(InvalidInput, match="same measurements"):
        StackedPredictor.of({**members, "linear": again})
    members["linear"].save(tmp_path / "linear")
    with pytest.raises(InvalidInput, match="fitted in this process"):
        StackedPredictor.of({"linear": LinearPredictor.load(tmp_path / "linear")})
    with pytest.raises(InvalidInput, match="of that kind"):
        StackedPredictor.of({"flops": members["linear"]})
    for kinds in ((), ("linear", "linear"), ("linear", "stacked")):
        with pytest.raises(InvalidInput):
            StackedPredictor(kinds).fit(networks[:40], measured[:40])


def test_members_that_read_the_same_share_it(networks, measured):
    stacked = StackedPredictor(("linear", "flops")).fit(networks[:60], measured[:60])
    encoders = stacked.fitted.encoder
    assert isinstance(encoders, Encoders)
    assert {kind for kind, _ in encoders.places} == set(stacked.weights)
    three = StackedPredictor(("linear", "flops", "flops_by_memory"))
    assert len(three.learn_encoder(Batch.of(networks[:60])).encoders) == 2


def test_a_training_fits_each_kind_once_and_mixes_what_it_has(networks, measured, monkeypatch):
    sample = Sample(tuple(networks[:80]), tuple(measured[:80]), tuple(map(str, range(80))))
    training = Training(sample, seed=2)
    fits = []
    learn = LinearPredictor.learn
    monkeypatch.setattr(LinearPredictor, "learn", lambda *a, **more: fits.append(1) or learn(*a, **more))
    errors = {kind: training.fit(kind) for kind in ("flops", "linear", "kernel_sum", "stacked")}
    assert len(fits) == 6  # five folds, and the model that serves
    assert errors["stacked"] <= 1.1 * min(errors.values())
    assert errors["linear"] == held_out_error(training.fitted["linear"], sample, seed=2)
    assert training.fit_s["stacked"] >= sum(training.fit_s[kind] for kind in ("flops", "linear", "kernel_sum"))
    assert any("stacked mixes" in remark for remark in training.remarks)
    test = Sample(tuple(networks[80:]), tuple(measured[80:]), tuple(map(str, range(120))))
    judged = training.judge("stacked", test)
    assert judged.metrics.n_train == 80
    assert judged.metrics.mdape < 0.15


def test_the_error_out_of_fold_is_near_that_of_an_outer_cross_validation(networks, measured):
    sample = Sample(tuple(networks), tuple(measured), tuple(map(str, range(200))))
    for kind in ("flops", "linear"):
        predictor = sample.teach(evaluation.create(kind), seed=1)
        outer = cross_validate(kind, sample, seed=1)
        assert held_out_error(predictor, sample, seed=1) == pytest.approx(outer, rel=1e-6 if kind == "flops" else 0.1)


def test_kinds_that_keep_no_predictions_are_cross_validated(networks, measured, tmp_path):
    sample = Sample(tuple(networks[:60]), tuple(measured[:60]), tuple(map(str, range(60))))
    sample.teach(evaluation.create("flops"), seed=4).save(tmp_path / "flops")
    loaded = FlopsPredictor.load(tmp_path / "flops")
    assert held_out_error(loaded, sample, seed=4) == cross_validate("flops", sample, seed=4)
