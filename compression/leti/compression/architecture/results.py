"""What came of an architecture search: every architecture that was evaluated, and the front of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

from leti.core.searching import LatencyLimit
from leti.core.spec import NetworkSpec

Source = Literal["measured", "predicted"]


@final
@dataclass(frozen=True, slots=True)
class Latency:
    """What an architecture takes on a platform, in ms, as the service answered.

    ``bound_ms`` is what was held against the limit, at its confidence; ``low_ms`` and ``high_ms`` are the interval at
    the result's coverage.
    """

    platform_id: str
    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    bound_ms: float
    source: Source


@final
@dataclass(frozen=True, slots=True)
class Point:
    """An architecture that the objective was asked of: what it takes, and what it is worth or why that is not known."""

    choices: tuple[int, ...]
    spec: NetworkSpec
    generation: int
    latencies: tuple[Latency, ...]
    values: Mapping[str, float]
    failure: str
    duration_s: float

    @property
    def text(self) -> str:
        """Its space and choices, the text by which commands and the service know a network."""
        return f"{self.spec.space}:{','.join(map(str, self.choices))}"


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """What a search took: latencies asked of the service and in how many requests, objectives asked and reused.

    ``drawn`` architectures were screened, of which ``fitting`` kept every limit and ``unpriced`` had no answer.
    ``reused`` evaluations were known from the folder. ``seconds`` are those of drawing and choosing, of the service and
    of the objective.
    """

    drawn: int
    fitting: int
    unpriced: int
    latencies: int
    requests: int
    evaluated: int
    reused: int
    failed: int
    seconds: Mapping[str, float]


@final
@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer of a search.

    ``front`` are the points that no other beats in latency on each platform and in each objective, fastest first;
    ``points`` are all, in the order in which they were evaluated. ``least_ms`` holds of each platform the least bound
    that anything drawn had: what could be reached, where nothing fits. ``notes`` say what went amiss.
    """

    space: str
    strategy: str
    seed: int
    limits: tuple[LatencyLimit, ...]
    coverage: float
    objectives: tuple[str, ...]
    front: tuple[Point, ...]
    points: tuple[Point, ...]
    least_ms: Mapping[str, float]
    counts: Counts
    notes: tuple[str, ...] = field(default=())
