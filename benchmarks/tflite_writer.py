"""The TFLite writer against TensorFlow's converter: networks per minute, and latency of what is written.

Run it from the repository: ``python benchmarks/tflite_writer.py [--keras 4] [--networks 16] [--passes 60]``. It needs
the extras ``export``, ``agent`` and ``import-keras``. Everything is done in each precision, in one process:

- *networks per minute*: NAS-Bench-201 networks written by the generator (from the spec, random weights included),
  converted from Keras models (``TFLiteConverter.from_keras_model``, the documented way; building the model apart), and
  from a TensorFlow graph of constants (the fastest way that there is), one network after the other in all three.
- *latency*: for each network of both spaces, three models are timed in short shuffled passes: the writer's file, the
  same file once more, and the converter's file of the same weights, calibrated on the same images. The ratio of the
  first two is what this machine can repeat; that of the writer's to the converter's should be no further from 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from leti.core.device import ModelPrecision
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.cost import weight_shapes
from leti.generator.export.tflite import export_tflite
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, quantize, quantized
from leti.generator.spaces import SPACES, get_space
from leti.generator.spaces.nasbench201 import architecture_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "generator"))

import converter_reference as converter

Array = np.ndarray[Any, np.dtype[Any]]

ROUNDS = 5
"""How often the models are loaded anew: a neighbour on the machine can slow one round down, all passes of it."""

SAMPLES = 2


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", type=int, default=4, help="networks that are converted from Keras; 0: none")
    parser.add_argument("--networks", type=int, default=16, help="networks whose latency is compared; 0: none")
    parser.add_argument("--passes", type=int, default=60)
    given = parser.parse_args()
    if given.keras:
        print_speed(given.keras)
    if given.networks:
        print_latency(given.networks, given.passes)


# --- networks per minute ---------------------------------------------------------------------------------------------


def print_speed(count: int) -> None:
    """Print seconds a network and networks a minute of each route, in each precision."""
    specs = SPACES["nasbench201"].sample(count + 1, 7, NetworkConfig(modules_per_stack=1))
    routes: dict[str, Callable[[NetworkSpec, ModelPrecision], float]] = {
        "writer": write_s,
        "keras": keras_s,
        "graph": graph_s,
    }
    print("precision        writer ms  keras ms  graph ms   writer/min  keras/min   keras/writer  graph/writer")
    for precision in PRECISIONS:
        taken: dict[str, list[float]] = {name: [] for name in routes}
        for i, spec in enumerate(specs):
            for name, route in routes.items():
                seconds = route(spec, precision)
                if i:  # the first of each warms up
                    taken[name].append(seconds)
        writer, keras, graph = (statistics.median(taken[name]) for name in routes)
        print(
            f"{precision:15s} {1e3 * writer:10.1f} {1e3 * keras:9.0f} {1e3 * graph:9.0f} {60 / writer:12.0f} "
            f"{60 / keras:10.1f} {keras / writer:14.0f} {graph / writer:13.1f}",
            flush=True,
        )


def write_s(spec: NetworkSpec, precision: ModelPrecision) -> float:
    """Return the seconds from a spec to the writer's file."""
    start = time.perf_counter()
    export_tflite(quantize(lower(spec), precision), source=(spec, "execute"))
    return time.perf_counter() - start


def graph_s(spec: NetworkSpec, precision: ModelPrecision) -> float:
    """Return the seconds that the converter takes for a TensorFlow graph of constants, the graph apart."""
    converting = converter.Reference(spec, "execute", 0).converting
    start = time.perf_counter()
    quietly(lambda: converting.file(precision, images(converting.shape)))
    return time.perf_counter() - start


def keras_s(spec: NetworkSpec, precision: ModelPrecision) -> float:
    """Return the seconds that the converter takes for a Keras model, the model apart."""
    made = converter.tf.lite.TFLiteConverter.from_keras_model(keras_model(spec))
    if precision != "float32":
        made.optimizations = [converter.tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        made.target_spec.supported_types = [converter.tf.float16]
    if precision == "full_integer":
        shape = (spec.config.batch, *spec.config.input_shape)
        made.representative_dataset = lambda: ([image] for image in images(shape))
    start = time.perf_counter()
    quietly(made.convert)
    return time.perf_counter() - start


def quietly(convert: Callable[[], bytes]) -> bytes:
    """Return what ``convert`` makes, without what it says."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        return bytes(convert())


def keras_model(spec: NetworkSpec) -> Any:
    """Return a NAS-Bench-201 network as the Keras model that one would write."""
    keras = converter.tf.keras
    layers, width, config = keras.layers, spec.config.stem_channels, spec.config
    names = [layer.name for layer in spec.layers[1:7]]

    def conv(value: Any, channels: int, size: int, stride: int = 1) -> Any:
        value = layers.Conv2D(channels, size, stride, "same", use_bias=False)(layers.ReLU()(value))
        return layers.BatchNormalization()(value)

    def edge(value: Any, name: str) -> Any:
        if name == "avg_pool_3x3":
            return layers.AveragePooling2D(3, 1, "same")(value)
        if name == "none":
            return value * 0.0
        return value if name == "skip_connect" else conv(value, width, {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name])

    def cell(value: Any) -> Any:
        nodes, edges = [value], iter(names)
        for node in (1, 2, 3):
            terms = [edge(nodes[source], next(edges)) for source in range(node)]
            nodes.append(terms[0] if len(terms) == 1 else layers.add(terms))
        return nodes[-1]

    image = keras.Input(config.input_shape, batch_size=config.batch)
    value = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(image))
    for stack in range(config.stacks):
        if stack:
            width *= 2
            inner = conv(conv(value, width, 3, 2), width, 3)
            pooled = layers.AveragePooling2D(2, 2, "same")(value)
            value = layers.add([layers.Conv2D(width, 1, use_bias=False)(pooled), inner])
        for _ in range(config.modules_per_stack):
            value = cell(value)
    value = layers.ReLU()(layers.BatchNormalization()(value))
    return keras.Model(image, layers.Dense(config.classes)(layers.GlobalAveragePooling2D()(value)))


# --- latency ---------------------------------------------------------------------------------------------------------


def print_latency(count: int, passes: int) -> None:
    """Print a row a network and precision, and what they come to."""
    every = converter.networks()
    chosen = every[:: max(1, len(every) // count)][:count]
    rows: dict[ModelPrecision, list[tuple[float, float, float]]] = {precision: [] for precision in PRECISIONS}
    print(f"\n{'precision':15s} {'ms':>7} {'same/same':>10} {'ours/theirs':>12}  network")
    for seed, (spec, zero) in enumerate(chosen):
        for precision, row in compare(spec, zero, seed, passes):
            rows[precision].append(row)
            print(f"{precision:15s} {row[0]:7.3f} {row[1]:10.4f} {row[2]:12.4f}  {name_of(spec)} {zero}", flush=True)
    print("\nprecision       median ms  same/same  ours/theirs  within 5 % (same, ours)  farthest (same, ours)")
    for precision, found in rows.items():
        latency_ms, same, ours = (statistics.median(column) for column in zip(*found, strict=True))
        near = [sum(abs(row[i] - 1) <= 0.05 for row in found) for i in (1, 2)]
        far = [max(abs(row[i] - 1) for row in found) for i in (1, 2)]
        print(
            f"{precision:15s} {latency_ms:9.3f} {same:10.4f} {ours:12.4f}  {near[0]:7d} {near[1]:4d} of {len(found):3d}"
            f"  {far[0]:15.1%} {far[1]:7.1%}"
        )


def compare(
    spec: NetworkSpec, zero: Zero, seed: int, passes: int
) -> list[tuple[ModelPrecision, tuple[float, float, float]]]:
    """Return, for each precision, latency (ms) and the two ratios."""
    reference = converter.Reference(spec, zero, seed)
    graph = lower(spec, zero)
    weights = arranged(graph, reference.weights)
    samples = images(reference.converting.shape)
    found = []
    for precision in PRECISIONS:
        changed = quantized(graph, precision)
        ours = export_tflite(
            changed.graph, weights=changed.weights(weights), representative=[(sample,) for sample in samples]
        )
        theirs = quietly(lambda p=precision: reference.converting.file(p, samples))  # type: ignore[misc]
        rounds = [timed_round(ours, theirs, samples[0], passes // ROUNDS) for _ in range(ROUNDS)]
        latency_ms, same, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
        found.append((precision, (latency_ms, same, ratio)))
    return found


def images(shape: tuple[int, ...]) -> list[Array]:
    """Return the images that full integers are calibrated on."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for _ in range(SAMPLES)]


def timed_round(ours: bytes, theirs: bytes, image: Array, passes: int) -> tuple[float, float, float]:
    """Load the models anew; return latency (ms), same/same and ours/theirs, each a median over passes."""
    models = [load(data, image) for data in (ours, ours, theirs)]
    times = [timed(models, turn) for turn in range(passes + 3)][3:]
    ratios = ((1e3 * a, a / b, a / c) for a, b, c in times)
    latency_ms, same, ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
    return latency_ms, same, ratio


def arranged(graph: Graph, layers: list[tuple[Array, ...]]) -> list[tuple[Array, ...]]:
    """Return the weights of layers, with nothing for the operators that have none."""
    rest = iter(layers)
    return [next(rest) if weight_shapes(op) else () for op in graph.ops]


def load(data: bytes, image: Array) -> Any:
    """Return the model, ready to run on one thread."""
    model = Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], image)
    return model


def timed(models: list[Any], turn: int, target_s: float = 0.003) -> list[float]:
    """Return the seconds an invoke of each model, in a pass of about ``target_s`` each, in shuffled order.

    Of the thread, which alone computes: what other processes take of a busy machine is not counted.
    """
    result = [0.0] * len(models)
    for i in random.Random(turn).sample(range(len(models)), len(models)):
        count, start = 0, time.thread_time()
        while count < 1 or time.thread_time() - start < target_s:
            models[i].invoke()
            count += 1
        result[i] = (time.thread_time() - start) / count
    return result


def name_of(spec: NetworkSpec) -> str:
    """Return an architecture string, or the head of a class's name."""
    if spec.space == "nasbench201":
        return architecture_of(spec)
    return f"{spec.space} {get_space(spec.space).isomorphism_class(spec)[:12]}"


if __name__ == "__main__":
    main()
