"""Patches of base networks: what they make is what an exporter and an importer make of the same network."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.codec import from_json, to_json
from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.patches import Patch
from leti.core.spec import NetworkConfig
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.factors import most_ranks
from leti.generator.compressing.groups import axis_size, channel_groups, find_channels, kept_positions
from leti.generator.compressing.patching import Patching, patched
from leti.generator.compressing.sampling import compressed
from leti.generator.fusion import fuse
from leti.generator.importers import import_model
from leti.generator.lowering import lower
from leti.generator.precision import precision_of
from leti.generator.spaces import SPACES

pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the extra `export` is not installed")

from leti.generator.export.tflite import export_tflite

SMALL = NetworkConfig(stem_channels=16, stacks=2, modules_per_stack=1)
NAMES = ("nasbench101", "nasbench201", "fbnet", "mobilenetv3", "darts", "chains")
BASES = {name: [lower(spec) for spec in SPACES[name].sample(6, 5, SMALL)] for name in NAMES}

bases = st.sampled_from([graph for graphs in BASES.values() for graph in graphs])


def kernels_of(graph: Graph) -> list[list[str]]:
    return sorted(sorted(graph.ops[i].kind for i in kernel) for kernel in graph.kernels)


def built(place) -> Graph:
    """Return the graph of what ``place`` puts on an image of 8 × 8 and 6 channels."""
    builder = GraphBuilder(TensorType((1, 8, 8, 6)))
    return builder.graph(place(builder))


def any_widths(draw, graph: Graph) -> dict[int, int]:
    free = [group for group in channel_groups(graph) if not group.fixed]
    return {draw(st.sampled_from(g.members)): draw(st.integers(1, g.channels)) for g in free if draw(st.booleans())}


@given(bases)
@settings(max_examples=20, deadline=None)
def test_a_patch_that_changes_nothing_is_the_base(graph):
    same = patched(graph, Patch())
    assert same.graph == graph
    assert same.origins == tuple((i, "same") for i in range(len(graph.ops)))
    groups = channel_groups(graph)
    whole = Patch({group.members[0]: group.channels for group in groups if group.members})
    found = patched(graph, whole).graph
    assert (found, found.kernels, found.encoding) == (graph, graph.kernels, graph.encoding)


@given(st.data(), bases)
@settings(max_examples=25, deadline=None)
def test_any_widths_and_ranks_give_the_graph_that_is_exported_and_imported(data, graph):
    patching = Patching(graph)
    widths = any_widths(data.draw, graph)
    narrowed = patching.patched(Patch(widths))
    changed = any(patching.channels.groups[i].channels != n for i, n in enumerate(patching.widths(widths)))
    assert narrowed.graph.macs < graph.macs if changed else narrowed.graph == graph
    ranks = {}
    for number, op in enumerate(narrowed.graph.ops):
        if most_ranks(op) and data.draw(st.integers(0, 3)) == 0:
            ranks[number] = tuple(data.draw(st.integers(1, n)) for n in data.draw(st.sampled_from(most_ranks(op))))
    patch = Patch(widths, ranks)
    assert from_json(Patch, to_json(patch)) == patch
    found = patching.patched(patch)
    assert [op for op, (_, role) in zip(found.graph.ops, found.origins, strict=True) if role == "same"] == [
        op for number, op in enumerate(narrowed.graph.ops) if number not in ranks
    ]
    imported = import_model(export_tflite(found.graph)).graph
    assert imported == found.graph
    assert kernels_of(imported) == kernels_of(found.graph)
    assert found.graph.peak_memory_bytes == fuse(dataclasses.replace(found.graph, kernels=())).peak_memory_bytes


@given(st.data(), bases)
@settings(max_examples=20, deadline=None)
def test_what_is_kept_of_each_group_lies_where_each_value_has_it(data, graph):
    """Channels are told apart by what they are, and followed through the graph by the positions that are kept."""
    channels = find_channels(graph)
    counts = [group.channels for group in channels.groups]
    kept = {
        group.number: sorted(data.draw(st.sets(st.integers(0, group.channels - 1), min_size=1)))
        for group in channels.groups
        if not group.fixed
    }
    widths = [len(kept.get(i, range(n))) for i, n in enumerate(counts)]
    found = patched(graph, Patch({g.members[0]: widths[g.number] for g in channels.groups if not g.fixed})).graph
    types = [*found.inputs, *(t for op in found.ops for t in op.outputs)]
    for axis, tensor_type in zip(channels.axes, types, strict=True):
        positions = kept_positions(axis, counts, kept)
        assert len(positions) == axis_size(axis, widths) == (tensor_type.shape[-1] if tensor_type.shape else 0)
        assert positions == sorted(set(positions))


def test_channels_are_coupled_by_sums_and_depthwise_and_lie_apart_in_concatenations():
    def place(b: GraphBuilder) -> int:
        stem = b.relu(b.conv(0, 16, 3))
        summed = b.add((stem, b.conv(b.depthwise_conv(stem, 3), 16, 1)))  # 0 to 4
        joined = b.concat((b.conv(summed, 8, 3), b.max_pool(summed, 3)))  # 5, 6, 7
        flat = b.place("reshape", (b.conv(joined, 4, 3, 2),), (1, 4 * 4 * 4))  # 8, 9
        return b.fully_connected(b.batch_norm(flat), 10)  # scale, shift, 12

    graph = built(place)
    kinds = [op.kind for op in graph.ops]
    assert kinds[:5] == ["conv2d", "relu", "depthwise_conv2d", "conv2d", "add"]
    groups = {group.members: group for group in channel_groups(graph)}
    stem = groups[0, 1, 2, 3, 4, 6]
    assert (stem.channels, stem.producers, stem.fixed) == (16, (0, 3), "")
    assert groups[5,].channels == 8
    found = patched(graph, Patch({2: 5, 5: 3, 8: 2})).graph
    assert {op.kind: op.inputs[0].shape for op in found.ops[7:]} == {
        "concat": (1, 8, 8, 3),
        "conv2d": (1, 8, 8, 3 + 5),
        "reshape": (1, 4, 4, 2),
        "scale": (1, 32),
        "shift": (1, 32),
        "fully_connected": (1, 32),
    }
    assert groups[12,].fixed == "the network returns them"


def test_a_sum_with_a_concatenation_divides_channels_where_its_parts_end():
    def place(b: GraphBuilder) -> int:
        stem = b.conv(0, 3, 3)
        joined = b.concat((b.conv(stem, 8, 3), b.conv(stem, 4, 3)))  # 1, 2, 3
        crossed = b.concat((b.conv(stem, 4, 1), b.conv(stem, 8, 1)))  # 6 and 7 after the first sum
        summed = b.add((joined, b.conv(stem, 12, 3)))  # 4, 5
        return b.fully_connected(b.global_mean(b.add((summed, crossed))), 10)

    graph = built(place)
    channels = find_channels(graph)
    conv = {op.outputs[0].shape[-1] * 10 + op["kernel"][0]: i for i, op in enumerate(graph.ops) if op.kind == "conv2d"}
    assert [(g.channels, g.members, g.fixed) for g in channels.groups[2:-1]] == [
        (4, (conv[41],), ""),
        (4, (), "no operator makes them alone"),
        (4, (conv[43],), ""),
    ]
    assert all(not channels.group_of(channels.axes[i + 1]) for i in (conv[83], conv[81], conv[123]))
    found = patched(graph, Patch({conv[41]: 1, conv[43]: 2})).graph
    assert [found.ops[i].outputs[0].shape[-1] for i in conv.values()] == [3, 5, 2, 1, 6, 7]
    with pytest.raises(InvalidInput, match="no channels of one group"):
        patched(graph, Patch({conv[123]: 3}))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (lambda b, v: b.first_channels(v, 4), "slice"),
        (lambda b, v: b.place("transpose", (v,), (1, 8, 8, 8), perm=(0, 1, 3, 2)), "transpose"),
        (lambda b, v: b.place("depth_to_space", (v,), (1, 16, 16, 2), block=2), "depth_to_space"),
        (lambda b, v: b.conv(v, 8, 3, groups=2), "conv2d"),
        (lambda b, v: b.place("mean", (v,), (1, 8, 8, 1), axes=(3,), keep_dims=True), "mean"),
        (lambda b, v: b.unary("softmax", v, axis=3), "softmax"),
        (lambda b, v: b.place("pad", (v,), (1, 8, 8, 9), paddings=(0, 0, 0, 0, 0, 0, 1, 0)), "pad"),
        (lambda b, v: b.place("reshape", (v,), (1, 8, 8, 2, 4)), "reshape"),
    ],
)
def test_operators_that_need_channels_as_they_are_say_so(place, reason):
    graph = built(
        lambda b: (
            b.global_mean(b.conv(place(b, b.conv(0, 8, 3)), 4, 1)) if reason != "reshape" else place(b, b.conv(0, 8, 3))
        )
    )
    (group,) = [group for group in channel_groups(graph) if 0 in group.members]
    assert group.fixed == f"operator 1, {reason}, needs them as they are"
    with pytest.raises(InvalidInput, match="8 channels have to stay") as caught:
        patched(graph, Patch({0: 7}), "patches[3]")
    assert caught.value.field == "patches[3].widths[0]"


def residual(b: GraphBuilder) -> int:
    first = b.conv(0, 8, 3)
    return b.fully_connected(b.global_mean(b.add((b.depthwise_conv(first, 3), b.conv(first, 8, 1, 1)))), 10)


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        (Patch({99: 1}), "patch.widths[99]"),
        (Patch({0: 9}), "patch.widths[0]"),
        (Patch({0: 0}), "patch.widths[0]"),
        (Patch({0: 4, 2: 5}), "patch.widths[2]"),
        (Patch({5: 5}), "patch.widths[5]"),
        (Patch(ranks={-1: (1,)}), "patch.ranks[-1]"),
        (Patch(ranks={1: (1,)}), "patch.ranks[1]"),
        (Patch(ranks={0: ()}), "patch.ranks[0]"),
        (Patch(ranks={0: (7, 8)}), "patch.ranks[0]"),
        (Patch({0: 4}, {0: (3, 5)}), "patch.ranks[0]"),
        (Patch(ranks={2: (3, 3)}), "patch.ranks[2]"),
        (Patch(ranks={0: (6 * 8 * 9,)}), "patch.ranks[0]"),
        (Patch(precision="int7"), "patch.precision"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_where_it_does_not(patch, field):
    with pytest.raises(InvalidInput) as caught:
        patched(built(residual), patch)
    assert caught.value.field == field


def test_operators_of_low_rank_stand_in_the_place_of_the_one():
    def place(b: GraphBuilder) -> int:
        first = b.place(
            "conv2d", (0,), (1, 4, 6, 8), kernel=(5, 3), strides=(2, 1), padding=(2, 2, 0, 0), dilations=(1, 1)
        )
        return b.place(
            "conv2d", (b.relu(first),), (1, 2, 3, 7), kernel=(1, 1), strides=(2, 2), padding="valid", bias=False
        )

    graph = built(place)
    found = patched(graph, Patch(ranks={0: (3, 4), 2: (2,)}))
    assert found.origins == ((0, "first"), (0, "core"), (0, "last"), (1, "same"), (2, "first"), (2, "last"))
    shapes = [
        (op.outputs[0].shape, op["kernel"], op.get("bias", True)) for op in found.graph.ops if op.kind == "conv2d"
    ]
    assert shapes == [
        ((1, 8, 8, 3), (1, 1), False),
        ((1, 4, 6, 4), (5, 3), False),
        ((1, 4, 6, 8), (1, 1), True),
        ((1, 2, 3, 2), (1, 1), False),
        ((1, 2, 3, 7), (1, 1), False),
    ]
    assert (2, 3) in found.graph.kernels  # the last of the three ends in the activation
    canonical = patched(graph, Patch(ranks={0: (5,)}, precision="full_integer"))
    roles = [role for _, role in canonical.origins]
    assert roles == ["conversion", "first", "column", "row", "last", "same", "same", "conversion"]
    column, row = canonical.graph.ops[2:4]
    assert (column["kernel"], column["strides"], column.get("padding", ""), column.outputs[0].shape) == (
        (5, 1),
        (2, 1),
        (2, 2, 0, 0),
        (1, 4, 8, 5),
    )
    assert (row["kernel"], row["strides"], row["padding"], row.outputs[0].shape) == (
        (1, 3),
        (1, 1),
        "valid",
        (1, 4, 6, 5),
    )
    assert precision_of(canonical.graph) == "full_integer"


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_seeded_different_and_of_every_kind(name):
    graph = BASES[name][0]
    patches = compressed(graph, 18, 3)
    assert patches == compressed(graph, 18, 3)
    assert patches != compressed(graph, 18, 4)
    patching = Patching(graph)
    graphs = [patching.patched(patch).graph for patch in patches]
    assert len({graph, *graphs}) == 19
    assert any(patch.widths and patch.ranks for patch in patches)
    assert any(width % 8 for patch in patches for width in patch.widths.values())
    assert {len(ranks) for patch in patches for ranks in patch.ranks.values()} == {1, 2}


def test_a_network_without_channels_to_remove_says_how_many_forms_there_are():
    graph = built(lambda b: b.relu(b.max_pool(0, 3)))
    with pytest.raises(InvalidInput) as caught:
        compressed(graph, 2, 0)
    assert (caught.value.field, caught.value.details["available"]) == ("count", 0)
