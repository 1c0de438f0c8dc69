"""NAS-Bench-201: a cell of four nodes whose six edges carry one of five operations each.

"NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search" (Dong and Yang, 2020). The network is
that of its reference implementation: a 3×3 convolution as stem; stages of equal cells, channels doubled from stage to
stage by a residual block of stride 2; batch norm, ReLU, global mean and a fully connected layer.

A spec has 8 nodes, the operations being nodes: input, the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3, output. Its adjacency is
always the same; the layers say which network it is.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidSpec
from leti.core.spec import Layer, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder, Stamp
from leti.generator.spaces.space import (
    SearchSpace,
    Stacked,
    check_choices,
    check_count,
    check_layers,
    check_space,
)

NAME: Final = "nasbench201"
OPERATIONS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES: Final = 4
EDGES: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges of a cell, source and target node, in the order of a spec's layers."""

ADJACENCY: Final = (
    (0, 1, 1, 0, 1, 0, 0, 0),
    (0, 0, 0, 1, 0, 1, 0, 0),
    (0, 0, 0, 0, 0, 0, 1, 0),
    (0, 0, 0, 0, 0, 0, 1, 0),
    (0, 0, 0, 0, 0, 0, 0, 1),
    (0, 0, 0, 0, 0, 0, 0, 1),
    (0, 0, 0, 0, 0, 0, 0, 1),
    (0, 0, 0, 0, 0, 0, 0, 0),
)
"""The matrix of every spec: an edge's operation reads what the operations into its source node make."""

_EXAMPLE: Final = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
_DEFAULT: Final = NetworkConfig()
_Cell = tuple[str, ...]  # the operations of the six edges


def spec_of(architecture: str, config: NetworkConfig = _DEFAULT, where: str = "architecture") -> NetworkSpec:
    """Return the spec of an architecture string; raise :class:`InvalidSpec` at ``where`` if it is none."""
    cell = _read_architecture(architecture, where)
    layers = (Layer("input"), *(Layer(name) for name in cell), Layer("output"))
    return NetworkSpec(NAME, ADJACENCY, layers, config)


def architecture_of(spec: NetworkSpec) -> str:
    """Return the architecture string of a spec of this space."""
    return _write_architecture(_cell_of(spec))


def all_architectures() -> Iterator[str]:
    """Yield the 15,625 architecture strings."""
    for cell in itertools.product(OPERATIONS, repeat=len(EDGES)):
        yield _write_architecture(cell)


@final
class NasBench201(SearchSpace):
    """NAS-Bench-201's 15,625 cells, 6,466 up to isomorphism."""

    name = NAME
    positions = (len(OPERATIONS),) * len(EDGES)

    @override
    def check(self, spec: NetworkSpec) -> None:
        check_space(spec, NAME)
        if spec.adjacency != ADJACENCY:
            raise InvalidSpec(
                "is not the matrix of NAS-Bench-201, which is the same for every cell",
                field="adjacency",
                remedy="8 nodes: input, the operations of the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3, output; rows "
                + " ".join("".join(map(str, row)) for row in ADJACENCY),
            )
        check_layers(spec, OPERATIONS)

    @override
    def size(self) -> int:
        return len(_sound_classes())

    @override
    def sample(self, count: int, seed: int, config: NetworkConfig) -> tuple[NetworkSpec, ...]:
        classes = _sound_classes()
        check_count(count, self.size(), NAME)
        rng = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
        return tuple(
            spec_of(_write_architecture(rng.choice(members)), config) for members in rng.sample(classes, count)
        )

    @override
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the unique string of the benchmark's own code (zero and skip considered)."""
        return _unique_string(_cell_of(spec))

    @override
    def is_degenerate(self, spec: NetworkSpec) -> bool:
        return _is_degenerate(_cell_of(spec))

    @override
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the number of the operation on each of the six edges."""
        return tuple(OPERATIONS.index(name) for name in _cell_of(spec))

    @override
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        cell = [OPERATIONS[choice] for choice in check_choices(choices, self.positions)]
        return NetworkSpec(NAME, ADJACENCY, tuple(map(Layer, ("input", *cell, "output"))), config)

    @override
    def stacked(self, choices: tuple[int, ...], config: NetworkConfig, zero: Zero) -> Stacked:
        cell = tuple([OPERATIONS[choice] for choice in choices])
        return Stacked(_stamps(cell, config, zero), _is_degenerate(cell))

    @override
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        return builder.put_all(_stamps(_cell_of(spec), spec.config, zero))


def choices_of(architecture: str, where: str = "architecture") -> tuple[int, ...]:
    """Return the choices of an architecture string; raise :class:`InvalidSpec` at ``where`` if it is none."""
    return tuple([OPERATIONS.index(name) for name in _read_architecture(architecture, where)])


def _stamps(cell: _Cell, config: NetworkConfig, zero: Zero) -> list[Stamp]:
    stamp, reduce = Stamp.of(_build_cell, cell, zero, times=config.modules_per_stack, alike=True), Stamp.of(_reduce)
    between = [stamp, *[reduce, stamp] * (config.stacks - 1)]
    return [Stamp.of(_stem, config.stem_channels), *between, Stamp.of(_head, config.classes)]


def _read_architecture(text: str, where: str) -> _Cell:
    """Read ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    nodes = text[:400].split("+")
    edges = [edge.split("~") for node in nodes for edge in node.strip("|").split("|")]
    cell = tuple(edge[0] for edge in edges)
    if len(edges) != len(EDGES) or _write_architecture(cell) != text:
        raise InvalidSpec(
            f"{text[:120]!r} is no architecture string of NAS-Bench-201", field=where, remedy=f"write it as {_EXAMPLE}"
        )
    for name, (source, target) in zip(cell, EDGES, strict=True):
        if name not in OPERATIONS:
            raise InvalidSpec(
                f"there is no operation {name[:60]!r} (edge {source}→{target})",
                field=where,
                remedy=f"known here: {', '.join(OPERATIONS)}",
            )
    return cell


def _write_architecture(cell: Sequence[str]) -> str:
    edges = dict(zip(EDGES, cell, strict=True))
    return "+".join(
        "|" + "|".join(f"{edges[source, target]}~{source}" for source in range(target)) + "|"
        for target in range(1, NODES)
    )


def _cell_of(spec: NetworkSpec) -> _Cell:
    return tuple(layer.name for layer in spec.layers[1:-1])


def _unique_string(cell: _Cell) -> str:
    nodes = ["0"]
    for target in range(1, NODES):
        terms = [
            _unique_term(name, nodes[source]) for name, (source, end) in zip(cell, EDGES, strict=True) if end == target
        ]
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def _unique_term(name: str, node: str) -> str:
    if name == "none" or node == "#":
        return "#"
    return node if name == "skip_connect" else f"({node})@{name}"


def _is_degenerate(cell: _Cell) -> bool:
    fed = {0}
    for name, (source, target) in zip(cell, EDGES, strict=True):  # edges into a node stand before those out of it
        if name != "none" and source in fed:
            fed.add(target)
    return NODES - 1 not in fed


@functools.cache
def _sound_classes() -> tuple[tuple[_Cell, ...], ...]:
    """Return the isomorphism classes without the degenerate ones, each as its cells."""
    found: dict[str, list[_Cell]] = {}
    for cell in itertools.product(OPERATIONS, repeat=len(EDGES)):
        if not _is_degenerate(cell):
            found.setdefault(_unique_string(cell), []).append(cell)
    return tuple(tuple(members) for _, members in sorted(found.items()))


def _stem(builder: GraphBuilder, value: int, channels: int) -> int:
    return builder.conv(value, channels, 3)


def _head(builder: GraphBuilder, value: int, classes: int) -> int:
    value = builder.relu(builder.batch_norm(value))
    return builder.fully_connected(builder.global_mean(value), classes)


def _reduce(builder: GraphBuilder, value: int) -> int:
    """Place the residual block between stages: half the size, twice the channels, no ReLU after the sum."""
    channels = 2 * builder.channels(value)
    inner = builder.conv(builder.relu(value), channels, 3, stride=2)
    residual = builder.conv(builder.relu(inner), channels, 3)
    return builder.add((builder.conv(builder.avg_pool(value, 2, stride=2), channels, 1), residual))


def _conv(kernel: int) -> Callable[[GraphBuilder, int], int]:
    return lambda builder, value: builder.conv(builder.relu(value), builder.channels(value), kernel)


_BUILD: Final[Mapping[str, Callable[[GraphBuilder, int], int]]] = {
    "none": lambda builder, value: builder.zero(value),
    "skip_connect": lambda builder, value: value,
    "nor_conv_1x1": _conv(1),
    "nor_conv_3x3": _conv(3),
    "avg_pool_3x3": lambda builder, value: builder.avg_pool(value, 3),
}


_Nodes = tuple[int | None, ...]


def _build_cell(builder: GraphBuilder, value: int, cell: _Cell, zero: Zero) -> int:
    """Place a cell. Unless zeros are executed, a node that only zeros feed is ``None`` and nothing adds it."""
    inner = builder.begun(_build_inner_nodes, value, cell[:3], zero)
    result = _build_node(builder, value, cell[3:], inner, zero)
    return builder.zero(value) if result is None else result


def _build_inner_nodes(builder: GraphBuilder, value: int, edges: tuple[str, ...], zero: Zero) -> _Nodes:
    """Place the nodes between input and output; return them, the input first."""
    first = _build_node(builder, value, edges[:1], (value,), zero)
    return value, first, _build_node(builder, value, edges[1:], (value, first), zero)


def _build_node(builder: GraphBuilder, value: int, edges: tuple[str, ...], nodes: _Nodes, zero: Zero) -> int | None:
    """Place the sum of the edges that lead from these nodes."""
    placed = [_build_edge(builder, name, node, value, zero) for name, node in zip(edges, nodes, strict=True)]
    terms = [term for term in placed if term is not None]
    return builder.add(terms) if terms else None


def _build_edge(builder: GraphBuilder, name: str, node: int | None, value: int, zero: Zero) -> int | None:
    """Place an edge's operation on ``node``, where ``None`` is all zeros; return ``None`` for what nothing adds."""
    if zero == "execute" or (node is not None and name != "none"):
        return _BUILD[name](builder, value if node is None else node)
    if zero == "fold" and name not in ("none", "skip_connect"):
        return _BUILD[name](builder, builder.zero(value))
    return None
