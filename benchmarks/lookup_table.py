"""Look-up tables from real profiles: python benchmarks/lookup_table.py [--networks 80] [--seeds 5].

Profiles NAS-Bench-201 networks (one module a stack) with LiteRT, matches each profile to the kernels of its network,
measures the networks end to end (pinned to one core, in shuffled passes beside a reference), and predicts the half that
no table was built from: from profiles with a correction from ten end-to-end times, from profiles and all the networks
of the other half, and from those networks alone. Mean over the seeds, beside the plain sum of a network's own profile
and how well two halves of the passes agree.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.device_agents.desktop.litert_profile import profile
from leti.generator.export.tflite import export_tflite
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.predictors.batch import Batch, Vector
from leti.predictors.lookup.correction import correct
from leti.predictors.lookup.fitting import Evidence, fit_table
from leti.predictors.lookup.predictor import LookupTablePredictor
from leti.predictors.lookup.table import Occurrences
from leti.predictors.profiles.matching import kernel_times_ms

FEW = 10
PASSES = 50
PASS_MS = 6.0


def invoke_ms(interpreter: Any, count: int) -> float:
    """Return the median of some invokes."""
    samples = []
    for _ in range(count):
        start = time.perf_counter()
        interpreter.invoke()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples) * 1e3


def measure(models: Sequence[bytes]) -> tuple[Vector, Vector]:
    """Return latencies ``(n,)`` in ms, and how far two halves of the passes differ, relative, ``(n,)``."""
    interpreters: list[Any] = [Interpreter(model_content=model, num_threads=1) for model in models]
    for interpreter in interpreters:
        interpreter.allocate_tensors()
    counts = [max(1, min(10, int(PASS_MS / max(invoke_ms(each, 5), 0.01)))) for each in interpreters]
    ratios: list[list[float]] = [[] for _ in models]
    references = []
    order = list(range(len(models)))
    chance = random.Random(0)
    for _ in range(PASSES):
        chance.shuffle(order)
        for start in range(0, len(order), 6):
            references.append(invoke_ms(interpreters[0], counts[0]))
            for i in order[start : start + 6]:
                ratios[i].append(invoke_ms(interpreters[i], counts[i]) / references[-1])
    halves = np.array([[statistics.median(of_one[half::2]) for half in (0, 1)] for of_one in ratios])
    latencies = np.array([statistics.median(of_one) for of_one in ratios]) * statistics.median(references)
    return latencies, np.abs(halves[:, 0] / halves[:, 1] - 1)


def judge(
    graphs: Sequence[Graph], times: Sequence[tuple[float, ...] | None], latencies: Vector, seed: int
) -> dict[str, Vector]:
    """Return the relative errors on the half that is kept apart, by method."""
    order = np.random.default_rng(seed).permutation(len(graphs))
    train, test = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    occurrences = Occurrences.of(Batch.of(graphs), "kernel")
    measured = [times[i] for i in train]
    table, _ = fit_table(Evidence.of(occurrences[train], latencies[train], measured), np.inf)
    sums = occurrences.sums(table.price(occurrences.kernels)[0])
    few = train[:FEW]
    correction = correct(sums[few], occurrences[few].features, latencies[few])
    own = np.array([sum(of_one) if of_one else np.nan for of_one in times])
    predicted = {
        "sum of its own profile": own[test],
        f"profiles, {FEW} end-to-end times": correction.latencies_ms(sums[test], occurrences[test].features),
    }
    for name, given in (("profiles and networks", measured), ("networks alone", None)):
        predictor = LookupTablePredictor().fit(
            [graphs[i] for i in train], latencies[train].tolist(), operator_times=given, seed=seed
        )
        predicted[name] = np.asarray(predictor.predict([graphs[i] for i in test]).latency_ms)
    return {name: np.abs(each / latencies[test] - 1) for name, each in predicted.items()}


def shares(errors: Vector) -> str:
    """Return the shares within 1, 5 and 10 % and the median."""
    within = " / ".join(f"{100 * np.mean(errors <= bound):5.1f}" for bound in (0.01, 0.05, 0.1))
    return f"{within}   median {100 * np.median(errors):.2f} %"


def main() -> None:
    """Profile, measure, and print the shares within 1, 5 and 10 % of each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    specs = SPACES["nasbench201"].sample(arguments.networks, 0, NetworkConfig(modules_per_stack=1))
    graphs = [lower(spec) for spec in specs]
    models = [export_tflite(graph) for graph in graphs]
    profiles = [profile(model, runs=20) for model in models]
    times = [kernel_times_ms(graph, each, runtime="litert") for graph, each in zip(graphs, profiles, strict=True)]
    print(f"{sum(each is not None for each in times)} of {len(times)} profiles fit their network")
    latencies, halves = measure(models)
    print(f"{'two halves of the passes':32s} {shares(halves)}")
    judged = [judge(graphs, times, latencies, seed) for seed in range(arguments.seeds)]
    for name in judged[0]:
        print(f"{name:32s} {shares(np.concatenate([each[name] for each in judged]))}")


if __name__ == "__main__":
    main()
