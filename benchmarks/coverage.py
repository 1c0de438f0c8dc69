"""Do intervals cover what they promise? python benchmarks/coverage.py [--kinds flops,linear] [--seeds 10] [--table T].

Networks for training and for testing are drawn alike, by lot, so that they are exchangeable: that is what a conformal
interval asks for. The share of tested latencies inside their interval is averaged over the seeds, for each kind and
each coverage stated; the wanted distance is 2 points. Without a table the networks are NAS-Bench-201 cells, no two of
them equal, with latencies by a law of kernels under noise with heavy tails. With one (as ``leti evaluate`` reads) they
are those that somebody measured, one of each class.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np

from leti.cli.table import read_table
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors.registry import create, default_kinds, kinds

COVERAGES = (0.5, 0.8, 0.9, 0.95)
WANTED = 0.02
NOISE = 0.03
OVERHEAD_MS, MACS_A_MS, BYTES_A_MS, START_MS = 0.1, 4e6, 2e7, 0.002


def synthetic(count: int) -> tuple[list[Graph], np.ndarray]:
    """Return different networks and latencies in ms: a roofline an operator, times noise from Student's t."""
    found: dict[str, Graph] = {}
    for spec in get_space("nasbench201").sample(2 * count, 0, NetworkConfig()):
        graph = lower(spec)
        found.setdefault(graph.fingerprint(), graph)
        if len(found) == count:
            break
    graphs = list(found.values())
    chance = np.random.default_rng(0)
    ideal = [
        OVERHEAD_MS + sum(max(op.macs / MACS_A_MS, op.traffic_bytes / BYTES_A_MS) + START_MS for op in graph.ops)
        for graph in graphs
    ]
    return graphs, np.array(ideal) * np.exp(NOISE * chance.standard_t(4, len(graphs)))


def measured(arguments: argparse.Namespace) -> tuple[list[Graph], np.ndarray]:
    """Return the networks of a table, lowered as it is told, and their latencies in ms."""
    where = [tuple(text.split("=", 1)) for text in arguments.where]
    table = read_table(
        arguments.table, "nasbench201", "arch", arguments.latency_column, where=where, one_per_class=True
    )
    return [lower(spec, zero=arguments.zero) for spec in table.specs], np.array(table.latencies_ms)


def covered(kind: str, graphs: list[Graph], latencies: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """Return the share of latencies inside their interval, ``(seeds, coverages)``."""
    shares = np.empty((arguments.seeds, len(COVERAGES)))
    for seed in range(arguments.seeds):
        order = list(range(len(graphs)))
        random.Random(seed).shuffle(order)
        train, test = order[: arguments.train], order[arguments.train :][: arguments.test]
        predictor = create(kind).fit([graphs[i] for i in train], latencies[train].tolist(), seed=seed)
        asked = [graphs[i] for i in test]
        for i, coverage in enumerate(COVERAGES):
            predictions = predictor.predict(asked, coverage=coverage)
            low, high = np.asarray(predictions.low_ms), np.asarray(predictions.high_ms)
            shares[seed, i] = np.mean((low <= latencies[test]) & (latencies[test] <= high))
    return shares


def main() -> None:
    """Print a Markdown table: the mean over the seeds, its standard error, and the farthest from what was stated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(default_kinds()), help=f"of {', '.join(kinds())}")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--latency-column", default="latency_ms")
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--zero", default="execute")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    graphs, latencies = measured(arguments) if arguments.table else synthetic(arguments.train + arguments.test)
    stated = " | ".join(f"{coverage:.0%}" for coverage in COVERAGES)
    print(f"{arguments.train} to train, {min(arguments.test, len(graphs) - arguments.train)} to test\n")
    print(f"| predictor | {stated} | farthest, points | s a fit |")
    print(f"|---|{'---|' * len(COVERAGES)}---|---|")
    found = {}
    for kind in arguments.kinds.split(","):
        start = time.perf_counter()
        shares = covered(kind, graphs, latencies, arguments)
        took = (time.perf_counter() - start) / arguments.seeds
        found[kind] = shares.tolist()
        mean, error = shares.mean(axis=0), shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
        far = np.abs(mean - COVERAGES).max()
        cells = " | ".join(f"{100 * m:.1f} ± {100 * e:.1f}" for m, e in zip(mean, error, strict=True))
        print(f"| {kind} | {cells} | {100 * far:.1f}{'' if far <= WANTED else ' (!)'} | {took:.1f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"coverages": COVERAGES, "shares": found}, indent=1))


if __name__ == "__main__":
    main()
