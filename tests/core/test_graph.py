"""Graph: round trips, checks, and a fingerprint that speaks of the computation."""

import json
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.graph import Encoding, Graph, Op, TensorType

T = TensorType((1, 4, 4, 2))
CONV = Op.of("conv2d", [T], [T], macs=576, params=38, traffic_bytes=408, kernel=(3, 3))
RELU = Op.of("relu", [T], [T], traffic_bytes=256)
ADD = Op.of("add", [T, T], [T], traffic_bytes=384)
SUB = Op.of("sub", [T, T], [T], traffic_bytes=384)
SPLIT = Op.of("split", [T], [T, T])


@st.composite
def graphs(draw: st.DrawFn, most: int = 10) -> Graph:
    ops = draw(st.lists(st.sampled_from([CONV, RELU, ADD, SUB, SPLIT]), min_size=1, max_size=most))
    values, wiring = 1, []
    for op in ops:
        wiring.append(tuple(draw(st.integers(max(0, values - 4), values - 1)) for _ in op.inputs))
        values += len(op.outputs)
    outputs = tuple(draw(st.lists(st.integers(0, values - 1), min_size=1, max_size=2)))
    return Graph((T,), tuple(ops), tuple(wiring), outputs, 17, ((0,),), Encoding("demo", (1, 2)))


@given(graphs())
def test_json_round_trip(graph: Graph) -> None:
    again = Graph.from_json(json.loads(json.dumps(graph.to_json())))
    assert again == graph
    assert again.to_json() == graph.to_json()
    assert all(a is b for a, b in zip(again.ops, graph.ops, strict=True)), "equal operators are one object"


@given(graphs(most=16), st.integers())
def test_fingerprint_is_free_of_order(renumbered, graph: Graph, seed: int) -> None:
    assert renumbered(graph, random.Random(seed)).fingerprint() == graph.fingerprint()


@settings(max_examples=300)
@given(graphs(most=7), st.integers(0, 2**32))
def test_fingerprint_agrees_with_exact_isomorphism(isomorphic, graph: Graph, seed: int) -> None:
    """Rewire one operand of the graph, which often gives the same computation and often another one."""
    rng = random.Random(seed)
    op = rng.randrange(len(graph.ops))
    assume(graph.wiring[op])
    wiring = [list(sources) for sources in graph.wiring]
    wiring[op][rng.randrange(len(wiring[op]))] = rng.randrange(graph.first_values()[op])
    other = Graph(graph.inputs, graph.ops, tuple(map(tuple, wiring)), graph.outputs)
    assert (other.fingerprint() == graph.fingerprint()) == isomorphic(other, graph)


def test_a_shared_branch_is_not_two_branches() -> None:
    shared = Graph((T,), (CONV, ADD), ((0,), (1, 1)), (2,))
    doubled = Graph((T,), (CONV, CONV, ADD), ((0,), (0,), (1, 2)), (3,))
    assert shared.fingerprint() != doubled.fingerprint()
    # The same count of operators, too: what differs is only which of two equal branches is read twice.
    one = Graph((T,), (CONV, CONV, ADD, ADD), ((0,), (0,), (1, 1), (3, 2)), (4,))
    other = Graph((T,), (CONV, CONV, ADD, ADD), ((0,), (0,), (1, 2), (3, 2)), (4,))
    assert one.fingerprint() != other.fingerprint()


def test_fingerprint_knows_order_types_and_attributes() -> None:
    base = Graph((T,), (CONV, RELU, SUB), ((0,), (0,), (1, 2)), (3,))
    swapped = Graph((T,), (CONV, RELU, SUB), ((0,), (0,), (2, 1)), (3,))
    assert base != swapped
    added = Graph((T,), (CONV, RELU, ADD), ((0,), (0,), (1, 2)), (3,))
    assert added == Graph((T,), (CONV, RELU, ADD), ((0,), (0,), (2, 1)), (3,))
    int8 = TensorType(T.shape, "int8")
    assert Graph((T,), (RELU,), ((0,),), (1,)) != Graph((int8,), (Op.of("relu", [int8], [int8]),), ((0,),), (1,))
    wide = Op.of("conv2d", [T], [T], kernel=(5, 5))
    assert Graph((T,), (CONV,), ((0,),), (1,)) != Graph((T,), (wide,), ((0,),), (1,))
    assert Graph((T,), (SPLIT,), ((0,),), (1,)) != Graph((T,), (SPLIT,), ((0,),), (2,))


def test_fingerprint_is_the_same_on_every_machine() -> None:
    graph = Graph((T,), (CONV, RELU, ADD), ((0,), (1,), (1, 2)), (3,))
    assert graph.fingerprint() == "c86e5ab46b1210eb8492c664eac985f8d3c4a2b8cda69c01548cf14d01bd9ab0"


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        (((T,), (RELU,), ((1,),), (1,)), "nothing before it makes"),
        (((T,), (RELU,), ((0, 0),), (1,)), "takes 1"),
        (((TensorType((1, 2)),), (RELU,), ((0,),), (1,)), "takes"),
        (((T,), (RELU,), ((0,),), (2,)), "values that the graph makes"),
        (((T,), (RELU,), (), (1,)), "entries"),
        (((T,), (RELU,), ((0,),), (1,), 0, ((0,), (0,))), "at most once"),
    ],
)
def test_parts_that_do_not_fit(parts: tuple[object, ...], word: str) -> None:
    with pytest.raises(InvalidGraph, match=word):
        Graph(*parts)  # type: ignore[arg-type]


def test_bad_json_names_the_place() -> None:
    data = Graph((T,), (RELU,), ((0,),), (1,)).to_json()
    data["ops"][0]["inputs"] = [5]
    with pytest.raises(InvalidGraph) as caught:
        Graph.from_json(data)
    assert caught.value.field == "graph.ops[0].inputs"
    data["ops"][0]["macs"] = "many"
    data["ops"][0]["inputs"] = [0]
    with pytest.raises(InvalidInput, match="whole number") as other:
        Graph.from_json(data)
    assert other.value.field == "graph.ops[0].macs"


def test_interning_keeps_true_and_one_apart() -> None:
    assert Op.of("op", [T], [T], flag=True) is Op.of("op", [T], [T], flag=True)
    assert Op.of("op", [T], [T], flag=True).signature != Op.of("op", [T], [T], flag=1).signature


def test_costs_are_sums() -> None:
    graph = Graph((T,), (CONV, CONV, ADD), ((0,), (0,), (1, 2)), (3,))
    assert (graph.macs, graph.params, graph.traffic_bytes, graph.batch) == (1152, 76, 1200, 1)
    assert graph.unknown == ()
    strange = Op.of("unknown:FFT", [T], [T])
    assert Graph((T,), (strange,), ((0,),), (1,)).unknown == ("unknown:FFT",)
