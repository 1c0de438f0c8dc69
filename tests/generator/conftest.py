"""What the generator's tests share."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import networkx as nx
import numpy as np
import pytest

from leti.core.graph import COMMUTATIVE, Graph
from leti.core.spec import NetworkConfig


@pytest.fixture(scope="session")
def small() -> NetworkConfig:
    """One cell a stack: the same operators as the full network, sooner."""
    return NetworkConfig(modules_per_stack=1)


@pytest.fixture(scope="session")
def exact() -> Callable[[Graph], nx.MultiDiGraph]:
    """Write a graph for networkx: operators with everything that they are, edges with the places that they feed."""

    def write(graph: Graph) -> nx.MultiDiGraph:
        result = nx.MultiDiGraph()
        makers: list[tuple[object, int]] = []
        for i, tensor_type in enumerate(graph.inputs):
            result.add_node(("input", i), label=("input", i, tensor_type))
            makers.append((("input", i), 0))
        for i, (op, sources) in enumerate(zip(graph.ops, graph.wiring, strict=True)):
            result.add_node(i, label=(op.kind, op.attributes, op.inputs, op.outputs))
            for place, source in enumerate(sources):
                maker, port = makers[source]
                result.add_edge(maker, i, label=(port, 0 if op.kind in COMMUTATIVE else place))
            makers.extend((i, port) for port in range(len(op.outputs)))
        for place, value in enumerate(graph.outputs):
            maker, port = makers[value]
            result.add_node(("output", place), label=("output", place))
            result.add_edge(maker, ("output", place), label=(port, 0))
        return result

    return write


@pytest.fixture(scope="session")
def isomorphic(exact: Callable[[Graph], nx.MultiDiGraph]) -> Callable[[Graph, Graph], bool]:
    """Say whether two graphs are isomorphic, exactly."""
    same_node = nx.isomorphism.categorical_node_match("label", None)
    same_edges = nx.isomorphism.categorical_multiedge_match("label", None)

    def check(a: Graph, b: Graph) -> bool:
        if sorted(op.signature for op in a.ops) != sorted(op.signature for op in b.ops):
            return False  # not the same operators
        return bool(nx.is_isomorphic(exact(a), exact(b), node_match=same_node, edge_match=same_edges))

    return check


@pytest.fixture(scope="session")
def renumbered() -> Callable[[Graph, random.Random], Graph]:
    """Return the same graph with its operators in another topological order and commutative inputs swapped."""

    def renumber(graph: Graph, rng: random.Random) -> Graph:
        inputs = len(graph.inputs)
        waiting, order, placed = list(range(len(graph.ops))), [], set(range(inputs))
        while waiting:
            ready = [i for i in waiting if placed.issuperset(graph.wiring[i])]
            chosen = rng.choice(ready)
            order.append(chosen)
            waiting.remove(chosen)
            placed.add(inputs + chosen)
        number = {value: value for value in range(inputs)}
        number.update({inputs + old: inputs + new for new, old in enumerate(order)})
        wiring = []
        for i in order:
            sources = [number[source] for source in graph.wiring[i]]
            if graph.ops[i].kind in COMMUTATIVE:
                rng.shuffle(sources)
            wiring.append(tuple(sources))
        outputs = tuple(number[value] for value in graph.outputs)
        return Graph(graph.inputs, tuple(graph.ops[i] for i in order), tuple(wiring), outputs)

    return renumber


@pytest.fixture(scope="session")
def run_model() -> Callable[..., np.ndarray]:
    """Run a model file in LiteRT on an input drawn by seed; return its output."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")

    def run(data: bytes, seed: int = 0) -> np.ndarray:
        model = interpreter.Interpreter(model_content=data, num_threads=1)
        model.allocate_tensors()
        (given,), (made,) = model.get_input_details(), model.get_output_details()
        values = np.random.default_rng(seed).standard_normal(given["shape"], dtype=np.float32)
        model.set_tensor(given["index"], values)
        model.invoke()
        return model.get_tensor(made["index"])

    return run


@pytest.fixture(scope="session")
def converter() -> ModuleType:
    """Both spaces in TensorFlow, converted by its converter: ``converter_reference.py``, which imports tensorflow."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow, the reference of the TFLite writer, is not installed")
    path = Path(__file__).with_name("converter_reference.py")
    spec = importlib.util.spec_from_file_location("converter_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
