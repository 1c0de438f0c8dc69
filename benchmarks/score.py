"""Networks a second that bulk scoring reaches, in processes of this machine and on Ray.

Run it from the repository: ``python benchmarks/score.py [--space fbnet] [--count 100000] [--kind xgboost]
[--train 1000] [--processes 1,2] [--engines local,ray]``. It prints Markdown. A predictor is trained on networks of the
space with made-up latencies (time is all that counts here) and scores networks that it has never seen, from the seed to
the Parquet file. Times are of the clock, from the call to the last file: starting processes, or Ray, is part of it, and
shown once more for a single network as *start*.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import tempfile
import time
from pathlib import Path

from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors import artifacts
from leti.predictors.registry import predictor_class
from leti.service.scoring import ENGINES, ScoringPlan, score
from leti.service.scoring.engines import Files
from leti.service.scoring.run import read_files


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="fbnet")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--kind", default="xgboost")
    parser.add_argument("--train", type=int, default=1_000)
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--engines", default="local,ray")
    asked = parser.parse_args()
    plan, files = trained(asked.space, asked.kind, asked.train, asked.count)
    print(f"{asked.count:,} networks of {asked.space}, {asked.kind} trained on {asked.train}\n")
    print("| engine | processes | start (s) | all (s) | networks/s |\n|---|---:|---:|---:|---:|")
    for engine in asked.engines.split(","):
        for processes in map(int, asked.processes.split(",")):
            start = seconds(dataclasses.replace(plan, count=1), files, engine, processes)
            took = seconds(plan, files, engine, processes)
            print(f"| {engine} | {processes} | {start:.1f} | {took:.1f} | {plan.count / took:,.0f} |", flush=True)


def trained(space_name: str, kind: str, train: int, count: int) -> tuple[ScoringPlan, Files]:
    """Return a plan for a trained predictor, and the predictor's files."""
    space = get_space(space_name)
    chance = random.Random(0)
    graphs = [lower(spec) for spec in space.sample(train, 1, space.default_config)]
    latencies = [(1 + graph.macs / 1e7 + 0.02 * len(graph.ops)) * chance.lognormvariate(0, 0.1) for graph in graphs]
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / kind
        sha256 = artifacts.save(predictor_class(kind)().fit(graphs, latencies), saved)
        files = read_files(saved)
    size = max(1, min(10_000, count // 8))
    config = space.default_config
    plan = ScoringPlan(space_name, count, 0, "execute", config, "here", "float32", kind, 1, sha256, shard_size=size)
    return plan, files


def seconds(plan: ScoringPlan, files: Files, engine: str, processes: int) -> float:
    """Return how long a run takes."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        score(plan, files, Path(folder) / "scores", ENGINES[engine], processes=processes)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
