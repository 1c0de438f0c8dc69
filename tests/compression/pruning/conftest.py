"""A network that holds every way in which channels hang together, with batch norms that are not folded."""

from __future__ import annotations

import numpy as np
import pytest

from leti.core.graph import TensorType
from leti.generator.importers import Imported
from leti.generator.importers.draft import Constant, Draft


@pytest.fixture
def mixed() -> Imported:
    """Two branches, of 6 and 4 channels, side by side, flattened; the first is added to a third one.

    ``conv a`` → norm → relu, + ``conv c`` → depthwise → prelu; ``conv b`` → scale → shift; both → flatten → ``dense``.
    """
    rng = np.random.default_rng(5)

    def weight(*shape: int) -> Constant:
        return Constant.of(
            rng.uniform(0.1, 1, shape).astype(np.float32) * rng.choice((-1, 1), shape).astype(np.float32)
        )

    def image(channels: int) -> TensorType:
        return TensorType((2, 4, 4, channels))

    draft = Draft()
    window = {"strides": (1, 1), "padding": "same"}
    given = draft.input(image(3))

    def conv(read: int, channels: int, name: str, size: int = 3) -> int:
        weights = (weight(channels, size, size, 3), weight(channels))
        return draft.place("conv2d", [read], image(channels), weights=weights, name=name, kernel=(size, size), **window)

    first = conv(given, 6, "conv a")
    statistics = (weight(6), weight(6), weight(6), Constant.of(rng.uniform(0.5, 2, 6).astype(np.float32)))
    first = draft.place("batch_norm", [first], image(6), weights=statistics, name="norm", epsilon=1e-3)
    first = draft.place("relu", [first], image(6), name="relu")
    first = draft.place("add", [first, conv(given, 6, "conv c", 1)], image(6))
    filters = (weight(1, 3, 3, 6), weight(6))
    first = draft.place(
        "depthwise_conv2d", [first], image(6), weights=filters, name="depthwise", kernel=(3, 3), **window
    )
    first = draft.place("prelu", [first], image(6), weights=(weight(6),))
    second = conv(given, 4, "conv b")
    second = draft.place("scale", [second], image(4), weights=(weight(4),))
    second = draft.place("shift", [second], image(4), weights=(weight(4, 4, 4),), constant=(4, 4, 4))
    both = draft.place("concat", [first, second], image(10), axis=3)
    flat = draft.place("reshape", [both], TensorType((2, 160)))
    dense = (weight(5, 160), weight(5))
    draft.outputs = [draft.place("fully_connected", [flat], TensorType((2, 5)), weights=dense, name="dense")]
    return draft.finish(weights=True)
