"""MobileNetV3 as Once-for-All searches it: five stages of two to four blocks, their kernels and expansions.

"Once for All: Train One Network and Specialize it for Efficient Deployment" (Cai et al., 2020), the networks within its
``OFAMobileNetV3``; the blocks are those of "Searching for MobileNetV3" (Howard et al., 2019). A 3×3 convolution of
stride 2 and a block without expansion; stages of 24, 40, 80, 112 and 160 channels, each block of kernel 3, 5 or 7 and
expansion 3, 4 or 6, with hard swish from the third stage on and squeeze-and-excitation in the second, fourth and fifth;
a 1×1 convolution to 960 channels, global mean, one to 1280, and the classifier. All channels are multiplied by the
width, 1.0 or 1.2, the two that were trained; images are square, of 128 to 224 pixels in steps of 4.

A spec is a chain: ``input`` with its ``width``, then a layer ``block`` for each block with ``stage`` (1 to 5),
``kernel`` and ``expansion``, then ``output``. The resolution is that of the config's input shape. Of the config,
``stem_channels``, ``stacks`` and ``modules_per_stack`` play no part.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.blocks import conv, inverted_residual, make_divisible
from leti.generator.spaces.space import (
    IMAGENET,
    SearchSpace,
    chain,
    check_attributes,
    check_chain,
    check_choices,
    check_names,
    check_space,
)

NAME: Final = "mobilenetv3"
RESOLUTIONS: Final = tuple(range(128, 225, 4))
WIDTHS: Final = (1.0, 1.2)
BLOCKS: Final = tuple(itertools.product((3, 5, 7), (3, 4, 6)))
"""Kernel and expansion of a block, in the order of its choices."""

DEPTHS: Final = (2, 4)
"""Fewest and most blocks of a stage."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """What all blocks of a stage share: channels at width 1, stride of the first, activation, whether it squeezes."""

    channels: int
    stride: int
    activation: str
    squeezes: bool


STAGES: Final = (
    Stage(24, 2, "relu", False),
    Stage(40, 2, "relu", True),
    Stage(80, 2, "hard_swish", False),
    Stage(112, 1, "hard_swish", True),
    Stage(160, 2, "hard_swish", True),
)
_STEM, _EXPANDED, _MIXED = 16, 960, 1280
_FEWEST, _MOST = DEPTHS
_MAY_BE_ABSENT: Final = (False,) * _FEWEST + (True,) * (_MOST - _FEWEST)


@final
class MobileNetV3(SearchSpace):
    """Once-for-All's networks of MobileNetV3: about 2·10^19 at each of 25 resolutions and two widths."""

    name = NAME
    positions = (
        len(RESOLUTIONS),
        len(WIDTHS),
        *(len(BLOCKS) + absent for _ in STAGES for absent in _MAY_BE_ABSENT),
    )
    default_config = IMAGENET

    @override
    def size(self) -> int:
        stages = sum(math.prod([len(BLOCKS)] * depth) for depth in range(_FEWEST, _MOST + 1))
        return len(RESOLUTIONS) * len(WIDTHS) * math.prod([stages] * len(STAGES))

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, NAME)
        check_names(spec, ("block",))
        height, width, _ = spec.config.input_shape
        if height != width or height not in RESOLUTIONS:
            raise InvalidSpec(
                f"is of {height}×{width} pixels",
                field="config.input_shape",
                remedy=f"square, from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]} in steps of 4",
            )
        check_attributes(spec, 0, {"width": WIDTHS})
        check_attributes(spec, len(spec.layers) - 1, {})
        stages, kernels, expansions = range(1, len(STAGES) + 1), (3, 5, 7), (3, 4, 6)
        for i in range(1, len(spec.layers) - 1):
            check_attributes(spec, i, {"stage": stages, "kernel": kernels, "expansion": expansions})
        found = [_attribute(layer, "stage") for layer in spec.layers[1:-1]]
        if found != sorted(found):
            raise InvalidSpec("are not in the order of their stages", field="layers")
        for stage in stages:
            if not _FEWEST <= found.count(stage) <= _MOST:
                raise InvalidSpec(
                    f"has {found.count(stage)} blocks in stage {stage}", field="layers", remedy=f"{_FEWEST} to {_MOST}"
                )
        check_chain(spec)

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return resolution, width, and four blocks a stage: the third and fourth from 1 on, 0 where there is none."""
        blocks: list[int] = []
        for stage in range(1, len(STAGES) + 1):
            own = [BLOCKS.index(_block_of(layer)) for layer in spec.layers[1:-1] if _attribute(layer, "stage") == stage]
            numbers = [block + absent for block, absent in zip(own, _MAY_BE_ABSENT, strict=False)]
            blocks += [*numbers, *[0] * (_MOST - len(numbers))]
        width = dict(spec.layers[0].attributes)["width"]
        return (RESOLUTIONS.index(spec.config.input_shape[0]), WIDTHS.index(width), *blocks)

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        """Return the network of a vector, which says the config's resolution; a stage moves up over absent blocks."""
        resolution, width, *numbers = check_choices(choices, self.positions)
        layers = [Layer("input", (("width", WIDTHS[width]),))]
        for i, number in enumerate(numbers):
            absent = _MAY_BE_ABSENT[i % _MOST]
            if number or not absent:
                kernel, expansion = BLOCKS[number - absent]
                stage = 1 + i // _MOST
                layers.append(Layer("block", (("stage", stage), ("kernel", kernel), ("expansion", expansion))))
        size = RESOLUTIONS[resolution]
        config = dataclasses.replace(config, input_shape=(size, size, config.input_shape[2]))
        return NetworkSpec(NAME, chain(len(layers) + 1), (*layers, Layer("output")), config)

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        width = float(str(dict(spec.layers[0].attributes)["width"]))
        stem = make_divisible(_STEM * width)
        value = builder.stamp(_stem, 0, stem)
        before = 0
        for layer in spec.layers[1:-1]:
            number = _attribute(layer, "stage")
            first, before = number != before, number
            channels = make_divisible(STAGES[number - 1].channels * width)
            value = builder.stamp(_block, value, number, channels, first, *_block_of(layer))
        expanded, mixed = make_divisible(_EXPANDED * width), make_divisible(_MIXED * width)
        return builder.stamp(_head, value, expanded, mixed, spec.config.classes)


def _stem(builder: GraphBuilder, value: int, channels: int) -> int:
    value = conv(builder, value, channels, 3, 2, activation="hard_swish")
    return inverted_residual(builder, value, channels, kernel=3, expanded=channels)


def _block(
    builder: GraphBuilder, value: int, number: int, channels: int, first: bool, kernel: int, expansion: int
) -> int:
    stage, expanded = STAGES[number - 1], make_divisible(builder.channels(value) * expansion)
    return inverted_residual(
        builder,
        value,
        channels,
        kernel=kernel,
        expanded=expanded,
        stride=stage.stride if first else 1,
        activation=stage.activation,
        squeezed=make_divisible(expanded // 4) if stage.squeezes else 0,
    )


def _head(builder: GraphBuilder, value: int, expanded: int, mixed: int, classes: int) -> int:
    value = conv(builder, value, expanded, 1, activation="hard_swish")
    batch = builder.shape(value)[0]
    value = builder.place("mean", (value,), (batch, 1, 1, expanded), axes=(1, 2), keep_dims=True)
    value = builder.unary("hard_swish", builder.conv(value, mixed, 1))
    return builder.fully_connected(builder.place("reshape", (value,), (batch, mixed)), classes)


def _attribute(layer: Layer, name: str) -> int:
    return int(str(dict(layer.attributes)[name]))


def _block_of(layer: Layer) -> tuple[int, int]:
    return _attribute(layer, "kernel"), _attribute(layer, "expansion")
