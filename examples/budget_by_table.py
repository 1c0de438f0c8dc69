"""Find the best FBNet within a latency budget by the service's latency table: python budget_by_table.py [URL] [MS].

The table says what each block adds at each position, so that dynamic programming finds the best network of 9^22 within
a budget. Its score here is made up: a number for each block, added up, where a search would have its accuracies. What
the table's sum is worth is told in the end, by the service's own prediction.
"""

import os
import random
import sys

from leti.client import LatencyClient
from leti.core.queries import Encodings, PredictionRequest
from leti.core.searching import LatencyTable
from leti.core.spec import NetworkConfig

STEPS = 2_000
"""Latencies are rounded up to this fraction of the budget: what fits in steps fits in milliseconds."""

NONE: tuple[float, tuple[int, ...]] = (float("-inf"), ())


def made_up_scores(table: LatencyTable) -> list[list[float]]:
    """Return a score for each option of each place: larger blocks score higher, with luck."""
    rng = random.Random(0)
    return [[rng.uniform(0, 1) + 0.1 * option for option in range(len(place.options))] for place in table.places]


def best_within(table: LatencyTable, scores: list[list[float]], budget_ms: float) -> tuple[int, ...]:
    """Return the options, one a place, of the highest score whose sum of latencies is within a budget.

    A knapsack problem with a choice at each place; ``best[s]`` is the best score, and its options, within ``s`` steps.
    """
    room_ms = budget_ms - table.constant_ms
    if room_ms < 0:
        raise SystemExit(f"no network takes less than {table.constant_ms:.3f} ms")
    step_ms = room_ms / STEPS
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] * (STEPS + 1)
    for place, of_place in zip(table.places, scores, strict=True):
        costs = [None if ms is None else -int(-ms // step_ms) if ms else 0 for ms in place.latency_ms]
        best = [
            max(
                (
                    (best[room - cost][0] + of_place[option], (*best[room - cost][1], option))
                    for option, cost in enumerate(costs)
                    if cost is not None and cost <= room
                ),
                default=NONE,
            )
            for room in range(STEPS + 1)
        ]
    if best[STEPS][0] == NONE[0]:
        raise SystemExit(f"no network takes less than {budget_ms:.3f} ms")
    return best[STEPS][1]


def main(url: str, budget_ms: float) -> None:
    """Print the best FBNet within the budget, what the table says of it, and what the service predicts."""
    config = NetworkConfig(input_shape=(224, 224, 3), classes=1000)
    with LatencyClient(url, token=os.environ.get("LETI_TOKEN")) as client:
        platform_id = client.platforms()[0].id
        table = client.latency_table(platform_id, "fbnet")
        chosen = best_within(table, made_up_scores(table), budget_ms)
        asked = PredictionRequest((platform_id,), encodings=Encodings("fbnet", (chosen,), config))
        (predicted,) = client.predict(asked).only()
    sum_ms = table.constant_ms + sum(p.latency_ms[o] or 0.0 for p, o in zip(table.places, chosen, strict=True))
    error = table.against_predictor
    print(f"{table.predictor} {table.version} of {platform_id}: sums are off by {error.mdape:.1%} at the median")
    print(" ".join(place.options[option] for place, option in zip(table.places, chosen, strict=True)))
    print(f"budget {budget_ms:.3f} ms, the table says {sum_ms:.3f} ms, the service {predicted.latency_ms:.3f} ms")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000", float((sys.argv[2:] or ["12"])[0]))
