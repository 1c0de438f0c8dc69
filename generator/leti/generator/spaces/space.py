"""SearchSpace: what every search space can say of its networks.

A space numbers its choices: ``positions`` says how many there are at each place of a fixed vector,
:meth:`SearchSpace.encode` writes a spec as such a vector and :meth:`SearchSpace.decode` reads one. Sampling,
isomorphism and neighbours follow from these, so that a new space is ``positions``, ``check``, ``encode``, ``decode``
and ``build``; what a space knows better it overrides.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.spec import Attribute, NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder, Stamp

IMAGENET: Final = NetworkConfig(input_shape=(224, 224, 3), classes=1000)
"""The images that networks of mobile spaces are made for."""

MAX_SAMPLE: Final = 1_000_000
"""Networks that one sample may have, however large the space is."""

Matrix = tuple[tuple[int, ...], ...]
_NONE: Final[Mapping[str, Attribute]] = MappingProxyType({})


class Stacked(NamedTuple):
    """A network as a chain of stamps, each on what the one before made; ``degenerate`` as a space says it of specs."""

    stamps: Sequence[Stamp]
    degenerate: bool = False


class SearchSpace(ABC):
    """A set of networks, and how their specs are read. Stateless: one object a space.

    ``positions`` holds the number of choices at each place of a vector of choices, ``default_config`` what a network of
    the paper says besides its spec.
    """

    name: ClassVar[str]
    positions: ClassVar[tuple[int, ...]]
    default_config: ClassVar[NetworkConfig] = NetworkConfig()

    @abstractmethod
    def check(self, spec: NetworkSpec) -> None:
        """Raise :class:`InvalidSpec`, naming the place, where ``spec`` is not a network of this space."""

    @abstractmethod
    def encode(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the choice at each of the space's positions, each from 0 on; ``(len(positions),)``."""

    @abstractmethod
    def decode(self, choices: Sequence[int], config: NetworkConfig) -> NetworkSpec:
        """Return the network of a vector of choices: ``encode(decode(v, config)) == v`` for every ``v`` of ``encode``.

        Other vectors are networks too where the space says so: their encoding may be another vector of the same
        network. Where positions say a part of the config, such as the resolution, the vector wins. Raises
        :class:`InvalidSpec` naming the position, ``choices[i]``, where a vector is no network.
        """

    @abstractmethod
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        """Place the operators of a checked spec, from the builder's value 0 on; return the output's value number."""

    def stacked(self, choices: tuple[int, ...], config: NetworkConfig, zero: Zero) -> Stacked | None:
        """Return the network of a vector of choices, without making a spec of it; by default ``None``.

        What a search asks for by the thousand need not be spelt out as a spec first. The choices were checked; each is
        what ``encode`` says of the network. The graph is that of :meth:`build`.
        """
        return None

    def size(self) -> int:
        """Return the number of networks without isomorphic or degenerate repeats, or a bound above it."""
        return math.prod(self.positions)

    def draw(self, rng: random.Random, config: NetworkConfig) -> NetworkSpec:
        """Return a network drawn at random; raise :class:`InvalidSpec` where what was drawn is none.

        By default each position is drawn for itself, all choices alike.
        """
        return self.decode([rng.randrange(count) for count in self.positions], config)

    def sample(self, count: int, seed: int, config: NetworkConfig) -> tuple[NetworkSpec, ...]:
        """Return ``count`` networks drawn by ``seed``, no two of one isomorphism class and none degenerate.

        Raises :class:`InvalidInput`, saying how many there are, where more are asked for; also where 100 draws a
        network do not find enough.
        """
        check_count(count, self.size(), self.name)
        rng = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
        found: dict[str, NetworkSpec] = {}
        for _ in range(100 * count + 10_000):
            if len(found) == count:
                return tuple(found.values())
            try:
                spec = self.draw(rng, config)
            except InvalidSpec:
                continue
            if not self.is_degenerate(spec):
                found.setdefault(self.isomorphism_class(spec), spec)
        raise InvalidInput(
            f"{count} networks without isomorphic repeats were not found with this config",
            field="count",
            remedy=f"ask for at most {len(found)}",
            available=len(found),
        )

    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the name of the spec's class in the space's own notion of isomorphism.

        The config plays no part but for what positions say of it. By default networks are isomorphic where their
        encodings are equal.
        """
        return class_name(self.encode(spec))

    def is_degenerate(self, spec: NetworkSpec) -> bool:
        """Return whether the output does not depend on the input; by default it always does."""
        return False

    def neighbours(self, spec: NetworkSpec) -> tuple[NetworkSpec, ...]:
        """Return the networks one step away, in a fixed order: valid, none isomorphic to the spec or to each other.

        By default a step is another choice at one position; degenerate networks are left out. The order is that of
        positions, and of choices from 0 on.
        """
        choices = self.encode(spec)
        found: dict[str, NetworkSpec] = {self.isomorphism_class(spec): spec}
        for place, count in enumerate(self.positions):
            for choice in range(count):
                if choice == choices[place]:
                    continue
                try:
                    other = self.decode((*choices[:place], choice, *choices[place + 1 :]), spec.config)
                    self.check(other)
                except InvalidSpec:
                    continue
                if not self.is_degenerate(other):
                    found.setdefault(self.isomorphism_class(other), other)
        return tuple(found.values())[1:]


def class_name(canonical: object) -> str:
    """Return 32 hex digits of the SHA-256 of what is equal for isomorphic networks alone: numbers, texts, tuples."""
    return hashlib.sha256(repr(canonical).encode()).hexdigest()[:32]


def check_space(spec: NetworkSpec, name: str) -> None:
    """Raise :class:`InvalidSpec` where a spec is of another space."""
    if spec.space != name:
        raise InvalidSpec(f"is {spec.space!r}, not {name!r}", field="space")


def check_layers(spec: NetworkSpec, known: Collection[str]) -> None:
    """Raise :class:`InvalidSpec` for the first layer between input and output not of ``known``, or with attributes."""
    check_names(spec, known)
    for i, layer in enumerate(spec.layers):
        if layer.attributes:
            raise InvalidSpec(
                f"{layer.name} takes no attributes in {spec.space}",
                field=f"layers[{i}].{layer.attributes[0][0]}",
                remedy="give its name alone",
            )


def check_names(spec: NetworkSpec, known: Collection[str]) -> None:
    """Raise :class:`InvalidSpec` for the first layer between input and output not of ``known``, or other ends."""
    for i, layer in enumerate(spec.layers):
        expected = {0: ("input",), len(spec.layers) - 1: ("output",)}.get(i, known)
        if layer.name not in expected:
            raise InvalidSpec(
                f"{layer.name!r} is no layer of {spec.space} here",
                field=f"layers[{i}]",
                remedy=f"known here: {', '.join(expected)}",
            )


def check_attributes(
    spec: NetworkSpec, index: int, known: Mapping[str, Collection[Attribute]], defaults: Mapping[str, Attribute] = _NONE
) -> None:
    """Raise :class:`InvalidSpec` where a layer's attributes are not these, each of its values, or are missing.

    Those that ``defaults`` holds may be left out.
    """
    layer = spec.layers[index]
    given = dict(layer.attributes)
    for name, value in given.items():
        if name not in known:
            raise InvalidSpec(
                f"is no attribute of {layer.name} in {spec.space}",
                field=f"layers[{index}].{name}",
                remedy=f"known here: {', '.join(known) or 'none'}",
            )
        if isinstance(value, bool) or value not in known[name]:
            raise InvalidSpec(
                f"must be one of {', '.join(map(str, known[name]))}, not {value!r}", field=f"layers[{index}].{name}"
            )
    for name in known:
        if name not in given and name not in defaults:
            raise InvalidSpec("is missing", field=f"layers[{index}].{name}", remedy=f"give {layer.name} its {name}")


@functools.lru_cache(maxsize=1024)
def chain(nodes: int) -> Matrix:
    """Return the matrix in which every node feeds the next."""
    return tuple(tuple(int(j == i + 1) for j in range(nodes)) for i in range(nodes))


def check_chain(spec: NetworkSpec) -> None:
    """Raise :class:`InvalidSpec` where a spec's nodes are not fed each from the one before alone."""
    if spec.adjacency != chain(len(spec.layers)):
        raise InvalidSpec("is not that of a chain", field="adjacency", remedy="feed each node from the one before")


def check_choices(choices: Sequence[int], positions: Sequence[int]) -> tuple[int, ...]:
    """Return a vector of choices; raise :class:`InvalidSpec` naming the position, or the length, that is wrong."""
    if len(choices) != len(positions):
        raise InvalidSpec(
            f"has {len(choices)} entries", field="choices", remedy=f"one for each of {len(positions)} positions"
        )
    for i, (choice, count) in enumerate(zip(choices, positions, strict=True)):
        if type(choice) is not int or not 0 <= choice < count:
            raise InvalidSpec(f"must be a whole number from 0 to {count - 1}, not {choice!r}", field=f"choices[{i}]")
    return tuple(choices)


def check_count(count: int, most: int, space: str) -> None:
    """Raise :class:`InvalidInput` where ``count`` networks cannot be drawn from the ``most`` that there are."""
    if type(count) is not int or not 0 <= count <= most:
        raise InvalidInput(
            f"{count!r} networks cannot be drawn: {space} has {most} without isomorphic or degenerate repeats",
            field="count",
            remedy=f"ask for at most {most}",
            available=most,
        )
    if count > MAX_SAMPLE:
        raise InvalidInput(
            f"{count!r} networks cannot be drawn at once",
            field="count",
            remedy=f"ask for at most {MAX_SAMPLE}",
            available=MAX_SAMPLE,
        )
