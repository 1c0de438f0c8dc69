"""Model files: which precisions each format holds, and the files that were written."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, final, get_args

from leti.core.codec import from_json
from leti.core.device import ModelFormat, ModelPrecision
from leti.core.errors import ArtifactError, InvalidInput, TooLarge
from leti.core.spec import NetworkSpec
from leti.generator.export.formats import export_model
from leti.service.store import Store

MAX_MODEL_PARAMS: Final = 64 * 1024 * 1024
"""Weights that a model file may have: 256 MiB of them in float32."""

HELD: Final[Mapping[ModelFormat, tuple[ModelPrecision, ...]]] = MappingProxyType(
    {"tflite": get_args(ModelPrecision), "onnx": ("float32",), "pt2": ("float32",)}
)
"""The precisions of networks that a format's writer can write."""


def check_held(precision: ModelPrecision, model_format: ModelFormat, field: str) -> None:
    """Raise :class:`InvalidInput`, naming ``field``, where files of a format do not hold networks of a precision."""
    if precision not in HELD[model_format]:
        holding = [name for name, held in HELD.items() if precision in held]
        raise InvalidInput(
            f"{model_format} files are written of {', '.join(HELD[model_format])} networks, not of {precision} ones",
            field=field,
            remedy=f"{precision} is written as {', '.join(holding)}",
            precision=precision,
            format=model_format,
        )


@final
class ModelFiles:
    """Model files of known networks, each written once into ``folder`` and named by its SHA-256 and format."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store

    def get(self, fingerprint: str, model_format: ModelFormat = "tflite") -> tuple[bytes, str]:
        """Return a network's model file and its SHA-256; it is written where it is missing or damaged.

        Raises :class:`NotFound` for the network, :class:`InvalidInput` for a format that does not hold its precision,
        :class:`TooLarge`, :class:`InvalidGraph` for an operator that the format cannot say, and :class:`MissingExtra`
        where what writes the format is not installed.
        """
        sha256 = self._store.networks.model_sha256(fingerprint, model_format)
        if sha256 is not None:
            content = self._read(sha256, model_format)
            if content is not None:
                return content, sha256
        network = self._store.networks.get(fingerprint)
        check_held(network.precision, model_format, "format")
        if network.params > MAX_MODEL_PARAMS:
            raise TooLarge(
                f"has {network.params} parameters",
                field="fingerprint",
                remedy=f"at most {MAX_MODEL_PARAMS} in a model file",
                limit=MAX_MODEL_PARAMS,
            )
        graph = self._store.networks.graphs([fingerprint])[0]
        if graph.fingerprint() != fingerprint:
            raise ArtifactError("the stored graph is not the one that its fingerprint names", field="fingerprint")
        source = (from_json(NetworkSpec, network.spec), network.zero)
        content = export_model(graph, model_format, source=source)
        found = self._write(content, model_format)
        if found != sha256:
            self._store.networks.set_model_sha256(fingerprint, model_format, found)
        return content, found

    def _read(self, sha256: str, model_format: ModelFormat) -> bytes | None:
        try:
            content = (self._folder / f"{sha256}.{model_format}").read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    def _write(self, content: bytes, model_format: ModelFormat) -> str:
        """Write a file under its SHA-256 at once or not at all; return the SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
            file.write(content)
        os.replace(file.name, self._folder / f"{sha256}.{model_format}")
        return sha256
