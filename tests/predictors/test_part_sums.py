"""What is added up over parts is what all operators of a graph give, which every test here takes for the truth."""

import pytest

from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
batch = pytest.importorskip("leti.predictors.batch")
division = pytest.importorskip("leti.predictors.division")
features = pytest.importorskip("leti.predictors.features")
critical_path = pytest.importorskip("leti.predictors.boosting.critical_path")
experience = pytest.importorskip("leti.predictors.experience")
distance = pytest.importorskip("leti.predictors.distance")

STAMPED = ("chains", "fbnet", "mobilenetv3", "nasbench101", "nasbench201")
SMALL = NetworkConfig(input_shape=(32, 32, 3), stacks=2, modules_per_stack=3)


def undivided(graph):
    """The same graph, nothing known of its parts."""
    parts = graph.inputs, graph.ops, graph.wiring, graph.outputs, graph.peak_memory_bytes, graph.kernels
    return Graph(*parts, graph.encoding)


@pytest.fixture(scope="module")
def stamped():
    made = {name: tuple(lower(spec) for spec in SPACES[name].sample(60, 1, SMALL)) for name in STAMPED}
    assert all(graph.parts[0] for graphs in made.values() for graph in graphs)
    return made


@pytest.fixture(scope="module")
def mixed(stamped):
    """Graphs of all spaces in turn, every third of unknown parts, and an empty one."""
    graphs = [graphs[i] for i in range(20) for graphs in stamped.values()]
    empty = Graph(graphs[0].inputs, (), (), (0,))
    return [empty, *(undivided(graph) if i % 3 == 0 else graph for i, graph in enumerate(graphs))]


@pytest.mark.parametrize("name", STAMPED)
def test_features_are_those_of_the_whole_graph(name, stamped):
    graphs = stamped[name]
    known = features.FeatureMap.learn(batch.Batch.of(graphs[:30]))
    whole = known.whole_rows(batch.Batch.of([undivided(graph) for graph in graphs]))
    assert np.count_nonzero(whole.any(axis=0)) > 50
    for _ in range(2):  # found, then remembered
        np.testing.assert_allclose(known.encode(batch.Batch.of(graphs)), whole, rtol=1e-12)
    alone = np.vstack([known.encode(batch.Batch.of([graph])) for graph in graphs])
    np.testing.assert_allclose(alone, whole, rtol=1e-12)


@pytest.mark.parametrize("name", STAMPED)
def test_kernels_are_those_of_the_whole_graph(name, stamped):
    known = batch.Batch.of(stamped[name])
    whole = batch.Batch.of([undivided(graph) for graph in stamped[name]])
    of_known, of_whole = [[of_one.kernels[number] for number in of_one.numbers] for of_one in (known, whole)]
    assert of_known == of_whole
    assert set(known.kernels) == set(whole.kernels)
    assert len(set(known.kernels)) == len(known.kernels)
    np.testing.assert_array_equal(known.lengths, whole.lengths)
    np.testing.assert_array_equal(known.kernel_graphs, whole.kernel_graphs)


def test_features_of_totals_alone_are_those_of_the_whole_graph(mixed):
    rows = features.FeatureMap().encode(batch.Batch.of(mixed))
    whole = features.FeatureMap().whole_rows(batch.Batch.of(list(map(undivided, mixed))))
    np.testing.assert_array_equal(rows, whole)


def test_known_and_unknown_parts_may_stand_in_one_batch(mixed):
    known = features.FeatureMap.learn(batch.Batch.of(mixed))
    whole = known.whole_rows(batch.Batch.of(list(map(undivided, mixed))))
    np.testing.assert_allclose(known.encode(batch.Batch.of(mixed)), whole, rtol=1e-12)


def test_distance_is_that_of_the_whole_graph(mixed):
    measured = distance.Distance.of(batch.Batch.of(mixed[:50]))
    whole = measured.measure(batch.Batch.of(list(map(undivided, mixed))))
    for _ in range(2):
        np.testing.assert_allclose(measured.measure(batch.Batch.of(mixed)), whole, rtol=1e-12)
    assert whole.max() > 1.5 * whole.min()


def test_remarks_are_those_on_the_whole_graph(mixed, stamped):
    seen = experience.Experience.of(batch.Batch.of(stamped["nasbench201"]))
    whole = seen.unknown(batch.Batch.of(list(map(undivided, mixed))))
    assert () in whole
    assert len(set(whole)) > 20
    for _ in range(2):
        assert seen.unknown(batch.Batch.of(mixed)) == whole
    assert tuple(seen.unknown(batch.Batch.of([graph]))[0] for graph in mixed) == whole


@pytest.mark.parametrize("name", STAMPED)
def test_what_stands_on_the_critical_path_is_that_of_the_whole_graph(name, stamped):
    graphs = stamped[name]
    encoder = critical_path.PathEncoder.learn(batch.Batch.of(graphs))
    prices = np.random.default_rng(0).random((len(encoder.groups), len(critical_path.COSTS))) * (1e-2, 1e-7, 1e-7)
    whole = critical_path.on_path(encoder.encode(batch.Batch.of([undivided(graph) for graph in graphs])), prices)
    known = critical_path.KnownPaths(prices)
    for _ in range(2):
        found = known.rows(encoder.encode(batch.Batch.of(graphs)))
        np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-9)
    assert np.all(whole.any(axis=1))


def test_branches_that_begin_at_the_input_are_not_one_after_the_other(builder):
    made = builder((1, 8, 8, 8))
    short = made.conv(0, 8, kernel=1)
    graph = made.graph(made.add(short, made.conv(made.conv(0, 8), 8)))
    encoder = critical_path.PathEncoder.learn(batch.Batch.of([graph] * 3))
    prices = np.tile([0.0, 1.0, 0.0], (len(encoder.groups), 1))
    row = dict(
        zip(
            encoder.names,
            np.hstack(
                [
                    [[0] * len(encoder.features.names)],
                    critical_path.on_path(encoder.encode(batch.Batch.of([graph])), prices),
                ]
            )[0],
            strict=True,
        )
    )
    assert row["critical path: count: conv2d"] == 2
    assert row["critical path: macs: conv2d"] == 2 * 64 * 9 * 8 * 8


def test_a_table_that_is_full_is_begun_anew_and_says_the_same(monkeypatch):
    monkeypatch.setattr(division, "REMEMBERED_BYTES", 0)
    monkeypatch.setattr(division, "DESCRIBED_AT_ONCE", 10)
    asked = []

    def describe(items):
        asked.extend(items)
        return np.array([[item, 2 * item] for item in items], dtype=float), np.array([[-item] for item in items])

    table = division.Table(2, 1)
    for items in ([*range(40)], [*range(20, 80)], [*range(50)], [*range(200)], [3, 150, 3]):
        rows, marks, numbers = table.look_up(items, describe)
        assert rows[numbers].tolist() == [[item, 2 * item] for item in items]
        assert marks[numbers, 0].tolist() == [-item for item in items]
    before = len(asked)
    table.look_up([199, 0], describe)
    assert len(asked) == before


@pytest.mark.parametrize("most_routes", [16, 2])
def test_paths_of_few_graphs_are_those_of_many(network, builder, monkeypatch, most_routes):
    """Whether the paths of each are listed, or are too many for that."""
    grouping = pytest.importorskip("leti.predictors.grouping")
    monkeypatch.setattr(grouping, "MOST_ROUTES", most_routes)
    cell = builder((1, 8, 8, 8))
    ends = [cell.conv(0, 8), cell.conv(cell.conv(0, 8), 8), cell.conv(0, 8)]
    graphs = [*(network(seed) for seed in range(40)), cell.graph(cell.add(cell.add(*ends[:2]), ends[2]))]
    together = batch.Batch.of(graphs)
    costs = np.column_stack([together.cost("macs"), together.cost("macs") + 16 * together.cost("traffic_bytes")])
    place = {kernel.name: i for i, kernel in enumerate(together.kernels)}
    most, on_path = together.longest(costs)
    assert any((outline.routes is None) == (most_routes == 2) for outline in together.outlines)
    ways = []
    for i, graph in enumerate(graphs):
        alone = batch.Batch.of([graph])
        own, way = alone.longest(costs[[place[kernel.name] for kernel in alone.kernels]])
        np.testing.assert_array_equal(own, most[i : i + 1])
        ways.append(way + together.starts[i])
    np.testing.assert_array_equal(np.sort(np.concatenate(ways)), np.sort(on_path))


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "darts"])
def test_a_network_alone_is_predicted_like_one_of_many(name, tmp_path):
    boosting = pytest.importorskip("leti.predictors.boosting.predictors")
    graphs = [lower(spec) for spec in SPACES[name].sample(120, 2, SMALL)]
    latencies = [(1 + graph.macs / 1e6) * (1 + 0.1 * (i % 7)) for i, graph in enumerate(graphs)]
    boosting.XGBoostPredictor().fit(graphs[:60], latencies[:60]).save(tmp_path / "saved")
    many, one = (boosting.XGBoostPredictor.load(tmp_path / "saved") for _ in range(2))
    together = many.predict(graphs)
    alone = [one.predict([graph]) for graph in graphs]
    np.testing.assert_allclose([each.latency_ms[0] for each in alone], together.latency_ms, rtol=1e-12)
    np.testing.assert_allclose([each.distance[0] for each in alone], together.distance, rtol=1e-9)
    assert [each.unknown[0] for each in alone] == list(together.unknown)
    assert len(set(together.latency_ms)) > 80


def test_more_graphs_than_are_predicted_at_once_keep_their_order(stamped, monkeypatch):
    boosting, calibrated = (
        pytest.importorskip(f"leti.predictors.{module}") for module in ("boosting.predictors", "calibrated")
    )
    graphs = stamped["nasbench201"]
    predictor = boosting.XGBoostPredictor().fit(graphs[:30], [1 + graph.macs / 1e6 for graph in graphs[:30]])
    together = predictor.predict(graphs)
    monkeypatch.setattr(calibrated, "AT_ONCE", 7)
    chunked = predictor.predict(graphs)
    np.testing.assert_allclose(chunked.latency_ms, together.latency_ms, rtol=1e-12)
    np.testing.assert_allclose(chunked.distance, together.distance, rtol=1e-12)
    assert chunked.unknown == together.unknown
    assert len(predictor.predict([])) == 0


def test_what_few_blocks_say_is_what_they_say_among_many(network):
    blocks = pytest.importorskip("leti.predictors.boosting.blocks")
    graphs = [network(seed) for seed in range(40)]
    together = batch.Batch.of(graphs)
    encoder = critical_path.PathEncoder.learn(together)
    prices = np.random.default_rng(0).random((len(encoder.groups), len(critical_path.COSTS))) * (1e-2, 1e-7, 1e-7)
    assert len(blocks.Blocks.of(together).starts) > 32
    many = critical_path.on_path(encoder.encode(together), prices)
    known = critical_path.KnownPaths(prices)
    alone = [known.rows(encoder.encode(batch.Batch.of([graph])))[0] for graph in graphs]
    np.testing.assert_array_equal(alone, many)
