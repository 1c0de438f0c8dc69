"""The parts of stamped graphs: one after the other they are the graph, and no kernel reaches over their borders."""

from __future__ import annotations

import pytest

from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.generator.fusion import fuse
from leti.generator.lowering import ZEROS, lower
from leti.generator.spaces import SPACES

STAMPED = ("chains", "fbnet", "mobilenetv3", "nasbench101", "nasbench201")


def put_together(graph: Graph) -> Graph:
    ops, wiring, kernels = [], [], []
    for part, times in zip(*graph.parts, strict=True):
        for _ in range(times):
            offset = len(ops)
            assert part.inputs == ((ops[-1].outputs[0],) if ops else graph.inputs)
            ops += part.ops
            wiring += [tuple(value + offset for value in sources) for sources in part.wiring]
            kernels += [tuple(i + offset for i in kernel) for kernel in part.kernels]
    return Graph(graph.inputs, tuple(ops), tuple(wiring), (len(ops),), graph.peak_memory_bytes, tuple(kernels))


@pytest.mark.parametrize("name", STAMPED)
def test_parts_in_a_row_are_the_graph(name):
    for spec in SPACES[name].sample(40, 5, NetworkConfig(stacks=2, modules_per_stack=3)):
        for zero in ZEROS if name == "nasbench201" else ZEROS[:1]:
            graph = lower(spec, zero)
            again = put_together(graph)
            assert (again.ops, again.wiring, again.outputs) == (graph.ops, graph.wiring, graph.outputs)
            assert again.kernels == graph.kernels


@pytest.mark.parametrize("name", STAMPED)
def test_everything_in_a_part_lies_between_what_enters_and_what_leaves(name):
    for spec in SPACES[name].sample(40, 6, NetworkConfig(stacks=2, modules_per_stack=2)):
        for part in lower(spec).parts[0]:
            below, above = {0}, {len(part.ops)}
            for i, sources in enumerate(part.wiring):
                if below.intersection(sources):
                    below.add(i + 1)
            for i in reversed(range(len(part.ops))):
                if i + 1 in above:
                    above.update(part.wiring[i])
            assert below == above == set(range(len(part.ops) + 1))
            assert sorted(i for kernel in part.kernels for i in kernel) == list(range(len(part.ops)))


def test_equal_parts_of_networks_are_one_object():
    first, second = SPACES["fbnet"].sample(2, 0, NetworkConfig())
    parts, others = (lower(spec).parts[0] for spec in (first, second))
    assert set(parts) & set(others)
    assert lower(first).parts == (parts, lower(first).parts[1])


def test_a_graph_with_other_kernels_has_no_parts():
    graph = lower(SPACES["nasbench201"].sample(1, 0, NetworkConfig())[0])
    assert graph.parts[0]
    assert fuse(graph, "onnxruntime").parts == ((), ())
