"""How architectures are drawn: at random, or as children of others, by their vectors of choices."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.generator.spaces import SearchSpace

Choices = tuple[int, ...]

_ALL: Final[Mapping[int, Sequence[int]]] = MappingProxyType({})
_TRIES: Final = 5  # as many draws as networks are wanted, before fewer are returned


@final
@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of a space: the choice at each of its positions, its spec, and the name of its isomorphism class."""

    choices: Choices
    spec: NetworkSpec
    kind: str


@final
class Variation:
    """Draws networks of a space: all valid, none degenerate, each as the space encodes it.

    With ``only``, a part of the space: those whose encoding keeps to the options that it gives positions. Spaces whose
    vectors are not all networks, or in which several are one network, are drawn from alike.
    """

    def __init__(
        self, space: SearchSpace, config: NetworkConfig | None, seed: int, only: Mapping[int, Sequence[int]] = _ALL
    ) -> None:
        self.space: Final = space
        self.config: Final = config or space.default_config
        self.rng: Final = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
        _check_only(only, space.positions)
        self.options: Final = tuple(tuple(only.get(i, range(count))) for i, count in enumerate(space.positions))
        self._places: Final = [place for place, options in enumerate(self.options) if len(options) > 1]
        self._is_part: Final = bool(only)

    def read(self, choices: Sequence[int]) -> Architecture | None:
        """Return the network of a vector of choices, nothing where it is none or its output ignores its input."""
        try:
            return self._of(self.space.decode(choices, self.config))
        except InvalidSpec:
            return None

    def drawn(self) -> Architecture | None:
        """Return a network drawn at random; nothing where what was drawn is none."""
        if self._is_part:
            return self.read([self.rng.choice(options) for options in self.options])
        try:
            return self._of(self.space.draw(self.rng, self.config))
        except InvalidSpec:
            return None

    def mutated(self, choices: Choices) -> Choices:
        """Return a vector that differs from another in one position, mostly: each further one half as often."""
        made, count = list(choices), 1
        while count < len(self._places) and self.rng.random() < 0.5:
            count += 1
        for place in self.rng.sample(self._places, min(count, len(self._places))):
            made[place] = self.rng.choice([option for option in self.options[place] if option != made[place]])
        return tuple(made)

    def crossed(self, one: Choices, other: Choices) -> Choices:
        """Return a vector that has each position of one of its parents or of the other, by halves."""
        return tuple([self.rng.choice(pair) for pair in zip(one, other, strict=True)])

    def distinct(
        self, count: int, draw: Callable[[], Architecture | None], known: Container[str]
    ) -> list[Architecture]:
        """Return up to ``count`` networks as ``draw`` makes them: no two isomorphic, none of the ``known`` kinds."""
        found: dict[str, Architecture] = {}
        for _ in range(_TRIES * count):
            if len(found) == count:
                break
            made = draw()
            if made is not None and made.kind not in known:
                found.setdefault(made.kind, made)
        return list(found.values())

    def _of(self, spec: NetworkSpec) -> Architecture | None:
        self.space.check(spec)
        if self.space.is_degenerate(spec):
            return None
        choices = self.space.encode(spec)
        if self._is_part and any(choice not in self.options[place] for place, choice in enumerate(choices)):
            return None
        return Architecture(choices, spec, self.space.isomorphism_class(spec))


def _check_only(only: Mapping[int, Sequence[int]], positions: Sequence[int]) -> None:
    for place, options in only.items():
        if not 0 <= place < len(positions):
            raise InvalidInput(f"there is no position {place}", field="only", remedy=f"0 to {len(positions) - 1}")
        if not options or len(set(options)) < len(options) or not set(options) <= set(range(positions[place])):
            raise InvalidInput(
                f"position {place} cannot have {list(options)}",
                field="only",
                remedy=f"one or several of 0 to {positions[place] - 1}",
            )
