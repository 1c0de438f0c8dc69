"""The TFLite writer against TensorFlow's converter: time to write, and latency of what is written.

Run it from the repository: ``python benchmarks/tflite_writer.py [--passes 60]``. It needs the extras ``export``,
``agent`` and ``import-keras``. For each network, three models are timed in one process, in short shuffled passes: the
writer's file, the same file once more, and the converter's file of the same weights. The ratio of the first two is
what this machine can repeat; the ratio of the writer's to the converter's should be no further from 1.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from leti.core.graph import Graph
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.cost import weight_shapes
from leti.generator.export.tflite import export_tflite
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.generator.spaces.nasbench201 import architecture_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "generator"))

import converter_reference as converter

ROUNDS = 5
"""How often the models are loaded anew: a neighbour on the machine can slow one round down, all passes of it."""


def main() -> None:
    """Print a row a network, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=60)
    passes = parser.parse_args().passes
    rows = []
    print(f"{'ms':>7} {'write ms':>9} {'convert ms':>11} {'same/same':>10} {'ours/theirs':>12}  network")
    for seed, (spec, zero) in enumerate(converter.networks()):
        row = compare(spec, zero, seed, passes)
        rows.append(row)
        print(
            f"{row[0]:7.3f} {row[1]:9.1f} {row[2]:11.1f} {row[3]:10.4f} {row[4]:12.4f}  {name_of(spec)} {zero}",
            flush=True,
        )
    middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"{middle[0]:7.3f} {middle[1]:9.1f} {middle[2]:11.1f} {middle[3]:10.4f} {middle[4]:12.4f}  median")
    for i, what in ((3, "same/same"), (4, "ours/theirs")):
        deviations = sorted(abs(row[i] - 1) for row in rows)
        print(f"{what}: {sum(d <= 0.05 for d in deviations)} of {len(rows)} within 5 %, farthest {deviations[-1]:.1%}")


def compare(spec: NetworkSpec, zero: Zero, seed: int, passes: int) -> tuple[float, float, float, float, float]:
    """Return latency, time to write, time to convert (ms), and the two ratios."""
    start = time.perf_counter()
    reference = converter.Reference(spec, zero, seed)
    convert_ms = 1e3 * (time.perf_counter() - start)
    start = time.perf_counter()
    graph = lower(spec, zero)
    file = export_tflite(graph, weights=arranged(graph, reference.weights), source=(spec, zero))
    write_ms = 1e3 * (time.perf_counter() - start)
    rounds = [timed_round(file, reference.file, passes // ROUNDS) for _ in range(ROUNDS)]
    latency_ms, same, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
    return latency_ms, write_ms, convert_ms, same, ratio


def timed_round(ours: bytes, theirs: bytes, passes: int) -> tuple[float, float, float]:
    """Load the models anew; return latency (ms), same/same and ours/theirs, each a median over passes."""
    models = [load(data) for data in (ours, ours, theirs)]
    times = [timed(models, turn) for turn in range(passes + 3)][3:]
    ratios = ((1e3 * a, a / b, a / c) for a, b, c in times)
    latency_ms, same, ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
    return latency_ms, same, ratio


def arranged(graph: Graph, layers: list[tuple[np.ndarray[Any, Any], ...]]) -> list[tuple[np.ndarray[Any, Any], ...]]:
    """Return the weights of layers, with nothing for the operators that have none."""
    rest = iter(layers)
    return [next(rest) if weight_shapes(op) else () for op in graph.ops]


def load(data: bytes) -> Any:
    """Return the model, ready to run on one thread."""
    model = Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    return model


def timed(models: list[Any], turn: int, target_s: float = 0.003) -> list[float]:
    """Return the seconds an invoke of each model, in a pass of about ``target_s`` each, in shuffled order."""
    result = [0.0] * len(models)
    for i in random.Random(turn).sample(range(len(models)), len(models)):
        count, start = 0, time.perf_counter()
        while count < 1 or time.perf_counter() - start < target_s:
            models[i].invoke()
            count += 1
        result[i] = (time.perf_counter() - start) / count
    return result


def name_of(spec: NetworkSpec) -> str:
    """Return an architecture string, or the head of a class's name."""
    if spec.space == "nasbench201":
        return architecture_of(spec)
    return f"{spec.space} {get_space(spec.space).isomorphism_class(spec)[:12]}"


if __name__ == "__main__":
    main()
