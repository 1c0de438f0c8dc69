"""A predictor for a new platform from a handful of measurements."""

import math

import pytest

from leti.core.errors import ArtifactError, InvalidInput, TooFewMeasurements
from leti.core.prediction import Predictor

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
adaptation = pytest.importorskip("leti.predictors.adaptation.predictor")
artifacts = pytest.importorskip("leti.predictors.artifacts")
registry = pytest.importorskip("leti.predictors.registry")
transfer = pytest.importorskip("leti.predictors.adaptation.transfer")

from leti.predictors.evaluation import Sample

METHODS = tuple(transfer.METHODS)


def on_platform(a_mac: float, an_operator: float):
    """Milliseconds on a platform with these prices of a million MACs and of an operator."""

    def measure(graph, noise: float = 0.0) -> float:
        chance = np.random.default_rng(int(graph.fingerprint()[:8], 16))
        return (0.1 + a_mac * graph.macs / 1e6 + an_operator * len(graph.ops)) * math.exp(noise * chance.normal())

    return measure


NEW = on_platform(0.8, 0.03)


@pytest.fixture(scope="module")
def samples(networks):
    platforms = {"fast": on_platform(0.1, 0.01), "steady": on_platform(0.05, 0.1), "slow": on_platform(2.0, 0.02)}
    train = networks[:80]
    return {
        name: Sample(train, tuple(of(graph, 0.02) for graph in train), tuple(map(str, range(80))))
        for name, of in platforms.items()
    }


@pytest.fixture(scope="module")
def sources(samples):
    return {name: sample.teach(registry.create("linear"), seed=0) for name, sample in samples.items()}


@pytest.fixture(scope="module")
def adapted(sources, networks):
    few = networks[80:90]
    made = {}

    def get(method="auto"):
        if method not in made:
            made[method] = adaptation.adapt(sources, few, [NEW(graph, 0.02) for graph in few], method=method)
        return made[method]

    return get


def columns(predictions):
    return np.array([predictions.latency_ms, predictions.low_ms, predictions.high_ms])


def median_error(predictor, graphs):
    truth = np.array([NEW(graph) for graph in graphs])
    return np.median(np.abs(np.asarray(predictor.predict(graphs).latency_ms) / truth - 1))


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_ten_networks_are_enough(method, adapted, networks):
    predictor = adapted(method)
    assert isinstance(predictor, Predictor)
    assert median_error(predictor, networks[100:]) < 0.08
    latency, low, high = columns(predictor.predict(networks[100:]))
    assert np.all((low > 0) & (low < latency) & (latency < high))


def test_auto_takes_one_of_the_methods_and_says_what_the_others_did(adapted):
    assert adapted().method in METHODS
    assert set(adapted().errors) == set(METHODS)


def test_takes_measurements_for_sources(samples, networks):
    few = networks[80:90]
    predictor = adaptation.adapt(samples, few, [NEW(graph) for graph in few])
    assert median_error(predictor, networks[100:]) < 0.08
    assert predictor.predict(networks[100:101])[0].unknown == ()


def test_one_source_is_enough(sources, networks):
    few = networks[80:88]
    predictor = adaptation.adapt({"fast": sources["fast"]}, few, [NEW(graph) for graph in few])
    assert median_error(predictor, networks[100:]) < 0.15


def test_one_stray_among_ten_does_not_bend_the_rest(sources, networks):
    few = networks[80:90]
    measured = [NEW(graph, 0.02) for graph in few]
    measured[3] *= 4
    predictor = adaptation.adapt(sources, few, measured, method="bayes")
    assert median_error(predictor, networks[100:]) < 0.15


def test_a_stray_left_out_is_as_if_it_was_not_there(sources, networks):
    """The closed form against solving again without it, on the sums that both are made of."""
    chance = np.random.default_rng(1)
    blocks = [chance.normal(size=(7, width)) for width in (1, 3, 4, 2)]
    target = chance.normal(size=7)
    kernels = sum(block @ block.T for block in blocks) + 0.1 * np.eye(7)

    def solve(rows):
        n = len(rows)
        system = np.block([[kernels[np.ix_(rows, rows)], np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
        return np.linalg.solve(system, np.append(target[rows], 0.0))

    inverse = np.linalg.inv(kernels)
    sums, total = inverse.sum(axis=1), inverse.sum()
    projected = inverse - np.outer(sums, sums) / total
    dual, level = projected @ target, sums @ target / total
    left = dual - projected[:, 2] * dual[2] / projected[2, 2]
    again = solve([0, 1, 3, 4, 5, 6])
    np.testing.assert_allclose(np.delete(left, 2), again[:-1], atol=1e-10)
    assert level - sums[2] / total * dual[2] / projected[2, 2] == pytest.approx(again[-1])


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_saved_and_loaded_it_answers_the_same(method, adapted, networks, tmp_path):
    digest = artifacts.save(adapted(method), tmp_path / "new")
    loaded = artifacts.load(tmp_path / "new", digest)
    before, after = (predictor.predict(networks) for predictor in (adapted(method), loaded))
    np.testing.assert_array_equal(columns(after), columns(before))
    np.testing.assert_array_equal(after.distance, before.distance)
    assert after.unknown == before.unknown
    assert loaded.method == adapted(method).method
    assert artifacts.save(loaded, tmp_path / "again") == digest
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {".json", ".npz"}


def test_a_damaged_source_is_told(adapted, tmp_path):
    artifacts.save(adapted(), tmp_path / "new")
    for path in (tmp_path / "new").glob("source-1.*"):
        content = path.read_bytes()
        path.write_bytes(content[:-9] + b"damaged!!")
        with pytest.raises(ArtifactError):
            artifacts.load(tmp_path / "new")
        with pytest.raises(ArtifactError):
            adaptation.AdaptedPredictor.load(tmp_path / "new")
        path.write_bytes(content)
    artifacts.load(tmp_path / "new")


def test_same_measurements_same_predictor(sources, networks):
    few = networks[80:92]
    a, b = (adaptation.adapt(sources, few, [NEW(graph) for graph in few], seed=3) for _ in range(2))
    np.testing.assert_array_equal(columns(a.predict(networks)), columns(b.predict(networks)))


def test_one_graph_and_many_get_the_same_answer(adapted, networks):
    many = columns(adapted().predict(networks[100:120]))
    each = np.hstack([columns(adapted().predict([graph])) for graph in networks[100:120]])
    np.testing.assert_allclose(each, many, rtol=1e-9)
    assert len(adapted().predict([])) == 0


def test_lists_what_a_source_did_not_know(adapted, network):
    known, strange = adapted().predict([network(3), network(3, kind="conv3d")])
    assert "conv3d" in strange.unknown
    assert "conv3d" not in known.unknown


def test_intervals_hold_about_what_they_state(sources, networks):
    shares = []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(np.arange(80, len(networks)))
        few, rest = [networks[i] for i in order[:10]], [networks[i] for i in order[10:]]
        predictor = adaptation.adapt(sources, few, [NEW(graph, 0.1) for graph in few])
        _, low, high = columns(predictor.predict(rest, coverage=0.9))
        measured = np.array([NEW(graph, 0.1) for graph in rest])
        shares.append(np.mean((low <= measured) & (measured <= high)))
    assert 0.8 <= np.mean(shares) <= 0.99


def test_refuses_too_few(sources, networks):
    few = networks[:4]
    with pytest.raises(TooFewMeasurements) as caught:
        adaptation.adapt(sources, few, [NEW(graph) for graph in few])
    assert (caught.value.details["given"], caught.value.details["needed"]) == (4, 5)
    adaptation.adapt(sources, networks[:5], [NEW(graph) for graph in networks[:5]])


def test_refuses_what_cannot_be_adapted(sources, adapted, networks):
    few, measured = networks[:6], [NEW(graph) for graph in networks[:6]]
    for given, method, field in (
        ({}, "auto", "sources"),
        (sources, "best", "method"),
        ({"new": adapted()}, "auto", "sources[new]"),
    ):
        with pytest.raises(InvalidInput) as caught:
            adaptation.adapt(given, few, measured, method=method)
        assert caught.value.field == field
    with pytest.raises(InvalidInput):
        adaptation.adapt(sources, few, [math.nan, *measured[1:]])
    with pytest.raises(InvalidInput) as caught:
        registry.create("adapted").fit(few, measured)
    assert caught.value.field == "sources"


def test_is_not_trained_alone():
    assert "adapted" not in registry.kinds()
    assert "adapted" in registry.known_kinds()
