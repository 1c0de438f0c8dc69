"""How architectures are drawn: at random, or as children of others, by their vectors of choices."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import InvalidSpec
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.generator.spaces import SearchSpace

Choices = tuple[int, ...]

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

    Spaces whose vectors are not all networks, or in which several vectors are one network, are drawn from alike.
    """

    def __init__(self, space: SearchSpace, config: NetworkConfig | None, seed: int) -> None:
        self.space: Final = space
        self.config: Final = config or space.default_config
        self.rng: Final = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
        self._places: Final = [place for place, count in enumerate(space.positions) if count > 1]

    def read(self, choices: Sequence[int]) -> Architecture | None:
        """Return the network of a vector of choices, nothing where it is none or its output ignores its input."""
        try:
            return self._of(self.space.decode(choices, self.config))
        except InvalidSpec:
            return None

    def drawn(self) -> Architecture | None:
        """Return a network drawn at random; nothing where what was drawn is none."""
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
            other = self.rng.randrange(self.space.positions[place] - 1)
            made[place] = other + (other >= made[place])
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
        return Architecture(self.space.encode(spec), spec, self.space.isomorphism_class(spec))
