"""Microseconds a graph to predict: what features, remarks and models take, beside XGBoost's own call on ready features.

Run it from the repository: ``python benchmarks/predict.py [--kinds flops,xgboost,…] [--spaces nasbench201,fbnet,darts]
[--networks 10000] [--train 1000] [--train-costly 100] [--patience 20]``. It prints Markdown. Each space is measured in
a process of its own that trains every kind on networks of the space (their latencies are made up: time is all that
counts here), then lowers networks that it has never seen. Kinds that take long to train, and do not answer slower for
it, learn from fewer. The steps' *cold* is the first time that the process sees them, *warm* the next. Each kind is
loaded anew for each size of batch: *cold* is a predictor that has never seen the networks. Times are of the processor,
one thread.

*Bare* is the trained predictor's own booster on its own inputs of the same networks, made before: XGBoost's own
``predict`` of a ``DMatrix``, and its fastest call, ``inplace_predict``. ``x bare`` is the time over theirs, for as many
networks and in the same run. DARTS is not stamped of modules: none of it is remembered. A dash stands for a batch that
would take longer than ``--patience`` seconds.
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
from typing import TYPE_CHECKING, Any, cast

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

if TYPE_CHECKING:
    from leti.predictors.boosting.libraries import XGBoostTrees
    from leti.predictors.boosting.predictors import Boosted, XGBoostPredictor

BARE = "xgboost"
"""The kind whose booster is called bare."""

OWN, FASTEST = "predict(DMatrix)", "inplace_predict"
SINGLE = "brp_nas"
"""The kind that others are held against, a graph at a time."""

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
    parser.add_argument("--train", type=int, default=1_000)
    parser.add_argument("--train-costly", type=int, default=100, help="networks that slowly trained kinds learn from")
    parser.add_argument("--patience", type=float, default=20.0, help="most seconds for a batch")
    parser.add_argument("--once", action="store_true", help="measure one space in this process, print JSON")
    asked = parser.parse_args()
    if asked.once:
        kinds = asked.kinds.split(",") if asked.kinds else list(registry.kinds())
        print(json.dumps(measured(asked, asked.spaces, kinds)))
        return
    options = [
        "--train",
        str(asked.train),
        "--train-costly",
        str(asked.train_costly),
        "--patience",
        str(asked.patience),
    ]
    for space in asked.spaces.split(","):
        command = [sys.executable, __file__, "--once", "--spaces", space, "--kinds", asked.kinds, *options]
        command += ["--networks", str(asked.networks // FEWER.get(space, 1))]
        show(space, json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def measured(asked: argparse.Namespace, name: str, kinds: Sequence[str]) -> Figures:
    """Return microseconds a graph, in one process."""
    space = get_space(name)
    config = getattr(space, "default_config", NetworkConfig())
    count = min(asked.networks, space.size() - asked.train)
    specs = space.sample(count + asked.train, 0, config)
    chance = random.Random(0)
    examples = [lower(spec) for spec in specs[: asked.train]]
    latencies = [(1 + graph.macs / 1e7 + 0.02 * len(graph.ops)) * chance.lognormvariate(0, 0.1) for graph in examples]
    start = time.process_time()
    graphs = [lower(spec) for spec in specs[asked.train :]]
    figures: Figures = {"lower": 1e6 * (time.process_time() - start) / count, "networks": count, "train": asked.train}
    figures["steps"] = steps(examples, graphs)
    load = {BARE: trained(BARE, examples, latencies)}
    figures["bare"] = bare(load[BARE](), graphs)
    figures["kinds"] = {}
    for kind in kinds:
        slow = kind == registry.MIX or (kind in registry.PREDICTORS and registry.PREDICTORS[kind].costly)
        some = slice(asked.train_costly if slow else None)
        if kind not in load:
            load[kind] = trained(kind, examples[some], latencies[some])
        figures["kinds"][kind] = predicting(load[kind], graphs, asked.patience)
    return figures


def trained(kind: str, graphs: Sequence[Graph], latencies: Sequence[float]) -> Callable[[], Predictor]:
    """Return what loads a trained predictor that has predicted nothing yet."""
    folder = Path(tempfile.mkdtemp()) / kind
    start = time.process_time()
    artifacts.save(registry.create(kind).fit(graphs, latencies), folder)
    print(f"{kind} trained on {len(graphs)} in {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
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


def bare(predictor: Predictor, graphs: Sequence[Graph]) -> Figures:
    """Return microseconds a row of XGBoost's own calls on ready inputs of a predictor's own, for each size of batch."""
    fitted = cast("XGBoostPredictor", predictor)._require_fitted()
    model = cast("Boosted", fitted.model)
    booster = cast("XGBoostTrees", model.trees).booster
    rows = model.tree_inputs(fitted.encoder.encode(Batch.of(graphs)))[0]
    calls: dict[str, Callable[[Matrix], object]] = {
        OWN: lambda some: booster.predict(xgboost.DMatrix(some, nthread=1)),
        FASTEST: booster.inplace_predict,
    }
    found: Figures = {"columns": rows.shape[1], **{name: [] for name in calls}}
    for size in sizes(len(rows)):
        some = np.ascontiguousarray(rows[:size])
        for name, call in calls.items():
            each = [timed(partial(call, some)) for _ in range(20 if size < 1000 else 5)]
            found[name].append(1e6 * statistics.median(each) / size)
    return found


def predicting(
    load: Callable[[], Predictor], graphs: Sequence[Graph], patience: float
) -> dict[str, list[float | None]]:
    """Return microseconds a graph of ``predict``, cold and warm, for each size of batch; none that take too long."""
    found: dict[str, list[float | None]] = {"cold": [], "warm": []}
    each = 0.0
    for size in sizes(len(graphs)):
        if each * size > patience:
            for values in found.values():
                values.append(None)
            continue
        predictor = load()
        predictor.predict(graphs[-1:])  # what is set up once for a predictor is no part of a prediction
        most = 50 if size == 1 else 10
        chunks = [graphs[i * size : (i + 1) * size] for i in range(max(1, min(most, len(graphs) // size)))]
        for values in found.values():
            times = [timed(partial(predictor.predict, chunk)) / size for chunk in chunks]
            each = statistics.median(times)
            values.append(1e6 * each)
            chunks = chunks * (3 if len(chunks) == 1 and each * size < 1 else 1)
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
    bare_calls = figures["bare"]
    print(f"### {space}: {figures['networks']} networks, {bare_calls['columns']} columns, µs a graph\n")
    print(f"Lowering takes {figures['lower']:.0f}. Trained on {figures['train']} networks.\n")
    print("| step | cold, one batch | warm, one batch | warm, one graph |\n|---|---:|---:|---:|")
    for step, values in figures["steps"].items():
        print(f"| {step} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    head = " | ".join(f"{size:,}" for size in batch)
    ratios = " | ".join(f"x `{name}` at {batch[-1]:,}" for name in (OWN, FASTEST))
    single = f" | x {SINGLE} at 1" if SINGLE in figures["kinds"] else ""
    print(f"\n| predict | | {head} | {ratios}{single} |\n|---|---|" + "---:|" * (len(batch) + 2 + bool(single)))
    for name in (OWN, FASTEST):
        row(f"bare XGBoost, `{name}`", "", bare_calls[name], figures)
    for kind, times in figures["kinds"].items():
        for how, values in times.items():
            row(kind, how, values, figures)
    print(flush=True)


def row(name: str, how: str, values: Sequence[float | None], figures: Figures) -> None:
    """Print a row of a table."""
    cells = [cell(value, ",.1f") for value in values]
    last = values[-1]
    cells += [cell(last and last / figures["bare"][call][-1], ".1f") for call in (OWN, FASTEST)]
    if SINGLE in figures["kinds"]:
        other = figures["kinds"][SINGLE]["warm"][0]
        cells.append(cell(values[0] and other and values[0] / other, ".2f"))
    print(f"| {name} | {how} | " + " | ".join(cells) + " |")


def cell(value: float | None, form: str) -> str:
    """Return a number in this form, or a dash."""
    return "–" if value is None else format(value, form)


if __name__ == "__main__":
    main()
