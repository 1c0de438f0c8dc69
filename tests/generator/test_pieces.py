"""Patched graphs of pieces are those that are made one by one."""

from __future__ import annotations

import random

import pytest

from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.patches import Patch
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.factors import most_ranks
from leti.generator.compressing.patching import Patching
from leti.generator.compressing.pieces import Pieces
from leti.generator.lowering import lower
from leti.generator.spaces import get_space


def drawn(patching: Patching, rng: random.Random) -> Patch:
    groups = [group for group in patching.channels.groups if group.producers and not group.fixed]
    chosen = rng.sample(groups, min(rng.randint(0, 4), len(groups)))
    widths = {rng.choice(group.members): rng.randint(1, group.channels) for group in chosen}
    ops = patching.patched(Patch(widths)).graph.ops
    divisible = [i for i, op in enumerate(ops) if most_ranks(op)]
    ranks = {}
    for i in rng.sample(divisible, min(rng.randint(0, 3), len(divisible))):
        ranks[i] = tuple(rng.randint(1, most) for most in rng.choice(most_ranks(ops[i])))
    return Patch(widths, ranks, rng.choice(("", "full_integer", "full_integer", "dynamic_range", "float16")))


@pytest.mark.parametrize("space", ["mobilenetv3", "fbnet", "nasbench101", "nasbench201", "darts", "chains", "random"])
def test_pieces_make_the_same_graphs(space):
    found = get_space(space)
    patching_rng = random.Random(space)
    for spec in found.sample(2, 5, found.default_config):
        graph = lower(spec)
        patching, pieces = Patching(graph), Pieces(graph)
        for _ in range(12):
            patch = drawn(patching, patching_rng)
            expected, made = patching.patched(patch).graph, pieces.patched(patch)
            assert made.fingerprint() == expected.fingerprint()  # before the operators are laid out
            assert made.totals == expected.totals
            assert made.peak_memory_bytes == expected.peak_memory_bytes
            assert (made.inputs, made.ops, made.wiring) == (expected.inputs, expected.ops, expected.wiring)
            assert (made.outputs, made.kernels) == (expected.outputs, expected.kernels)
            assert Graph(made.inputs, made.ops, made.wiring, made.outputs, 0, made.kernels) == expected


@pytest.mark.parametrize("precision", ["", "float16", "dynamic_range", "full_integer"])
def test_what_is_alike_is_one_part(precision):
    builder, value = GraphBuilder(TensorType((1, 8, 8, 16))), 0
    for _ in range(4):
        value = builder.relu(builder.conv(value, 16, 3))
    pieces = Pieces(builder.graph(builder.global_mean(value)))
    first, again = (pieces.patched(Patch({4: 8}, {}, precision)).parts for _ in range(2))
    assert first == again
    assert 2 in first[1]  # the first two are as they were, and as each other


@pytest.mark.parametrize("patch", [Patch({99: 1}), Patch(ranks={99: (1,)}), Patch({0: 99}), Patch(ranks={0: (99, 1)})])
def test_what_does_not_fit_is_named(patch):
    builder = GraphBuilder(TensorType((1, 8, 8, 16)))
    pieces = Pieces(builder.graph(builder.global_mean(builder.conv(builder.conv(0, 16, 3), 16, 3))))
    with pytest.raises(InvalidInput) as caught:
        pieces.patched(patch, "patches.changes[3]")
    assert caught.value.field.startswith("patches.changes[3].")


def test_a_base_that_is_no_row_is_patched_as_a_whole():
    builder = GraphBuilder(TensorType((1, 8, 8, 16)))
    left, right = builder.conv(0, 16, 3), builder.conv(0, 16, 1)
    graph = builder.graph(builder.add([left, right]))
    assert Pieces(graph).patched(Patch(ranks={0: (3, 4)})) == Patching(graph).patched(Patch(ranks={0: (3, 4)})).graph
