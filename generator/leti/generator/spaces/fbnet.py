"""FBNet: 22 positions, nine candidate blocks at each.

"FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search" (Wu et al., 2019). The
macro architecture is that of its Table 1: a 3×3 convolution of stride 2 to 16 channels; 1, 4, 4, 4, 4, 4 and 1 blocks
of 16, 24, 32, 64, 112, 184 and 352 channels, the first of a stage with its stride; a 1×1 convolution to 1504, global
mean and a fully connected layer. A block is a 1×1 convolution, a K×K depthwise one and a 1×1 one; ``g2`` groups the 1×1
convolutions in two, with a channel shuffle behind the first. ``skip`` is nothing, or where shapes change a 1×1
convolution with ReLU.

With 1504 channels at the end the networks FBNet-A, B and C take the paper's multiply-accumulates within 1 %; the
models that its authors published later give B and C 1984. The choices are numbered as ``op_idx`` in the tables of
HW-NAS-Bench (Li et al., 2021) and HELP (Lee et al., 2021). As in the former's networks for CIFAR, images below 64
pixels a side are not halved by the first convolution nor by the second stage. Of the config, ``stem_channels``,
``stacks`` and ``modules_per_stack`` play no part.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder, Stamp
from leti.generator.spaces.blocks import classify, conv, inverted_residual
from leti.generator.spaces.space import (
    IMAGENET,
    SearchSpace,
    Stacked,
    chain,
    check_chain,
    check_choices,
    check_layers,
    check_space,
    class_name,
)

NAME: Final = "fbnet"
SMALL_IMAGE: Final = 64
"""Images with a side below this many pixels are not halved as early."""


@dataclass(frozen=True, slots=True)
class Block:
    """A candidate: kernel of its depthwise convolution, expansion of channels, groups of the 1×1 convolutions."""

    kernel: int
    expansion: int
    groups: int = 1


BLOCKS: Final[dict[str, Block | None]] = {
    "k3_e1": Block(3, 1),
    "k3_e1_g2": Block(3, 1, 2),
    "k3_e3": Block(3, 3),
    "k3_e6": Block(3, 6),
    "k5_e1": Block(5, 1),
    "k5_e1_g2": Block(5, 1, 2),
    "k5_e3": Block(5, 3),
    "k5_e6": Block(5, 6),
    "skip": None,
}
"""The candidates, in the order of ``op_idx``."""

STAGES: Final = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
"""Channels, blocks, and stride of the first block of each stage."""

POSITIONS: Final = sum(blocks for _, blocks, _ in STAGES)
_NAMES: Final = tuple(BLOCKS)
_STEM_CHANNELS: Final = 16
_LAST_CHANNELS: Final = 1504


@final
class FBNet(SearchSpace):
    """FBNet's 9^22 vectors; ``skip`` at a block that keeps its shape leaves equal networks among them."""

    name = NAME
    positions = (len(BLOCKS),) * POSITIONS
    default_config = IMAGENET

    @override
    def size(self) -> int:
        """Return the count: where shapes are kept, only the order of what is not skipped makes a difference."""
        count = 1
        blocks = len(BLOCKS) - 1
        for _, length, _ in STAGES:
            count *= len(BLOCKS) * sum(blocks**kept for kept in range(length))
        return count

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, NAME)
        if len(spec.layers) != POSITIONS + 2:
            raise InvalidSpec(
                f"has {len(spec.layers) - 2} layers between input and output", field="layers", remedy=f"{POSITIONS}"
            )
        check_layers(spec, BLOCKS)
        check_chain(spec)

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the name of the blocks without those that do nothing, stage by stage."""
        kept: list[list[str]] = []
        for layer, (stage, first) in zip(spec.layers[1:-1], _places(), strict=True):
            if first:
                kept.append([])
            changes_shape = first and stage > 0  # the first stage keeps the stem's shape
            if changes_shape or layer.name != "skip":
                kept[stage].append(layer.name)
        return class_name(kept)

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the number of each block, as ``op_idx``."""
        return tuple(_NAMES.index(layer.name) for layer in spec.layers[1:-1])

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        names = [_NAMES[choice] for choice in check_choices(choices, self.positions)]
        return NetworkSpec(NAME, chain(POSITIONS + 2), tuple(map(Layer, ("input", *names, "output"))), config)

    @override
    def stacked(self, choices: tuple[int, ...], config: NetworkConfig, zero: Zero) -> Stacked:
        return Stacked(_stamps(choices, config))

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        return builder.put_all(_stamps(self.encode(spec), spec.config))


def _stamps(choices: Sequence[int], config: NetworkConfig) -> list[Stamp]:
    first, blocks, last = _all_stamps(min(config.input_shape[:2]) < SMALL_IMAGE)
    row = [candidates[choice] for candidates, choice in zip(blocks, choices, strict=True)]
    return [first, *row, last, Stamp.of(classify, config.classes)]


@functools.cache
def _all_stamps(small: bool) -> tuple[Stamp, tuple[tuple[Stamp, ...], ...], Stamp]:
    """Return the first convolution, the candidates at each position, and the last convolution; of ``small`` images."""
    blocks = []
    for stage, first in _places():
        channels, _, stride = STAGES[stage]
        halved = first and not (small and stage == 1)
        blocks.append(tuple([Stamp.of(_build_block, name, channels, stride if halved else 1) for name in _NAMES]))
    stem = Stamp.of(conv, _STEM_CHANNELS, 3, 1 if small else 2)
    return stem, tuple(blocks), Stamp.of(conv, _LAST_CHANNELS, 1)


def _places() -> Iterator[tuple[int, bool]]:
    """Yield the stage of each position, from 0 on, and whether it is the stage's first."""
    for stage, (_, blocks, _) in enumerate(STAGES):
        yield from ((stage, i == 0) for i in range(blocks))


def _build_block(builder: GraphBuilder, value: int, name: str, channels: int, stride: int) -> int:
    block, inputs = BLOCKS[name], builder.channels(value)
    if block is None:
        return value if (inputs, stride) == (channels, 1) else conv(builder, value, channels, 1, stride)
    return inverted_residual(
        builder,
        value,
        channels,
        kernel=block.kernel,
        expanded=block.expansion * inputs,
        stride=stride,
        groups=block.groups,
        expand_always=True,
    )
