"""Predictions of patches through the service: python benchmarks/patches.py [--batch 2000] [--batches 4].

A compression search asks for networks that differ from one MobileNetV3 in the widths of some channel groups and, some
of them, in the ranks of an operator. Each batch is new to the service. What is timed is a client's call over a socket
(JSON in columns), by the clock and in seconds of processor time of client and service, which share one process. The
predictors are real ones, trained on made-up latencies; kinds are named as arguments.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from serve_home import prepare

from leti.client import LatencyClient
from leti.core.patches import Patch
from leti.core.queries import Patches, PredictionRequest
from leti.generator.compressing.factors import most_ranks
from leti.generator.compressing.groups import channel_groups
from leti.generator.compressing.pieces import Pieces
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.service.server import running
from leti.service.settings import Settings

SPACE = "mobilenetv3"
MOST_CHANGED = 4
"""Channel groups that a patch changes; every fourth patch takes an operator apart as well."""


def patches(pieces: Pieces, count: int, chance: random.Random) -> Iterator[Patch]:
    """Yield patches, widths in steps of an eighth."""
    groups = [group for group in channel_groups(pieces.graph) if group.producers and not group.fixed]
    divisible = [i for i, op in enumerate(pieces.graph.ops) if op.kind == "conv2d" and most_ranks(op)]
    for number in range(count):
        chosen = chance.sample(groups, chance.randint(1, MOST_CHANGED))
        widths = {group.members[0]: max(group.channels * chance.randint(3, 8) // 8, 1) for group in chosen}
        ranks: dict[int, tuple[int, ...]] = {}
        if number % 4 == 0:
            operator = chance.choice(divisible)
            most = most_ranks(pieces.graph.ops[operator])[0]
            ranks[operator] = tuple([max(rank * 3 // 8, 1) for rank in most])
        yield Patch(widths, ranks)


def measure(kind: str, batch: int, batches: int) -> None:
    """Print how many patches a second are answered."""
    space = get_space(SPACE)
    spec = space.sample(1, 7, space.default_config)[0]
    pieces = Pieces(lower(spec))
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        platform_id = prepare(Path(folder), SPACE, 200, kind)
        with running(Settings(Path(folder), auth=False)) as url, LatencyClient(url) as client:
            for number in range(batches):
                asked = tuple(patches(pieces, batch, chance))
                request = PredictionRequest((platform_id,), patches=Patches(spec.to_json(), asked))
                started, before = time.perf_counter(), time.process_time()
                answer = client.predict_columns(request)
                took_s, cpu_s = time.perf_counter() - started, time.process_time() - before
                wrong = len([failure for failure in answer.failures if failure.stage != "read"])
                unfit = len(answer.failures) - wrong
                if wrong:
                    raise SystemExit(f"{wrong} were not predicted: {answer.failures[0]}")
                rates = f"{batch / took_s:7.0f} patches/s, {batch / cpu_s:7.0f} a second of processor time"
                print(f"{kind:14} batch {number}: {rates}; {unfit} did not fit", flush=True)


def main() -> None:
    """Measure each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["lookup_table", "linear", "xgboost"])
    parser.add_argument("--batch", type=int, default=2_000)
    parser.add_argument("--batches", type=int, default=4)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for kind in options.kinds:
        measure(kind, options.batch, options.batches)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
