"""Networks, platforms and model files, awaited: methods of the client, one for each route or flow."""

from __future__ import annotations

from abc import ABC
from pathlib import Path

from leti.client.calls import networks
from leti.client.connection import AsyncConnection
from leti.core.device import ModelFormat, Platform
from leti.core.uploads import Upload, UploadFormat
from leti.core.wire import Accuracy, AccuracyRequest, Health, Network, NetworksRequest, PlatformInfo


class AsyncNetworkMethods(ABC):
    """Methods over a connection."""

    _connection: AsyncConnection

    async def health(self) -> Health:
        """Return what the service says of itself."""
        return await self._connection.send(networks.health())

    async def add_networks(self, request: NetworksRequest) -> tuple[Network, ...]:
        """Make networks known to the service; return them in the order of the request."""
        return await self._connection.run(networks.add_networks(request))

    async def network(self, fingerprint: str) -> Network:
        """Return the network of this fingerprint; raise :class:`~leti.core.errors.NotFound` where it is unknown."""
        return await self._connection.send(networks.network(fingerprint))

    async def model(self, fingerprint: str, format: ModelFormat = "tflite") -> bytes:
        """Return a network's model file, checked against the SHA-256 that the service states.

        Raises :class:`~leti.core.errors.ArtifactError` where file and SHA-256 differ,
        :class:`~leti.core.errors.InvalidInput` where files of this format cannot hold the network, and
        :class:`~leti.core.errors.MissingExtra` where the service cannot write them.
        """
        return await self._connection.send(networks.model(fingerprint, format))

    async def set_accuracy(self, fingerprint: str, task: str, accuracy: float, *, remark: str = "") -> Accuracy:
        """Keep what a known network reached on a task such as "cifar10-valid", a share from 0 to 1; return it.

        Raises :class:`~leti.core.errors.NotFound` where the network is unknown.
        """
        return await self._connection.send(networks.set_accuracy(fingerprint, task, AccuracyRequest(accuracy, remark)))

    async def accuracies(self, fingerprint: str) -> tuple[Accuracy, ...]:
        """Return what a known network reached on each task that somebody trained it for."""
        return await self._connection.send(networks.accuracies(fingerprint))

    async def upload_model(self, file: Path | bytes, format: UploadFormat, *, timeout_s: float = 600.0) -> Upload:
        """Send a model file, and return it once a worker has read the network that it holds.

        A path is sent piece by piece. Raises what the file was refused for, and
        :class:`~leti.core.errors.Unavailable` where it was not read within ``timeout_s``.
        """
        return await self._connection.run(networks.upload_model(file, format, timeout_s))

    async def start_upload(self, file: Path | bytes, format: UploadFormat) -> Upload:
        """Send a model file; return it at once, perhaps before it was read. The same file is the same upload."""
        return await self._connection.send(networks.start_upload(file, format))

    async def upload(self, upload_id: int, *, wait_s: float = 0.0) -> Upload:
        """Return an upload, or wait up to ``wait_s`` (30 at most) for it to be read first."""
        return await self._connection.send(networks.upload(upload_id, wait_s))

    async def register_platform(self, platform: Platform) -> PlatformInfo:
        """Make a platform known to the service, or find it there; return what is known of it."""
        return await self._connection.send(networks.register_platform(platform))

    async def platforms(self) -> tuple[PlatformInfo, ...]:
        """Return every platform that the service knows."""
        return await self._connection.send(networks.platforms())

    async def platform(self, platform_id: str) -> PlatformInfo:
        """Return one platform; raise :class:`~leti.core.errors.NotFound` where it is unknown."""
        return await self._connection.send(networks.platform(platform_id))
