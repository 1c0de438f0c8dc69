"""One graph network for several platforms, and adaptation of what it says to a new one."""

import math

import pytest

from leti.core.errors import InvalidInput, TooFewMeasurements

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
for module in ("torch", "torch_geometric", "onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(module, reason="needs the extra `gcn`")

from leti.predictors import artifacts
from leti.predictors.adaptation import predictor as adaptation
from leti.predictors.batch import Batch
from leti.predictors.evaluation import Sample
from leti.predictors.gcn.collation import collate
from leti.predictors.gcn.network import GraphNetwork
from leti.predictors.gcn.together import SharedGraphPredictor, train_together, train_trunk


def latency(graph, a_mac: float, an_operator: float, noise: float = 0.0) -> float:
    chance = np.random.default_rng(int(graph.fingerprint()[:8], 16))
    return (0.1 + a_mac * graph.macs / 1e6 + an_operator * len(graph.ops)) * math.exp(noise * chance.normal())


PRICES = {"fast": (0.1, 0.01), "steady": (0.05, 0.1), "slow": (2.0, 0.02)}
NEW = (0.8, 0.03)


@pytest.fixture(scope="module")
def samples(networks):
    """Measurements of platforms that do not all have the same networks."""
    parts = {"fast": networks[:80], "steady": networks[10:90], "slow": networks[:90:2]}
    return {
        name: Sample(
            part, tuple(latency(graph, *PRICES[name], 0.02) for graph in part), tuple(map(str, range(len(part))))
        )
        for name, part in parts.items()
    }


@pytest.fixture(scope="module")
def trained(samples):
    return train_trunk(samples)


def off(predictor, graphs, prices):
    truth = np.array([latency(graph, *prices) for graph in graphs])
    return np.median(np.abs(np.asarray(predictor.predict(graphs).latency_ms) / truth - 1))


def columns(predictor, graphs):
    told = predictor.predict(graphs)
    return np.array([told.latency_ms, told.low_ms, told.high_ms])


@pytest.mark.parametrize("name", PRICES)
def test_each_platform_has_a_predictor_of_its_own(name, trained, samples, networks):
    predictor = trained[1][name]
    assert off(predictor, networks[90:], PRICES[name]) < 0.15  # prices of another platform are off by 0.4 and more
    assert len(predictor.unseen_ms) == len(samples[name])
    # What was left out is judged by who had not seen it: no better than on networks that none has seen, by much.
    left_out = np.median(np.abs(predictor.unseen_ms / predictor.training.latencies_ms - 1))
    assert left_out > 0.3 * off(predictor, networks[90:], PRICES[name])


def test_what_is_served_is_the_trunk_weighed_by_the_platforms_vector(trained, samples, networks):
    torch = pytest.importorskip("torch")
    trunk, predictors = trained
    encoded = trunk.encoder.encode(Batch.of(networks[:20]))
    for number, (name, sample) in enumerate(samples.items()):
        network = GraphNetwork(trunk.architecture)
        network.load_state_dict({key: torch.from_numpy(value) for key, value in trunk.of_platform(number).items()})
        with torch.no_grad():
            said = network(collate(encoded, np.zeros(len(encoded.kinds)))).mean(1).numpy()
        low, middle, high = np.quantile(sample.latencies_ms, (0.25, 0.5, 0.75))
        expected = middle + said * (high - low) / 1.349
        served = np.asarray(predictors[name].predict(networks[:20]).latency_ms)
        inside = (expected > min(sample.latencies_ms) / 2) & (expected < 2 * max(sample.latencies_ms))
        assert inside.any()
        np.testing.assert_allclose(served[inside], expected[inside], rtol=1e-3)


def test_same_measurements_and_seed_same_predictors(trained, samples, networks):
    again = train_together(samples)
    for name, predictor in trained[1].items():
        np.testing.assert_array_equal(columns(again[name], networks), columns(predictor, networks))
    other = train_together(samples, seed=1)["fast"]
    assert np.any(columns(other, networks) != columns(again["fast"], networks))


def test_a_group_of_any_platform_is_left_out_as_a_whole(networks):
    from leti.predictors.gcn.together import Platforms
    from leti.predictors.training_data import check_training_data

    def training(part, groups):
        return check_training_data(part, [latency(graph, *NEW) for graph in part], groups, None)

    one = training(networks[:30], [str(i // 2) for i in range(30)])  # 0 with 1, 2 with 3, …
    two = training(networks[1:31], [str(i // 2) for i in range(30)])  # 1 with 2, …
    chained = Platforms.of([one, two])
    assert len(chained.graphs) == 31
    assert len(set(chained.groups)) == 1
    assert len(set(Platforms.of([one]).groups)) == 15


def test_adapts_to_a_platform_by_ten_networks_and_is_served_from_a_file(samples, networks, tmp_path):
    few = networks[90:100]
    measured = [latency(graph, *NEW, 0.02) for graph in few]
    predictor = adaptation.adapt(samples, few, measured, source_kind=adaptation.SHARED_KIND, method="bayes")
    assert off(predictor, networks[100:], NEW) < 0.1
    digest = artifacts.save(predictor, tmp_path / "new")
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {".json", ".npz", ".onnx", ".safetensors"}
    loaded = artifacts.load(tmp_path / "new", digest)
    np.testing.assert_array_equal(columns(loaded, networks), columns(predictor, networks))


def test_measurements_and_predictors_can_be_sources_together(samples, trained, networks):
    few = networks[90:100]
    sources = {"fast": trained[1]["fast"], "steady": samples["steady"], "slow": samples["slow"]}
    predictor = adaptation.adapt(
        sources, few, [latency(graph, *NEW) for graph in few], source_kind=adaptation.SHARED_KIND, method="mix"
    )
    assert off(predictor, networks[100:], NEW) < 0.2


def test_tells_how_far_it_is(samples):
    seen = []
    train_together({"fast": samples["fast"]}, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(len(seen)))
    assert seen[-1][0] == seen[-1][1]


def test_refuses_nothing_and_too_little(samples):
    with pytest.raises(InvalidInput) as caught:
        train_together({})
    assert caught.value.field == "sources"
    with pytest.raises(TooFewMeasurements):
        train_together({"fast": samples["fast"], "few": samples["slow"].part(range(3))})


def test_a_platform_alone_trains_as_any_kind_does(samples, networks):
    predictor = samples["fast"].teach(SharedGraphPredictor(), seed=0)
    assert off(predictor, networks[90:], PRICES["fast"]) < 0.15
