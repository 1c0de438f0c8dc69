"""The search: draws, screens by latency, evaluates what fits, generation by generation, and returns the front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from leti.compression.architecture.fronts import non_dominated
from leti.compression.architecture.generations import Evaluated, Generations, Step
from leti.compression.architecture.objectives import Evaluations, Objective
from leti.compression.architecture.results import Latency, Point, SearchResult, Source
from leti.compression.architecture.screening import MAX_SCREENED, Screener
from leti.compression.architecture.strategies import STRATEGIES
from leti.compression.architecture.variation import Variation
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.queries import Encodings, PredictionRequest
from leti.core.searching import LatencyLimit
from leti.core.spec import NetworkConfig
from leti.core.wire import MAX_SEED, Zero
from leti.generator.spaces import get_space

if TYPE_CHECKING:
    from leti.client import LatencyClient

with needs("compression"):
    import numpy as np

COVERAGE: Final = 0.9
"""The coverage of the intervals of a result."""


def search(
    space: str,
    *,
    client: LatencyClient,
    limits: Sequence[LatencyLimit],
    objective: Objective | str,
    strategy: str = "evolution",
    generations: int = 10,
    population: int = 20,
    draws: int | None = None,
    seed: int = 0,
    config: NetworkConfig | None = None,
    only: Mapping[int, Sequence[int]] = MappingProxyType({}),
    zero: Zero = "execute",
    out: Path | None = None,
    progress: Callable[[Step], None] | None = None,
) -> SearchResult:
    """Return the networks of a space that keep a latency limit on each of several platforms, and their Pareto front.

    Each generation draws ``draws`` networks, asks the service in one request which of them keep every limit at its
    confidence, and asks the objective (a function of a spec and its graph, or its name as ``package.module:function``)
    of ``population`` of those, each once. ``only`` gives positions of the space some of their options. The front is
    over latencies and objectives. With a folder ``out``, what the objective said is kept there as it comes: the same
    search, ended by whatever, goes on from it.

    Raises :class:`~leti.core.errors.InvalidInput` for what cannot be asked, what the client raises, and what
    :class:`~leti.compression.architecture.objectives.Evaluations` does for a folder.
    """
    found = STRATEGIES.get(strategy)
    if found is None:
        raise InvalidInput(f"there is no strategy {strategy!r}", field="strategy", remedy=", ".join(STRATEGIES))
    draws = max(found.draws, population) if draws is None else draws
    _check(generations, population, draws, seed)
    platforms = tuple(limit.platform_id for limit in limits)
    if len(set(platforms)) < len(platforms):
        raise InvalidInput("name a platform twice", field="limits", remedy="give one limit for each platform")
    variation = Variation(get_space(space), config, seed, only)
    run = Generations(
        Screener(client, space, limits, config, zero),
        Evaluations(objective, space, variation.config, zero, out),
        found(variation, population, seed),
    )
    run.run(generations, draws, progress)
    points = _points(client, PredictionRequest(platforms, zero=zero, coverage=COVERAGE), space, config, run.evaluated)
    return SearchResult(
        space=space,
        strategy=strategy,
        seed=seed,
        limits=tuple(limits),
        coverage=COVERAGE,
        objectives=run.objectives,
        front=_front(points, run.objectives),
        points=points,
        least_ms=run.least_ms,
        counts=run.counts(),
        notes=run.notes(),
    )


def _check(generations: int, population: int, draws: int, seed: int) -> None:
    for name, value, low, high in (
        ("generations", generations, 1, 100_000),
        ("population", population, 1, MAX_SCREENED),
        ("draws", draws, population, MAX_SCREENED),
        ("seed", seed, 0, MAX_SEED),
    ):
        if type(value) is not int or not low <= value <= high:
            raise InvalidInput(f"cannot be {value!r}", field=name, remedy=f"a whole number from {low} to {high}")


def _points(
    client: LatencyClient,
    request: PredictionRequest,
    space: str,
    config: NetworkConfig | None,
    evaluated: Sequence[Evaluated],
) -> tuple[Point, ...]:
    """Return what was evaluated, with intervals: one more request, of these few."""
    if not evaluated:
        return ()
    vectors = tuple(one.architecture.choices for one in evaluated)
    answer = client.predict_columns(replace(request, encodings=Encodings(space, vectors, config)))
    return tuple(
        Point(
            one.architecture.choices,
            one.architecture.spec,
            one.generation,
            tuple(
                Latency(columns.platform_id, latency_ms, columns.low_ms[i], columns.high_ms[i], bound_ms, source)
                for columns, latency_ms, bound_ms in zip(answer.platforms, one.latencies_ms, one.bounds_ms, strict=True)
                for source in (_SOURCES[columns.measured[i]],)
            ),
            one.evaluation.values,
            one.evaluation.failure,
            one.evaluation.duration_s,
        )
        for i, one in enumerate(evaluated)
    )


def _front(points: Sequence[Point], objectives: Sequence[str]) -> tuple[Point, ...]:
    """Return the points that no other beats in latencies and objectives, fastest first."""
    known = [point for point in points if not point.failure]
    if not known:
        return ()
    aims = [
        [*(-one.latency_ms for one in point.latencies), *(point.values[name] for name in objectives)] for point in known
    ]
    front = [point for point, is_on in zip(known, non_dominated(np.array(aims)), strict=True) if is_on]
    return tuple(sorted(front, key=lambda point: [one.latency_ms for one in point.latencies]))


_SOURCES: Final[tuple[Source, Source]] = ("predicted", "measured")
