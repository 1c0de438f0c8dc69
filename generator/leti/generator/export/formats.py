"""A graph as a model file of any format: the writers by the name of what they write, imported when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from leti.core.device import ModelFormat
from leti.core.graph import Graph
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero

Source = tuple[NetworkSpec, Zero]
"""The spec that a graph was lowered from, and what its ``none`` meant."""


def _tflite(graph: Graph, seed: int, source: Source | None) -> bytes:
    from leti.generator.export.tflite import export_tflite

    return export_tflite(graph, seed=seed, source=source)


def _onnx(graph: Graph, seed: int, source: Source | None) -> bytes:
    from leti.generator.export.onnx import export_onnx

    return export_onnx(graph, seed=seed)


def _pt2(graph: Graph, seed: int, source: Source | None) -> bytes:
    from leti.generator.export.torch import export_torch

    return export_torch(graph, seed=seed)


WRITERS: Final[Mapping[ModelFormat, Callable[[Graph, int, Source | None], bytes]]] = MappingProxyType(
    {"tflite": _tflite, "onnx": _onnx, "pt2": _pt2}
)
"""What writes each format."""


def export_model(
    graph: Graph, model_format: ModelFormat = "tflite", *, seed: int = 0, source: Source | None = None
) -> bytes:
    """Return ``graph`` as a model file with random weights drawn by ``seed``; a TFLite file carries its ``source``.

    Raises :class:`~leti.core.errors.MissingExtra` where the writer's extra is not installed, and
    :class:`~leti.core.errors.InvalidInput` naming the operator, or the data type, that the format cannot hold.
    """
    return WRITERS[model_format](graph, seed, source)
