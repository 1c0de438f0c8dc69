"""The linear regression's prices, on networks whose latency is such a sum."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the extra boosting")

from leti.predictors.linear import LinearPredictor


@pytest.fixture(scope="module")
def by_the_price_list(networks):
    """Latency is 0.2 ms, 0.5 ms a million MACs, and 0.02 ms an operator."""
    return [0.2 + graph.macs / 2e6 + 0.02 * len(graph.ops) for graph in networks]


def test_a_sum_is_found_and_continued(networks, by_the_price_list):
    predictor = LinearPredictor().fit(networks[:100], by_the_price_list[:100])
    error = np.abs(np.asarray(predictor.predict(networks[100:]).latency_ms) / by_the_price_list[100:] - 1)
    assert error.max() < 0.01


def test_weights_are_what_the_prediction_is_made_of(networks, by_the_price_list):
    predictor = LinearPredictor().fit(networks[:100], by_the_price_list[:100])
    weights = predictor.weights_ms
    assert {"macs", "traffic_bytes", "count: conv2d", "macs: conv2d", "count: add", "intercept"} <= set(weights)
    assert not any(name.startswith(("path", "on path", "pair", "readers")) for name in weights)
    for graph, breakdown in zip(networks[100:110], predictor.explain(networks[100:110]), strict=True):
        shares = {share.name: share.latency_ms for share in breakdown.shares}
        assert shares["macs"] == pytest.approx(weights["macs"] * graph.macs)
        adds = sum(op.kind == "add" for op in graph.ops)
        assert shares.get("count: add", 0.0) == pytest.approx(weights["count: add"] * adds)
        assert shares["intercept"] == weights["intercept"]


def test_what_lies_below_zero_is_lifted_and_said(networks, builder):
    """Where large networks are dear beyond proportion, the line falls below zero for a small one."""
    latencies = [(graph.macs / 1e6) ** 2 for graph in networks]
    predictor = LinearPredictor().fit(networks, latencies)
    least = builder((1, 2, 2, 8))
    (breakdown,) = predictor.explain([least.graph(least.conv(0, 8, kernel=1))])
    assert breakdown.latency_ms == pytest.approx(0.1 * min(latencies))
    assert breakdown.shares[-1].name == "floor"
    assert breakdown.shares[-1].latency_ms > 0
