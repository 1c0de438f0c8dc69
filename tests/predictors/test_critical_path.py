"""Networks whose branches run side by side: which way takes longest, and what it costs."""

import random

import pytest

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
pytest.importorskip("scipy", reason="needs the extra `boosting`")
additive = pytest.importorskip("leti.predictors.additive")
critical_path = pytest.importorskip("leti.predictors.boosting.critical_path")

from leti.predictors.batch import Batch
from leti.predictors.boosting.blocks import Blocks


def branching(builder, seed):
    """Cells of three branches of one to three convolutions, one after the other, added up."""
    chance = random.Random(seed)
    placed = builder((1, 8, 8, 8))
    value = 0
    for _ in range(chance.randint(1, 4)):
        ends = []
        for _ in range(3):
            end = value
            for _ in range(chance.randint(1, 3)):
                end = placed.conv(end, 8, chance.choice((1, 3)))
            ends.append(end)
        value = placed.add(placed.add(ends[0], ends[1]), ends[2])
    return placed.graph(value)


@pytest.fixture(scope="module")
def graphs(builder):
    found = {graph.fingerprint(): graph for graph in (branching(builder, seed) for seed in range(260))}
    return tuple(found.values())


def prices_of(kernel):
    """Milliseconds of a kernel in these tests."""
    return 0.1 if kernel.kind == "add" else 0.3 + kernel.macs / 1e5


def brute_force(batch, graph, costs):
    """The longest sum of costs along any path of one graph, and its kernels: every path is tried."""
    first = int(batch.starts[graph])
    nodes = range(first, first + int(batch.lengths[graph]))
    readers = {node: [] for node in nodes}
    for writer, reader in zip(batch.writers.tolist(), batch.readers.tolist(), strict=True):
        if writer in readers:
            readers[writer].append(reader)

    def best(node):
        after = max((best(reader) for reader in readers[node]), default=(0.0, ()))
        return costs[batch.numbers[node]] + after[0], (node, *after[1])

    return max(best(node) for node in nodes)


def test_the_longest_paths_of_blocks_are_those_of_the_graph(graphs):
    batch = Batch.of(graphs[:40])
    costs = np.array([prices_of(kernel) for kernel in batch.kernels])
    blocks = Blocks.of(batch)
    in_block, kernels = blocks.longest(blocks.schedule(costs))
    spent = blocks.counts @ np.bincount(in_block, weights=costs[kernels], minlength=len(blocks.starts))
    np.testing.assert_allclose(spent, [brute_force(batch, graph, costs)[0] for graph in range(len(batch))])


def test_equal_blocks_are_looked_at_once(graphs):
    once, twice = Blocks.of(Batch.of(graphs[:20])), Blocks.of(Batch.of(graphs[:20] * 2))
    assert len(twice.kernels) == len(once.kernels) < len(Batch.of(graphs[:20] * 2).numbers)
    assert len(twice) == 2 * len(once)
    np.testing.assert_array_equal(twice.counts.sum(), 2 * once.counts.sum())


def test_how_long_kernels_run_beside_others(builder):
    placed = builder((1, 8, 8, 8))
    slow, quick = placed.conv(0, 8, 3), placed.conv(0, 8, 1)
    batch = Batch.of([placed.graph(placed.add(slow, quick))])
    costs = np.array(
        [{"add": 1.0}.get(kernel.kind, 2.0 if "3x3" in kernel.family else 0.5) for kernel in batch.kernels]
    )
    blocks = Blocks.of(batch)
    beside = blocks.beside(blocks.schedule(costs), costs)
    told = {
        batch.kernels[number].family: ns for number, ns in zip(blocks.kernels.tolist(), beside.tolist(), strict=True)
    }
    assert sorted(told.values()) == [0.0, 0.5e6, 0.5e6]  # the addition waits for both, and runs alone
    assert told["add"] == 0.0


def test_prices_are_found_where_only_the_longest_branch_counts(graphs):
    batch = Batch.of(graphs)
    costs = np.array([prices_of(kernel) for kernel in batch.kernels])
    truth = np.array([brute_force(batch, graph, costs)[0] for graph in range(len(batch))])
    encoder = critical_path.PathEncoder.learn(batch)
    encoded = encoder.encode(batch)
    train, test = np.arange(150), np.arange(150, len(graphs))
    prices = critical_path.learn_prices(encoded[train], truth[train], len(encoder.groups))
    assert prices.shape == (len(encoder.groups), len(critical_path.COSTS))
    names = np.array(encoder.names)
    rows = np.hstack([encoded.rows, critical_path.on_path(encoded, prices)])
    assert rows.shape[1] == len(names)

    def error(columns):
        fitted = additive.fit_ridge(rows[train][:, columns], truth[train], 1e-6)
        return np.median(np.abs((rows[test][:, columns] @ fitted.weights + fitted.intercept) / truth[test] - 1))

    summed = np.array([name.startswith(("count: ", "macs: ", "traffic_bytes: ")) for name in names])
    walked = np.char.startswith(names, additive.CRITICAL_PATH)
    assert error(np.flatnonzero(walked)) < 0.01
    assert error(np.flatnonzero(summed)) > 0.05


def test_the_order_of_networks_and_of_branches_does_not_matter(graphs, builder):
    encoder = critical_path.PathEncoder.learn(Batch.of(graphs))
    prices = np.random.default_rng(0).random((len(encoder.groups), len(critical_path.COSTS))) * (1, 1e-5, 1e-6)

    def rows(some):
        return critical_path.on_path(encoder.encode(Batch.of(some)), prices)

    np.testing.assert_array_equal(rows(graphs[:30])[::-1], rows(graphs[:30][::-1]))

    def two_branches(*branches):
        placed = builder((1, 8, 8, 8))
        ends = []
        for kind in branches:  # the prices of kinds that training never had are zero: neither branch is longer
            ends.append(placed.conv(placed.conv(0, 8), 8, kind=kind))
        return placed.graph(placed.add(*ends))

    np.testing.assert_array_equal(rows([two_branches("one", "other")]), rows([two_branches("other", "one")]))


def test_more_columns_than_networks_have_the_same_weights_as_fewer():
    """By the products of rows as by those of columns: a copy of every column at no weight changes neither."""
    chance = np.random.default_rng(3)
    rows = chance.random((30, 25))
    latencies = rows @ chance.random(25) + 1
    few = additive.fit_ridge(rows, latencies, 1e-3)
    many = additive.fit_ridge(np.hstack([rows, np.zeros((30, 25))]), latencies, 1e-3)
    np.testing.assert_allclose(many.weights[:25], few.weights, rtol=1e-6)
    assert many.intercept == pytest.approx(few.intercept, rel=1e-6)
    np.testing.assert_array_equal(many.weights[25:], 0)
