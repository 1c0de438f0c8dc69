"""A compression on this machine, of a network that has learnt digits: what it says is what its files do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression import Speedup, compress
from leti.compression.measuring.at_hand import BenchMeter
from leti.compression.pricing.by_cells import CellTable
from leti.compression.quantizing.running import outputs_of_file
from leti.compression.steps.precision import round_filters
from leti.compression.targets import Target
from leti.compression.training.data import Data, digits
from leti.compression.training.executing import executable, weights_of
from leti.compression.training.fine_tuning import Recipe, fine_tune
from leti.core.graph import TensorType
from leti.device_agents.timing import Protocol
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported, import_model
from leti.generator.weights import random_weights

desktop = pytest.importorskip("leti.device_agents.desktop.bench", reason="the extra `agent` is not installed")

QUICK = Protocol(passes=3, retries=0, warmup_ms=20.0)


def few_digits() -> Data:
    data = digits(jitters=1)
    batches = [batch for batch, _ in zip(data.train(0), range(6), strict=False)]
    return replace(data, batches=len(batches), train=lambda _: batches)


@pytest.fixture(scope="module")
def taught() -> Imported:
    builder = GraphBuilder(TensorType((1, 32, 32, 1)))
    value = builder.relu(builder.conv(0, 16, 3, 2))
    value = builder.relu(builder.conv(value, 32, 3, 2))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    network = Imported(graph, ("",) * len(graph.ops), random_weights(graph, 0))
    return fine_tune(network, few_digits(), recipe=Recipe(epochs=3, learning_rate=1e-2))


def test_what_is_said_of_a_compressed_network_is_what_its_files_do(taught: Imported):
    data = few_digits()
    bench = desktop.DesktopBench("litert", name="test-machine", protocol=QUICK)
    try:
        prices = CellTable("here", "litert", taught.graph.fingerprint())
        found = compress(
            taught,
            platform=Target("here", {"float32": prices}, BenchMeter(bench, batch=64)),
            budget=Speedup(1.5),
            data=data,
            max_drop=0.9,
            rivals=("macs",),
            methods=("prune",),
            held_out=2,
            recipe=Recipe(epochs=1),
        )
    finally:
        bench.close()
    (best, reading) = (found.best, found.best.reading)
    assert found.budget_ms == pytest.approx(found.baseline.reading.latency_ms / 1.5)
    assert reading.latency_ms == pytest.approx(reading.ratio * found.baseline.reading.latency_ms)
    assert (found.verdict == "met") == (reading.latency_ms <= found.budget_ms)
    assert [rival.planner for rival in found.rivals] == ["macs"]
    assert found.rivals[0].epochs == best.epochs == 1
    images, classes = next(iter(data.evaluate()))
    read = import_model(found.models["tflite"], weights=True)
    assert read.graph.macs == best.macs < taught.graph.macs
    for model_format, content in found.models.items():
        named = outputs_of_file(content, model_format, read.graph, [images])[0].argmax(axis=1)
        assert float((named == classes).mean()) == pytest.approx(best.accuracy, abs=0.005)
    assert found.comparison.accuracy_b == best.accuracy
    assert found.comparison.accuracy_a == found.baseline.accuracy
    assert found.held_out.count == 2


def test_filters_that_are_rounded_in_training_are_numbers_of_8_bits(taught: Imported):
    network = executable(taught)
    round_filters(network, taught)
    for before, after in zip(taught.weights, weights_of(network, taught).weights, strict=True):
        if before:
            steps = np.abs(after[0]).reshape(len(after[0]), -1).max(axis=1) / 127
            counted = after[0].reshape(len(after[0]), -1) / steps[:, None]
            assert np.allclose(counted, np.round(counted), atol=1e-3)
            assert np.abs(before[0] - after[0]).max() <= 0.51 * steps.max()
