"""What LiteRT raises, and the errors that it becomes."""

from __future__ import annotations

from typing import Final

from leti.core.errors import MeasurementFailed
from leti.device_agents.desktop.sessions import first_line

LITERT_ERRORS: Final = (ValueError, RuntimeError, TypeError)
"""What LiteRT raises: ``ValueError`` for files that are no models, ``RuntimeError`` for the rest."""

_NOT_IMPLEMENTED: Final = ("unresolved custom op", "Didn't find op for builtin opcode", "Select TensorFlow op")


def refusal(error: Exception) -> MeasurementFailed:
    """Return the error of LETI's for what LiteRT raised on loading a model or running it for the first time."""
    unsupported = any(words in str(error) for words in _NOT_IMPLEMENTED)
    return MeasurementFailed(
        f"LiteRT cannot load or run the model: {first_line(error)}",
        field="model",
        failure="unsupported" if unsupported else "bad-model",
    )
