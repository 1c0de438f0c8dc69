import pytest

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
pytest.importorskip("sklearn", reason="needs the extra `boosting`")
flops = pytest.importorskip("leti.predictors.flops")
batch = pytest.importorskip("leti.predictors.batch")
features = pytest.importorskip("leti.predictors.features")
regression = pytest.importorskip("leti.predictors.regression")


@pytest.fixture
def convolutions(builder):
    """Lone convolutions of `widths` channels: MACs are in proportion to the channels."""

    def make(widths, size=8):
        graphs = []
        for width in widths:
            made = builder((1, size, size, 8))
            graphs.append(made.graph(made.conv(0, width)))
        return graphs

    return make


def latencies(predictor, graphs):
    return np.array(predictor.predict(graphs).latency_ms)


def test_finds_the_line_among_stray_measurements(convolutions):
    """A third of the networks took ten times as long; the line is that of the others."""
    graphs = convolutions(range(1, 61))
    truth = np.array([0.5 + graph.macs / 1e5 for graph in graphs])
    measured = np.where(np.arange(60) % 3 == 0, 10 * truth, truth)
    predictor = flops.FlopsPredictor().fit(graphs, list(measured))
    np.testing.assert_allclose(latencies(predictor, graphs), truth, rtol=1e-6)


def test_no_prediction_is_zero_or_less(convolutions):
    graphs = convolutions(range(20, 60))
    predictor = flops.FlopsPredictor().fit(graphs, [graph.macs / 1e5 - 0.9 for graph in graphs])
    assert latencies(predictor, convolutions([1]))[0] > 0


def test_few_distinct_networks_and_a_spread_of_zero(convolutions):
    """Most latencies are equal, so the tolerance is zero, and most pairs of networks have no slope."""
    graphs = convolutions([8, 8, 8, 16, 32] * 8)
    measured = [1.0] * 24 + [1.0 + 0.01 * i for i in range(16)]
    totals = features.FeatureMap()
    rows = totals.encode(batch.Batch.of(graphs))
    examples = regression.Examples(totals, rows, np.array(measured), tuple(map(str, range(40))))
    for predictor in (flops.FlopsPredictor(), flops.FlopsByMemoryPredictor()):
        assert np.all(np.abs(predictor.learn(examples, seed=0).latencies_ms(rows) - 1) < 0.2)


def test_a_line_for_each_cluster_of_memory(convolutions):
    """Networks on large images take ten times as long a MAC: one line cannot say so, two can."""
    small, large = convolutions(range(10, 50), size=8), convolutions(range(10, 50), size=64)
    graphs = small + large
    measured = [graph.macs / 1e6 for graph in small] + [graph.macs / 1e5 for graph in large]
    test = convolutions([15, 25], size=8) + convolutions([15, 25], size=64)
    truth = [graph.macs / 1e6 for graph in test[:2]] + [graph.macs / 1e5 for graph in test[2:]]
    by_memory = flops.FlopsByMemoryPredictor().fit(graphs, measured)
    np.testing.assert_allclose(latencies(by_memory, test), truth, rtol=0.02)
    one_line = flops.FlopsPredictor().fit(graphs, measured)
    assert np.max(np.abs(latencies(one_line, test) / truth - 1)) > 0.2


def test_where_memory_tells_nothing_one_line_is_enough(convolutions):
    graphs = convolutions(range(1, 61))
    measured = [0.5 + graph.macs / 1e5 for graph in graphs]
    one, clusters = (
        latencies(kind().fit(graphs, measured), graphs) for kind in (flops.FlopsPredictor, flops.FlopsByMemoryPredictor)
    )
    np.testing.assert_allclose(one, clusters, rtol=1e-6)
