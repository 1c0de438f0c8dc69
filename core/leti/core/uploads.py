"""What travels when a model file is uploaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leti.core.wire import Problem

UploadFormat = Literal["tflite", "onnx"]
"""Formats of model files that are uploaded: those that are read without running anything of what they hold."""

UploadState = Literal["received", "parsing", "known", "refused"]
"""A file waits to be read, is being read, has been read, or cannot be read or holds a network over the limits."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A model file by its SHA-256. The same file sent again is the same upload.

    ``fingerprint`` names the network that a known file holds. Where several files hold one network, the first is the
    one that is measured. ``problem`` says why a file was refused; to send it again has it read again. ``task_id`` is
    the worker's task that reads it.
    """

    id: int
    sha256: str
    format: UploadFormat
    bytes: int
    state: UploadState
    fingerprint: str | None
    problem: Problem | None
    created_at: str
    task_id: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the file has been read, with whatever end."""
        return self.state in ("known", "refused")


@dataclass(frozen=True, slots=True)
class ReadUpload:
    """The task of reading one uploaded file; it is queued by the upload itself."""

    upload_id: int
