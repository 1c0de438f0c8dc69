import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.errors import InvalidInput
from leti.core.graph import Graph

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
batch = pytest.importorskip("leti.predictors.batch")
features = pytest.importorskip("leti.predictors.features")
conformal = pytest.importorskip("leti.predictors.conformal")


def row_of(graph, known=None):
    """The features of a graph by name."""
    taken = batch.Batch.of([graph])
    known = known or features.FeatureMap.learn(taken, min_graphs=1)
    return dict(zip(known.names, known.encode(taken)[0], strict=True))


def renumbered(graph, seed):
    """The same graph, its operators in another topological order."""
    chance = random.Random(seed)
    first, made = len(graph.inputs), {}
    left = list(range(len(graph.ops)))
    order = []
    while left:
        ready = [i for i in left if all(value < first or value - first in made for value in graph.wiring[i])]
        chosen = chance.choice(ready)
        made[chosen] = len(order)
        order.append(chosen)
        left.remove(chosen)

    def value(old):
        return old if old < first else made[old - first] + first

    return Graph(
        graph.inputs,
        tuple(graph.ops[i] for i in order),
        tuple(tuple(map(value, graph.wiring[i])) for i in order),
        tuple(map(value, graph.outputs)),
        graph.peak_memory_bytes,
        tuple(tuple(made[i] for i in kernel) for kernel in graph.kernels),
    )


def test_a_row_tells_what_a_graph_is_made_of(builder):
    """Two convolutions side by side behind one, added: everything can be counted by hand."""
    made = builder((1, 8, 8, 4))
    stem = made.conv(0, 8, kernel=1)
    total = made.add(made.conv(stem, 8), made.conv(stem, 8, kernel=1))
    graph = made.graph(total)
    row = row_of(graph)
    assert row["macs"] == graph.macs == 64 * (4 * 8 + 9 * 8 * 8 + 8 * 8)
    assert row["params"] == graph.params
    assert (row["operators"], row["kernels"], row["input_elements"]) == (7, 4, 256)
    assert row["peak_memory_bytes"] == graph.peak_memory_bytes
    assert (row["count: conv2d"], row["count: add"]) == (3, 1)
    assert row["count: conv2d[kernel=1x1] + relu"] == 2
    assert row["macs: conv2d[kernel=3x3] + relu"] == 64 * 9 * 8 * 8
    assert row["count: conv2d[kernel=3x3] 1x8x8x8>1x8x8x8 + relu 1x8x8x8>1x8x8x8"] == 1
    # A kernel reads its input and weights and writes its output; what goes from convolution to ReLU stays inside.
    assert row["traffic_bytes: conv2d[kernel=3x3] + relu"] == 4 * (2 * 512 + 9 * 8 * 8 + 8)
    assert (row["path: kernels"], row["path: width"]) == (3, 2)
    assert row["path: macs"] == 64 * (4 * 8 + 9 * 8 * 8)
    assert (row["on path: conv2d"], row["on path: add"]) == (2, 1)
    assert row["on path: conv2d[kernel=3x3] + relu"] == 1
    assert row["readers 2: conv2d[kernel=1x1] + relu"] == 1
    assert row["readers 3: conv2d"] == 0
    assert row["pair: conv2d[kernel=1x1] + relu > conv2d[kernel=3x3] + relu"] == 1
    assert row["pair: conv2d[kernel=3x3] + relu > add"] == 1


def test_an_operator_outside_every_kernel_counts_alone(builder):
    made = builder((1, 8, 8, 4))
    made.conv(0, 4)
    made.kernels.clear()
    row = row_of(made.graph(2))
    assert (row["kernels"], row["count: conv2d"], row["count: relu"]) == (2, 1, 1)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_order_of_operators_does_not_matter(network, number, seed):
    graph = network(number)
    other = renumbered(graph, seed)
    assert other.fingerprint() == graph.fingerprint()
    known = features.FeatureMap.learn(batch.Batch.of([graph]), min_graphs=1)
    assert row_of(other, known) == pytest.approx(row_of(graph, known))


def test_rows_do_not_depend_on_the_batch(networks):
    known = features.FeatureMap.learn(batch.Batch.of(networks[:50]))
    together = known.encode(batch.Batch.of(networks))
    alone = np.vstack([known.encode(batch.Batch.of([graph])) for graph in networks])
    np.testing.assert_allclose(alone, together, rtol=1e-12)
    assert together.shape == (len(networks), len(known.names))
    assert len(set(known.names)) == len(known.names)


def test_a_kernel_that_training_never_saw_is_in_the_coarser_columns(builder, network):
    known = features.FeatureMap.learn(batch.Batch.of([network(i) for i in range(20)]))
    made = builder((1, 8, 8, 8))
    graph = made.graph(made.conv(0, 99, kernel=3))
    row = row_of(graph, known)
    assert row["macs"] == row["macs: conv2d"] == row["macs: conv2d[kernel=3x3] + relu"] == graph.macs
    assert row["count: conv2d"] == 1
    assert not any(value for name, value in row.items() if name.startswith("count: ") and ">" in name)


def test_a_graph_without_operators_has_a_row(network):
    empty = Graph(network(0).inputs, (), (), (0,))
    graphs = [empty, network(1), empty, network(2), empty]
    known = features.FeatureMap.learn(batch.Batch.of(graphs), min_graphs=1)
    rows = known.encode(batch.Batch.of(graphs))
    np.testing.assert_allclose(rows[[1, 3]], known.encode(batch.Batch.of([network(1), network(2)])))
    assert rows[0, 0] == 0
    np.testing.assert_array_equal(known.encode(batch.Batch.of([empty]))[0], rows[0])


@given(st.integers(1, 300), st.floats(0.01, 0.99))
def test_half_width_is_the_smallest_residual_that_covers(n, coverage):
    """The ceil((n + 1) * coverage)-th smallest: enough residuals below, and no more than it takes."""
    residuals = np.arange(1, n + 1) / 100
    calibration = conformal.Calibration(residuals)
    rank = math.ceil(round((n + 1) * coverage, 9))
    if rank > n:
        with pytest.raises(InvalidInput, match="promised"):
            calibration.half_width(coverage)
    else:
        assert calibration.half_width(coverage) == residuals[rank - 1]
