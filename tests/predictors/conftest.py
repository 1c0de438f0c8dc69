"""Small networks made by hand, and latencies for them: no generator, no device."""

import random
from collections.abc import Callable

import pytest

from leti.core.graph import Graph, Op, TensorType


class NetworkBuilder:
    """Places operators one by one, each with its costs."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.types = [TensorType(shape)]
        self.ops: list[Op] = []
        self.wiring: list[tuple[int, ...]] = []
        self.kernels: list[tuple[int, ...]] = []

    def place(self, kind: str, sources: tuple[int, ...], shape: tuple[int, ...], macs: int, params: int, **more) -> int:
        inputs = [self.types[source] for source in sources]
        output = TensorType(shape)
        traffic = sum(t.size_bytes for t in (*inputs, output)) + 4 * params
        self.ops.append(Op.of(kind, inputs, [output], macs=macs, params=params, traffic_bytes=traffic, **more))
        self.wiring.append(sources)
        self.types.append(output)
        return len(self.types) - 1

    def conv(self, source: int, channels: int, kernel: int = 3, kind: str = "conv2d") -> int:
        """A convolution and the ReLU that is fused into it."""
        batch, height, width, before = self.types[source].shape
        shape = (batch, height, width, channels)
        weights = kernel * kernel * before * channels
        value = self.place(
            kind, (source,), shape, height * width * weights, weights + channels, kernel=(kernel, kernel)
        )
        value = self.place("relu", (value,), shape, 0, 0)
        self.kernels.append((len(self.ops) - 2, len(self.ops) - 1))
        return value

    def add(self, a: int, b: int) -> int:
        return self.place("add", (a, b), self.types[a].shape, 0, 0)

    def graph(self, output: int) -> Graph:
        peak = 2 * max(t.size_bytes for t in self.types)
        return Graph((self.types[0],), tuple(self.ops), tuple(self.wiring), (output,), peak, tuple(self.kernels))


def random_network(seed: int, kind: str = "conv2d") -> Graph:
    """A stack of convolutions, some of them side by side, with 8 to 32 channels on 8 × 8 or 16 × 16 pixels."""
    chance = random.Random(seed)
    size = chance.choice((8, 16))
    builder = NetworkBuilder((1, size, size, 8))
    value = 0
    for _ in range(chance.randint(2, 6)):
        channels = chance.choice((8, 16, 32))
        branch = builder.conv(value, channels, chance.choice((1, 3)), kind)
        if chance.random() < 0.5:
            branch = builder.add(branch, builder.conv(value, channels, chance.choice((1, 3)), kind))
        value = branch
    return builder.graph(value)


def latency_of(graph: Graph, noise: float = 0.0, seed: int = 0) -> float:
    """Milliseconds: so much a MAC and an operator, times a random factor near one."""
    ideal = 0.2 + graph.macs / 2e6 + 0.02 * len(graph.ops)
    return ideal * random.Random(f"{graph.fingerprint()}{seed}").lognormvariate(0, noise)


@pytest.fixture(scope="session")
def network() -> Callable[..., Graph]:
    return random_network


@pytest.fixture(scope="session")
def latency() -> Callable[..., float]:
    return latency_of


@pytest.fixture(scope="session")
def builder() -> type[NetworkBuilder]:
    return NetworkBuilder


@pytest.fixture(scope="session")
def networks() -> tuple[Graph, ...]:
    """Two hundred networks, no two of them equal."""
    found = {graph.fingerprint(): graph for graph in map(random_network, range(600))}
    return tuple(found.values())[:200]
