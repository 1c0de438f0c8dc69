"""Boosted trees over an additive model: what they say of their latencies, and what they refuse to read."""

import pytest

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
boosters = pytest.importorskip("leti.predictors.boosting.libraries")
registry = pytest.importorskip("leti.predictors.registry")

from leti.core.errors import ArtifactError

TREES = {"xgboost": "XGBoostTrees", "lightgbm": "LightGBMTrees", "catboost": "CatBoostTrees"}
KINDS = [kind for kind in TREES if kind in registry.kinds()]

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def table():
    chance = np.random.default_rng(0)
    inputs = chance.random((120, 6))
    return inputs, 0.1 * np.sin(6 * inputs[:, 0]) + 0.05 * (inputs[:, 1] > 0.5)


@pytest.fixture(scope="module")
def trained(table):
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = getattr(boosters, TREES[kind]).train(*table, seed=5, threads=1)
        return made[kind]

    return get


def test_learns_what_is_no_line(kind, trained, table):
    inputs, target = table
    assert np.abs(trained(kind).predict(inputs) - target).mean() < 0.3 * np.abs(target - target.mean()).mean()


def test_what_columns_add_is_what_is_predicted(kind, trained, table):
    inputs, _ = table
    added = trained(kind).contributions(inputs)
    assert added.shape == (120, 7)
    np.testing.assert_allclose(added.sum(axis=1), trained(kind).predict(inputs), atol=1e-5)
    assert np.abs(added[:, 0]).mean() > 3 * np.abs(added[:, 2:-1]).mean()  # the first column bears the wave


def test_the_same_trees_are_the_same_bytes(kind, trained, table):
    again = type(trained(kind)).train(*table, seed=5, threads=1)
    assert again.to_bytes() == trained(kind).to_bytes()
    read = type(again).read(again.to_bytes(), 6)
    assert read.to_bytes() == again.to_bytes()
    np.testing.assert_array_equal(read.predict(table[0]), again.predict(table[0]))


def test_a_target_that_never_changes(kind, table):
    inputs, target = table
    flat = getattr(boosters, TREES[kind]).train(inputs, np.zeros_like(target), seed=0, threads=1)
    np.testing.assert_allclose(flat.predict(inputs), 0.0, atol=1e-9)


def test_refuses_what_is_no_model(kind, trained):
    with pytest.raises(ArtifactError, match="reads 6 columns"):
        type(trained(kind)).read(trained(kind).to_bytes(), 7)
    for content in (b"", b"nonsense"):
        with pytest.raises(ArtifactError):
            type(trained(kind)).read(content, 6)


def test_shares_name_what_makes_a_network_slow(kind, networks):
    """Latency here is MACs and operators: what bears them has the largest shares, and all of them add up."""
    latencies = [0.2 + graph.macs / 2e6 + 0.02 * len(graph.ops) for graph in networks]
    predictor = registry.create(kind).fit(networks[:120], latencies[:120])
    slow = max(networks[120:], key=lambda graph: graph.macs)
    (told,) = predictor.explain([slow])
    assert sum(share.latency_ms for share in told.shares) == pytest.approx(told.latency_ms, rel=1e-9)
    assert len({share.name for share in told.shares}) == len(told.shares)
    largest = sorted(told.shares, key=lambda share: -share.latency_ms)[:5]
    assert any("macs" in share.name or "conv2d" in share.name for share in largest)
    fixed = sum(share.latency_ms for share in told.shares if share.name == "intercept")
    assert fixed < 0.5 * told.latency_ms
