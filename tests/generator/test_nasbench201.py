"""NAS-Bench-201: its strings, its rule of isomorphism, its network."""

from __future__ import annotations

import csv
import dataclasses
import gzip
from collections import Counter
from pathlib import Path

import pytest

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.reference import reference_spec
from leti.generator.spaces import get_space
from leti.generator.spaces.nasbench201 import ADJACENCY, EDGES, all_architectures, architecture_of, spec_of

SPACE = get_space("nasbench201")
LATBENCH = Path(__file__).parents[3] / "shared/data/latbench_i7_7820x_fp32.csv.gz"
REFERENCE = "eef69699acea8415b4f13533e3b53d3a4563cf8cdce52c75916268f8a1372b79"
DEGENERATE = "|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|none~0|skip_connect~1|none~2|"


def cell(*names: str) -> str:
    edges = iter(names)
    return "+".join("|" + "|".join(f"{next(edges)}~{i}" for i in range(node)) + "|" for node in (1, 2, 3))


def kinds(architecture: str, zero: str = "execute", **config: int) -> Counter[str]:
    graph = lower(spec_of(architecture, NetworkConfig(stacks=1, modules_per_stack=1, **config)), zero)
    return Counter(op.kind for op in graph.ops)


def test_all_15625_strings_go_to_specs_and_back():
    architectures = list(all_architectures())
    assert len(set(architectures)) == 15_625
    for architecture in architectures:
        assert architecture_of(spec_of(architecture)) == architecture


def test_has_6466_classes_of_which_341_strings_are_degenerate():
    specs = [spec_of(architecture) for architecture in all_architectures()]
    assert len({SPACE.isomorphism_class(spec) for spec in specs}) == 6_466
    assert sum(SPACE.is_degenerate(spec) for spec in specs) == 341


@pytest.mark.skipif(not LATBENCH.exists(), reason="the public LatBench table is not beside the repository")
def test_agrees_with_the_classes_that_latbench_publishes():
    with gzip.open(LATBENCH, "rt") as file:
        rows = list(csv.DictReader(file))
    pairs = {(row["isomorphism_class"], SPACE.isomorphism_class(spec_of(row["arch"]))) for row in rows}
    assert len(rows) == 15_284
    assert len(pairs) == len({ours for _, ours in pairs}) == len({theirs for theirs, _ in pairs})


def test_every_class_that_is_not_degenerate_can_be_sampled_and_no_more():
    specs = SPACE.sample(6_461, 0, NetworkConfig())
    assert len({SPACE.isomorphism_class(spec) for spec in specs}) == 6_461
    with pytest.raises(InvalidInput, match="has 6461 without"):
        SPACE.sample(6_462, 0, NetworkConfig())


def test_zero_and_skip_are_considered_in_the_class():
    def class_of(*names: str) -> str:
        return SPACE.isomorphism_class(spec_of(cell(*names)))

    one = class_of("nor_conv_3x3", "none", "none", "none", "skip_connect", "none")
    assert one == "#+#+(0)@nor_conv_3x3"
    assert one == class_of("nor_conv_3x3", "none", "none", "none", "skip_connect", "none")
    assert one == class_of("none", "none", "none", "nor_conv_3x3", "none", "none")
    assert one != class_of("none", "none", "none", "nor_conv_1x1", "none", "none")


def test_the_adjacency_follows_from_the_edges():
    makes = [0, *(target for _, target in EDGES)]
    reads = [*(source for source, _ in EDGES), 3]
    for i, made in enumerate(makes):
        assert ADJACENCY[i] == (0, *(int(k >= i and read == made) for k, read in enumerate(reads)))


def test_another_adjacency_is_refused():
    spec = spec_of(DEGENERATE)
    rows = [list(row) for row in spec.adjacency]
    rows[0][7] = 1
    with pytest.raises(InvalidSpec, match="same for every cell") as caught:
        SPACE.check(dataclasses.replace(spec, adjacency=tuple(map(tuple, rows))))
    assert caught.value.field == "adjacency"


@pytest.mark.parametrize(
    ("operation", "flops_m", "params_m"), [("nor_conv_3x3", 220.12, 1.531546), ("skip_connect", 7.78, 0.073306)]
)
def test_costs_are_those_that_the_benchmark_publishes(operation, flops_m, params_m):
    """The benchmark counts two numbers a channel of a batch norm, and no bias in the shortcut of a residual block."""
    graph = lower(spec_of(cell(*[operation] * 6)))
    convolutions = [op for op in graph.ops if op.kind == "conv2d"]
    biases = sum(op.outputs[0].shape[-1] for op in convolutions)
    shortcuts = 32 + 64
    assert graph.macs / 1e6 == pytest.approx(flops_m, abs=0.005)
    assert graph.params - biases + 2 * (biases - shortcuts) == round(params_m * 1e6)


def test_what_zeros_feed_is_executed_or_pruned():
    behind_zeros = cell("none", "none", "nor_conv_3x3", "skip_connect", "none", "nor_conv_1x1")
    executed, pruned = kinds(behind_zeros), kinds(behind_zeros, "prune")
    assert executed["zero"] == 2  # of the input, read three times but computed once, and of node 1, which is zero
    assert executed["conv2d"] == 3
    assert (pruned["zero"], pruned["conv2d"], pruned["add"]) == (0, 1, 0)
    folded = kinds(behind_zeros, "fold")
    assert folded["conv2d"] == executed["conv2d"]  # what zeros feed runs all the same
    assert (folded["zero"], folded["add"]) == (1, executed["add"] - 2)  # one zero to feed it, and nothing adds zeros


def test_what_does_not_reach_the_output_is_dropped():
    assert (
        kinds(cell("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "none", "none"), "prune")["conv2d"]
        == 1
    )


def test_a_zero_after_a_convolution_of_its_own_is_in_its_weights():
    lone = kinds(cell("nor_conv_3x3", "none", "none", "skip_connect", "none", "none"))
    read_twice = kinds(cell("nor_conv_3x3", "none", "none", "skip_connect", "avg_pool_3x3", "none"))
    assert lone["conv2d"] == read_twice["conv2d"] == 2
    assert read_twice["zero"] == lone["zero"] + 1


def test_a_degenerate_cell_stays_connected():
    assert SPACE.is_degenerate(spec_of(DEGENERATE))
    assert kinds(DEGENERATE, "prune")["conv2d"] == 1
    graph = lower(spec_of(DEGENERATE), "prune")
    assert [op.kind for op in graph.ops].count("zero") == 10  # 15 cells; the stem's convolution takes in the first five
    assert graph.wiring[0] == (0,)


def test_relus_and_pools_of_one_value_are_computed_once():
    found = kinds(cell("nor_conv_3x3", "nor_conv_1x1", "none", "nor_conv_3x3", "none", "none"))
    assert found["relu"] == 2  # of the cell's input, and of its output
    pools = kinds(cell("avg_pool_3x3", "avg_pool_3x3", "skip_connect", "avg_pool_3x3", "none", "none"))
    assert pools["avg_pool2d"] == 1


def test_the_last_batch_norm_folds_only_into_a_convolution_of_its_own():
    into = kinds(cell("none", "none", "none", "nor_conv_3x3", "none", "none"), "prune")
    after_sum = kinds(cell("none", "none", "none", "nor_conv_3x3", "none", "none"))
    assert (into["scale"], into["shift"]) == (0, 0)
    assert (after_sum["scale"], after_sum["shift"]) == (1, 1)


def test_the_reference_network_holds_every_operation_but_none():
    spec = reference_spec()
    SPACE.check(spec)
    assert set(SPACE.encode(spec)) == {1, 2, 3, 4}
    assert lower(spec).fingerprint() == REFERENCE  # another network would be another reference on every platform
