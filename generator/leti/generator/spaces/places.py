"""Places: what the positions of a space's vectors are called, and the options that each has.

A table of latencies by position is of use where a position always means the same part of the network. Where it does not
(an edge of NAS-Bench-101's matrix, a node of a random graph), what a choice costs depends on all the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from leti.core.errors import InvalidSpec
from leti.generator.spaces import (
    chains,
    darts,
    fbnet,
    mobilenetv3,
    nasbench101,
    nasbench201,
    random_graphs,
    random_nodes,
    random_operators,
)
from leti.generator.spaces.space import SearchSpace


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A position by name, and its options in the order of their numbers."""

    name: str
    options: tuple[str, ...]


def places_of(space: SearchSpace) -> tuple[Place, ...]:
    """Return the places of a space, as many as it has positions; those of a plugin's space are called by number.

    Raises :class:`InvalidSpec` for a space in which a position means another part from network to network.
    """
    if space.name in _SHIFTING:
        raise InvalidSpec(
            f"{space.name} has no fixed positions: what a choice costs depends on all the others",
            field="space",
            remedy=f"ask for predictions (POST /v1/predictions), or for the table of {', '.join(_PLACES)}",
        )
    named = _PLACES.get(space.name)
    return _numbered(space.positions) if named is None else named()


def described(space: SearchSpace) -> tuple[Place, ...]:
    """Return what each position of a space is called and its options, also where they mean other parts each time."""
    named = {**_PLACES, **_SHIFTING}.get(space.name)
    return _numbered(space.positions) if named is None else named()


def _numbered(positions: tuple[int, ...]) -> tuple[Place, ...]:
    return tuple(Place(f"position {i}", tuple(map(str, range(count)))) for i, count in enumerate(positions))


def _fbnet() -> tuple[Place, ...]:
    names = tuple(fbnet.BLOCKS)
    return tuple(
        Place(f"stage {stage}, block {block}", names)
        for stage, (_, blocks, _) in enumerate(fbnet.STAGES, 1)
        for block in range(1, blocks + 1)
    )


def _nasbench201() -> tuple[Place, ...]:
    return tuple(Place(f"edge {source}→{target}", nasbench201.OPERATIONS) for source, target in nasbench201.EDGES)


def _mobilenetv3() -> tuple[Place, ...]:
    blocks = tuple(f"k{kernel}_e{expansion}" for kernel, expansion in mobilenetv3.BLOCKS)
    fewest, most = mobilenetv3.DEPTHS
    return (
        Place("resolution", tuple(map(str, mobilenetv3.RESOLUTIONS))),
        Place("width", tuple(map(str, mobilenetv3.WIDTHS))),
        *(
            Place(f"stage {stage}, block {block}", blocks if block <= fewest else ("absent", *blocks))
            for stage in range(1, len(mobilenetv3.STAGES) + 1)
            for block in range(1, most + 1)
        ),
    )


def _chains() -> tuple[Place, ...]:
    slots = {"kind": ("absent", *chains.KINDS), **{name: tuple(map(str, of)) for name, of in chains.VALUES.items()}}
    return tuple(
        Place(f"layer {layer}, {name}", options)
        for layer in range(1, chains.MAX_LAYERS + 1)
        for name, options in slots.items()
    )


def _darts() -> tuple[Place, ...]:
    places: list[Place] = []
    for cell in ("normal", "reduction"):
        for node in range(darts.NODES):
            pairs = tuple(f"{low}+{high}" for high in range(node + 2) for low in range(high))
            where = f"{cell} cell, node {node + 2}"
            places.append(Place(f"{where}, sources", tuple(sorted(pairs))))
            places += [Place(f"{where}, operation {i}", darts.OPERATIONS) for i in (1, 2)]
    return tuple(places)


def _nasbench101() -> tuple[Place, ...]:
    last = nasbench101.MAX_VERTICES - 1
    ends = {0: "input", last: "output"}
    return (
        *(
            Place(f"from {ends.get(i, f'vertex {i}')}, to {ends.get(j, f'vertex {j}')}", ("no edge", "edge"))
            for i, j in itertools.combinations(range(last + 1), 2)
        ),
        *(Place(f"operations, vertex {vertex}", ("absent", *nasbench101.OPERATIONS)) for vertex in range(1, last)),
    )


def _random_graphs() -> tuple[Place, ...]:
    values = {"channels": random_graphs.CHANNELS, "kernel": random_graphs.KERNELS, "stride": random_graphs.STRIDES}
    of_node = {
        "kind": ("absent", *random_operators.KINDS),
        **{name: tuple(map(str, numbers)) for name, numbers in values.items()},
        "option": tuple(map(str, range(random_nodes.MAX_OPTIONS))),
    }
    places: list[Place] = []
    for node in range(1, random_graphs.MAX_NODES + 1):
        sources = ("input", *(f"node {before}" for before in range(1, node)))
        slots = {**of_node, "first source": sources, "second source": sources}
        places += [Place(f"node {node}, {name}", options) for name, options in slots.items()]
    return tuple(places)


_PLACES: Final[Mapping[str, Callable[[], tuple[Place, ...]]]] = MappingProxyType(
    {
        nasbench201.NAME: _nasbench201,
        fbnet.NAME: _fbnet,
        mobilenetv3.NAME: _mobilenetv3,
        chains.NAME: _chains,
        darts.NAME: _darts,
    }
)
_SHIFTING: Final[Mapping[str, Callable[[], tuple[Place, ...]]]] = MappingProxyType(
    {nasbench101.NAME: _nasbench101, random_graphs.NAME: _random_graphs}
)
"""Spaces in which what a position means depends on the others: nothing is told of it alone."""
