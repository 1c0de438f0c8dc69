"""Model files from the service, kept in memory while they are likely to be wanted again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, final

from leti.client import LatencyClient
from leti.core.device import ModelFormat

MOST_BYTES: Final = 128 * 1024 * 1024


@final
class Models:
    """Downloads by fingerprint, each checked against its SHA-256; the least recently used ones make room."""

    def __init__(self, client: LatencyClient, *, most_bytes: int = MOST_BYTES) -> None:
        self._client = client
        self._most_bytes = most_bytes
        self._files: OrderedDict[tuple[str, ModelFormat], bytes] = OrderedDict()

    def get(self, fingerprint: str, model_format: ModelFormat) -> bytes:
        """Return a network's model file; raise what :meth:`~leti.client.LatencyClient.model` raises."""
        key = (fingerprint, model_format)
        if key not in self._files:
            self._files[key] = self._client.model(fingerprint, model_format)
        self._files.move_to_end(key)
        while len(self._files) > 1 and sum(map(len, self._files.values())) > self._most_bytes:
            self._files.popitem(last=False)
        return self._files[key]
