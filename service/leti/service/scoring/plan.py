"""What is scored: which networks, by which predictor, in which shards. The same plan scores the same networks."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import MAX_SEED, Zero
from leti.generator.spaces import get_space

LISTED: Final = 100_000
"""Spaces up to this size are listed as a whole, and their networks scored without repeats."""

MAX_COUNT: Final = 1_000_000_000
MAX_SHARD: Final = 100_000


@final
@dataclass(frozen=True, slots=True)
class Shard:
    """Networks ``first`` to ``first + count - 1`` of a plan."""

    number: int
    first: int
    count: int


@final
@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """``count`` networks of a space, drawn by ``seed``, for the predictor of this SHA-256, ``shard_size`` a shard.

    Of a space of up to :data:`LISTED` networks no two are isomorphic. Those of a larger space are drawn shard by shard,
    each by a seed of its own, so that any machine can draw any shard: no two encodings of one shard are equal, none is
    degenerate; between shards a repeat is as likely as the space is small.
    """

    space: str
    count: int
    seed: int
    zero: Zero
    config: NetworkConfig
    platform_id: str
    precision: ModelPrecision
    predictor: str
    predictor_version: int
    artifact_sha256: str
    coverage: float = 0.9
    shard_size: int = 10_000

    def __post_init__(self) -> None:
        """Refuse what cannot be scored, naming the field."""
        for field, most in (("count", MAX_COUNT), ("shard_size", MAX_SHARD)):
            value = getattr(self, field)
            if not 1 <= value <= most:
                raise InvalidInput(f"must be from 1 to {most}, not {value}", field=field)
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidInput(f"must be from 0 to {MAX_SEED}", field="seed")
        if not 0 < self.coverage < 1:
            raise InvalidInput(f"must be between 0 and 1, not {self.coverage}", field="coverage")
        size = get_space(self.space).size()
        if self.count > size:
            raise InvalidInput(f"{self.space} has {size} networks", field="count", remedy=f"ask for at most {size}")

    @property
    def number(self) -> int:
        """How many shards there are."""
        return math.ceil(self.count / self.shard_size)

    def __iter__(self) -> Iterator[Shard]:
        """Iterate over the shards."""
        for number in range(self.number):
            first = number * self.shard_size
            yield Shard(number, first, min(self.shard_size, self.count - first))

    def draw(self, shard: Shard) -> tuple[NetworkSpec, ...]:
        """Return the networks of a shard; raise :class:`InvalidInput` where so many cannot be found."""
        space = get_space(self.space)
        if space.size() <= LISTED:
            listed = space.sample(self.count, self.seed, self.config)
            return listed[shard.first : shard.first + shard.count]
        chance = random.Random(f"{self.seed}:{shard.number}")  # noqa: S311 - a reproducible draw, no secret
        found: dict[tuple[int, ...], NetworkSpec] = {}
        for _ in range(100 * shard.count + 10_000):
            if len(found) == shard.count:
                return tuple(found.values())
            try:
                spec = space.draw(chance, self.config)
            except InvalidSpec:
                continue
            if not space.is_degenerate(spec):
                found.setdefault(space.encode(spec), spec)
        raise InvalidInput(f"{shard.count} networks a shard were not found", field="shard_size", remedy="ask for fewer")
