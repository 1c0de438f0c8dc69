"""Model files kept on disk: what was written once of a graph, a seed and a format is not written again."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from leti.core.device import ModelFormat
from leti.core.errors import ArtifactError, InvalidInput
from leti.core.graph import Graph
from leti.generator.export.formats import WRITERS

Format = ModelFormat

WRITER_VERSIONS: Mapping[Format, int] = {"tflite": 3, "onnx": 1, "pt2": 1}
"""To be raised when a writer makes another file of the same graph: kept files of older versions are found no more."""

MAX_BYTES = 4 * 1024**3
_ABANDONED_S = 3600.0
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a file follows from: a graph, its precision in it, the seed of its weights, and a format."""

    graph: Graph
    format: Format = "tflite"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the format."""
        if self.format not in WRITERS:
            raise InvalidInput(f"is none of {', '.join(WRITERS)}: {self.format!r}", field="format")

    @property
    def name(self) -> str:
        """Name of the file: fingerprint, seed, the writer's version, format."""
        return f"{self.graph.fingerprint()}-{self.seed}-v{WRITER_VERSIONS[self.format]}.{self.format}"


@final
class ModelFiles:
    """Files of conversions in a folder of bounded size; what was not asked for longest goes first.

    Several processes may share a folder: a file is there whole or not at all, and each ends in its SHA-256, without
    which it is not believed.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Keep files in ``folder``, made if need be, of ``max_bytes`` together."""
        self._folder = folder
        self._max_bytes = max_bytes

    def get(self, conversion: Conversion) -> bytes | None:
        """Return a file that is kept; ``None`` where none is, or it is damaged."""
        path = self._folder / conversion.name
        try:
            stored = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        content, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            return content
        path.unlink(missing_ok=True)
        return None

    def put(self, conversion: Conversion, content: bytes) -> None:
        """Keep a file; raise :class:`ArtifactError` where the folder cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
                file.write(content)
                file.write(hashlib.sha256(content).digest())
            os.replace(file.name, self._folder / conversion.name)
        except OSError as error:
            raise ArtifactError(
                f"cannot be kept in {self._folder}: {error.strerror}",
                field="folder",
                remedy="give a folder to write in",
            ) from error
        self._make_room()

    def _make_room(self) -> None:
        """Remove the files that were asked for longest ago, and what dead processes left half written."""
        known = []
        for path in self._folder.iterdir():
            try:
                status = path.stat()
            except OSError:
                continue  # another process removed it
            if path.suffix == ".part":
                if time.time() - status.st_mtime > _ABANDONED_S:
                    path.unlink(missing_ok=True)
            elif path.suffix.removeprefix(".") in WRITERS:
                known.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in known) - self._max_bytes
        for _, size, path in sorted(known)[:-1]:  # the newest stays, however large
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size

    def names(self) -> Iterator[str]:
        """Yield the names of the files that are kept."""
        if self._folder.is_dir():
            yield from sorted(path.name for path in self._folder.iterdir() if path.suffix[1:] in WRITERS)
