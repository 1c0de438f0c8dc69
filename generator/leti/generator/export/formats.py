"""A graph as a model file of any format: the writers by the name of what they write, imported when asked for."""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from leti.core.device import ModelFormat
from leti.core.errors import InvalidInput
from leti.core.graph import Graph, Op
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


def check_writable(graph: Graph, model_format: ModelFormat) -> None:
    """Raise what :func:`export_model` would for an operator that the format cannot hold, without writing the graph.

    Each operator is written alone when it is met first: graphs of one search space are made of the same few hundred.
    What fails alone is tried in its graph, where other operators may tell what it needs to be known.
    """
    pkgutil.resolve_name(WRITERS[model_format])  # what is not installed fails whatever was tried before
    if not all(_is_writable(op, model_format) for op in set(graph.ops)):
        export_model(graph, model_format)


@functools.lru_cache(maxsize=16_384)
def _is_writable(op: Op, model_format: ModelFormat) -> bool:
    """Return whether a format can hold an operator by itself."""
    read = tuple(range(len(op.inputs)))
    made = tuple(range(len(op.inputs), len(op.inputs) + len(op.outputs)))
    try:
        export_model(Graph(op.inputs, (op,), (read,), made), model_format)
    except InvalidInput:
        return False
    return True
