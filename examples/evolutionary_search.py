"""Evolve NAS-Bench-201 cells under a latency limit, 1,000 latencies a generation: python evolutionary_search.py [URL].

Regularised evolution, written by hand: parents win small tournaments, children differ from them in one edge, the oldest
die. The service is asked once a generation, in columns: a vector of choices goes out for each network, a number comes
back. The score is made up, a number for each operation, where a search would have its accuracies; the limit is the
median latency of the first generation.
"""

import os
import random
import statistics
import sys
from collections import deque
from dataclasses import dataclass

from leti.client import LatencyClient
from leti.core.queries import Encodings, PredictionRequest

POPULATION = 1_000
GENERATIONS = 10
TOURNAMENT = 10
EDGES, OPERATIONS = 6, 5

Cell = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cell, its score and its latency."""

    cell: Cell
    score: float
    latency_ms: float


def made_up_score(cell: Cell) -> float:
    """Return a score that convolutions raise, most where they come late."""
    worth = (0.0, 0.3, 0.7, 1.0, 0.4)
    return sum(worth[operation] * (1 + 0.1 * edge) for edge, operation in enumerate(cell))


def mutated(cell: Cell, rng: random.Random) -> Cell:
    """Return a cell that differs in one edge."""
    edge = rng.randrange(EDGES)
    operation = rng.choice([other for other in range(OPERATIONS) if other != cell[edge]])
    return (*cell[:edge], operation, *cell[edge + 1 :])


def latencies_ms(client: LatencyClient, platform_id: str, cells: list[Cell]) -> list[float]:
    """Return a latency for each cell, in one request; one that has none is infinitely slow."""
    request = PredictionRequest((platform_id,), encodings=Encodings("nasbench201", tuple(cells)))
    (columns,) = client.predict_columns(request).platforms
    return [float("inf") if value is None else value for value in columns.latency_ms]


def judged(client: LatencyClient, platform_id: str, cells: list[Cell]) -> list[Candidate]:
    """Return cells with their scores and latencies."""
    return [
        Candidate(cell, made_up_score(cell), latency_ms)
        for cell, latency_ms in zip(cells, latencies_ms(client, platform_id, cells), strict=True)
    ]


def main(url: str) -> None:
    """Print the best cell within the limit, generation by generation."""
    rng = random.Random(0)
    with LatencyClient(url, token=os.environ.get("LETI_TOKEN")) as client:
        platform_id = client.platforms()[0].id
        cells = [tuple(rng.randrange(OPERATIONS) for _ in range(EDGES)) for _ in range(POPULATION)]
        population = deque(judged(client, platform_id, cells), maxlen=POPULATION)
        limit_ms = statistics.median(one.latency_ms for one in population)

        def fitness(one: Candidate) -> tuple[bool, float]:
            return one.latency_ms <= limit_ms, one.score

        best = max(population, key=fitness)
        for generation in range(GENERATIONS):
            parents = [max(rng.sample(list(population), TOURNAMENT), key=fitness) for _ in range(POPULATION)]
            population.extend(judged(client, platform_id, [mutated(one.cell, rng) for one in parents]))
            best = max((best, *population), key=fitness)
            print(
                f"generation {generation}: best score {best.score:.2f} at {best.latency_ms:.3f} ms of {limit_ms:.3f} ms"
            )
    print(f"nasbench201:{','.join(map(str, best.cell))}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
