"""Ask a service for the latency of a whole generation of networks in one call: python ask_for_latencies.py [URL]."""

import os
import random
import sys

from leti.client import LatencyClient
from leti.core.queries import PredictionRequest

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def random_cell(rng: random.Random) -> str:
    """Return a random NAS-Bench-201 architecture string."""
    a, b, c, d, e, f = (rng.choice(OPERATIONS) for _ in range(6))
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def main(url: str) -> None:
    """Print the five fastest of 200 random cells on the first platform that the service knows."""
    rng = random.Random(0)
    cells = tuple(random_cell(rng) for _ in range(200))
    with LatencyClient(url, token=os.environ.get("LETI_TOKEN")) as client:
        platform = client.platforms()[0].id
        answers = client.predict(PredictionRequest((platform,), cells)).only()
    ranked = sorted(zip(answers, cells, strict=True), key=lambda pair: pair[0].latency_ms)
    print(f"the five fastest of {len(cells)} on {platform}")
    for answer, cell in [pair for pair in ranked if not pair[0].degenerate][:5]:
        print(f"{answer.latency_ms:7.3f} ms  ({answer.low_ms:.3f} to {answer.high_ms:.3f}, {answer.source})  {cell}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
