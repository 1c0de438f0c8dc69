"""NAS-Bench-101: cells of up to seven vertices and nine edges, each inner vertex one of three operations.

"NAS-Bench-101: Towards Reproducible Neural Architecture Search" (Ying et al., 2019). The network is that of its model
builder: a 3×3 convolution as stem; stacks of equal cells, each stack after the first beginning with a 2×2 maximum pool
and twice the channels; global mean and a fully connected layer. Every convolution has a batch norm and a ReLU.

Vertices on no path from input to output are pruned first. The channels of a cell's output are divided among the
vertices that feed it, the remainder to the first of them; any other vertex has as many as the largest that it feeds. A
vertex reads the sum of its predecessors, cut to its own channels, and a 1×1 convolution of the cell's input where it is
fed by it. The output concatenates its predecessors, and adds a 1×1 convolution of the input where it is fed by it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec, reachable
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.blocks import classify
from leti.generator.spaces.space import Matrix, SearchSpace, check_choices, check_layers, check_space, class_name

NAME: Final = "nasbench101"
OPERATIONS: Final = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
MAX_VERTICES: Final = 7
MAX_EDGES: Final = 9
CELLS: Final = 423_624
"""Cells that are not isomorphic to each other, as the paper counts them."""

_PAIRS: Final = tuple(itertools.combinations(range(MAX_VERTICES), 2))


@dataclass(frozen=True, slots=True)
class _Cell:
    """A pruned cell: ``adjacency`` (V×V), and the ``operations`` of its V-2 inner vertices."""

    adjacency: Matrix
    operations: tuple[str, ...]

    @property
    def edges(self) -> int:
        return sum(map(sum, self.adjacency))

    def sources(self, vertex: int) -> list[int]:
        """Return the inner vertices that feed ``vertex``."""
        return [v for v in range(1, len(self.adjacency) - 1) if self.adjacency[v][vertex]]


@final
class NasBench101(SearchSpace):
    """NAS-Bench-101's 423,624 cells."""

    name = NAME
    positions = (2,) * len(_PAIRS) + (len(OPERATIONS) + 1,) * (MAX_VERTICES - 2)

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, NAME)
        check_layers(spec, OPERATIONS)
        cell = _pruned(spec)
        if len(cell.adjacency) > MAX_VERTICES:
            raise InvalidSpec(
                f"has {len(cell.adjacency)} vertices between input and output",
                field="adjacency",
                remedy=f"at most {MAX_VERTICES}, input and output included",
            )
        if cell.edges > MAX_EDGES:
            raise InvalidSpec(f"has {cell.edges} edges", field="adjacency", remedy=f"at most {MAX_EDGES}")
        feeding = len(cell.sources(len(cell.adjacency) - 1))
        if feeding > spec.config.stem_channels:
            raise InvalidSpec(
                f"{spec.config.stem_channels} channels cannot be divided among {feeding} vertices",
                field="config.stem_channels",
                remedy=f"at least {feeding}",
            )

    @override
    def size(self) -> int:
        return CELLS

    @override
    def draw(self, rng: random.Random, config: NetworkConfig) -> NetworkSpec:
        """Draw as the paper's search does: random matrices of seven vertices, pruned, the unsuitable thrown away.

        Rare cells are found late.
        """
        bits = [rng.getrandbits(1) for _ in _PAIRS]
        names = [rng.choice(OPERATIONS) for _ in range(MAX_VERTICES - 2)]
        return self._pruned_spec(bits, names, config)

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the name of the pruned cell's canonical form: equal for isomorphic cells alone."""
        return class_name(_canonical(_pruned(spec)))

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the pruned cell's 21 entries above the diagonal, then 5 operations from 1 on; 0 where there is none.

        A cell with fewer than seven vertices has its output moved to the last place.
        """
        cell = _pruned(spec)
        size = len(cell.adjacency)
        place = [*range(size - 1), MAX_VERTICES - 1]
        entries = {(place[i], place[j]): cell.adjacency[i][j] for i in range(size) for j in range(i + 1, size)}
        numbers = [OPERATIONS.index(name) + 1 for name in cell.operations]
        return (*(entries.get(pair, 0) for pair in _PAIRS), *numbers, *[0] * (MAX_VERTICES - 2 - len(numbers)))

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        """Return the pruned cell of a vector; its vertices are those with an operation."""
        choices = check_choices(choices, self.positions)
        bits, numbers = choices[: len(_PAIRS)], choices[len(_PAIRS) :]
        for pair, bit, i in zip(_PAIRS, bits, itertools.count()):
            if bit and any(0 < v < MAX_VERTICES - 1 and not numbers[v - 1] for v in pair):
                raise InvalidSpec(f"is an edge of a vertex without operation, {pair}", field=f"choices[{i}]")
        names = [OPERATIONS[max(number - 1, 0)] for number in numbers]  # what has no edge is pruned
        return self._pruned_spec(bits, names, config)

    @override
    def neighbours(self, spec: NetworkSpec) -> tuple[NetworkSpec, ...]:
        """Return cells with an edge or an operation changed, and those with one vertex more, on a path of two edges."""
        found = {self.isomorphism_class(other): other for other in super().neighbours(spec)}
        for other in self._with_one_more(_pruned(spec), spec.config):
            found.setdefault(self.isomorphism_class(other), other)
        return tuple(found.values())

    def _with_one_more(self, cell: _Cell, config: NetworkConfig) -> Iterator[NetworkSpec]:
        size = len(cell.adjacency)
        if size == MAX_VERTICES or cell.edges + 2 > MAX_EDGES:
            return
        for (source, target), name in itertools.product(itertools.combinations(range(size), 2), OPERATIONS):
            order = [*range(source + 1), None, *range(source + 1, size)]  # the new vertex stands behind its source
            adjacency = tuple(
                tuple(
                    int(j == target) if i is None else int(i == source) if j is None else cell.adjacency[i][j]
                    for j in order
                )
                for i in order
            )
            operations = (*cell.operations[:source], name, *cell.operations[source:])
            other = NetworkSpec(NAME, adjacency, _layers(operations), config)
            try:
                self.check(other)
            except InvalidSpec:  # too few channels for what feeds the output
                continue
            yield other

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        cell, config = _pruned(spec), spec.config
        channels = config.stem_channels
        value = builder.stamp(_conv_relu, 0, channels, 3)
        for stack in range(config.stacks):
            if stack:
                value = builder.stamp(GraphBuilder.max_pool, value, 2, 2)
                channels *= 2
            value = builder.stamp(_build_cell, value, cell, channels, times=config.modules_per_stack)
        return builder.stamp(classify, value, config.classes)

    def _pruned_spec(self, bits: Sequence[int], names: Sequence[str], config: NetworkConfig) -> NetworkSpec:
        """Return the pruned network of the 21 entries above the diagonal and 5 operations; check it."""
        entries = dict(zip(_PAIRS, bits, strict=True))
        size = range(MAX_VERTICES)
        adjacency = tuple(tuple(entries.get((i, j), 0) for j in size) for i in size)
        if MAX_VERTICES - 1 not in reachable(adjacency, 0):
            raise InvalidSpec("hold no path from the input to the output", field="choices")
        cell = _pruned(NetworkSpec(NAME, adjacency, _layers(names), config))
        spec = NetworkSpec(NAME, cell.adjacency, _layers(cell.operations), config)
        self.check(spec)
        return spec


def _pruned(spec: NetworkSpec) -> _Cell:
    """Return the cell without the vertices that are on no path from input to output."""
    size = len(spec.adjacency)
    turned = [[spec.adjacency[size - 1 - j][size - 1 - i] for j in range(size)] for i in range(size)]
    leads_out = {size - 1 - v for v in reachable(turned, 0)}
    kept = sorted(reachable(spec.adjacency, 0) & leads_out)
    adjacency = tuple(tuple(spec.adjacency[i][j] for j in kept) for i in kept)
    return _Cell(adjacency, tuple(spec.layers[v].name for v in kept[1:-1]))


def _layers(operations: Sequence[str]) -> tuple[Layer, ...]:
    return (Layer("input"), *(Layer(name) for name in operations), Layer("output"))


def _canonical(cell: _Cell) -> tuple[tuple[str, ...], Matrix]:
    """Return the smallest (operations, adjacency) over the orders of inner vertices: one for each isomorphism class.

    Vertices are told apart first by refining colours (operation, colours before and after); only those that remain
    alike are permuted.
    """
    size = len(cell.adjacency)
    colours = [0, *(OPERATIONS.index(name) + 1 for name in cell.operations), len(OPERATIONS) + 1]
    for _ in range(size):
        seen = [
            (
                colours[v],
                sorted(colours[u] for u in range(size) if cell.adjacency[u][v]),
                sorted(colours[u] for u in range(size) if cell.adjacency[v][u]),
            )
            for v in range(size)
        ]
        ranks = sorted(seen)
        colours = [ranks.index(colour) for colour in seen]
    groups = itertools.groupby(sorted(range(size), key=colours.__getitem__), key=colours.__getitem__)
    orders = itertools.product(*(itertools.permutations(group) for _, group in groups))
    return min(_reordered(cell, [v for part in parts for v in part]) for parts in orders)


def _reordered(cell: _Cell, order: Sequence[int]) -> tuple[tuple[str, ...], Matrix]:
    names = ("", *cell.operations, "")
    matrix = tuple(tuple(cell.adjacency[i][j] for j in order) for i in order)
    return tuple(names[v] for v in order), matrix


def _vertex_channels(cell: _Cell, channels: int) -> list[int]:
    """Return the channels of each inner vertex (the entries of input and output are the cell's)."""
    size = len(cell.adjacency)
    feeding = cell.sources(size - 1)
    result = [0] * (size - 1) + [channels]
    if feeding:
        share, rest = divmod(channels, len(feeding))
        for position, vertex in enumerate(feeding):
            result[vertex] = share + (position < rest)
    for v in range(size - 2, 0, -1):
        if not cell.adjacency[v][size - 1]:
            result[v] = max(result[w] for w in range(v + 1, size - 1) if cell.adjacency[v][w])
    return result


def _conv_relu(builder: GraphBuilder, value: int, channels: int, kernel: int) -> int:
    return builder.relu(builder.conv(value, channels, kernel))


_BUILD: Final[Mapping[str, Callable[[GraphBuilder, int, int], int]]] = {
    "conv3x3-bn-relu": lambda builder, value, channels: _conv_relu(builder, value, channels, 3),
    "conv1x1-bn-relu": lambda builder, value, channels: _conv_relu(builder, value, channels, 1),
    "maxpool3x3": lambda builder, value, _channels: builder.max_pool(value, 3),
}


def _build_cell(builder: GraphBuilder, value: int, cell: _Cell, channels: int) -> int:
    last = len(cell.adjacency) - 1
    widths = _vertex_channels(cell, channels)
    made = {0: value}
    for vertex, name in enumerate(cell.operations, start=1):
        terms = [builder.first_channels(made[v], widths[vertex]) for v in cell.sources(vertex)]
        if cell.adjacency[0][vertex]:
            terms.append(_conv_relu(builder, value, widths[vertex], 1))
        made[vertex] = _BUILD[name](builder, builder.add(terms), widths[vertex])
    terms = [builder.concat([made[v] for v in cell.sources(last)])] if cell.sources(last) else []
    if cell.adjacency[0][last]:
        terms.append(_conv_relu(builder, value, channels, 1))
    return builder.add(terms)
