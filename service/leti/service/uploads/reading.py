"""Reading an uploaded file: a sandboxed child imports it, and nothing that it answers is believed unchecked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from leti.core.codec import Json, read_object
from leti.core.errors import InvalidGraph, InvalidInput, LetiError, MissingExtra, TooLarge, printable
from leti.core.graph import Graph
from leti.core.uploads import UploadFormat
from leti.service.settings import GraphLimits
from leti.service.uploads import sandbox

READER: Final = (sys.executable, "-I", "-B", "-m", "leti.service.uploads.child")
"""Python by itself: nothing of the environment or of a user's folder is imported."""

_SAID: Final[Mapping[str, type[LetiError]]] = MappingProxyType(
    {cls.kind: cls for cls in (InvalidInput, InvalidGraph, TooLarge, MissingExtra)}
)
"""What the child may say is amiss; whatever else it says, the file is at fault."""


def read_model(path: Path, model_format: UploadFormat, limits: sandbox.Limits, graphs: GraphLimits) -> Graph:
    """Return the graph of a model file, checked like one from a request: shapes fit, costs follow from them.

    Raises :class:`InvalidInput` (or a class below it) for a file that is none of the format, is damaged, takes more
    than the limits to be read or crashes its reader, and :class:`MissingExtra` where what reads it is not installed.
    """
    from leti.service.answering.graphs import read_graph  # brings numpy

    said = sandbox.run(READER, path, f"model.{model_format}", limits)
    answer = read_object(said, "model", required=(), optional=("graph", "problem"))
    if "graph" not in answer:
        raise told_problem(answer.get("problem"))
    graph, _ = read_graph(answer["graph"], "execute", "model", graphs)
    return graph


def told_problem(said: Json) -> LetiError:
    """Return the error that a child told."""
    texts = {name: str(text) for name, text in said.items()} if isinstance(said, dict) else {}
    cls = _SAID.get(texts.get("kind", ""), InvalidInput)
    message, field, remedy = (printable(texts.get(name, ""))[:1_000] for name in ("message", "field", "remedy"))
    return cls(message or "cannot be read", field=field or "(body)", remedy=remedy)
