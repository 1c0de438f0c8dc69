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

import hashlib
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec, reachable
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces.space import SearchSpace, check_count, check_layers

NAME: Final = "nasbench101"
OPERATIONS: Final = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
MAX_VERTICES: Final = 7
MAX_EDGES: Final = 9
CELLS: Final = 423_624
"""Cells that are not isomorphic to each other, as the paper counts them."""

_Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Cell:
    """A pruned cell: ``adjacency`` (V×V), and the ``operations`` of its V-2 inner vertices."""

    adjacency: _Matrix
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

    @override
    def check(self, spec: NetworkSpec) -> None:
        if spec.space != NAME:
            raise InvalidSpec(f"is {spec.space!r}, not {NAME!r}", field="space")
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
    def sample(self, count: int, seed: int, config: NetworkConfig) -> tuple[NetworkSpec, ...]:
        """Draw as the paper's search does: random matrices of seven vertices, pruned, the unsuitable thrown away.

        Rare cells are found late: raises :class:`InvalidInput` too where 100 draws a network do not find enough.
        """
        check_count(count, CELLS, NAME)
        rng = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
        found: dict[str, NetworkSpec] = {}
        for _ in range(100 * count + 10_000):
            if len(found) == count:
                return tuple(found.values())
            spec = _draw(rng, config)
            if spec is not None:
                found.setdefault(self.isomorphism_class(spec), spec)
        raise InvalidInput(
            f"{count} networks without isomorphic repeats were not found with this config",
            field="count",
            remedy=f"ask for at most {len(found)}",
            available=len(found),
        )

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return 32 hex digits of the SHA-256 of the pruned cell's canonical form: equal for isomorphic cells alone."""
        return hashlib.sha256(repr(_canonical(_pruned(spec))).encode()).hexdigest()[:32]

    @override
    def is_degenerate(self, spec: NetworkSpec) -> bool:
        """Return false: a spec without a path from input to output cannot be made."""
        return False

    @override
    def encoding(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the pruned cell's 21 entries above the diagonal, then 5 operations from 1 on; 0 where there is none.

        A cell with fewer than seven vertices has its output moved to the last place.
        """
        cell = _pruned(spec)
        size = len(cell.adjacency)
        place = [*range(size - 1), MAX_VERTICES - 1]
        entries = {(place[i], place[j]): cell.adjacency[i][j] for i in range(size) for j in range(i + 1, size)}
        numbers = [OPERATIONS.index(name) + 1 for name in cell.operations]
        pairs = itertools.combinations(range(MAX_VERTICES), 2)
        return (*(entries.get(pair, 0) for pair in pairs), *numbers, *[0] * (MAX_VERTICES - 2 - len(numbers)))

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        cell, config = _pruned(spec), spec.config
        channels = config.stem_channels
        value = _conv_relu(builder, 0, channels, 3)
        for stack in range(config.stacks):
            if stack:
                value = builder.max_pool(value, 2, stride=2)
                channels *= 2
            for _ in range(config.modules_per_stack):
                value = _build_cell(builder, value, cell, channels)
        return builder.fully_connected(builder.global_mean(value), config.classes)


def _pruned(spec: NetworkSpec) -> _Cell:
    """Return the cell without the vertices that are on no path from input to output."""
    size = len(spec.adjacency)
    turned = [[spec.adjacency[size - 1 - j][size - 1 - i] for j in range(size)] for i in range(size)]
    leads_out = {size - 1 - v for v in reachable(turned, 0)}
    kept = sorted(reachable(spec.adjacency, 0) & leads_out)
    adjacency = tuple(tuple(spec.adjacency[i][j] for j in kept) for i in kept)
    return _Cell(adjacency, tuple(spec.layers[v].name for v in kept[1:-1]))


def _draw(rng: random.Random, config: NetworkConfig) -> NetworkSpec | None:
    """Return a random pruned network, or ``None`` where the draw is not one of the space."""
    bits = iter([rng.getrandbits(1) for _ in range(MAX_VERTICES * (MAX_VERTICES - 1) // 2)])
    adjacency = tuple(tuple(next(bits) if j > i else 0 for j in range(MAX_VERTICES)) for i in range(MAX_VERTICES))
    names = [rng.choice(OPERATIONS) for _ in range(MAX_VERTICES - 2)]
    if MAX_VERTICES - 1 not in reachable(adjacency, 0):
        return None
    drawn = NetworkSpec(NAME, adjacency, _layers(names), config)
    cell = _pruned(drawn)
    if cell.edges > MAX_EDGES or len(cell.sources(len(cell.adjacency) - 1)) > config.stem_channels:
        return None
    return NetworkSpec(NAME, cell.adjacency, _layers(cell.operations), config)


def _layers(operations: Sequence[str]) -> tuple[Layer, ...]:
    return (Layer("input"), *(Layer(name) for name in operations), Layer("output"))


def _canonical(cell: _Cell) -> tuple[tuple[str, ...], _Matrix]:
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


def _reordered(cell: _Cell, order: Sequence[int]) -> tuple[tuple[str, ...], _Matrix]:
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
