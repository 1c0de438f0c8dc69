"""From the sum of a network's kernels to the network, with a few end-to-end times."""

import pytest

from leti.core.errors import InvalidInput, TooFewMeasurements

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
pytest.importorskip("scipy", reason="needs the extra `boosting`")
correction = pytest.importorskip("leti.predictors.lookup.correction")
nonnegative = pytest.importorskip("leti.predictors.nonnegative")


@pytest.fixture
def drawn():
    generator = np.random.default_rng(0)
    sums = generator.lognormal(2, 1, 120)
    return sums, {"kernels": generator.integers(20, 200, 120).astype(float)}, generator


def off(found, sums, features, measured):
    return np.abs(found.latencies_ms(sums, features) / measured - 1)


def test_an_overhead_and_a_factor_are_found(drawn):
    sums, features, generator = drawn
    measured = (1.5 + 1.1 * sums) * generator.lognormal(0, 0.01, len(sums))
    few = {name: column[:20] for name, column in features.items()}
    found = correction.correct(sums[:20], few, measured[:20])
    assert found.factor == pytest.approx(1.1, rel=0.03)
    assert np.median(off(found, sums, features, measured)) < 0.015


def test_a_feature_joins_where_it_earns_its_place(drawn):
    sums, features, generator = drawn
    noise = generator.lognormal(0, 0.01, len(sums))
    launched = (0.5 + sums + 0.05 * features["kernels"]) * noise
    few = {name: column[:20] for name, column in features.items()}
    found = correction.correct(sums[:20], few, launched[:20])
    assert found.terms == ("overhead", "sum", "kernels")
    assert np.median(off(found, sums, features, launched)) < 0.015
    assert found.parts_ms(sums, features).sum(axis=1) == pytest.approx(found.latencies_ms(sums, features))


def test_one_stray_does_not_bend_it(drawn):
    sums, features, _ = drawn
    measured = 1.5 + 1.1 * sums
    seen = measured[:20].copy()
    seen[3] *= 10
    found = correction.correct(sums[:20], {}, seen)
    assert np.median(off(found, sums, features, measured)) < 0.03


def test_nothing_is_negative(drawn):
    sums, _, _ = drawn
    found = correction.correct(sums[:20], {}, np.maximum(sums[:20] - 0.5, 0.1))
    assert min(found.weights) >= 0


def test_a_handful_gives_a_factor_alone():
    found = correction.correct(np.array([1.0, 2.0]), {}, np.array([1.3, 2.6]))
    assert (found.weights[0], found.factor) == (0.0, pytest.approx(1.3))


def test_refuses_what_cannot_be():
    one = np.ones(6)
    with pytest.raises(TooFewMeasurements):
        correction.correct(np.empty(0), {}, np.empty(0))
    with pytest.raises(InvalidInput) as caught:
        correction.correct(one, {"kernels": np.ones(5)}, one)
    assert caught.value.field == "kernels"
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidInput) as caught:
            correction.correct(one, {}, np.array([*one[:5], bad]))
        assert caught.value.field == "measured_ms"
    with pytest.raises(InvalidInput) as caught:
        correction.correct(np.array([*one[:5], np.nan]), {}, one)
    assert caught.value.field == "sums_ms"


@pytest.mark.parametrize("pivots", [40, 0])
@pytest.mark.parametrize("seed", range(20))
def test_block_pivoting_agrees_with_lawson_and_hanson_wherever_it_starts(seed, pivots, monkeypatch):
    """And so does what takes over where the pivots go round in circles."""
    from scipy.optimize import nnls

    monkeypatch.setattr(nonnegative, "_PIVOTS", pivots)
    generator = np.random.default_rng(seed)
    columns = generator.normal(size=(60, 25)) + 0.5 * generator.normal(size=(60, 1))
    target, prior = generator.normal(size=60), generator.random(25)
    held = np.sqrt(1e-3) * np.eye(25)
    theirs = nnls(np.vstack([columns, held]), np.concatenate([target, held @ prior]))[0]
    for start in (np.zeros(25, dtype=bool), np.ones(25, dtype=bool), generator.random(25) < 0.5):
        ours = nonnegative.solve_nonnegative(columns / target[:, None], target**2, prior, np.full(25, 1e-3), start)
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_what_nothing_tells_apart_stays_at_its_prior():
    """Two columns that are always equal: their weights add up, and differ as their priors do."""
    counts = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [5.0, 5.0]])
    prior = np.array([1.0, 3.0])
    found = nonnegative.fit_nonnegative(counts, counts.sum(axis=1) * 4, prior, 1e-3 / prior)
    assert found.sum() == pytest.approx(8, rel=1e-2)
    assert found[1] / found[0] == pytest.approx(3, rel=1e-2)


def test_a_column_that_stands_nowhere_keeps_its_prior():
    counts = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    found = nonnegative.fit_nonnegative(counts, counts.sum(axis=1) * 4, np.array([1.0, 3.0]), np.array([1e-9, 0.0]))
    np.testing.assert_allclose(found, [4, 3], rtol=1e-6)
