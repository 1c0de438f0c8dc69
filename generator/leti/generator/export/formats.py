"""A graph as a model file of any format: the writers by the name of what they write, imported when asked for."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from leti.core.device import ModelFormat
from leti.core.graph import Graph
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero

Source = tuple[NetworkSpec, Zero]
"""The spec that a graph was lowered from, and what its ``none`` meant."""

WRITERS: Final[Mapping[ModelFormat, str]] = MappingProxyType(
    {
        "tflite": "leti.generator.export.tflite:export_tflite",
        "onnx": "leti.generator.export.onnx:export_onnx",
        "pt2": "leti.generator.export.torch:export_torch",
    }
)
"""What writes each format: a function of a graph and, by name, a seed, to the bytes of the file."""


def export_model(
    graph: Graph, model_format: ModelFormat = "tflite", *, seed: int = 0, source: Source | None = None
) -> bytes:
    """Return ``graph`` as a model file with random weights drawn by ``seed``; a TFLite file carries its ``source``.

    Raises :class:`~leti.core.errors.MissingExtra` where the writer's extra is not installed, and
    :class:`~leti.core.errors.InvalidInput` naming the operator, or the data type, that the format cannot hold.
    """
    more: dict[str, Any] = {"source": source} if model_format == "tflite" else {}
    written: bytes = pkgutil.resolve_name(WRITERS[model_format])(graph, seed=seed, **more)
    return written
