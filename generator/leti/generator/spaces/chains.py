"""Chains in the manner of ResNet and VGG: layer after layer, each with its own channels, kernel, stride and repeats.

"Deep Residual Learning for Image Recognition" (He et al., 2016) and "Very Deep Convolutional Networks for Large-Scale
Image Recognition" (Simonyan and Zisserman, 2015); ResNet-18 to 152, VGG-11 to 19 and MobileNetV1 are among them. The
layers, with the attributes that they take:

- ``conv`` (channels, kernel, stride, repeats): a convolution with batch norm and ReLU;
- ``separable`` (channels, kernel, stride, repeats): a depthwise convolution and a 1×1 one, each with ReLU, as in
  "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications" (Howard et al., 2017);
- ``basic`` (channels, kernel, stride, repeats): a residual block of two convolutions;
- ``bottleneck`` (channels, kernel, stride, repeats): one of a 1×1 convolution, one with kernel and stride, and a 1×1
  one to four times the channels;
- ``max_pool``, ``avg_pool`` (kernel of 2 or more, stride);
- ``dense`` (channels, repeats): fully connected, with ReLU; only dense layers may follow it.

Of repeated layers the first has the stride. A chain without dense layers ends in the global mean, and every chain in a
fully connected layer to the classes. Of the config, ``stem_channels``, ``stacks`` and ``modules_per_stack`` play no
part. Attributes that are left out are kernel 3, stride 1, repeats 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.graph import TensorType
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.blocks import classify, conv, residual
from leti.generator.spaces.space import (
    IMAGENET,
    SearchSpace,
    chain,
    check_attributes,
    check_chain,
    check_choices,
    check_names,
    check_space,
    class_name,
)

NAME: Final = "chains"
MAX_LAYERS: Final = 16
"""Layers between input and output, each as often as its repeats say."""

CHANNELS: Final = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512, 768, 1024, 2048, 4096)
KERNELS: Final = (1, 2, 3, 5, 7)
STRIDES: Final = (1, 2, 4)
REPEATS: Final = tuple(range(1, 9))
VALUES: Final = MappingProxyType({"channels": CHANNELS, "kernel": KERNELS, "stride": STRIDES, "repeats": REPEATS})
"""The attributes of layers, and the values that each may have."""

DEFAULTS: Final = MappingProxyType({"kernel": 3, "stride": 1, "repeats": 1})
_FILTER: Final = ("channels", "kernel", "stride", "repeats")
KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("conv", "separable", "basic", "bottleneck"), _FILTER),
        **dict.fromkeys(("max_pool", "avg_pool"), ("kernel", "stride")),
        "dense": ("channels", "repeats"),
    }
)
"""The kinds of layer, and the attributes that each takes."""

MAX_DRAWN_MACS: Final = 4_000_000_000
"""Multiply-accumulates an image that a drawn network may take: ResNet-50's."""

MAX_DRAWN_PARAMS: Final = 50_000_000
"""Parameters that a drawn network may have."""

SMALLEST, LARGE = 4, 56
"""Pixels a side from which on drawn networks do not shrink; and above which they mostly do."""

DENSE_SHARE: Final = 0.2
"""Share of drawn networks that end in a dense layer."""

_NAMES: Final = tuple(KINDS)
_BLOCKS: Final = ("separable", "basic", "bottleneck")
_SLOT: Final = (1 + len(KINDS), *map(len, VALUES.values()))
_DRAWN_CHANNELS: Final = CHANNELS.index(512) + 1
_Unit = tuple[str, int, int, int]  # kind, channels, kernel, stride of a layer that is not repeated


@final
class Chains(SearchSpace):
    """Chains of up to 16 layers, each up to eight times."""

    name = NAME
    positions = _SLOT * MAX_LAYERS
    default_config = IMAGENET

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, NAME)
        check_names(spec, KINDS)
        if not 1 <= len(spec.layers) - 2 <= MAX_LAYERS:
            raise InvalidSpec(
                f"has {len(spec.layers) - 2} layers between input and output",
                field="layers",
                remedy=f"1 to {MAX_LAYERS}",
            )
        dense = False
        for i, layer in enumerate(spec.layers):
            check_attributes(spec, i, {name: _values(layer.name, name) for name in KINDS.get(layer.name, ())}, DEFAULTS)
            if dense and layer.name not in ("dense", "output"):
                raise InvalidSpec(f"{layer.name!r} follows a dense layer", field=f"layers[{i}]", remedy="give dense")
            dense = dense or layer.name == "dense"
        check_chain(spec)

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the name of the layers with their repeats written out."""
        return class_name([unit for layer in spec.layers[1:-1] for unit in _units(layer)])

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return five choices a layer: kind from 1 on, channels, kernel, stride, repeats; 0 for what is not there."""
        choices: list[int] = []
        for layer in spec.layers[1:-1]:
            given = {**DEFAULTS, **dict(layer.attributes)}
            choices.append(1 + _NAMES.index(layer.name))
            for name, values in VALUES.items():
                choices.append(values.index(given[name]) if name in KINDS[layer.name] else 0)
        return (*choices, *[0] * (len(self.positions) - len(choices)))

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        """Return the chain of a vector; kinds of 0 and attributes that a kind does not take are passed over.

        A pool of kernel 1 becomes one of kernel 2.
        """
        choices = check_choices(choices, self.positions)
        layers: list[Layer] = []
        for start in range(0, len(choices), len(_SLOT)):
            kind, *numbers = choices[start : start + len(_SLOT)]
            if not kind:
                continue
            name = _NAMES[kind - 1]
            if layers and layers[-1].name == "dense" != name:
                raise InvalidSpec(f"is {name!r} behind a dense layer", field=f"choices[{start}]", remedy="give dense")
            given = {key: VALUES[key][number] for key, number in zip(VALUES, numbers, strict=True)}
            layers.append(Layer(name, tuple((key, max(given[key], _values(name, key)[0])) for key in KINDS[name])))
        if not layers:
            raise InvalidSpec("name no layer", field="choices")
        nodes = (Layer("input"), *layers, Layer("output"))
        return NetworkSpec(NAME, chain(len(nodes)), nodes, config)

    @override
    def draw(self, rng: random.Random, config: NetworkConfig) -> NetworkSpec:
        """Draw 2 to 8 layers whose channels grow, a few with strides; at most one is dense.

        All at random would be mostly of thousands of channels, and shrunk to a pixel by the fifth layer. Networks that
        cost more than :data:`MAX_DRAWN_MACS` or :data:`MAX_DRAWN_PARAMS` are thrown away.
        """
        size = min(config.input_shape[:2])
        wide = rng.randrange(_DRAWN_CHANNELS // 2)
        layers = []
        for _ in range(rng.randint(2, 8)):
            name = rng.choice(_NAMES[:-1])
            stride = 1 if size <= SMALLEST else rng.choice((1, 2, 2) if size > LARGE else (1, 1, 2))
            size = -(-size // stride)
            drawn = {
                "channels": CHANNELS[wide // 2 if name == "bottleneck" else wide],
                "kernel": rng.choice((3, 3, 5, 7) if name in _BLOCKS else _values(name, "kernel")),
                "stride": stride,
                "repeats": rng.choice((1, 1, 2, 3)),
            }
            layers.append(Layer(name, tuple((key, drawn[key]) for key in KINDS[name])))
            wide = min(wide + rng.choice((0, 1, 2, 4)), _DRAWN_CHANNELS - 1)
        if rng.random() < DENSE_SHARE:
            layers.append(Layer("dense", (("channels", rng.choice(CHANNELS[6:_DRAWN_CHANNELS])), ("repeats", 1))))
        nodes = (Layer("input"), *layers, Layer("output"))
        spec = NetworkSpec(NAME, chain(len(nodes)), nodes, config)
        builder = GraphBuilder(TensorType((config.batch, *config.input_shape)))
        graph = builder.graph(self.build(spec, "execute", builder))
        if graph.macs > MAX_DRAWN_MACS * config.batch or graph.params > MAX_DRAWN_PARAMS:
            raise InvalidSpec(f"takes {graph.macs} multiplications and {graph.params} parameters", field="layers")
        return spec

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        value, flat = 0, False
        for layer in spec.layers[1:-1]:
            if layer.name == "dense" and not flat:
                value, flat = builder.stamp(_flatten, value), True
            for name, channels, kernel, stride in _units(layer):
                value = builder.stamp(_BUILD[name], value, channels, kernel, stride)
        return builder.stamp(GraphBuilder.fully_connected if flat else classify, value, spec.config.classes)


def _values(kind: str, attribute: str) -> tuple[int, ...]:
    """Return the values that an attribute may have in a kind; a pool of one pixel would do nothing."""
    return KERNELS[1:] if attribute == "kernel" and kind.endswith("_pool") else VALUES[attribute]


def _units(layer: Layer) -> tuple[_Unit, ...]:
    """Return a layer's repeats; what its kind has no use for is 0."""
    given = {key: int(str(value)) for key, value in {**DEFAULTS, **dict(layer.attributes)}.items()}
    channels, kernel, stride, repeats = (given[key] if key in KINDS[layer.name] else 0 for key in VALUES)
    first = (layer.name, channels, kernel, stride)
    return (first, *[(layer.name, channels, kernel, min(stride, 1))] * (max(repeats, 1) - 1))


def _flatten(builder: GraphBuilder, value: int) -> int:
    batch, height, width, channels = builder.shape(value)
    return builder.place("reshape", (value,), (batch, height * width * channels))


def _separable(builder: GraphBuilder, value: int, channels: int, kernel: int, stride: int) -> int:
    return conv(builder, builder.relu(builder.depthwise_conv(value, kernel, stride)), channels, 1)


def _basic(builder: GraphBuilder, value: int, channels: int, kernel: int, stride: int) -> int:
    inner = conv(builder, conv(builder, value, channels, kernel, stride), channels, kernel, activation=None)
    return residual(builder, value, inner, stride)


def _bottleneck(builder: GraphBuilder, value: int, channels: int, kernel: int, stride: int) -> int:
    inner = conv(builder, conv(builder, value, channels, 1), channels, kernel, stride)
    return residual(builder, value, conv(builder, inner, 4 * channels, 1, activation=None), stride)


_BUILD: Final[Mapping[str, Callable[[GraphBuilder, int, int, int, int], int]]] = {
    "conv": conv,
    "separable": _separable,
    "basic": _basic,
    "bottleneck": _bottleneck,
    "max_pool": lambda builder, value, _channels, kernel, stride: builder.max_pool(value, kernel, stride),
    "avg_pool": lambda builder, value, _channels, kernel, stride: builder.avg_pool(value, kernel, stride),
    "dense": lambda builder, value, channels, *_: builder.relu(builder.fully_connected(value, channels)),
}
