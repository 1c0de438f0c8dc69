"""Weight sharing and Huffman codes: fewer bits, and what they stand for comes back."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="the extra `compression` is not installed")

from leti.compression.storing.clustering import clustered, shared
from leti.compression.storing.huffman import HuffmanCode
from leti.core.errors import ArtifactError, InvalidInput
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def test_sixteen_weights_in_two_bits_take_160_bits_instead_of_512():
    clusters = np.asarray([[-1.0, 0.0, 1.5, 2.0]] * 4).T + np.linspace(-0.1, 0.1, 4)
    made = shared(clusters.astype(np.float32), 2)
    assert (made.float_bits, made.bits) == (512, 160)
    np.testing.assert_array_equal(made.indices, np.repeat(np.arange(4), 4).reshape(4, 4))
    np.testing.assert_allclose(made.codebook, [-1, 0, 1.5, 2], atol=1e-6)


def test_clusters_are_no_worse_than_sklearns():
    from sklearn.cluster import KMeans

    values = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    made = shared(values, 3)
    begun = np.linspace(values.min(), values.max(), 8)[:, None]
    reference = KMeans(8, init=begun, n_init=1).fit(values[:, None])
    assert np.square(made.values - values).sum() <= 1.02 * reference.inertia_


def test_what_was_pruned_stays_so_and_few_values_stay_exact():
    values = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)
    values[np.abs(values) < 1] = 0
    made = shared(values, 2)
    np.testing.assert_array_equal(made.values == 0, values == 0)
    assert len(made.codebook) <= 4
    exact = np.asarray([1.0, -2.0, 1.0], np.float32)
    np.testing.assert_array_equal(shared(exact, 4).values, exact)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_huffman_codes_come_back_and_are_near_the_entropy(symbols):
    code = HuffmanCode.of(symbols)
    encoded = code.encoded(symbols)
    assert code.decoded(encoded) == symbols
    assert len(encoded) == code.bits(symbols)
    shares = [number / len(symbols) for number in Counter(symbols).values()]
    entropy = -sum(share * math.log2(share) for share in shares)
    assert entropy * len(symbols) - 1e-6 <= code.bits(symbols) <= (entropy + 1) * len(symbols) + 1e-6
    assert sum(2.0**-length for length in code.lengths.values()) == (1 if len(shares) > 1 else 0.5)


def test_huffmans_example_is_coded_as_in_textbooks():
    symbols = [0] * 45 + [1] * 13 + [2] * 12 + [3] * 16 + [4] * 9 + [5] * 5
    code = HuffmanCode.of(symbols)
    assert code.bits(symbols) == 224
    assert [code.lengths[i] for i in range(6)] == [1, 3, 3, 3, 4, 4]
    assert list(code.codes().values()) == ["0", "100", "101", "110", "1110", "1111"]


def test_a_network_is_smaller_and_says_that_it_is_not_faster():
    builder = GraphBuilder(TensorType((1, 8, 8, 3)))
    graph = builder.graph(builder.conv(builder.relu(builder.conv(0, 16, 3)), 32, 3))
    network = Imported(graph, ("first", "", "second"), random_weights(graph, 0))
    made = clustered(network, 4)
    assert [layer.name for layer in made.layers] == ["first", "second" if graph.ops[2].kind == "conv2d" else ""]
    assert made.imported.graph is graph
    for number in (0, 2):
        assert len(np.unique(made.imported.weights[number][0])) <= 16
        np.testing.assert_array_equal(made.imported.weights[number][1], network.weights[number][1])
    assert 5 < made.ratio < 9
    assert "not faster" in made.record


@pytest.mark.parametrize(
    ("error", "field", "call"),
    [
        (InvalidInput, "index_bits", lambda: shared(np.ones(3), 9)),
        (InvalidInput, "values", lambda: shared(np.asarray([np.nan]), 2)),
        (InvalidInput, "symbols", lambda: HuffmanCode.of([])),
        (ArtifactError, "encoded", lambda: HuffmanCode({1: 2, 2: 2}).decoded("0")),
    ],
)
def test_bad_requests_name_their_field(error, field, call):
    with pytest.raises(error) as caught:
        call()
    assert caught.value.field == field
