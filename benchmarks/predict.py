"""Microseconds a graph to predict: what features, remarks and models take, beside XGBoost's own call on ready features.

Run it from the repository: ``python benchmarks/predict.py [--kinds flops,xgboost,…] [--spaces nasbench201,fbnet,darts]
[--networks 10000] [--train 300]``. It prints Markdown. Each space is measured in a process of its own that trains every
kind on networks of the space (their latencies are made up: time is all that counts here), then lowers networks that it
has never seen. The steps' *cold* is the first time that the process sees them, *warm* the next. Each kind is loaded
anew for each size of batch: *cold* is a predictor that has never seen the networks. Times are of the processor, one
thread. ``x bare`` is the time over that of ``Booster.inplace_predict`` on ready features, for as many rows and in the
same run. DARTS is not stamped of modules: none of it is remembered.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from leti.core.graph import Graph
from leti.core.prediction import Predictor
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors import artifacts, registry
from leti.predictors.batch import Batch, Matrix
from leti.predictors.distance import Distance
from leti.predictors.experience import Experience
from leti.predictors.features import FeatureMap

DEFAULT_SPACES = "nasbench201,fbnet,darts"
FEWER = {"darts": 10, "random": 10}
"""Spaces whose networks take milliseconds to lower: so many times fewer are measured."""

BATCHES = (1, 100, 10_000)
Figures = dict[str, Any]


def main() -> None:
    """Print the tables of each space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="", help="by name, comma between; all that are installed if left out")
    parser.add_argument("--spaces", default=DEFAULT_SPACES)
    parser.add_argument("--networks", type=int, default=10_000)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--once", action="store_true", help="measure one space in this process, print JSON")
    asked = parser.parse_args()
    if asked.once:
        kinds = asked.kinds.split(",") if asked.kinds else list(registry.kinds())
        print(json.dumps(measured(asked.spaces, kinds, asked.networks, asked.train)))
        return
    for space in asked.spaces.split(","):
        command = [sys.executable, __file__, "--once", "--spaces", space, "--kinds", asked.kinds]
        command += ["--networks", str(asked.networks // FEWER.get(space, 1)), "--train", str(asked.train)]
        show(space, json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def measured(name: str, kinds: Sequence[str], count: int, train: int) -> Figures:
    """Return microseconds a graph, in one process."""
    space = get_space(name)
    config = getattr(space, "default_config", NetworkConfig())
    count = min(count, space.size() - train)
    specs = space.sample(count + train, 0, config)
    chance = random.Random(0)
    examples = [lower(spec) for spec in specs[:train]]
    latencies = [(1 + graph.macs / 1e7 + 0.02 * len(graph.ops)) * chance.lognormvariate(0, 0.1) for graph in examples]
    start = time.process_time()
    graphs = [lower(spec) for spec in specs[train:]]
    figures: Figures = {"lower": [1e6 * (time.process_time() - start) / count], "networks": count}
    figures["steps"] = steps(examples, graphs)
    figures["bare"] = bare(examples, latencies, graphs)
    figures["kinds"] = {kind: predicting(trained(kind, examples, latencies), graphs) for kind in kinds}
    return figures


def trained(kind: str, graphs: Sequence[Graph], latencies: Sequence[float]) -> Callable[[], Predictor]:
    """Return what loads a trained predictor that has predicted nothing yet."""
    folder = Path(tempfile.mkdtemp()) / kind
    artifacts.save(registry.create(kind).fit(graphs, latencies), folder)
    return lambda: artifacts.load(folder)


def steps(examples: Sequence[Graph], graphs: Sequence[Graph]) -> dict[str, list[float]]:
    """Return microseconds a graph of each step in one batch, cold and warm, and one graph after the other."""
    seen = Batch.of(examples)
    experience, distance = Experience.of(seen), Distance.of(seen)
    calls: dict[str, Callable[[Batch], object]] = {
        "batch": lambda batch: (batch.sorted_out, batch.sorted_out[0][1].division),
        "features": FeatureMap.learn(seen).encode,
        "unknown": experience.unknown,
        "distance": distance.measure,
    }
    found: dict[str, list[float]] = {step: [] for step in calls}
    for _ in range(2):
        batch = Batch.of(graphs)
        for step, call in calls.items():
            found[step].append(1e6 * timed(partial(call, batch)) / len(graphs))
    few = [Batch.of([graph]) for graph in graphs[:200]]
    for step, call in calls.items():
        found[step].append(1e6 * statistics.median([timed(partial(call, batch)) for batch in few]))
    return found


def bare(examples: Sequence[Graph], latencies: Sequence[float], graphs: Sequence[Graph]) -> dict[str, list[float]]:
    """Return microseconds a row of XGBoost's own calls on ready features, for each size of batch."""
    features = FeatureMap.learn(Batch.of(examples))
    label = np.log(latencies)
    parameters = {"max_depth": 6, "eta": 0.05, "colsample_bytree": 0.3, "subsample": 0.8, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(features.encode(Batch.of(examples)), label=label), 300)
    rows = features.encode(Batch.of(graphs))
    found: dict[str, list[float]] = {"columns": [rows.shape[1]], "inplace_predict": [], "predict(DMatrix)": []}
    for size in sizes(len(rows)):
        some = np.ascontiguousarray(rows[:size])
        each = [timed(partial(booster.inplace_predict, some)) for _ in range(20 if size < 1000 else 3)]
        found["inplace_predict"].append(1e6 * statistics.median(each) / size)
        times = 20 if size < 1000 else 3
        each = [timed(partial(from_matrix, booster, some)) for _ in range(times)]
        found["predict(DMatrix)"].append(1e6 * statistics.median(each) / size)
    return found


def from_matrix(booster: xgboost.Booster, rows: Matrix) -> object:
    """Predict as XGBoost's own examples do."""
    return booster.predict(xgboost.DMatrix(rows, nthread=1))


def predicting(load: Callable[[], Predictor], graphs: Sequence[Graph]) -> dict[str, list[float]]:
    """Return microseconds a graph of ``predict``, cold and warm, for each size of batch."""
    found: dict[str, list[float]] = {"cold": [], "warm": []}
    for size in sizes(len(graphs)):
        predictor = load()
        predictor.predict(graphs[-1:])  # what is set up once for a predictor is no part of a prediction
        chunks = [
            graphs[i * size : (i + 1) * size] for i in range(max(1, min(50 if size == 1 else 10, len(graphs) // size)))
        ]
        for how in ("cold", "warm"):
            each = [timed(partial(predictor.predict, chunk)) for chunk in chunks]
            found[how].append(1e6 * statistics.median(each) / size)
    return found


def sizes(count: int) -> tuple[int, ...]:
    """Return the sizes of batches, the last no more than there are."""
    return tuple(min(size, count) for size in BATCHES)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def show(space: str, figures: Figures) -> None:
    """Print the tables of a space."""
    batch = sizes(figures["networks"])
    bare_call = figures["bare"]["inplace_predict"]
    print(f"### {space}: {figures['networks']} networks, {figures['bare']['columns'][0]} columns, µs a graph\n")
    print(f"Lowering takes {figures['lower'][0]:.0f}.\n")
    print("| step | cold, one batch | warm, one batch | warm, one graph |\n|---|---:|---:|---:|")
    for step, values in figures["steps"].items():
        print(f"| {step} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    head = " | ".join(f"{size:,}" for size in batch)
    print(f"\n| predict | | {head} | x bare at {batch[-1]:,} |\n|---|---|" + "---:|" * (len(batch) + 1))
    for name in ("inplace_predict", "predict(DMatrix)"):
        row(f"bare XGBoost, `{name}`", "", figures["bare"][name], bare_call)
    for kind, times in figures["kinds"].items():
        for how, values in times.items():
            row(kind, how, values, bare_call)
    print(flush=True)


def row(name: str, how: str, values: Sequence[float], bare_call: Sequence[float]) -> None:
    """Print a row of a table."""
    cells = " | ".join(f"{value:,.1f}" for value in values)
    print(f"| {name} | {how} | {cells} | {values[-1] / bare_call[-1]:.1f} |")


if __name__ == "__main__":
    main()
