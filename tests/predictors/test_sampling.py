"""Which networks to measure: properties of any choice."""

import pytest

from leti.core.errors import InvalidInput

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
sampling = pytest.importorskip("leti.predictors.sampling")
registry = pytest.importorskip("leti.predictors.registry")

from hypothesis import given, settings
from hypothesis import strategies as st

WAYS = ("random", "diverse", "disagreement")


@pytest.fixture(scope="module")
def predictors(networks):
    macs = [0.1 + graph.macs / 1e6 for graph in networks[:60]]
    counts = [0.1 * len(graph.ops) + graph.macs / 1e8 for graph in networks[:60]]
    return tuple(registry.create("linear").fit(networks[:60], latencies) for latencies in (macs, counts))


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_choice_is_new_different_and_repeatable(how, networks, predictors, data):
    count = data.draw(st.integers(0, 12))
    held = data.draw(st.integers(0, 8))
    seed = data.draw(st.integers(0, 2**32))
    graphs, measured = networks[60:90], networks[80 : 80 + held]
    picked = sampling.choose(graphs, count, how=how, seed=seed, measured=measured, predictors=predictors)
    assert len(set(picked)) == len(picked) == count
    known = {graph.fingerprint() for graph in measured}
    assert not known & {graphs[i].fingerprint() for i in picked}
    assert picked == sampling.choose(graphs, count, how=how, seed=seed, measured=measured, predictors=predictors)


@pytest.mark.parametrize("how", WAYS)
def test_a_graph_that_is_given_twice_is_chosen_once(how, networks, predictors):
    graphs = (*networks[:6], *networks[:6])
    picked = sampling.choose(graphs, 6, how=how, predictors=predictors)
    assert sorted(picked) == list(range(6))
    with pytest.raises(InvalidInput) as caught:
        sampling.choose(graphs, 7, how=how, predictors=predictors)
    assert caught.value.field == "count"


def test_diverse_networks_stand_for_the_others(networks):
    """The mean distance to the nearest that is chosen is less than with networks drawn at random."""
    rows, _ = sampling._standardised(networks, (), ())
    distance = sampling._distances(rows, rows)

    def cost(how, seed):
        return distance[:, sampling.choose(networks, 10, how=how, seed=seed)].min(axis=1).mean()

    assert max(cost("diverse", seed) for seed in range(5)) < min(cost("random", seed) for seed in range(5))


def test_a_choice_keeps_away_from_what_is_measured(networks, predictors):
    rows, _ = sampling._standardised(networks, (), ())
    distance = sampling._distances(rows, rows)
    measured = networks[:20]
    for how in ("diverse", "disagreement"):
        near = [
            distance[sampling.choose(networks, 6, how=how, measured=held, predictors=predictors)][:, :20].min(axis=1)
            for held in ((), measured)
        ]
        assert near[1].mean() > near[0].mean()


def test_disagreement_is_a_choice_at_every_length(networks, predictors):
    long = sampling.choose(networks, 12, how="disagreement", seed=4, predictors=predictors)
    assert sampling.choose(networks, 5, how="disagreement", seed=4, predictors=predictors) == long[:5]


def test_disagreement_lowers_the_variance_of_what_is_left_most(networks, predictors):
    rows, _ = sampling._standardised(networks, (), predictors)

    def log_determinant(picked):
        chosen = rows[picked]
        return np.linalg.slogdet(chosen @ chosen.T + sampling._NOISE * np.eye(len(chosen)))[1]

    best = min(
        log_determinant(sampling.choose(networks, 8, how="disagreement", seed=s, predictors=predictors))
        for s in range(5)
    )
    assert best > max(log_determinant(sampling.choose(networks, 8, seed=s)) for s in range(20))


def test_refuses_what_it_cannot_do(networks):
    for changes, field in (
        ({"how": "best"}, "how"),
        ({"how": "disagreement"}, "predictors"),
        ({"count": -1}, "count"),
        ({"count": True}, "count"),
    ):
        with pytest.raises(InvalidInput) as caught:
            sampling.choose(networks, **{"count": 3, **changes})
        assert caught.value.field == field
