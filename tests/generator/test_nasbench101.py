"""NAS-Bench-101: pruning, channels, isomorphism, its network."""

from __future__ import annotations

import itertools
import random

import networkx as nx
import pytest

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.generator.lowering import lower
from leti.generator.spaces import get_space

SPACE = get_space("nasbench101")
CONV3, CONV1, POOL = "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"
ONE_CELL = NetworkConfig(stem_channels=16, stacks=1, modules_per_stack=1)


def spec_of(edges: str, *operations: str, config: NetworkConfig = ONE_CELL) -> NetworkSpec:
    """Write ``"01 12"`` as a spec with the edges 0→1 and 1→2."""
    size = len(operations) + 2
    rows = [[0] * size for _ in range(size)]
    for edge in edges.split():
        rows[int(edge[0])][int(edge[1])] = 1
    layers = (Layer("input"), *map(Layer, operations), Layer("output"))
    return NetworkSpec("nasbench101", tuple(map(tuple, rows)), layers, config)


def operators(spec: NetworkSpec) -> list[tuple[str, int]]:
    """Return kind and channels of the cell's operators, without stem and head."""
    return [(op.kind, op.outputs[0].shape[-1]) for op in lower(spec).ops[2:-2]]


def shuffled(spec: NetworkSpec, rng: random.Random) -> NetworkSpec:
    """Return an isomorphic spec: inner vertices in another topological order."""
    size = len(spec.layers)
    waiting, order = list(range(1, size - 1)), [0]
    while waiting:
        ready = [v for v in waiting if all(u in order for u in range(size) if spec.adjacency[u][v])]
        order.append(rng.choice(ready))
        waiting.remove(order[-1])
    order.append(size - 1)
    adjacency = tuple(tuple(spec.adjacency[i][j] for j in order) for i in order)
    return NetworkSpec(spec.space, adjacency, tuple(spec.layers[v] for v in order), spec.config)


def as_networkx(spec: NetworkSpec) -> nx.DiGraph:
    graph = nx.DiGraph()
    for v, layer in enumerate(spec.layers):
        graph.add_node(v, label=layer.name)
    size = len(spec.layers)
    graph.add_edges_from((i, j) for i in range(size) for j in range(size) if spec.adjacency[i][j])
    return graph


def test_the_class_is_exact_isomorphism_of_the_pruned_cell():
    specs = SPACE.sample(300, 5, ONE_CELL)
    same_label = nx.isomorphism.categorical_node_match("label", None)
    key = lambda spec: (sum(map(sum, spec.adjacency)), sorted(layer.name for layer in spec.layers))  # noqa: E731
    compared = 0
    for a, b in itertools.combinations(specs, 2):
        if key(a) == key(b):
            compared += 1
            assert not nx.is_isomorphic(as_networkx(a), as_networkx(b), node_match=same_label)
    assert compared > 200


def test_the_class_does_not_depend_on_the_order_of_vertices():
    rng = random.Random(0)
    moved = 0
    for spec in SPACE.sample(200, 6, ONE_CELL):
        other = shuffled(spec, rng)
        moved += other != spec
        assert SPACE.isomorphism_class(other) == SPACE.isomorphism_class(spec)
    assert moved > 20


def test_vertices_on_no_path_are_pruned():
    kept = spec_of("01 13", CONV3, POOL)  # vertex 2 stands alone
    dangling = spec_of("01 13 02", CONV3, POOL)  # vertex 2 leads nowhere
    unfed = spec_of("01 13 23", CONV3, POOL)  # nothing leads to vertex 2
    bare = spec_of("01 12", CONV3)
    for spec in (kept, dangling, unfed):
        assert lower(spec) == lower(bare)
        assert SPACE.isomorphism_class(spec) == SPACE.isomorphism_class(bare)
        assert SPACE.encode(spec) == SPACE.encode(bare)


def test_input_straight_to_output_is_a_projection():
    assert operators(spec_of("01")) == [("conv2d", 16), ("relu", 16)]


def test_channels_are_divided_among_what_feeds_the_output():
    """Three vertices share 16 channels as 6, 5, 5."""
    found = operators(spec_of("01 02 03 14 24 34", CONV3, CONV3, CONV3))
    assert found == [
        *[("conv2d", 6), ("relu", 6)] * 2,
        *[("conv2d", 5), ("relu", 5)] * 4,
        ("concat", 16),
    ]


def test_a_vertex_has_the_channels_of_the_largest_that_it_feeds_and_readers_cut_them():
    """Vertex 1 feeds 2 (8 channels) and 3 (8); vertex 2 and 3 feed the output; vertex 3 reads 1 and 2."""
    found = operators(spec_of("01 12 13 23 24 34", CONV1, CONV3, POOL))
    assert found == [
        *[("conv2d", 8), ("relu", 8)] * 2,  # projection into 1, and 1
        *[("conv2d", 8), ("relu", 8)],  # 2
        ("add", 8),  # 1 + 2
        ("max_pool2d", 8),  # 3
        ("concat", 16),
    ]
    cut = operators(spec_of("01 12 13 14 25 35 45", CONV1, CONV3, CONV3, CONV3))
    assert cut.count(("slice", 5)) == 1  # computed once: two of three readers have 5 of the 6 channels
    assert cut.count(("conv2d", 6)) == 3


def test_the_input_is_projected_for_each_vertex_and_added_to_the_output():
    found = operators(spec_of("01 02 03 12 23", CONV1, POOL))
    assert found == [
        *[("conv2d", 16), ("relu", 16)] * 2,  # into 1, and 1
        *[("conv2d", 16), ("relu", 16)],  # into 2
        ("add", 16),
        ("max_pool2d", 16),
        *[("conv2d", 16), ("relu", 16)],  # into the output
        ("add", 16),
    ]


def test_stacks_halve_the_size_and_double_the_channels():
    graph = lower(spec_of("01 12", CONV3, config=NetworkConfig(stacks=3, modules_per_stack=2)))
    widths = [op.outputs[0].shape for op in graph.ops if op.kind == "relu"]
    assert [shape[1] for shape in widths] == [32] * 5 + [16] * 4 + [8] * 4
    assert [shape[3] for shape in widths] == [16] * 5 + [32] * 4 + [64] * 4
    assert sum(op.kind == "max_pool2d" for op in graph.ops) == 2


def test_costs_follow_the_benchmark_where_it_publishes_them():
    """The paper's ResNet-like cell is not published with its size; this one is worked out by hand."""
    graph = lower(spec_of("01 12", CONV3))
    stem, projection, conv, dense = 32 * 32 * 27 * 16, 32 * 32 * 16 * 16, 32 * 32 * 9 * 16 * 16, 16 * 10
    assert graph.macs == stem + projection + conv + dense
    assert graph.params == (27 * 16 + 16) + (16 * 16 + 16) + (9 * 16 * 16 + 16) + (16 * 10 + 10)


def test_more_than_seven_vertices_are_refused():
    chain = " ".join(f"{i}{i + 1}" for i in range(7))
    with pytest.raises(InvalidSpec, match="8 vertices") as caught:
        SPACE.check(spec_of(chain, *[CONV3] * 6))
    assert caught.value.field == "adjacency"


def test_eight_vertices_of_which_one_is_pruned_are_fine():
    SPACE.check(spec_of("01 12 23 34 45 57", *[CONV3] * 6))


def test_more_than_nine_edges_are_refused():
    with pytest.raises(InvalidSpec, match="10 edges"):
        SPACE.check(spec_of("01 02 03 04 12 23 34 14 24 13", CONV3, CONV3, CONV3))


def test_more_vertices_than_channels_at_the_output_are_refused():
    with pytest.raises(InvalidSpec, match="cannot be divided") as caught:
        SPACE.check(spec_of("01 02 13 23", CONV3, CONV3, config=NetworkConfig(stem_channels=1)))
    assert caught.value.field == "config.stem_channels"


def test_samples_fit_a_narrow_stem():
    for spec in SPACE.sample(20, 0, NetworkConfig(stem_channels=2)):
        SPACE.check(spec)


def test_says_how_many_were_found_where_too_few_are_within_reach(monkeypatch):
    monkeypatch.setattr("leti.generator.spaces.nasbench101.MAX_VERTICES", 3)  # 1 + 2 × 3 cells
    with pytest.raises(InvalidInput, match="were not found") as caught:
        SPACE.sample(8, 0, ONE_CELL)
    assert caught.value.details["available"] == 7
    assert len(SPACE.sample(7, 0, ONE_CELL)) == 7
