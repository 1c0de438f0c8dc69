"""Data-free quantisation: functions stay, errors fall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra `compression` is not installed")
pytest.importorskip("litert_quantizer", reason="the extra `compression` is not installed")

from leti.compression.quantizing.equalizing import (
    absorbed,
    clipped_moments,
    corrected,
    corrected_by_means,
    equalized,
    expected_means,
    pairs,
)
from leti.compression.quantizing.weights import quantized_weights, with_weights
from leti.compression.training.executing import outputs
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def chain(seed: int = 0, *, flattened: bool = False, groups: int = 1, kernel: int = 3) -> Imported:
    builder = GraphBuilder(TensorType((1, 8, 8, 4)))
    value = builder.relu(builder.conv(0, 8, kernel))
    value = builder.relu(builder.depthwise_conv(value, kernel))
    value = builder.relu(builder.conv(value, 8, kernel, groups=groups))
    if flattened:
        value = builder.max_pool(value, 2, 2)
        value = builder.place("reshape", (value,), (1, int(np.prod(builder.shape(value)))))
    else:
        value = builder.global_mean(value)
    graph = builder.graph(builder.fully_connected(value, 10))
    return Imported(graph, ("",) * len(graph.ops), random_weights(graph, seed))


def skewed(imported: Imported, seed: int = 0) -> Imported:
    """Return the network with channels of very different ranges, which what reads them makes up for."""
    rng = np.random.default_rng(seed)
    for number, reader in ((0, 2), (2, 4)):
        filters, bias = imported.weights[number]
        factors = np.exp(rng.uniform(-3, 3, len(bias))).astype(np.float32)
        spread = factors if imported.graph.ops[number].kind == "depthwise_conv2d" else factors.reshape(-1, 1, 1, 1)
        changed = {number: (filters * spread, bias * factors)}
        reading, *rest = imported.weights[reader]
        if reading.shape[-1] == len(factors):  # in groups, the ranges alone are skewed
            changed[reader] = (reading / factors, *rest)
        imported = with_weights(imported, changed)
    return imported


def error(imported: Imported, changed: Imported, drawn: np.ndarray) -> float:
    expected, found = outputs(imported, (drawn,))[0], outputs(changed, (drawn,))[0]
    return float(np.square(found - expected).mean() / expected.var())


DRAWN = np.random.default_rng(7).standard_normal((64, 8, 8, 4), dtype=np.float32)


@given(st.integers(0, 100), st.booleans(), st.sampled_from([1, 2, 4]))
@settings(max_examples=10, deadline=None)
def test_equalising_keeps_the_function(seed, flattened, groups):
    network = skewed(chain(seed, flattened=flattened, groups=groups), seed)
    expected, found = outputs(network, (DRAWN,))[0], outputs(equalized(network), (DRAWN,))[0]
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5
    assert len(tuple(pairs(network.graph))) == 3


@pytest.mark.parametrize("flattened", [False, True])
def test_equalising_lowers_the_error_of_one_scale_a_tensor(flattened):
    network = skewed(chain(flattened=flattened))
    before = error(network, quantized_weights(network, 8, per_channel=False), DRAWN)
    made = equalized(network)
    after = error(network, quantized_weights(made, 8, per_channel=False), DRAWN)
    assert after < before / 10


def test_ranges_of_neighbours_become_equal():
    network = equalized(skewed(chain()))
    for pair in pairs(network.graph):
        first, second = network.weights[pair.first][0], network.weights[pair.second][0]
        axes = (0, 1, 2) if network.graph.ops[pair.first].kind == "depthwise_conv2d" else (1, 2, 3)
        made = np.abs(first).max(axis=axes)
        read = np.abs(second).max(axis=tuple(range(second.ndim - 1)))
        np.testing.assert_allclose(made, read, rtol=0.05)


def test_what_is_read_twice_or_bounded_is_left_alone():
    builder = GraphBuilder(TensorType((1, 8, 8, 4)))
    first = builder.conv(0, 8, 3)
    second = builder.conv(builder.relu(first), 8, 3)
    third = builder.conv(builder.unary("relu6", builder.add((first, second))), 8, 3)
    graph = builder.graph(third)
    assert not tuple(pairs(graph))


@pytest.mark.parametrize(("method", "share"), [("empirical", 0.1), ("analytic", 0.5)])
def test_correction_takes_back_the_shift_of_rounded_weights(method, share):
    fresh = np.random.default_rng(8).standard_normal((256, 8, 8, 4), dtype=np.float32)
    before = after = 0.0
    for seed in (3, 4, 5):
        network = chain(seed)
        rounded = quantized_weights(network, 4, per_channel=False)
        if method == "empirical":
            made = corrected(network, rounded, (DRAWN,))
        else:
            made = corrected_by_means(network, rounded, expected_means(network))
        wanted = outputs(network, (fresh,))[0]
        before += float(np.abs((outputs(rounded, (fresh,))[0] - wanted).mean(axis=0)).mean())
        after += float(np.abs((outputs(made, (fresh,))[0] - wanted).mean(axis=0)).mean())
        assert error(network, made, fresh) < error(network, rounded, fresh)
    assert after < share * before


def test_high_biases_are_absorbed_where_that_changes_nothing():
    builder = GraphBuilder(TensorType((1, 8, 8, 4)))
    value = builder.relu(builder.conv(0, 8, 3))
    value = builder.relu(builder.conv(value, 8, 1))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    network = Imported(graph, ("",) * len(graph.ops), random_weights(graph, 0))
    filters, bias = network.weights[0]
    high = with_weights(network, {0: (filters, bias + np.asarray([40, 0] * 4, np.float32))})
    made = absorbed(high)
    expected, found = outputs(high, (DRAWN,), [2])[:2], outputs(made, (DRAWN,), [2])[:2]
    np.testing.assert_allclose(found[0], expected[0], atol=0.02)  # one in a thousand lies below three deviations
    assert found[1].max() < expected[1].max() / 2
    np.testing.assert_array_equal(made.weights[0][1][1::2], high.weights[0][1][1::2])


def test_moments_of_cut_normal_values_are_those_of_samples():
    drawn = np.random.default_rng(0).normal(0.7, 2.0, 400_000)
    for low, high in ((0.0, np.inf), (0.0, 6.0), (-1.0, 1.0)):
        cut = np.clip(drawn, low, high)
        mean, variance = clipped_moments(np.asarray(0.7), np.asarray(2.0), low, high)
        assert float(mean) == pytest.approx(cut.mean(), abs=0.01)
        assert float(variance) == pytest.approx(cut.var(), rel=0.01)


def test_expected_means_are_near_those_of_samples():
    network = chain(5)
    made = network.graph.first_values()
    means = expected_means(network)
    for number in (2, 4):
        source = network.graph.wiring[number][0]
        seen = outputs(network, (DRAWN,), [source])[-1][:, 1:-1, 1:-1].mean(axis=(0, 1, 2))
        assert np.corrcoef(means[number], seen)[0, 1] > 0.9, made
