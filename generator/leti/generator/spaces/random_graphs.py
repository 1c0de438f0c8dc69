"""Random graphs of operators: what a predictor meets of networks from outside the spaces.

Of this project. Up to twelve nodes, each of a kind of :data:`~leti.generator.spaces.random_operators.KINDS`, which are
the kinds of operator that a model file can hold; each reads one value before it, or two, whatever their shapes are.
What nothing else reads is averaged over its pixels, concatenated, and classified. Any node may follow any other, since
each brings what it reads to the shape that it needs.

A spec's nodes are ``input``, layers named by their kind with the attributes that the kind takes (``channels``,
``kernel``, ``stride``, and the ``option`` that numbers its forms), and ``output``; operands stand in the order of
nodes. A vector has seven positions for each of twelve places: kind, or 0 for none; channels, kernel, stride and option,
of which a kind passes over what it does not take; and two sources, 0 for the input or the number of a place before it,
of which a kind of one operand passes over the second. A place without kind hands on its first source. So every vector
that names a kind is a network, and small changes of it are small changes of the network.

Of the config, ``stem_channels``, ``stacks`` and ``modules_per_stack`` play no part.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.graph import Graph, TensorType
from leti.core.spec import Attribute, Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.random_nodes import MAX_OPTIONS, Node
from leti.generator.spaces.random_operators import KINDS
from leti.generator.spaces.space import (
    SearchSpace,
    check_attributes,
    check_choices,
    check_names,
    check_space,
    class_name,
)

NAME: Final = "random"
MAX_NODES: Final = 12
CHANNELS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 72, 96, 112, 128, 160, 192, 256)
KERNELS: Final = (1, 2, 3, 5, 7)
STRIDES: Final = (1, 2, 3)
MAX_DRAWN_MACS: Final = 400_000_000
MAX_DRAWN_BYTES: Final = 60_000_000
"""Multiply-accumulates an image, and bytes that operators read and write, that a drawn network may take: on a core of
today tens of milliseconds."""

MIN_DRAWN_BYTES: Final = 1_000_000
"""Bytes that a drawn network reads and writes at least, ten multiply-accumulates counting as one: less takes a few
microseconds, which are mostly the runtime's own. Of images below 32×32 pixels accordingly less."""

FIRST_CONVS: Final = 0.7
"""Share of drawn networks that begin with a convolution."""

NEAR: Final = 0.75
"""Share of operands that are what the node before makes."""

_VALUES: Final = {"channels": CHANNELS, "kernel": KERNELS, "stride": STRIDES}
_ATTRIBUTES: Final = (*_VALUES, "option")
_NAMES: Final = tuple(KINDS)
_HEAD: Final = (1 + len(KINDS), *map(len, _VALUES.values()), MAX_OPTIONS)


@dataclass(frozen=True, slots=True)
class _Step:
    """A node of a spec: its kind, choices of all attributes, and one or two numbers of nodes that it reads."""

    kind: str
    choices: tuple[int, ...]
    sources: tuple[int, ...]


@final
class RandomGraphs(SearchSpace):
    """Random graphs of up to twelve nodes over all kinds of operator."""

    name = NAME
    default_config = NetworkConfig(input_shape=(64, 64, 3))
    positions = tuple(count for place in range(MAX_NODES) for count in (*_HEAD, place + 1, place + 1))

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, NAME)
        check_names(spec, KINDS)
        last = len(spec.layers) - 1
        if not 1 <= last - 1 <= MAX_NODES:
            raise InvalidSpec(f"has {last - 1} nodes between its ends", field="layers", remedy=f"1 to {MAX_NODES}")
        for i, layer in enumerate(spec.layers):
            known = _known(layer.name) if 0 < i < last else {}
            check_attributes(spec, i, known)
        for node in range(1, last):
            fed_by = _fed_by(spec, node)
            arity = KINDS[spec.layers[node].name].arity
            if not 1 <= len(fed_by) <= arity:
                raise InvalidSpec(
                    f"{spec.layers[node].name} is fed by {len(fed_by)} nodes",
                    field=f"adjacency[][{node}]",
                    remedy="by one or two" if arity > 1 else "by one",
                )
        for node in range(last):
            if any(spec.adjacency[node][1:last]) == bool(spec.adjacency[node][last]):
                raise InvalidSpec(
                    "must feed the output where it feeds nothing else, and not where it does",
                    field=f"adjacency[{node}][{last}]",
                )

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the name of the kinds and attributes of all nodes, each with those of what it reads, and so on.

        Networks that differ only in which of two equal nodes a third one reads are of one class.
        """
        names: dict[int, str] = {0: "input"}
        steps = _steps(spec)
        for node, step in enumerate(steps, start=1):
            names[node] = class_name((step.kind, step.choices, [names[source] for source in step.sources]))
        sinks = sorted(names[node] for node in _fed_by(spec, len(steps) + 1))
        return class_name((sorted(names.values()), sinks))

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return seven choices a place; places behind the last node are 0."""
        choices: list[int] = []
        for step in _steps(spec):
            second = step.sources[-1] if KINDS[step.kind].arity > 1 else 0
            choices += (1 + _NAMES.index(step.kind), *step.choices, step.sources[0], second)
        return (*choices, *[0] * (len(self.positions) - len(choices)))

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        choices = check_choices(choices, self.positions)
        width = len(_HEAD) + 2
        steps: list[_Step] = []
        nodes = [0]  # of each source: the node that makes it
        for start in range(0, len(choices), width):
            number, *values, first, second = choices[start : start + width]
            if not number:
                nodes.append(nodes[first])
                continue
            kind = _NAMES[number - 1]
            reads = {nodes[first], nodes[second]} if KINDS[kind].arity > 1 else {nodes[first]}
            steps.append(_Step(kind, tuple(values), tuple(sorted(reads))))
            nodes.append(len(steps))
        if not steps:
            raise InvalidSpec("name no node", field="choices")
        return _spec_of(steps, config)

    @override
    def draw(self, rng: random.Random, config: NetworkConfig) -> NetworkSpec:
        """Draw three nodes or more, mostly reading the one before; often a convolution with a stride first.

        Networks that cost more than :data:`MAX_DRAWN_MACS` or :data:`MAX_DRAWN_BYTES`, or less than
        :data:`MIN_DRAWN_BYTES`, are thrown away.
        """
        steps: list[_Step] = []
        for node in range(1, rng.randint(3, MAX_NODES) + 1):
            kind = "conv2d" if node == 1 and rng.random() < FIRST_CONVS else rng.choice(_NAMES)
            reads = [node - 1 if rng.random() < NEAR else rng.randrange(node) for _ in range(KINDS[kind].arity)]
            values = tuple(rng.randrange(count) for count in _HEAD[1:])
            steps.append(_Step(kind, values, tuple(sorted(set(reads)))))
        spec = _spec_of(steps, config)
        graph = self._graph(spec)
        macs, traffic_bytes = graph.macs / config.batch, graph.traffic_bytes / config.batch
        pixels = config.input_shape[0] * config.input_shape[1]
        least = MIN_DRAWN_BYTES * min(pixels / 32**2, 1)
        if macs > MAX_DRAWN_MACS or traffic_bytes > MAX_DRAWN_BYTES or traffic_bytes + macs / 10 < least:
            raise InvalidSpec(f"takes {graph.macs} multiplications, {graph.traffic_bytes} bytes", field="layers")
        return spec

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        values = [0]
        steps = _steps(spec)
        for step in steps:
            channels, kernel, stride, option = step.choices
            read = tuple(values[source] for source in step.sources)
            node = Node(builder, read, CHANNELS[channels], KERNELS[kernel], STRIDES[stride], option)
            values.append(KINDS[step.kind].place(node))
        means = [builder.global_mean(values[node]) for node in _fed_by(spec, len(steps) + 1)]
        return builder.fully_connected(builder.concat(means), spec.config.classes)

    def _graph(self, spec: NetworkSpec) -> Graph:
        builder = GraphBuilder(TensorType((spec.config.batch, *spec.config.input_shape)))
        return builder.graph(self.build(spec, "execute", builder))


@functools.cache
def _known(kind: str) -> dict[str, Sequence[Attribute]]:
    """Return the attributes that a kind takes, and their values."""
    values: dict[str, Sequence[Attribute]] = {name: _VALUES[name] for name in KINDS[kind].attributes}
    return {**values, "option": range(KINDS[kind].options)} if KINDS[kind].options > 1 else values


def _fed_by(spec: NetworkSpec, node: int) -> tuple[int, ...]:
    return tuple([i for i, row in enumerate(spec.adjacency[:node]) if row[node]])


def _steps(spec: NetworkSpec) -> list[_Step]:
    """Return the nodes of a spec between its ends; what a kind does not take is choice 0."""
    steps = []
    for i, layer in enumerate(spec.layers[1:-1], start=1):
        given, known = dict(layer.attributes), _known(layer.name)
        choices = [known[name].index(given[name]) if name in known else 0 for name in _ATTRIBUTES]
        steps.append(_Step(layer.name, tuple(choices), _fed_by(spec, i)))
    return steps


def _spec_of(steps: Sequence[_Step], config: NetworkConfig) -> NetworkSpec:
    """Return the spec of nodes; a choice beyond a kind's options begins them again."""
    size = len(steps) + 2
    edges = {(source, node) for node, step in enumerate(steps, start=1) for source in step.sources}
    read = {source for source, _ in edges}
    edges |= {(node, size - 1) for node in range(1, size - 1) if node not in read}
    layers = []
    for step in steps:
        known = _known(step.kind)
        numbers = zip(_ATTRIBUTES, step.choices, strict=True)
        chosen = ((name, known[name][number % len(known[name])]) for name, number in numbers if name in known)
        layers.append(Layer(step.kind, tuple(chosen)))
    rows = [[0] * size for _ in range(size)]
    for source, node in edges:
        rows[source][node] = 1
    return NetworkSpec(NAME, tuple(map(tuple, rows)), (Layer("input"), *layers, Layer("output")), config)
