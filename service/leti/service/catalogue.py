"""The catalogue: networks as users give them become graphs with fingerprints, and model files."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import final

from leti.core.codec import LARGEST_INT, from_json
from leti.core.errors import ArtifactError, InvalidInput, TooLarge
from leti.core.spec import NetworkSpec
from leti.core.wire import Network, NetworkInput, Zero
from leti.generator.lowering import lower
from leti.generator.spaces import get_space, parse_network
from leti.service.store import KnownNetwork, Store

REMEMBERED = 8_192
"""Networks whose lowering is kept in memory: a search asks for many of them again and again."""

MAX_MODEL_PARAMS = 64 * 1024 * 1024
"""Weights that a model file may have: 256 MiB of them in float32."""


def read_networks(networks: Sequence[NetworkInput], zero: Zero, *, limit: int) -> list[KnownNetwork]:
    """Return networks lowered and named, in order; raise :class:`InvalidInput` naming the one at fault."""
    if not networks:
        raise InvalidInput("must hold at least one network", field="networks")
    check_count(len(networks), limit, "networks")
    return [_read(value, zero, f"networks[{i}]") for i, value in enumerate(networks)]


def check_count(count: int, limit: int, field: str) -> None:
    """Raise :class:`TooLarge` where there are more networks than one request may hold."""
    if count > limit:
        raise TooLarge(f"holds {count} networks", field=field, remedy=f"at most {limit} in one request", limit=limit)


def _read(value: NetworkInput, zero: Zero, where: str) -> KnownNetwork:
    spec = parse_network(value, where=where)
    try:
        return name_network(spec, zero)
    except InvalidInput as error:
        if not error.field.startswith(where):
            error.field = f"{where}.{error.field}" if error.field else where
        raise


@functools.lru_cache(maxsize=REMEMBERED)
def name_network(spec: NetworkSpec, zero: Zero) -> KnownNetwork:
    """Return a checked spec's network with its graph."""
    graph = lower(spec, zero)
    if graph.macs > LARGEST_INT:  # parameters and memory are fewer
        raise TooLarge(
            f"takes {graph.macs} multiplications", field="config", remedy=f"at most {LARGEST_INT}", limit=LARGEST_INT
        )
    space = get_space(spec.space)
    network = Network(
        fingerprint=graph.fingerprint(),
        space=spec.space,
        spec=spec.to_json(),
        zero=zero,
        isomorphism_class=space.isomorphism_class(spec),
        degenerate=space.is_degenerate(spec),
        macs=graph.macs,
        params=graph.params,
        peak_memory_bytes=graph.peak_memory_bytes,
    )
    return KnownNetwork(network, graph)


@final
class ModelFiles:
    """Model files of known networks, each written once into ``folder`` and named by its SHA-256."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store

    def get(self, fingerprint: str) -> tuple[bytes, str]:
        """Return a network's TFLite file and its SHA-256; it is written where it is missing or damaged.

        Raises :class:`NotFound` for the network, :class:`TooLarge` and what the export raises.
        """
        sha256 = self._store.networks.model_sha256(fingerprint, "tflite")
        if sha256 is not None:
            content = self._read(sha256)
            if content is not None:
                return content, sha256
        network = self._store.networks.get(fingerprint)
        graph = self._store.networks.graphs([fingerprint])[0]
        if graph.fingerprint() != fingerprint:
            raise ArtifactError("the stored graph is not the one that its fingerprint names", field="fingerprint")
        content = self._export(KnownNetwork(network, graph))
        found = self._write(content)
        if found != sha256:
            self._store.networks.set_model_sha256(fingerprint, "tflite", found)
        return content, found

    def _export(self, known: KnownNetwork) -> bytes:
        from leti.generator.export.tflite import export_tflite  # brings the flatbuffer schema

        if known.network.params > MAX_MODEL_PARAMS:
            raise TooLarge(
                f"has {known.network.params} parameters",
                field="fingerprint",
                remedy=f"at most {MAX_MODEL_PARAMS} in a model file",
                limit=MAX_MODEL_PARAMS,
            )
        spec = from_json(NetworkSpec, known.network.spec)
        return export_tflite(known.graph, source=(spec, known.network.zero))

    def _read(self, sha256: str) -> bytes | None:
        try:
            content = (self._folder / f"{sha256}.tflite").read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    def _write(self, content: bytes) -> str:
        """Write a file under its SHA-256 at once or not at all; return the SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
            file.write(content)
        os.replace(file.name, self._folder / f"{sha256}.tflite")
        return sha256
