"""Intake: a file that was sent is kept, read by a worker, and either becomes a network's model file or goes again."""

from __future__ import annotations

import logging
from typing import Final, final

from leti.core.errors import ArtifactError, InvalidInput, LetiError
from leti.core.graph import Graph
from leti.core.uploads import ReadUpload, Upload, UploadFormat
from leti.core.wire import MODEL_SHA256_HEADER
from leti.service.artifacts import Artifact, ArtifactStore, Part
from leti.service.problems import problem
from leti.service.settings import Settings
from leti.service.specless import name_graph
from leti.service.store import Store
from leti.service.uploads.reading import read_model
from leti.service.uploads.sandbox import Limits

log = logging.getLogger(__name__)

READ_UPLOAD: Final = "read-upload"
"""The kind of task that reads a file."""


@final
class Uploads:
    """Takes model files in, and reads them."""

    def __init__(self, store: Store, artifacts: ArtifactStore, settings: Settings) -> None:
        self._store = store
        self._artifacts = artifacts
        self._limits = Limits(settings.parse_timeout_s, settings.parse_memory_bytes)
        self._graphs = settings.graph_limits

    def receive(
        self, part: Part, model_format: UploadFormat, stated_sha256: str | None, by: str
    ) -> tuple[Upload, bool]:
        """Keep a file that has arrived, and have it read; return its upload, and whether that is new.

        The same file again is the same upload: one that is known is not read again, one that was refused is. Raises
        :class:`InvalidInput` for a file of no bytes, and for one that is not of the SHA-256 that its sender states.
        """
        if not part.size_bytes:
            raise InvalidInput("is empty", field="(body)", remedy="send the model file as the body")
        if stated_sha256 not in (None, part.sha256):
            raise InvalidInput(
                f"states another SHA-256 than the body has, which is {part.sha256}",
                field=MODEL_SHA256_HEADER,
                remedy="send the file again",
            )
        known = self._store.uploads.find(part.sha256, model_format)
        if known is not None and known.state == "known":
            self._restore(part, known)
            return known, False
        self._artifacts.keep(part, "uploads", model_format)
        upload, new = self._store.uploads.receive(part.sha256, model_format, part.size_bytes)
        if upload.task_id is None or self._store.tasks.get(upload.task_id).ended:
            task = self._store.tasks.add(READ_UPLOAD, None, ReadUpload(upload.id), by=by)
            upload = self._store.uploads.hand_over(upload.id, task.id)
        return upload, new

    def read(self, upload_id: int) -> Upload:
        """Read a file that waits to be, and keep its network; return what became of it.

        What is wrong with a file is told in its upload, and the file goes.
        """
        upload = self._store.uploads.begin(upload_id)
        if upload.state != "parsing":
            return upload
        try:
            graph = self._graph(upload)
        except (InvalidInput, ArtifactError) as error:
            log.info("upload %d is refused: %s", upload_id, error)
            self._store.uploads.refuse(upload_id, problem(error))
            self._artifacts.delete(_received(upload))
        except LetiError as error:
            self._store.uploads.refuse(upload_id, problem(error))  # the file may be right: it stays
            raise
        else:
            # In this order, a worker that ends in between leaves nothing known whose file is not in its place.
            model = self._artifacts.copy(_received(upload), "models", upload.format)
            if not self._store.uploads.accept(upload_id, name_graph(graph, "upload")):
                self._artifacts.delete(model)  # another file of this network is the one that is measured
            self._artifacts.delete(_received(upload))
        return self._store.uploads.get(upload_id)

    def _graph(self, upload: Upload) -> Graph:
        return read_model(self._artifacts.path(_received(upload)), upload.format, self._limits, self._graphs)

    def _restore(self, part: Part, known: Upload) -> None:
        """Put a file back that is the one to be measured, and was lost or damaged."""
        assert known.fingerprint is not None  # noqa: S101 - what is known has one
        if self._store.networks.model_sha256(known.fingerprint, known.format) == part.sha256:
            self._artifacts.keep(part, "models", known.format)


def _received(upload: Upload) -> Artifact:
    return Artifact("uploads", upload.sha256, upload.format)
