"""Model files: which precisions each format holds, and the files that were written."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, final, get_args

from leti.core.codec import from_json
from leti.core.device import ModelFormat, ModelPrecision
from leti.core.errors import ArtifactError, InvalidInput, LetiError, TooLarge
from leti.core.spec import NetworkSpec
from leti.core.wire import Network
from leti.generator.export.formats import check_writable, export_model
from leti.service.artifacts import Artifact, ArtifactStore
from leti.service.store import KnownNetwork, Store

MAX_MODEL_PARAMS: Final = 64 * 1024 * 1024
"""Weights that a model file may have: 256 MiB of them in float32."""

WRITTEN_AT_ONCE: Final = 2
"""Files that a process writes at the same time: each takes several times its size in memory."""

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
    """Model files of known networks: those that were uploaded, and those that are written once when asked for."""

    def __init__(self, artifacts: ArtifactStore, store: Store) -> None:
        self._artifacts = artifacts
        self._store = store
        self._room = threading.BoundedSemaphore(WRITTEN_AT_ONCE)

    def get(self, fingerprint: str, model_format: ModelFormat = "tflite") -> tuple[bytes, str]:
        """Return a network's model file and its SHA-256; it is written where it is missing or damaged.

        Raises :class:`NotFound` for the network, :class:`InvalidInput` for a format that does not hold its precision,
        :class:`TooLarge`, :class:`InvalidGraph` for an operator that the format cannot say, :class:`MissingExtra`
        where what writes the format is not installed, and :class:`ArtifactError` where an uploaded file is lost.
        """
        sha256 = self._store.networks.model_sha256(fingerprint, model_format)
        if sha256 is not None:
            try:
                return self._artifacts.get(Artifact("models", sha256, model_format)), sha256
            except ArtifactError as error:
                if self._store.uploads.find(sha256, model_format) is not None:
                    error.remedy = "upload the file again: POST /v1/uploads"
                    raise  # another file of this graph would be measured in its place
        content = self._write(fingerprint, model_format)
        found = self._artifacts.put(content, "models", model_format).sha256
        if found != sha256:
            self._store.networks.set_model_sha256(fingerprint, model_format, found)
        return content, found

    def refusals(self, known: Sequence[KnownNetwork], model_format: ModelFormat) -> dict[str, LetiError]:
        """Return for which networks no model file can be had, by fingerprint, and why; nothing is written for that.

        Raises :class:`MissingExtra` where what writes the format is not installed.
        """
        there = self._store.networks.with_models([item.network.fingerprint for item in known], model_format)
        found: dict[str, LetiError] = {}
        for network, graph in ((item.network, item.graph) for item in known):
            if network.fingerprint not in there:
                try:
                    _check(network, model_format)
                    check_writable(graph, model_format)
                except InvalidInput as error:
                    error.details = {**error.details, "fingerprint": network.fingerprint, "format": model_format}
                    found[network.fingerprint] = error.with_traceback(None)
        return found

    def _write(self, fingerprint: str, model_format: ModelFormat) -> bytes:
        network = self._store.networks.get(fingerprint)
        _check(network, model_format)
        graph = self._store.networks.graphs([fingerprint])[0]
        if graph.fingerprint() != fingerprint:
            raise ArtifactError("the stored graph is not the one that its fingerprint names", field="fingerprint")
        source = None if network.spec is None else (from_json(NetworkSpec, network.spec), network.zero)
        with self._room:
            return export_model(graph, model_format, source=source)


def _check(network: Network, model_format: ModelFormat) -> None:
    """Raise :class:`InvalidInput` where a format does not hold networks of this precision, or of this size."""
    check_held(network.precision, model_format, "format")
    if network.params > MAX_MODEL_PARAMS:
        raise TooLarge(
            f"has {network.params} parameters",
            field="fingerprint",
            remedy=f"at most {MAX_MODEL_PARAMS} in a model file",
            limit=MAX_MODEL_PARAMS,
        )
