"""Prices of kernels: found from whole networks, learnt from measured kernels, and what unseen kernels cost."""

import math
import random

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the extra boosting")

from leti.core.errors import ArtifactError
from leti.predictors.batch import Batch
from leti.predictors.kernel_sum.costs import COSTS, KernelEncoder
from leti.predictors.kernel_sum.forest import TREES, Forest
from leti.predictors.kernel_sum.predictor import KernelSumPredictor
from leti.predictors.kernel_sum.robust import fit_prices


def kernel_ms(kernel) -> float:
    """A convolution costs its MACs and what it writes; any other kernel what it reads."""
    if kernel.kind.startswith("conv"):
        return 0.004 + kernel.macs / 3e6 + kernel.ops[-1].outputs[0].size_bytes / 2e6
    return 0.001 + kernel.ops[0].inputs[0].size_bytes / 1e6


def times_of(graph) -> list[float]:
    batch = Batch.of([graph])
    return [kernel_ms(batch.kernels[number]) for number in batch.numbers]


@pytest.fixture(scope="module")
def measured(networks):
    return [0.3 + sum(times_of(graph)) for graph in networks]


@pytest.fixture(scope="module")
def from_networks(networks, measured):
    return KernelSumPredictor().fit(networks[:120], measured[:120])


def errors(predictor, graphs, truth):
    return np.abs(np.asarray(predictor.predict(graphs).latency_ms) / np.asarray(truth) - 1)


def test_prices_are_solved_from_whole_networks(from_networks, networks, measured):
    assert errors(from_networks, networks[120:], measured[120:]).max() < 0.02


def test_shapes_between_and_beyond_those_of_training_are_priced(from_networks, builder):
    """Training has 8, 16 and 32 channels on 8 × 8 and 16 × 16 pixels."""
    for size, channels in ((12, 24), (16, 64)):
        place = builder((1, size, size, 8))
        graph = place.graph(place.conv(place.conv(0, channels), channels))
        assert errors(from_networks, [graph], [0.3 + sum(times_of(graph))])[0] < 0.1


def test_every_kernel_has_its_share(from_networks, networks):
    graph = networks[130]
    (breakdown,) = from_networks.explain([graph])
    *kernels, overhead = breakdown.shares
    batch = Batch.of([graph])
    assert [share.name for share in kernels] == [batch.kernels[number].family for number in batch.numbers]
    assert sorted(i for share in kernels for i in share.operators) == list(range(len(graph.ops)))
    assert all(graph.ops[share.operators[0]].kind == share.name.split("[")[0] for share in kernels)
    assert (overhead.name, overhead.operators) == ("overhead", ())
    assert min(share.latency_ms for share in kernels) > 0


def test_shares_of_one_graph_do_not_depend_on_its_neighbours(from_networks, networks):
    together = from_networks.explain(networks[130:140])
    alone = [from_networks.explain([graph])[0] for graph in networks[130:140]]
    for one, other in zip(together, alone, strict=True):
        assert [share.operators for share in one.shares] == [share.operators for share in other.shares]
        np.testing.assert_allclose([s.latency_ms for s in one.shares], [s.latency_ms for s in other.shares], rtol=1e-9)


def test_no_kernel_is_free_that_training_never_saw(from_networks, builder):
    """A kind that is new is priced as all kernels are, a new fusion as its kind is; both are said to be unknown."""
    plain = builder((1, 16, 16, 8))
    known = plain.graph(plain.conv(0, 16))
    strange = builder((1, 16, 16, 8))
    value = strange.conv(0, 16)
    foreign = strange.graph(strange.place("conv3d", (value,), (1, 16, 16, 16), 600_000, 2_000, kernel=(3, 3)))
    alone = builder((1, 16, 16, 8))
    unfused = alone.place("conv2d", (0,), (1, 16, 16, 16), 294_912, 1_168, kernel=(3, 3))
    predictions = from_networks.predict([known, foreign, alone.graph(unfused)])
    assert predictions[1].latency_ms > predictions[0].latency_ms + 0.02
    assert "conv3d" in predictions[1].unknown
    assert predictions[2].latency_ms == pytest.approx(predictions[0].latency_ms, rel=0.3)
    assert "kernel: conv2d[kernel=3x3] not in training" in predictions[2].unknown
    (_, *_, overhead) = from_networks.explain([foreign])[0].shares
    assert overhead.latency_ms == pytest.approx(0.3, abs=0.05)


def test_measured_kernels_teach_what_few_disturbed_networks_cannot(networks):
    """A network takes 0.5 ms and 0.7 of what its kernels take alone; 24 are measured, to 20 %, three times over."""
    times = [times_of(graph) for graph in networks]
    whole = [0.5 + 0.7 * sum(of_one) for of_one in times]
    given = [None if i % 4 == 0 else of_one for i, of_one in enumerate(times[:24])]
    found = []
    for seed in range(3):
        chance = random.Random(seed)
        disturbed = [ms * chance.lognormvariate(0, 0.2) for ms in whole[:24]]
        predictor = KernelSumPredictor().fit(networks[:24], disturbed, operator_times=given)
        without = KernelSumPredictor().fit(networks[:24], disturbed)
        found.append([np.median(errors(p, networks[24:], whole[24:])) for p in (predictor, without)])
    better, worse = np.mean(found, axis=0)
    assert better < 0.08
    assert better < worse


def test_a_family_measured_often_gets_a_forest_where_its_prices_fail(builder, tmp_path):
    """Convolutions whose time steps up at 20 channels: not a sum of costs, and easy for a tree."""
    chance = random.Random(1)
    graphs, times = [], []
    while len(graphs) < 30:
        place = builder((1, 8, 8, 4))
        value = 0
        for _ in range(3):
            value = place.conv(value, chance.randrange(4, 40))
        graph = place.graph(value)
        if graph not in graphs:
            graphs.append(graph)
            batch = Batch.of([graph])
            each = [batch.kernels[number] for number in batch.numbers]
            wide = [k.ops[-1].outputs[0].shape[-1] >= 20 for k in each]
            times.append([(3.0 if far else 1.0) * (0.01 + k.macs / 1e6) for k, far in zip(each, wide, strict=True)])
    whole = [0.1 + sum(of_one) for of_one in times]
    predictor = KernelSumPredictor().fit(graphs, whole, operator_times=times)
    model = predictor.fitted.model
    assert model.forests.by_family
    assert model.scale == pytest.approx(1, abs=0.1)
    predictor.save(tmp_path / "new")
    again = KernelSumPredictor.load(tmp_path / "new")
    np.testing.assert_array_equal(again.predict(graphs).latency_ms, predictor.predict(graphs).latency_ms)


def test_families_are_many_and_prices_few(networks):
    batch = Batch.of(networks)
    encoder = KernelEncoder.learn(batch)
    encoded = encoder.encode(batch)
    assert encoded.costs.shape == (len(batch.kernels), len(COSTS))
    assert np.all(encoded.counts.sum(axis=1) == batch.lengths)
    part = encoded[np.array([3, 1])]
    assert len(part) == 2
    assert list(part.lengths) == [batch.lengths[3], batch.lengths[1]]
    np.testing.assert_array_equal(part.counts.toarray(), encoded.counts.toarray()[[3, 1]])


def test_a_forest_is_what_scikit_learn_grew():
    from sklearn.ensemble import RandomForestRegressor

    chance = np.random.default_rng(0)
    rows = chance.normal(size=(200, 5))
    targets = rows[:, 0] ** 2 + chance.normal(size=200)
    forest = Forest.grow(rows, targets, seed=3)
    reference = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.6, random_state=3)
    reference.fit(rows.astype(np.float32), targets)
    other = chance.normal(size=(300, 5))
    np.testing.assert_allclose(forest.predict(other), reference.predict(other.astype(np.float32)), rtol=1e-9)


@pytest.mark.parametrize(
    ("row", "column", "value"), [(0, 2, 0), (0, 3, 1e6), (0, 2, -1), (0, 0, 5), (0, 4, math.nan)], ids=str
)
def test_a_forest_that_goes_round_in_circles_is_refused(row, column, value):
    rows = np.arange(40.0).reshape(-1, 1)
    forest = Forest.grow(rows, rows[:, 0], seed=0)
    nodes = forest.nodes.copy()
    Forest.read(nodes, forest.roots.astype(float), 1)
    nodes[row, column] = value
    with pytest.raises(ArtifactError):
        Forest.read(nodes, forest.roots.astype(float), 1)
    with pytest.raises(ArtifactError):
        Forest.read(forest.nodes, np.array([-1.0]), 1)


def test_prices_are_never_negative_and_strays_do_not_bend_them():
    chance = np.random.default_rng(0)
    rows = chance.uniform(0, 5, size=(200, 3))
    truth = np.array([0.5, 0.0, 2.0])
    latencies = rows @ truth + 0.1
    latencies[::20] *= 30
    rows = np.column_stack([rows, np.ones(200)])
    found = fit_prices(rows, latencies, np.zeros(4), 1e-9, free=1)
    np.testing.assert_allclose(found, [*truth, 0.1], atol=0.02)
    assert np.all(found >= 0)


def test_where_data_say_nothing_the_prior_is_kept():
    rows = np.column_stack([np.linspace(1, 2, 50), np.zeros(50), np.ones(50)])
    found = fit_prices(rows, 3 * rows[:, 0], np.array([1.0, 7.0, 0.0]), 1e-6, free=1)
    np.testing.assert_allclose(found, [3.0, 7.0, 0.0], atol=1e-3)
