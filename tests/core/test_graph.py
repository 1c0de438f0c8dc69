"""Graph: round trips, checks, and a fingerprint that speaks of the computation."""

import dataclasses
import json
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.fingerprint import cut
from leti.core.graph import Encoding, Graph, Op, TensorType

T = TensorType((1, 4, 4, 2))
CONV = Op.of("conv2d", [T], [T], macs=576, params=38, traffic_bytes=408, kernel=(3, 3))
RELU = Op.of("relu", [T], [T], traffic_bytes=256)
ADD = Op.of("add", [T, T], [T], traffic_bytes=384)
SUB = Op.of("sub", [T, T], [T], traffic_bytes=384)
SPLIT = Op.of("split", [T], [T, T])
CONSTANT = Op.of("constant", [], [T])


@st.composite
def graphs(draw: st.DrawFn, most: int = 10) -> Graph:
    kinds = draw(st.sampled_from([[CONV, RELU, ADD], [CONV, RELU, ADD, SUB, SPLIT], [RELU, ADD, SPLIT, CONSTANT]]))
    ops = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most))
    inputs = values = draw(st.sampled_from([1, 1, 1, 2]))
    wiring = []
    for op in ops:
        wiring.append(tuple(draw(st.integers(max(0, values - 4), values - 1)) for _ in op.inputs))
        values += len(op.outputs)
    outputs = tuple(draw(st.lists(st.integers(0, values - 1), min_size=1, max_size=2)))
    return Graph((T,) * inputs, tuple(ops), tuple(wiring), outputs, 17, ((0,),), Encoding("demo", (1, 2)))


@st.composite
def stacks(draw: st.DrawFn) -> Graph:
    """Draw blocks that are put together by sums, so that there are values through which everything flows."""
    ops: list[Op] = []
    wiring: list[tuple[int, ...]] = []
    current, values = 0, 1
    for _ in range(draw(st.integers(1, 4))):
        made, unread = [current], {current}
        for op in draw(st.lists(st.sampled_from([CONV, RELU, ADD, SPLIT]), min_size=1, max_size=3)):
            wiring.append(tuple(draw(st.sampled_from(made)) for _ in op.inputs))
            ops.append(op)
            unread.difference_update(wiring[-1])
            new = range(values, values := values + len(op.outputs))
            made.extend(new)
            unread.update(new)
        current, *others = sorted(unread)
        for other in others:
            ops.append(ADD)
            wiring.append((current, other))
            current, values = values, values + 1
    return Graph((T,), tuple(ops), tuple(wiring), (current,))


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


@settings(max_examples=300)
@given(stacks(), stacks(), st.integers(0, 2**32))
def test_segments_agree_with_exact_isomorphism(isomorphic, renumbered, a: Graph, b: Graph, seed: int) -> None:
    rng = random.Random(seed)
    assert renumbered(a, rng).fingerprint() == a.fingerprint()
    assert (a.fingerprint() == b.fingerprint()) == isomorphic(a, b)
    op = rng.randrange(len(a.ops))
    wiring = [list(sources) for sources in a.wiring]
    wiring[op][-1] = rng.randrange(a.first_values()[op])
    rewired = renumbered(Graph(a.inputs, a.ops, tuple(map(tuple, wiring)), a.outputs), rng)
    assert (a.fingerprint() == rewired.fingerprint()) == isomorphic(a, rewired)


def test_a_graph_is_cut_where_everything_flows_through_one_value() -> None:
    def cuts(graph: Graph) -> list[tuple[int, int]]:
        return [(part.start, part.end) for part in cut(len(graph.inputs), graph.ops, graph.wiring, graph.outputs)]

    wiring = ((0,), (1,), (1, 2), (3,), (3,), (4, 5))
    branched = (CONV, RELU, ADD, CONV, CONV, ADD)
    assert cuts(Graph((T,), branched, wiring, (6,))) == [(0, 1), (1, 3), (3, 6)]
    assert cuts(Graph((T,), branched, wiring, (6, 6))) == [(0, 1), (1, 3), (3, 6)]
    assert cuts(Graph((T,), branched, wiring, (6, 3))) == [(0, 1), (1, 3), (3, 6)]
    assert cuts(Graph((T,), branched, wiring, (6, 2))) == [(0, 1), (1, 6)]
    # What nothing reads may stand anywhere after what it reads: where it stands must not matter.
    assert cuts(Graph((T,), (*branched, RELU), (*wiring, (1,)), (6,))) == [(0, 7)]
    assert cuts(Graph((T,), (CONSTANT, ADD, RELU), ((), (0, 1), (2,)), (3,))) == [(0, 3)]
    assert cuts(Graph((T, T), (CONV, ADD, RELU), ((0,), (1, 2), (3,)), (4,))) == [(0, 2), (2, 3)]
    assert cuts(Graph((T,), (SPLIT, RELU, ADD), ((0,), (1,), (2, 3)), (4,))) == [(0, 3)]
    assert cuts(Graph((T,), (SPLIT, RELU), ((0,), (2,)), (3,))) == [(0, 1), (1, 2)]
    assert cuts(Graph((T,), (), (), (0,))) == []


def test_where_a_value_comes_from_is_in_the_fingerprint() -> None:
    def of(port: int, *, inputs: int = 1) -> str:
        return Graph((T,) * inputs, (SPLIT, RELU), ((0,), (port,)), (inputs + 2,)).fingerprint()

    assert of(1) != of(2)  # the first or the second part of the split, cut off from what reads it
    assert of(2, inputs=2) != of(3, inputs=2) != of(2)
    first, second = (Graph((T, T), (), (), (i,)).fingerprint() for i in range(2))
    assert first != second


def test_operators_whose_inputs_have_no_order_may_read_other_shapes_in_any() -> None:
    scalar = TensorType((1,))
    one, other = Op.of("mul", [T, scalar], [T]), Op.of("mul", [scalar, T], [T])
    assert Graph((T, scalar), (one,), ((0, 1),), (2,)) == Graph((T, scalar), (other,), ((1, 0),), (2,))


def test_costs_are_added_up_once_and_anew_for_another_graph() -> None:
    graph = Graph((T,), (CONV, ADD), ((0,), (0, 1)), (2,))
    assert graph.totals is graph.totals
    other = dataclasses.replace(graph, ops=(RELU, ADD))
    assert (other.macs, other.traffic_bytes) == (0, RELU.traffic_bytes + ADD.traffic_bytes)
    assert other.fingerprint() != graph.fingerprint()


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


def test_an_operator_gives_attributes_of_the_type_asked_for() -> None:
    op = Op.of("made_up", [T], [T], axis=-1, alpha=0.5, kernel=(3, 3), bias=True, mode="same")
    assert (op.integer("axis"), op.number("axis"), op.number("alpha"), op.integers("kernel")) == (-1, -1.0, 0.5, (3, 3))
    assert (op.integer("groups", 1), op.number("beta", 2), op.integers("begin", ())) == (1, 2.0, ())
    assert isinstance(op.number("axis"), float)


@pytest.mark.parametrize(
    ("getter", "name"),
    [("integer", name) for name in ("alpha", "kernel", "bias", "mode", "missing")]
    + [("number", name) for name in ("kernel", "bias", "mode", "missing")]
    + [("integers", name) for name in ("axis", "alpha", "bias", "mode", "missing")],
)
def test_an_attribute_of_another_type_is_refused_by_name(getter: str, name: str) -> None:
    op = Op.of("made_up", [T], [T], axis=-1, alpha=0.5, kernel=(3, 3), bias=True, mode="same")
    with pytest.raises(InvalidGraph) as caught:
        getattr(op, getter)(name)
    assert caught.value.field == f"made_up.{name}"
