"""Recipe: how long and how fast a graph network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast: AdamW, with the learning rate up and down again along a cosine (or down only).

    There are ``epochs`` passes, more where they would make fewer than ``least_steps`` steps of ``batch`` graphs.
    ``bend`` is where Huber's loss turns from squares to straight lines, in units of what the network says.
    """

    epochs: int
    least_steps: int
    batch: int
    rate: float
    decay: float
    bend: float
    warm_up: float
    share_per_batch: float = 0.2

    def sizes(self, graphs: int) -> tuple[int, int]:
        """Return how many graphs a step takes, and how many epochs there are."""
        batch = max(min(self.batch, round(graphs * self.share_per_batch)), 4)
        steps = max(graphs // batch, 1)
        return batch, max(self.epochs, -(-self.least_steps // steps))
