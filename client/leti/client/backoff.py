"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from leti.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from ``first_s`` up to ``most_s``, each shortened at random by up to half.

    The jitter keeps agents that lost the service together from coming back together.
    """

    first_s: float = 0.2
    most_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse delays that are negative or that shrink."""
        if not 0 <= self.first_s <= self.most_s:
            raise InvalidInput("must be from 0 to most_s", field="first_s")

    def delays(self) -> Iterator[float]:
        """Yield seconds to wait, without end."""
        delay = self.first_s
        while True:
            yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
            delay = min(2 * delay, self.most_s)
