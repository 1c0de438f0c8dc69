"""A small network that reads digits, trained once: what quantisation loses is seen on what is not random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported
from leti.generator.weights import random_weights

TESTED = 360
CALIBRATED = 64


@dataclass(frozen=True)
class Digits:
    """Handwritten digits of 8 × 8 pixels, those that are trained on and those that are not."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def samples(self) -> list[tuple[np.ndarray]]:
        return [(self.images[i : i + 1],) for i in range(CALIBRATED)]

    def accuracy(self, logits: np.ndarray) -> float:
        return float((logits.argmax(axis=1) == self.test_labels).mean())

    def fit(self, module, epochs: int, rate: float = 5e-3) -> None:
        """Train a PyTorch module that returns a tuple, in place."""
        import torch

        images, labels = torch.from_numpy(self.images), torch.from_numpy(self.labels)
        drawn = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(module.parameters(), rate)
        for _ in range(epochs):
            for batch in torch.randperm(len(images), generator=drawn).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(module(images[batch])[0], labels[batch]).backward()
                optimizer.step()


@pytest.fixture(scope="session")
def digits() -> Digits:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = (found.images[order, :, :, None] / 16).astype(np.float32)
    labels = found.target[order]
    return Digits(images[TESTED:], labels[TESTED:], images[:TESTED], labels[:TESTED])


@pytest.fixture(scope="session")
def classifier(digits: Digits) -> Imported:
    """Return a convolutional network of five layers with filters, one of them depthwise."""
    import torch

    from leti.compression.training.executing import executable, weights_of

    builder = GraphBuilder(TensorType((1, 8, 8, 1)))
    value = builder.relu(builder.conv(0, 8, 3))
    value = builder.relu(builder.conv(value, 16, 3, 2))
    value = builder.relu(builder.depthwise_conv(value, 3))
    value = builder.relu(builder.conv(value, 32, 3, 2))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    network = Imported(graph, tuple(op.kind for op in graph.ops), random_weights(graph, 0))
    torch.set_num_threads(1)
    module = executable(network)
    digits.fit(module, 15)
    return weights_of(module, network)
