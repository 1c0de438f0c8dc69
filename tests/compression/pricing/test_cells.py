"""Cells: kernels cut out of networks run as the kernels that they are."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

pytest.importorskip("numpy", reason="needs the extra `compression`")
pytest.importorskip("ai_edge_litert", reason="needs the extra `export`")

from leti.compression.pricing.cells import cells, cuts, distinct_cells, idle_network
from leti.core.graph import TensorType
from leti.core.patches import Patch
from leti.device_agents.desktop.litert_profile import profile
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import patched
from leti.generator.export.tflite import export_tflite
from leti.generator.importers import import_model
from leti.predictors.profiles.runtime_names import litert_kernels, litert_name


@pytest.fixture(scope="module")
def network():
    """A branch, a square, a sum with its ReLU, a pooling, and a flattening before the classifier."""
    builder = GraphBuilder(TensorType((1, 8, 8, 4)))
    stem = builder.relu(builder.conv(0, 16, 3))
    branch = builder.relu(builder.depthwise_conv(stem, 3))
    squared = builder.place("mul", (branch, branch), builder.shape(branch))
    joined = builder.relu(builder.add([stem, builder.conv(squared, 16, 1)]))
    pooled = builder.max_pool(joined, 2, 2)
    flat = builder.place("reshape", (pooled,), (1, 256))
    return builder.graph(builder.unary("softmax", builder.fully_connected(flat, 10), axis=1))


def seen(graph):
    """Return the names of the kernels that LiteRT runs."""
    names = (litert_name(kernel.name) for kernel in profile(export_tflite(graph), runs=1, warmup=0))
    return Counter(filter(None, names))


@pytest.mark.parametrize("precision", ["float32", "full_integer"])
def test_each_cell_runs_as_the_kernel_that_it_is_in_the_network(network, precision):
    graph = patched(network, Patch({0: 12}, {0: (3, 5)}, precision)).graph
    found = cells(graph)
    shared = precision == "full_integer"  # the ReLU after the sum is an operator of its own in floats alone
    assert [len(each.kernels) for each in found if len(each.kernels) > 1] == [2] * shared
    assert len(found) == len(graph.kernels) - shared
    kernels = Counter(tuple(graph.ops[i].kind for i in kernel) for kernel in graph.kernels)
    assert Counter(tuple(each.ops[i].kind for i in kernel) for each in found for kernel in each.kernels) == kernels
    assert Counter(chain.from_iterable(map(litert_kernels, found))) == Counter(litert_kernels(graph))
    assert sum((seen(each) for each in found), Counter()) == seen(graph)
    for each in found:
        assert import_model(export_tflite(each)).graph.fingerprint() == each.fingerprint()
    assert sum(each.macs for each in found) == graph.macs
    assert sorted(i for operators, _ in cuts(graph) for i in operators) == list(range(len(graph.ops)))


def test_equal_kernels_are_one_cell_and_equal_operators_wired_otherwise_are_not(network):
    builder = GraphBuilder(TensorType((1, 8, 8, 4)))
    first = builder.conv(0, 4, 3)
    second = builder.conv(first, 4, 3)
    twice = builder.graph(builder.place("mul", (second, second), builder.shape(second)))
    product = builder.graph(builder.place("mul", (first, second), builder.shape(second)))
    assert [len(cuts(graph)) for graph in (twice, product)] == [3, 3]
    assert len(distinct_cells([twice])) == 2
    assert len(distinct_cells([twice, product, twice])) == 3
    assert len(cuts(idle_network())) == 1


def test_a_constant_stands_in_every_cell_that_reads_it():
    builder = GraphBuilder(TensorType((1, 4, 4, 4)))
    constant = builder.place("constant", (), (1, 1, 1, 4))
    one = builder.place("mul", (0, constant), (1, 4, 4, 4))
    graph = builder.graph(builder.place("sub", (one, constant), (1, 4, 4, 4)))
    found = distinct_cells([graph])
    assert [sorted(op.kind for op in each.ops) for each in found] == [["constant", "mul"], ["constant", "sub"]]
    assert all(len(each.inputs) == 1 and len(each.kernels) == 1 for each in found)
    assert sum((seen(each) for each in found), Counter()) == seen(graph)


def test_what_others_read_of_a_kernel_leaves_its_cell():
    builder = GraphBuilder(TensorType((1, 4, 4, 4)))
    conv = builder.conv(0, 4, 3)
    graph = builder.graph(builder.add([builder.relu(conv), conv]))
    assert [len(each.outputs) for each in distinct_cells([graph])] == [1, 1, 1]
    assert [len(each.inputs) for each in distinct_cells([graph])] == [1, 1, 2]
