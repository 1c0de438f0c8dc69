"""The spaces against the papers that they are of: multiply-accumulates and parameters of known networks in them."""

from __future__ import annotations

import itertools
import random

import pytest

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.generator.cost import OPERATORS
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.generator.spaces.darts import Darts
from leti.generator.spaces.darts import spec_of as darts_spec
from leti.generator.spaces.fbnet import BLOCKS, FBNet
from leti.generator.spaces.mobilenetv3 import BLOCKS as OFA_BLOCKS
from leti.generator.spaces.mobilenetv3 import RESOLUTIONS, MobileNetV3
from leti.generator.spaces.space import chain

FBNETS = {
    # The searched networks as their authors published them; multiply-accumulates and parameters of the paper's Table 3.
    "FBNet-A": (
        "skip k3_e3 k3_e1 skip skip k5_e6 k3_e3 k5_e1 k3_e3 k5_e6 k5_e3 k5_e1_g2 k5_e6 k3_e6 k5_e1_g2 k5_e3 k3_e1_g2 "
        "k5_e6 k5_e6 k5_e3 k5_e6 k5_e6",
        249e6,
        4.3e6,
    ),
    "FBNet-B": (
        "k3_e1 k3_e6 k5_e1 k3_e1 k3_e1 k5_e6 k5_e3 k3_e6 k5_e6 k5_e6 k5_e6 skip k5_e3 k5_e6 k3_e1 k5_e1 k5_e3 "
        "k5_e6 k5_e1 k5_e6 k5_e6 k3_e6",
        295e6,
        4.5e6,
    ),
    "FBNet-C": (
        "k3_e1 k3_e6 skip k3_e1 k3_e1 k5_e6 k5_e3 k5_e6 k3_e6 k5_e6 k5_e3 k5_e6 k5_e6 k5_e6 k5_e6 k5_e6 k5_e3 "
        "k5_e6 k5_e6 k5_e6 k5_e6 k3_e6",
        375e6,
        5.5e6,
    ),
}


@pytest.mark.parametrize("name", FBNETS)
def test_fbnet_takes_the_multiplications_of_its_paper(name):
    blocks, macs, params = FBNETS[name]
    spec = FBNet().decode([list(BLOCKS).index(block) for block in blocks.split()], FBNet.default_config)
    graph = lower(spec)
    assert graph.macs == pytest.approx(macs, rel=0.01)
    # The paper's B and C have more parameters than 1504 channels at the end make: 480 channels more are 649,000.
    assert graph.params == pytest.approx(params, rel=0.005 if name == "FBNet-A" else 0.12)


def test_fbnet_of_small_images_is_halved_three_times():
    config = NetworkConfig(input_shape=(32, 32, 3), classes=100)
    graph = lower(FBNet().decode([0] * 22, config))
    last = next(op for op in reversed(graph.ops) if op.kind == "conv2d")
    assert last.inputs[0].shape == (1, 4, 4, 352)
    large = lower(FBNet().decode([0] * 22, FBNet.default_config))
    assert next(op for op in reversed(large.ops) if op.kind == "conv2d").inputs[0].shape == (1, 7, 7, 352)


def test_fbnet_shuffles_channels_between_grouped_convolutions():
    graph = lower(FBNet().decode([1] * 22, FBNet.default_config))
    assert sum(op.kind == "transpose" for op in graph.ops) == 22
    assert sum(op.get("groups", 1) == 2 for op in graph.ops) == 44


def test_fbnet_does_not_tell_the_order_of_what_is_skipped():
    space, config = FBNet(), FBNet.default_config
    rng = random.Random(0)
    seen = set()
    for _ in range(200):
        choices = [rng.choice((0, 8)) for _ in range(22)]
        spec = space.decode(choices, config)
        seen.add((space.isomorphism_class(spec), lower(spec).fingerprint()))
    assert len({name for name, _ in seen}) == len({fingerprint for _, fingerprint in seen}) == len(seen)


def ofa(stages: list[list[tuple[int, int]]], resolution: int = 224, width: int = 0) -> NetworkSpec:
    choices = [RESOLUTIONS.index(resolution), width]
    for blocks in stages:
        numbers = [OFA_BLOCKS.index(block) + (i > 1) for i, block in enumerate(blocks)]
        choices += [*numbers, *[0] * (4 - len(numbers))]
    return MobileNetV3().decode(choices, MobileNetV3.default_config)


MOBILENETV3_LARGE = [
    [(3, 4), (3, 3)],
    [(5, 3)] * 3,
    [(3, 6), (3, 3), (3, 3), (3, 3)],
    [(3, 6)] * 2,
    [(5, 6)] * 3,
]
"""MobileNetV3-Large, but for three blocks: it expands 80 channels to 200, 184 and 184, here to 240."""


def test_mobilenetv3_takes_the_multiplications_of_its_paper():
    """219 M multiply-accumulates and 5.4 M parameters in Table 3 of "Searching for MobileNetV3"."""
    graph = lower(ofa(MOBILENETV3_LARGE))
    wider = 40 + 56 + 56  # channels more than the paper's
    macs = graph.macs - wider * (80 + 9 + 80) * 14 * 14
    params = graph.params - wider * (80 + 1 + 9 + 1 + 80)
    assert macs == pytest.approx(219e6, rel=0.012)
    assert params == pytest.approx(5.4e6, rel=0.02)


def test_mobilenetv3_holds_depth_width_and_resolution():
    small, large = ofa([[(3, 3)] * 2] * 5, 128), ofa([[(7, 6)] * 4] * 5, 224, 1)
    assert [len(spec.layers) for spec in (small, large)] == [12, 22]
    assert (small.config.input_shape, large.config.input_shape) == ((128, 128, 3), (224, 224, 3))
    for spec in (small, large):
        assert MobileNetV3().decode(MobileNetV3().encode(spec), spec.config) == spec
    graph = lower(large)
    widths = [op.outputs[0].shape[-1] for op in graph.ops if op.kind == "add"]
    assert sorted(set(widths)) == [24, 32, 48, 96, 136, 192]
    assert lower(small).macs < graph.macs / 10
    pixels = lower(ofa([[(3, 3)] * 2] * 5, 224)).macs / lower(small).macs
    assert pixels == pytest.approx((224 / 128) ** 2, rel=0.1)


def test_mobilenetv3_squeezes_and_swishes_where_once_for_all_does():
    kinds = [op.kind for op in lower(ofa([[(3, 3)] * 4] * 5)).ops]
    assert kinds.count("hard_sigmoid") == 12  # stages 2, 4 and 5
    assert kinds.count("hard_swish") == 1 + 2 * 12 + 2  # stem, stages 3 to 5, head


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda layers: layers[:2] + layers[3:], "layers"),  # one block in stage 1
        (lambda layers: [*layers[:1], *layers[3:5], *layers[1:3], *layers[5:]], "layers"),
        (lambda layers: [Layer("input"), *layers[1:]], "layers[0].width"),
        (lambda layers: [Layer("input", (("width", 1.1),)), *layers[1:]], "layers[0].width"),
        (lambda layers: [layers[0], Layer("block", (("stage", 1), ("kernel", 3))), *layers[2:]], "layers[1].expansion"),
    ],
)
def test_mobilenetv3_names_what_breaks_its_rules(change, field):
    spec = ofa([[(3, 3)] * 2] * 5)
    layers = tuple(change([*spec.layers]))
    with pytest.raises(InvalidSpec) as caught:
        MobileNetV3().check(NetworkSpec(spec.space, chain(len(layers)), layers, spec.config))
    assert caught.value.field == field


def test_mobilenetv3_is_of_square_images_of_its_resolutions():
    spec = ofa([[(3, 3)] * 2] * 5)
    for shape in ((224, 192, 3), (130, 130, 3), (32, 32, 3)):
        with pytest.raises(InvalidSpec) as caught:
            MobileNetV3().check(NetworkSpec(spec.space, spec.adjacency, spec.layers, NetworkConfig(shape)))
        assert caught.value.field == "config.input_shape"


def chained(*layers: tuple[str, dict[str, int]]) -> NetworkSpec:
    nodes = (Layer("input"), *(Layer(name, tuple(given.items())) for name, given in layers), Layer("output"))
    spec = NetworkSpec("chains", chain(len(nodes)), nodes, get_space("chains").default_config)
    get_space("chains").check(spec)
    return spec


def resnet(kind: str, *repeats: int) -> NetworkSpec:
    stem = [("conv", {"channels": 64, "kernel": 7, "stride": 2}), ("max_pool", {"stride": 2})]
    stages = [
        (kind, {"channels": 64 << i, "stride": 2 if i else 1, "repeats": count}) for i, count in enumerate(repeats)
    ]
    return chained(*stem, *stages)


VGG = [
    layer
    for channels, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for layer in (("conv", {"channels": channels, "repeats": repeats}), ("max_pool", {"kernel": 2, "stride": 2}))
]
MOBILENET = [
    ("conv", {"channels": 32, "stride": 2}),
    ("separable", {"channels": 64}),
    *(("separable", {"channels": width, "stride": stride}) for width in (128, 256) for stride in (2, 1)),
    ("separable", {"channels": 512, "stride": 2, "repeats": 6}),
    ("separable", {"channels": 1024, "stride": 2, "repeats": 2}),
]


@pytest.mark.parametrize(
    ("spec", "macs", "params"),
    [
        (resnet("basic", 2, 2, 2, 2), 1.814e9, 11.69e6),
        (resnet("basic", 3, 4, 6, 3), 3.664e9, 21.80e6),
        (resnet("bottleneck", 3, 4, 6, 3), 4.089e9, 25.56e6),
        (chained(*VGG, ("dense", {"channels": 4096, "repeats": 2})), 15.47e9, 138.36e6),
        (chained(*MOBILENET), 569e6, 4.23e6),
    ],
    ids=["resnet18", "resnet34", "resnet50", "vgg16", "mobilenet"],
)
def test_chains_are_the_known_networks(spec, macs, params):
    """Counts of torchvision's models; of MobileNet, its paper's."""
    graph = lower(spec)
    assert graph.macs == pytest.approx(macs, rel=0.01)
    assert graph.params == pytest.approx(params, rel=0.01)


def test_repeats_are_the_same_as_layers():
    space = get_space("chains")
    once = chained(*[("conv", {"channels": 16, "stride": 2}), ("conv", {"channels": 16}), ("conv", {"channels": 16})])
    thrice = chained(("conv", {"channels": 16, "stride": 2, "repeats": 3}))
    assert space.isomorphism_class(once) == space.isomorphism_class(thrice)
    assert lower(once) == lower(thrice)


def test_nothing_but_dense_follows_dense():
    with pytest.raises(InvalidSpec, match="follows a dense") as caught:
        chained(("dense", {"channels": 64}), ("conv", {"channels": 16}))
    assert caught.value.field == "layers[2]"


NORMAL = [
    *[("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
    *[("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)],
]
REDUCTION = [
    *[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1)],
    *[("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)],
]
"""The cells DARTS_V2 of the paper's second-order search."""


@pytest.mark.parametrize(
    ("config", "params"),
    [
        (Darts.default_config, 3.349e6),  # 20 cells, 36 channels, CIFAR-10, without the auxiliary head
        (NetworkConfig((224, 224, 3), stem_channels=48, stacks=3, modules_per_stack=4, classes=1000), 4.719e6),
    ],
    ids=["cifar10", "imagenet"],
)
def test_darts_has_the_parameters_of_its_paper(config, params):
    assert lower(darts_spec(NORMAL, REDUCTION, config)).params == pytest.approx(params, rel=0.005)


def reordered(cell: list[tuple[str, int]], order: tuple[int, ...]) -> list[tuple[str, int]] | None:
    """Return a cell with its nodes in another order; none where a node would stand before what it reads."""
    place = {0: 0, 1: 1, **{node + 2: i + 2 for i, node in enumerate(order)}}
    moved = [(name, place[source]) for node in order for name, source in cell[2 * node : 2 * node + 2]]
    return moved if all(source < i // 2 + 2 for i, (_, source) in enumerate(moved)) else None


def test_darts_cells_with_nodes_in_another_order_are_isomorphic():
    space, config = Darts(), NetworkConfig(modules_per_stack=1)
    expected = darts_spec(NORMAL, REDUCTION, config)
    found = 0
    for order in itertools.permutations(range(4)):
        normal, reduction = reordered(NORMAL, order), reordered(REDUCTION, order)
        for cells in ((normal, REDUCTION), (NORMAL, reduction)):
            if None not in cells:
                spec = darts_spec(*cells, config)
                assert space.isomorphism_class(spec) == space.isomorphism_class(expected)
                assert lower(spec).macs == lower(expected).macs
                found += 1
    assert found > 12
    other = darts_spec([*NORMAL[:7], ("dil_conv_3x3", 3)], REDUCTION, config)
    assert space.isomorphism_class(other) == space.isomorphism_class(expected)  # nodes 2 and 3 are alike
    swapped = darts_spec(REDUCTION, NORMAL, config)
    assert space.isomorphism_class(swapped) != space.isomorphism_class(expected)


@pytest.mark.parametrize(
    ("cell", "field"),
    [
        (NORMAL[:6], "normal"),
        ([("sep_conv_3x3", 2), *NORMAL[1:]], "normal[0]"),
        ([("sep_conv_3x3", 1), *NORMAL[1:]], "adjacency[][4]"),  # both read c_k-1
        ([("none", 0), *NORMAL[1:]], "layers[3]"),
        ([("c_k-1", 0), *NORMAL[1:]], "layers[3]"),
    ],
)
def test_genotypes_that_break_rules_are_named(cell, field):
    with pytest.raises(InvalidSpec) as caught:
        darts_spec(cell, REDUCTION, NetworkConfig())
    assert caught.value.field == field


NOT_DRAWN = {
    "quantize": "other precisions are made of whole graphs",
    "dequantize": "other precisions are made of whole graphs",
}


def test_300_random_graphs_hold_every_kind_of_operator_that_can_be_written():
    pytest.importorskip("ai_edge_litert", reason="the extra `export` is not installed")
    from leti.generator.export.tflite.forms import FORMS

    space = get_space("random")
    graphs = [lower(spec) for spec in space.sample(300, 0, space.default_config)]
    found = {op.kind for graph in graphs for op in graph.ops}
    assert set(OPERATORS) & set(FORMS) - found == set(NOT_DRAWN)
    assert all(graph.macs <= 400e6 and graph.traffic_bytes <= 60e6 for graph in graphs)
    shapes = {op.inputs[0].shape for graph in graphs for op in graph.ops if op.inputs}
    assert len(shapes) > 500
