"""Graph convolutional predictors: the same numbers from every way of computing them, and what loading refuses."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest

from leti.core.errors import ArtifactError
from leti.core.graph import Encoding

np = pytest.importorskip("numpy", reason="needs the extra `gcn`")
pytest.importorskip("onnx", reason="needs the extra `gcn`")
torch = pytest.importorskip("torch", reason="needs the extra `gcn`")

from leti.predictors import registry
from leti.predictors.batch import Batch
from leti.predictors.gcn.cells import Cell
from leti.predictors.gcn.collation import DENSE_NODES, DenseGraphs, SparseGraphs, collate
from leti.predictors.gcn.network import GraphNetwork

KINDS = ("gcn_plain", "brp_nas", "gcn")


@pytest.fixture(scope="module")
def trained(networks, latency):
    made = {}

    def get(kind):
        if kind not in made:
            graphs = networks[:40]
            made[kind] = registry.create(kind).fit(graphs, [latency(g) for g in graphs], seed=1)
        return made[kind]

    return get


def parts_of(predictor):
    return predictor.fitted.encoder, predictor.fitted.model


def in_torch(model, collated):
    network = GraphNetwork(model.architecture)
    network.load_state_dict({name: torch.from_numpy(weight) for name, weight in model.weights.items()})
    network.to(collated.numbers.dtype)
    with torch.no_grad():
        return network(collated).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_dense_and_sparse_torch_and_onnx_say_the_same(kind, trained, networks):
    encoder, model = parts_of(trained(kind))
    graphs = encoder.encode(Batch.of(networks))
    base = model.prices.of(graphs.costs)
    said = model.said(graphs)
    assert np.ptp(said) > 0.1
    for collation in (DenseGraphs, SparseGraphs):
        np.testing.assert_allclose(in_torch(model, collation(graphs, base, torch.float64)), said, rtol=1e-9, atol=1e-12)
        single = in_torch(model, collation(graphs, base, torch.float32))
        np.testing.assert_allclose(single, said, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def huge(builder):
    """3,000 operators, hardly two of whose surroundings are the same."""
    chance = np.random.default_rng(5)
    built = builder((1, 8, 8, 8))
    value = 0
    for _ in range(1500):
        value = built.conv(value, int(chance.choice((8, 16, 24, 32))), int(chance.choice((1, 3))))
    return built.graph(value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_of_any_size_is_computed_sparsely_and_the_same(kind, trained, huge, networks):
    encoder, model = parts_of(trained(kind))
    graphs = encoder.encode(Batch.of([networks[0], huge]))
    assert len(huge.ops) == 3000
    assert graphs.lengths[1] > 10 * DENSE_NODES
    base = model.prices.of(graphs.costs)
    assert isinstance(collate(graphs, base), SparseGraphs)
    small = encoder.encode(Batch.of(networks[:2]))
    assert isinstance(collate(small, model.prices.of(small.costs)), DenseGraphs)
    said = model.said(graphs)
    for collation in (DenseGraphs, SparseGraphs):
        np.testing.assert_allclose(in_torch(model, collation(graphs, base, torch.float64)), said, rtol=1e-9)
    alone = trained(kind).predict([huge])[0].latency_ms
    assert alone == pytest.approx(trained(kind).predict([networks[0], huge])[1].latency_ms, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_collapsing_equal_nodes_changes_nothing(kind, trained, builder):
    built = builder((1, 8, 8, 16))
    value = 0
    for _ in range(30):
        value = built.add(built.conv(value, 16), built.conv(value, 16, 1))
    batch = Batch.of([built.graph(value)])
    encoder, model = parts_of(trained(kind))
    collapsed = encoder.encode(batch)
    every = dataclasses.replace(encoder, rounds=100).encode(batch)
    assert 2 * collapsed.lengths[0] < every.lengths[0]
    assert collapsed.counts.sum() == every.counts.sum()
    np.testing.assert_allclose(model.said(collapsed), model.said(every), rtol=1e-9)


def test_part_of_encoded_graphs_is_what_encoding_the_part_gives(trained, networks):
    encoder, model = parts_of(trained("gcn"))
    rows = np.array([7, 3, 50])
    of_all = encoder.encode(Batch.of(networks))[rows]
    alone = encoder.encode(Batch.of([networks[i] for i in rows]))
    np.testing.assert_allclose(model.said(of_all), model.said(alone), rtol=1e-12)


def test_every_operator_is_in_one_share(trained, networks):
    for breakdown, graph in zip(trained("gcn").explain(networks[:10]), networks[:10], strict=True):
        assert sorted(i for share in breakdown.shares for i in share.operators) == list(range(len(graph.ops)))
        assert breakdown.shares[-1].name == "overhead"
        assert all(share.latency_ms > 0 for share in breakdown.shares)


def test_training_leaves_torch_as_it_was(networks, latency):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    registry.create("gcn").fit(networks[:20], [latency(g) for g in networks[:20]], seed=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def in_cells(graphs, space="nasbench201"):
    """The graphs as if each came from a cell: six choices of five, by its number."""
    choices = [tuple((i // 5**p) % 5 for p in range(6)) for i in range(len(graphs))]
    return [
        dataclasses.replace(graph, encoding=Encoding(space, of_one))
        for graph, of_one in zip(graphs, choices, strict=True)
    ]


@pytest.fixture(scope="module")
def cells(networks):
    return in_cells([graph for graph in networks if graph.inputs == networks[0].inputs])


def test_brp_nas_reads_the_cell_where_there_is_one(cells, networks, latency):
    assert Cell.of(Batch.of(cells)) == Cell("nasbench201", 5)
    assert Cell.of(Batch.of(networks)) is None
    assert Cell.of(Batch.of([*cells, networks[0]])) is None
    predictor = registry.create("brp_nas").fit(cells[:40], [latency(g) for g in cells[:40]])
    encoder, _ = parts_of(predictor)
    graphs = encoder.encode(Batch.of(cells[:3]))
    assert graphs.lengths.tolist() == [9, 9, 9]
    adjacency = DenseGraphs(graphs, np.zeros(27), torch.float64)._adjacency[0][0]
    reads = [set(np.flatnonzero(row)) - {i} for i, row in enumerate(adjacency.numpy())]
    # positions 1 … 6 are the edges 0>1 0>2 1>2 0>3 1>3 2>3; 0 is the input, 7 the output, 8 reads all
    assert reads == [set(), {0}, {0}, {1}, {0}, {1}, {2, 3}, {4, 5, 6}, set(range(8))]
    known, other = predictor.predict([cells[0], dataclasses.replace(cells[1], encoding=None)])
    assert known.unknown == ()
    assert "encoding: none of the space in training" in other.unknown


def test_serves_without_torch(trained, networks, tmp_path):
    trained("gcn").save(tmp_path / "saved")
    (tmp_path / "graph.json").write_text(json.dumps(networks[50].to_json()))
    script = """
import json, sys
sys.modules["torch"] = sys.modules["torch_geometric"] = None
from pathlib import Path
from leti.core.graph import Graph
from leti.predictors import registry
graph = Graph.from_json(json.loads(Path("graph.json").read_text()))
print(repr(registry.predictor_class("gcn").load(Path("saved")).predict([graph])[0].latency_ms))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(trained("gcn").predict([networks[50]])[0].latency_ms, rel=1e-12)


def rewritten(folder, name, content):
    """Replace a file of an artifact, and its checksum with it: as somebody who means harm would."""
    (folder / name).write_bytes(content)
    state = json.loads((folder / "state.json").read_text())
    state["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "state.json").write_text(json.dumps(state))


@pytest.fixture
def saved(trained, tmp_path):
    trained("gcn").save(tmp_path / "saved")
    return tmp_path / "saved"


def load(folder):
    return registry.predictor_class("gcn").load(folder)


def test_runs_no_onnx_file_but_the_one_that_the_weights_export_to(saved):
    import onnx

    model = onnx.load_model_from_string((saved / "model.onnx").read_bytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="state.json")
    rewritten(saved, "model.onnx", model.SerializeToString())
    with pytest.raises(ArtifactError, match="not what the weights export to"):
        load(saved)


def test_refuses_weights_that_are_none(saved):
    from safetensors.numpy import load as read
    from safetensors.numpy import save

    weights = read((saved / "model.safetensors").read_bytes())
    nan = {**weights, "first": np.full_like(weights["first"], np.nan)}
    wide = {**weights, "first": np.zeros(7, dtype=np.float32)}
    double = {**weights, "first": weights["first"].astype(np.float64)}
    fewer = {name: weight for name, weight in weights.items() if name != "first"}
    for damaged in (nan, wide, double, fewer):
        rewritten(saved, "model.safetensors", save(damaged))
        with pytest.raises(ArtifactError) as caught:
            load(saved)
        assert caught.value.field == "model.safetensors"


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("architecture", "units", 10**9),
        ("architecture", "members", 0),
        ("architecture", "layers", -1),
        ("architecture", "head", "other"),
        ("scaling", "unit", 0.0),
        ("scaling", "low_ms", -1.0),
        ("prices", "mac_ms", -1.0),
        ("prices", "least_ms", 0.0),
    ],
)
def test_refuses_sizes_and_numbers_that_no_training_makes(part, name, value, saved):
    state = json.loads((saved / "state.json").read_text())
    state["model"][part][name] = value
    (saved / "state.json").write_text(json.dumps(state))
    with pytest.raises(ArtifactError):
        load(saved)
