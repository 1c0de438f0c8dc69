"""Networks that people have: Keras, TFLite, ONNX and PyTorch models become graphs.

Each format has a module that reads a model as a :class:`~leti.generator.importers.draft.Draft`, by one table of its
operators. An operator without an entry is kept as ``unknown:NAME`` with its shapes; none is dropped.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast

from leti.core.errors import InvalidInput, TooLarge
from leti.core.extras import needs
from leti.generator.importers.draft import Draft, Imported

with needs("export"):
    import numpy as np

__all__ = ["FORMATS", "Imported", "InputShapes", "import_model"]

InputShapes = Mapping[str, tuple[int, ...]]
"""Shape of each input by its name in the file, in the file's own layout; "" is the only input."""

Source = Path | object
"""A file, the bytes of a .tflite or .pt2 file, or the framework's own object in memory."""

FORMATS: Mapping[str, str] = {
    ".tflite": "leti.generator.importers.tflite:read_tflite",
    ".onnx": "leti.generator.importers.onnx:read_onnx",
    ".keras": "leti.generator.importers.keras:read_keras",
    ".pt2": "leti.generator.importers.torch:read_torch",
}
"""The reader of each file name's ending: ``(Path or model, input shapes) -> Draft``."""

_LAYOUTS: Mapping[str, Literal["inner", "kept"]] = {".tflite": "kept", ".keras": "inner"}
"""What of the layout may change where a format has channels last; see ``passes.normalise``."""

_MAGIC: Mapping[str, tuple[int, bytes]] = {".tflite": (4, b"TFL3"), ".pt2": (0, b"PK\x03\x04")}
"""Where the bytes of a file say what it is, and how."""

MAX_FILE_BYTES = 2**31 - 1
"""The most that a flatbuffer or a protobuf can be."""

_REMEDIES = {
    ".h5": "save it again as model.keras",
    ".pt": "torch.export.save(torch.export.export(model, inputs), 'model.pt2')",
    ".pth": "torch.export.save(torch.export.export(model, inputs), 'model.pt2')",
}


def import_model(
    model: str | Source, *, weights: bool = False, input_shapes: InputShapes | None = None, fold: bool = True
) -> Imported:
    """Return the graph of a .tflite, .onnx, .keras or .pt2 file, or of a Keras model or a torch ``ExportedProgram``.

    The bytes of a .tflite or .pt2 file will do as well.

    With ``fold``, the standard fusions are made, and the graph is what runs: batch norms and constants in the weights
    of the convolutions before them, activations that are spelled out recognised, identities and dead branches gone.
    Without, the graph has the operators that the file has, and ``graph.params`` is the framework's count. ``weights``
    asks for the weights as well, which are otherwise not loaded. ``input_shapes`` are the shapes of inputs that the
    model leaves open, batch included.

    Raises :class:`~leti.core.errors.ArtifactError` for a damaged file, :class:`~leti.core.errors.InvalidInput` for a
    format that is not known or a shape that is missing, :class:`~leti.core.errors.TooLarge` for a model over the
    limits, and :class:`~leti.core.errors.MissingExtra` where the format's libraries are not installed.
    """
    from leti.generator.importers.passes import fold as folded
    from leti.generator.importers.passes import normalise

    if isinstance(model, str):
        model = Path(model)
    suffix = _suffix_of_file(model) if isinstance(model, Path) else _suffix_of_object(model)
    with np.errstate(all="ignore"):  # weights may be absurd, which is no fault of what is computed of them
        draft = normalise(_reader_of(suffix)(model, dict(input_shapes or {})), layout=_LAYOUTS.get(suffix, "free"))
        if fold:
            draft = folded(draft)
        return draft.finish(weights=weights)


def _reader_of(suffix: str) -> Callable[[Source, InputShapes], Draft]:
    module, function = FORMATS[suffix].split(":")
    return cast("Callable[[Source, InputShapes], Draft]", getattr(importlib.import_module(module), function))


def _suffix_of_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidInput(
            f"models of the form {suffix or path.name!r} are not read",
            field="model",
            remedy=_REMEDIES.get(suffix, f"give one of {', '.join(FORMATS)}"),
        )
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidInput(f"{path.name!r} cannot be read: {error.strerror}", field="model") from error
    if not path.is_file():
        raise InvalidInput(f"{path.name!r} is no file", field="model")
    if size > MAX_FILE_BYTES:
        raise TooLarge(f"has {size} bytes", field="model", remedy=f"at most {MAX_FILE_BYTES}", limit=MAX_FILE_BYTES)
    return suffix


def _suffix_of_object(model: object) -> str:
    """Return the ending of the files that the framework of an object writes, without importing any framework."""
    if isinstance(model, bytes):
        for suffix, (place, magic) in _MAGIC.items():
            if model[place : place + len(magic)] == magic:
                return suffix
    for cls in type(model).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ("keras", "tensorflow"):
            return ".keras"
        if package == "torch":
            return ".pt2"
        if package == "onnx":
            return ".onnx"
    raise InvalidInput(f"a {type(model).__name__} is no model", field="model", remedy=f"give {', '.join(FORMATS)}")
