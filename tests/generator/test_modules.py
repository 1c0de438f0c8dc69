"""Stamped modules: the graph is the one that placing operator after operator makes, to the last number."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.graph import Graph, TensorType, Totals
from leti.core.spec import NetworkConfig
from leti.generator.builder import GraphBuilder
from leti.generator.cost import peak_memory_bytes
from leti.generator.fusion import find_kernels
from leti.generator.lowering import ZEROS, lower
from leti.generator.spaces import SPACES
from leti.generator.spaces.nasbench201 import all_architectures, spec_of

IMAGE = TensorType((1, 8, 6, 3))


def one_by_one(input_type: TensorType, build: Callable[[GraphBuilder], int]) -> Graph:
    builder = GraphBuilder(input_type)
    builder.max_pool(0, 7)  # an operator on its own, dropped later: what follows is not a chain of modules
    return builder.graph(build(builder))


def check_equal(stamped: Graph, placed: Graph) -> None:
    assert (stamped.inputs, stamped.ops, stamped.wiring) == (placed.inputs, placed.ops, placed.wiring)
    assert (stamped.outputs, stamped.kernels) == (placed.outputs, placed.kernels)
    assert stamped.peak_memory_bytes == placed.peak_memory_bytes
    # What was added up and digested module by module is what the whole gives, which the constructor checks.
    whole = Graph(stamped.inputs, stamped.ops, stamped.wiring, stamped.outputs)
    assert stamped.fingerprint() == whole.fingerprint()
    assert stamped.totals == Totals.of(stamped.ops)
    kernels = find_kernels(whole.ops, whole.wiring, whole.outputs)
    peak = peak_memory_bytes(whole.inputs, whole.ops, whole.wiring, whole.outputs, kernels)
    assert (stamped.kernels, stamped.peak_memory_bytes) == (kernels, peak)


@pytest.mark.parametrize("space", sorted(SPACES))
def test_networks_of_every_space_are_those_that_are_placed_one_by_one(space):
    config = NetworkConfig(stacks=2, modules_per_stack=2)
    for spec in SPACES[space].sample(12, 3, config):
        for zero in ZEROS if space == "nasbench201" else ZEROS[:1]:
            graph = lower(spec, zero)
            placed = one_by_one(graph.inputs[0], lambda builder, s=spec, z=zero: SPACES[space].build(s, z, builder))
            check_equal(graph, placed)


def test_cells_with_zeros_fold_across_the_borders_of_modules_as_they_do_inside():
    """All 15,625 cells times three meanings of ``none`` were compared in this way; here is a sample."""
    space, rng = SPACES["nasbench201"], random.Random(0)
    architectures = [text for text in all_architectures() if "none" in text]
    for text in rng.sample(architectures, 400):
        config = NetworkConfig(stacks=rng.choice((1, 2)), modules_per_stack=rng.choice((1, 2, 3)), stem_channels=4)
        spec, zero = spec_of(text, config), rng.choice(ZEROS)
        graph = lower(spec, zero)
        check_equal(graph, one_by_one(graph.inputs[0], lambda builder, s=spec, z=zero: space.build(s, z, builder)))


def part(builder: GraphBuilder, value: int, steps: tuple[tuple[str, int, int], ...]) -> int:
    """Place operators by what was drawn; each reads values that the part has made so far."""
    made = [value]
    for kind, first, second in steps:
        a, b = made[-1 - first % len(made)], made[-1 - second % len(made)]
        made.append(PLACE[kind](builder, a, b))
    return made[-1]


INDICES = TensorType(IMAGE.shape, "int32")


def swapped(builder: GraphBuilder, value: int) -> int:
    batch, height, width, channels = builder.shape(value)
    half = TensorType((batch, height // 2, width, channels))
    upper, lower = builder.place_many("split", (value,), (half, half), axis=1)
    return builder.place("concat", (lower, upper), (batch, height, width, channels), axis=1)


PLACE: dict[str, Callable[[GraphBuilder, int, int], int]] = {
    "conv": lambda builder, a, _: builder.conv(a, 3, 3),
    "pool": lambda builder, a, _: builder.max_pool(a, 3),
    "relu": lambda builder, a, _: builder.relu(a),
    "zero": lambda builder, a, _: builder.zero(a),
    "batch_norm": lambda builder, a, _: builder.batch_norm(a),
    "add": lambda builder, a, b: builder.add((a, b)),
    "add_three": lambda builder, a, b: builder.place("add", (a, b, a), builder.shape(a)),
    "same": lambda _, a, __: a,
    "constant": lambda builder, a, _: builder.add((builder.place("constant", (), builder.shape(a)), a)),
    "halves": lambda builder, a, _: swapped(builder, a),
    "top_k": lambda builder, a, _: builder.place_many("top_k", (a,), (TensorType(builder.shape(a)), INDICES))[0],
}
PARTS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(sorted(PLACE)), st.integers(0, 2), st.integers(0, 2)), max_size=5).map(
            tuple
        ),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150)
@given(PARTS, st.booleans())
def test_any_chain_of_parts_is_what_is_placed_one_by_one(parts, alike):
    def build(builder: GraphBuilder) -> int:
        value = 0
        for steps, times in parts:
            value = builder.stamp(part, value, steps, times=times, alike=alike)
        return value

    builder = GraphBuilder(IMAGE)
    check_equal(builder.graph(build(builder)), one_by_one(IMAGE, build))


@settings(max_examples=50)
@given(PARTS, st.integers(0, 3), st.sampled_from(["relu", "zero", "add"]))
def test_stamps_that_do_not_follow_each_other_are_placed_one_by_one(parts, branch, kind):
    def build(builder: GraphBuilder) -> int:
        values = [0]
        for steps, times in parts:
            values.append(builder.stamp(part, values[-1], steps, times=times))
        before = values[-1 - branch % len(values)]
        assert builder.shape(before) == IMAGE.shape
        value = PLACE[kind](builder, before, values[-1])
        return builder.add((builder.stamp(part, value, (("conv", 0, 0),)), values[-1]))

    builder = GraphBuilder(IMAGE)
    stamped, placed = builder.graph(build(builder)), one_by_one(IMAGE, build)
    assert (stamped.ops, stamped.wiring, stamped.kernels) == (placed.ops, placed.wiring, placed.kernels)
    assert stamped.peak_memory_bytes == placed.peak_memory_bytes


def test_a_chain_may_change_its_type():
    def build(builder: GraphBuilder) -> int:
        value = builder.stamp(part, 0, (("conv", 0, 0), ("relu", 0, 0)), times=2)
        return builder.stamp(widened, value, times=3)

    builder = GraphBuilder(IMAGE)
    graph = builder.graph(build(builder))
    assert graph.ops[-1].outputs[0].shape == (1, 1, 1, 24)
    check_equal(graph, one_by_one(IMAGE, build))


ALIKE = st.lists(
    st.tuples(
        st.sampled_from(["relu", "pool", "zero", "batch_norm", "add", "add_three"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=7,
).map(tuple)


@settings(max_examples=60)
@given(ALIKE, st.integers(1, 3))
def test_what_was_placed_on_a_type_is_put_on_others(steps, times):
    def build(builder: GraphBuilder) -> int:
        value = builder.stamp(widened, 0)
        for _ in range(2):
            value = builder.stamp(widened, builder.stamp(part, value, steps, times=times, alike=True))
        return value

    builder = GraphBuilder(IMAGE)
    check_equal(builder.graph(build(builder)), one_by_one(IMAGE, build))


def widened(builder: GraphBuilder, value: int) -> int:
    return builder.conv(builder.relu(value), 2 * builder.channels(value), 3, stride=2)


def test_an_operator_of_several_outputs_stands_once():
    def build(builder: GraphBuilder, again: bool = False) -> int:
        types = (TensorType((1, 8, 6, 2)), TensorType((1, 8, 6, 2), "int32"))
        made = builder.place_many("top_k", (builder.relu(0),), types)
        if again:
            assert builder.place_many("top_k", (builder.relu(0),), types) == made
        positions = builder.place("cast", (made[1],), types[1].shape)
        return builder.add((builder.relu(positions), made[0]))

    once, twice = GraphBuilder(IMAGE), GraphBuilder(IMAGE)
    graph = once.graph(build(once))
    assert [op.kind for op in graph.ops] == ["relu", "top_k", "cast", "relu", "add"]
    assert graph.wiring == ((0,), (1,), (3,), (4,), (5, 2))
    assert graph.outputs == (6,)
    assert graph == twice.graph(build(twice, again=True))


def test_equal_modules_are_traced_once():
    traced = []

    def traces(builder: GraphBuilder, value: int, steps: tuple[tuple[str, int, int], ...]) -> int:
        traced.append(builder.shape(value))
        return part(builder, value, steps)

    for _ in range(3):
        builder = GraphBuilder(IMAGE)
        value = builder.stamp(traces, 0, (("conv", 0, 0), ("relu", 0, 0)), times=4)
        assert len(builder.graph(value).ops) == 8
    assert traced == [IMAGE.shape]


def test_a_stamp_may_be_the_whole_graph_or_nothing_of_it():
    builder = GraphBuilder(IMAGE)
    graph = builder.graph(builder.stamp(part, 0, (("same", 0, 0),)))
    assert (graph.ops, graph.outputs, graph.peak_memory_bytes) == ((), (0,), IMAGE.size_bytes)
    assert graph == Graph((IMAGE,), (), (), (0,))
