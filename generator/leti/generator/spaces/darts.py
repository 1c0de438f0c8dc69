"""DARTS: a normal and a reduction cell, four nodes in each, every node the sum of two operations.

"DARTS: Differentiable Architecture Search" (Liu et al., 2019), its search space without ``none`` and the networks that
it evaluates, without their auxiliary head and drop path. A cell reads the outputs of the two cells before it
(``c_k-2``, ``c_k-1``), each brought to the cell's channels by a 1×1 convolution; a node adds two operations on two
different ones of what stands before it; the nodes' concatenation is the cell's output. Separable convolutions stand
twice, the dilated ones have dilation 2, and where a reduction cell's operations read its inputs they have stride 2: a
``skip_connect`` is then a factorized reduction.

Of the config, ``stacks`` of ``modules_per_stack`` normal cells each with a reduction cell between them, which doubles
the channels: three of six and 36 channels are the paper's network for CIFAR-10. Its stem has three times the channels;
images of 64 pixels a side or more get that for ImageNet, three convolutions of stride 2.

A spec has 22 nodes: input; ``c_k-2``, ``c_k-1`` and the eight operations of the normal cell, two a node; the same of
the reduction cell; output. An operation that reads a node is fed by both of that node's operations.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.blocks import factorized_reduce, relu_conv, separable_conv
from leti.generator.spaces.space import Matrix, SearchSpace, check_choices, check_layers, check_space, class_name

NAME: Final = "darts"
OPERATIONS: Final = (
    *("max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
INPUTS: Final = ("c_k-2", "c_k-1")
NODES: Final = 4
LARGE_IMAGE: Final = 64
"""Images whose sides both have at least this many pixels get the stem for ImageNet."""

Edge = tuple[str, int]
"""An operation and its source: 0 and 1 are the cell's inputs, 2 to 5 its nodes."""

_EDGES: Final = 2 * NODES
_CELL_SIZE: Final = len(INPUTS) + _EDGES
_SIZE: Final = 2 * _CELL_SIZE + 2
_PAIRS: Final = tuple(tuple(itertools.combinations(range(node + 2), 2)) for node in range(NODES))
"""The pairs of sources that each node may have."""

_Cell = tuple[Edge, ...]


def spec_of(normal: Sequence[Edge], reduction: Sequence[Edge], config: NetworkConfig) -> NetworkSpec:
    """Return the spec of a genotype: each cell's eight operations with their sources, two a node.

    Raises :class:`InvalidSpec` where it is none.
    """
    for place, cell in (("normal", normal), ("reduction", reduction)):
        if len(cell) != _EDGES:
            raise InvalidSpec(f"has {len(cell)} operations", field=place, remedy=f"{_EDGES}, two a node")
        for i, (_, source) in enumerate(cell):
            if not 0 <= source < i // 2 + 2:
                raise InvalidSpec(f"reads {source}, which is not before it", field=f"{place}[{i}]")
    names = [(*INPUTS, *(name for name, _ in cell)) for cell in (normal, reduction)]
    layers = tuple(map(Layer, ("input", *names[0], *names[1], "output")))
    spec = NetworkSpec(NAME, _matrix((tuple(normal), tuple(reduction))), layers, config)
    Darts().check(spec)
    return spec


@final
class Darts(SearchSpace):
    """DARTS's cells: about 10^18 pairs of a normal and a reduction cell."""

    name = NAME
    positions = tuple(len(pairs) if i == 0 else len(OPERATIONS) for pairs in _PAIRS for i in range(3)) * 2
    default_config = NetworkConfig(stem_channels=36, stacks=3, modules_per_stack=6)

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, NAME)
        if len(spec.layers) != _SIZE:
            raise InvalidSpec(f"has {len(spec.layers)} nodes", field="layers", remedy=f"{_SIZE}, see the space's form")
        check_layers(spec, (*OPERATIONS, *INPUTS))
        for i in range(1, _SIZE - 1):
            place = (i - 1) % _CELL_SIZE
            known = (INPUTS[place],) if place < len(INPUTS) else OPERATIONS
            if spec.layers[i].name not in known:
                raise InvalidSpec(f"must be one of {', '.join(known)} here", field=f"layers[{i}]")
        cells = _cells_of(spec)
        for number, cell in enumerate(cells):
            for node in range(NODES):
                if cell[2 * node][1] == cell[2 * node + 1][1]:
                    first = 1 + number * _CELL_SIZE + len(INPUTS) + 2 * node
                    raise InvalidSpec(f"reads the same as node {first}", field=f"adjacency[][{first + 1}]")
        expected = _matrix(cells)
        for i, row in enumerate(expected):
            if spec.adjacency[i] != row:
                raise InvalidSpec(
                    "does not lead from the input to the cells' inputs, and from every operation to the output",
                    field=f"adjacency[{i}]",
                    remedy="".join(map(str, row)),
                )

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the name of both cells, each the smallest over the orders of its nodes that keep sources before."""
        return class_name(tuple(map(_canonical, _cells_of(spec))))

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return, for each node of the normal cell, then of the reduction cell, its sources' pair and two operations.

        The operations are in the order of their sources.
        """
        choices: list[int] = []
        for cell in _cells_of(spec):
            for node, pairs in enumerate(_PAIRS):
                (low, first), (high, second) = sorted((source, name) for name, source in cell[2 * node : 2 * node + 2])
                choices += (pairs.index((low, high)), OPERATIONS.index(first), OPERATIONS.index(second))
        return tuple(choices)

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        numbers = iter(check_choices(choices, self.positions))
        cells: tuple[list[Edge], list[Edge]] = ([], [])
        for cell, pairs in itertools.product(cells, _PAIRS):
            sources = pairs[next(numbers)]
            cell += [(OPERATIONS[next(numbers)], source) for source in sources]
        return spec_of(*cells, config)

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        config = spec.config
        normal, reduction = _cells_of(spec)
        channels = config.stem_channels
        older, newer, reduced = _stem(builder, config)
        for stack in range(config.stacks):
            if stack:
                channels *= 2
                older, newer = newer, _build_cell(builder, older, newer, reduction, channels, 2, reduced)
                reduced = True
            for _ in range(config.modules_per_stack):
                older, newer = newer, _build_cell(builder, older, newer, normal, channels, 1, reduced)
                reduced = False
        return builder.fully_connected(builder.global_mean(newer), config.classes)


def _matrix(cells: Sequence[_Cell]) -> Matrix:
    """Return the matrix of two cells."""
    edges = set()
    for number, cell in enumerate(cells):
        first = 1 + number * _CELL_SIZE
        edges |= {(0, first), (0, first + 1)}
        for i, (_, source) in enumerate(cell):
            node = first + len(INPUTS) + i
            edges |= {(fed_by, node) for fed_by in _makers(first, source)} | {(node, _SIZE - 1)}
    return tuple(tuple(int((i, j) in edges) for j in range(_SIZE)) for i in range(_SIZE))


def _makers(first: int, source: int) -> tuple[int, ...]:
    """Return the nodes of a spec that make a cell's source; ``first`` is the cell's first node."""
    if source < len(INPUTS):
        return (first + source,)
    return (first + 2 * source - 2, first + 2 * source - 1)


def _cells_of(spec: NetworkSpec) -> tuple[_Cell, _Cell]:
    """Return the genotype of a spec; raise :class:`InvalidSpec` where an operation reads what is no source."""
    cells = []
    for first in (1, 1 + _CELL_SIZE):
        cell: list[Edge] = []
        for i in range(_EDGES):
            node = first + len(INPUTS) + i
            fed_by = tuple(j for j in range(node) if spec.adjacency[j][node])
            known = [_makers(first, source) for source in range(i // 2 + 2)]
            if fed_by not in known:
                raise InvalidSpec(
                    f"is fed by {', '.join(map(str, fed_by)) or 'nothing'}",
                    field=f"adjacency[][{node}]",
                    remedy="one of the cell's inputs, or both operations of one node before: "
                    + "; ".join(" and ".join(map(str, makers)) for makers in known),
                )
            cell.append((spec.layers[node].name, known.index(fed_by)))
        cells.append(tuple(cell))
    return cells[0], cells[1]


def _canonical(cell: _Cell) -> tuple[tuple[Edge, Edge], ...]:
    """Return the smallest of a cell's forms over the legal orders of its nodes."""
    pairs = [cell[2 * node : 2 * node + 2] for node in range(NODES)]
    forms = []
    for order in itertools.permutations(range(NODES)):
        place = {0: 0, 1: 1, **{node + 2: i + 2 for i, node in enumerate(order)}}
        if all(place[source] < place[node + 2] for node in order for _, source in pairs[node]):
            first, second = zip(*(sorted((name, place[s]) for name, s in pairs[node]) for node in order), strict=True)
            forms.append(tuple(zip(first, second, strict=True)))
    return min(forms)


def _stem(builder: GraphBuilder, config: NetworkConfig) -> tuple[int, int, bool]:
    """Place the stem; return what the first cell reads, and whether the second of them is half the first's size."""
    channels = config.stem_channels
    if min(config.input_shape[:2]) < LARGE_IMAGE:
        value = builder.conv(0, 3 * channels, 3)
        return value, value, False
    value = builder.relu(builder.conv(0, max(channels // 2, 1), 3, 2))
    value = builder.conv(value, channels, 3, 2)
    return value, relu_conv(builder, value, channels, 3, 2), True


def _build_cell(
    builder: GraphBuilder, older: int, newer: int, cell: _Cell, channels: int, stride: int, reduced: bool
) -> int:
    """Place a cell of this stride; ``reduced`` says that ``newer`` is half the size of ``older``."""
    older = factorized_reduce(builder, older, channels) if reduced else relu_conv(builder, older, channels, 1)
    values = [older, relu_conv(builder, newer, channels, 1)]
    for node in range(NODES):
        terms = [
            _build_operation(builder, name, values[source], channels, stride if source < len(INPUTS) else 1)
            for name, source in cell[2 * node : 2 * node + 2]
        ]
        values.append(builder.add(terms))
    return builder.concat(values[len(INPUTS) :])


def _build_operation(builder: GraphBuilder, name: str, value: int, channels: int, stride: int) -> int:
    kernel = int(name[-1]) if name[-1].isdigit() else 1
    match name.partition("_")[0]:
        case "max":
            return builder.max_pool(value, kernel, stride)
        case "avg":
            return builder.avg_pool(value, kernel, stride)
        case "sep":
            value = separable_conv(builder, value, channels, kernel, stride)
            return separable_conv(builder, value, channels, kernel)
        case "dil":
            return separable_conv(builder, value, channels, kernel, stride, dilation=2)
        case _:
            return value if stride == 1 else factorized_reduce(builder, value, channels)
