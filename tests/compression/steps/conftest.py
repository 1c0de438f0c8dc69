"""A device that is a formula: what verdicts, rounds and searches come to can be told beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from leti.compression.measuring.meter import Meter, Progress, Reading, Subject
from leti.core.graph import Graph, Op, TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported
from leti.generator.weights import random_weights

INVOKE_MS = 0.02


class TiledDevice(Meter):
    """Computes channels in tiles of 16; in whole numbers four times as fast, but for widths that are no whole tiles.

    Networks of several kernels take a tenth less than their kernels. ``calls`` are the networks of each measurement.
    """

    takes_files = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def measure(
        self, baseline: Subject, subjects: Sequence[Subject], *, progress: Progress | None = None
    ) -> tuple[Reading, ...]:
        self.calls.append(tuple(subject.graph.fingerprint() for subject in subjects))
        if progress is not None:
            progress(len(subjects), len(subjects))
        base_ms = self.latency_ms(baseline.graph)
        ratios = [self.latency_ms(subject.graph) / base_ms for subject in subjects]
        return tuple(Reading(base_ms * ratio, ratio, 0.99 * ratio, 1.01 * ratio) for ratio in (1.0, *ratios))

    def latency_ms(self, graph: Graph) -> float:
        """Return what the device takes for a network."""
        kernels = [_kernel_ms(op) for op in graph.ops]
        shared = 0.9 if sum(op.params > 0 for op in graph.ops) > 1 else 1.0
        return INVOKE_MS + shared * sum(kernels)


def _kernel_ms(op: Op) -> float:
    if not op.params:
        return 0.0
    read, made = op.inputs[0].shape[-1], op.outputs[0].shape[-1]
    tiles = math.ceil(made / 16) * math.ceil(read / 16)
    taken_ms = 1e-7 * tiles * 256 * op.macs / (read * made)
    if op.inputs[0].dtype != "int8":
        return taken_ms
    return taken_ms * (0.25 if read % 16 == made % 16 == 0 or op.kind == "fully_connected" or read == 1 else 3.0)


@pytest.fixture
def device() -> TiledDevice:
    return TiledDevice()


@pytest.fixture(scope="session")
def network() -> Imported:
    """Return three convolutions with random weights, for 16 × 16 pixels."""
    builder = GraphBuilder(TensorType((1, 16, 16, 1)))
    value = 0
    for channels, stride in ((32, 1), (64, 2), (64, 1)):
        value = builder.relu(builder.conv(value, channels, 3, stride))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    return Imported(graph, tuple(f"{op.kind}_{i}" for i, op in enumerate(graph.ops)), random_weights(graph, 0))
