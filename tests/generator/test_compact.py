"""Vectors of choices: what is found without a spec is what the spec's graph says, to the last number."""

from __future__ import annotations

import pickle
import random

import pytest

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.generator.lowering import ZEROS, lower, lower_choices
from leti.generator.precision import PRECISIONS, quantize
from leti.generator.spaces import SPACES, SearchSpace, get_space, parse_choices, parse_network

SMALL = NetworkConfig(stem_channels=4, stacks=2, modules_per_stack=2)
COUNTS = {
    "nasbench201": 300,
    "fbnet": 150,
    "mobilenetv3": 60,
    "nasbench101": 60,
    "chains": 60,
    "darts": 6,
    "random": 40,
}


def drawn(space: SearchSpace, count: int, config: NetworkConfig) -> list[tuple[int, ...]]:
    rng = random.Random(11)
    if space.name in ("nasbench201", "fbnet"):  # every vector is a network
        return [tuple(rng.randrange(choices) for choices in space.positions) for _ in range(count)]
    return [space.encode(spec) for spec in space.sample(count, 11, config)]


def placed_whole(graph: Graph) -> Graph:
    """Return the graph digested, divided and added up as a whole: nothing of it was put together."""
    return Graph(graph.inputs, graph.ops, graph.wiring, graph.outputs)


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("config", ["small", "own"])
def test_a_vector_lowers_to_the_graph_of_its_spec(name, config):
    space = SPACES[name]
    given = SMALL if config == "small" else space.default_config
    rng = random.Random(1)
    for choices in drawn(space, COUNTS[name] // (1 if config == "small" else 3), given):
        zero = rng.choice(ZEROS)
        graph, degenerate = lower_choices(space, choices, given, zero)
        named, totals, parts = graph.fingerprint(), graph.totals, graph.parts  # before anything is laid out
        spec = space.decode(choices, given)
        slow = lower(spec, zero)
        whole = placed_whole(slow)
        assert named == slow.fingerprint() == whole.fingerprint()
        assert degenerate == space.is_degenerate(spec)
        assert totals == slow.totals == whole.totals
        assert (graph.peak_memory_bytes, graph.encoding) == (slow.peak_memory_bytes, slow.encoding)
        assert (graph.ops, graph.wiring, graph.outputs) == (slow.ops, slow.wiring, slow.outputs)
        assert graph.kernels == slow.kernels
        assert [part.ops for part in parts[0]] == [part.ops for part in slow.parts[0]]
        assert parts[1] == slow.parts[1]


@pytest.mark.parametrize("precision", [precision for precision in PRECISIONS if precision != "float32"])
@pytest.mark.parametrize("name", ["nasbench201", "fbnet", "mobilenetv3"])
def test_precisions_of_a_vector_are_those_of_its_spec(name, precision):
    space = SPACES[name]
    for choices in drawn(space, 8, SMALL):
        for zero in ZEROS if name == "nasbench201" else ZEROS[:1]:
            fast = quantize(lower_choices(space, choices, space.default_config, zero)[0], precision)
            slow = quantize(lower(space.decode(choices, space.default_config), zero), precision)
            assert fast.fingerprint() == slow.fingerprint() == placed_whole(slow).fingerprint()


def test_operators_are_laid_out_when_they_are_asked_for_and_travel_between_processes():
    graph, _ = lower_choices(get_space("fbnet"), [0] * 22, get_space("fbnet").default_config)
    again = pickle.loads(pickle.dumps(graph))
    assert (again.ops, again.wiring, again.kernels) == (graph.ops, graph.wiring, graph.kernels)
    assert again == graph
    assert Graph.from_json(graph.to_json()) == graph
    with pytest.raises(AttributeError):
        graph.operators  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_vector_is_written_as_text(name):
    space = SPACES[name]
    (choices,) = drawn(space, 1, space.default_config)
    text = f"{name}:{','.join(map(str, choices))}"
    assert parse_choices(text, "networks[0]") == (space, choices)
    assert parse_network(text, "networks[0]") == space.decode(choices, space.default_config)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("fbnet:", "networks[3]"),
        ("fbnet:1,2", "networks[3]"),
        ("fbnet:" + ",".join(["9"] * 22), "networks[3][0]"),
        ("nasbench201:0,0,0,-1,0,0", "networks[3]"),
        ("nasbench201:0,0,0,0,0,5", "networks[3][5]"),
        ("nasbench201:0,0,0,0,0,1e3", "networks[3]"),
        ("nasbench201:0,0,0,0,0,٣", "networks[3]"),
        ("nowhere:0", "networks[3]"),
        (":", "networks[3]"),
        ("fbnet:" + "0," * 100_000, "networks[3]"),
        ("nasbench101:" + ",".join(["1"] * 21 + ["0"] * 5), "networks[3][0]"),
    ],
)
def test_a_text_that_is_no_vector_is_named(text, field):
    with pytest.raises(InvalidInput) as caught:
        parse_network(text, "networks[3]")
    assert caught.value.field == field
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("choices", "zero", "field"),
    [
        ((0, 0, 0, 0, 0), "execute", "choices"),
        ((0, 0, 0, 0, 0, 9), "execute", "choices[5]"),
        ((0, 0, 0, 0, 0, True), "execute", "choices[5]"),
        ((0, 0, 0, 0, 0, 0), "keep", "zero"),
    ],
)
def test_a_vector_that_is_no_network_is_named_by_its_position(choices, zero, field):
    with pytest.raises(InvalidSpec) as caught:
        lower_choices(get_space("nasbench201"), choices, SMALL, zero)
    assert caught.value.field == field
