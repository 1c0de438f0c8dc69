"""Intake: a file that was sent is kept until a worker has read it, and becomes a dataset or is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, final

from leti.core.datasets import DatasetFormat, DatasetInfo, DatasetOrigin, ImportRequest
from leti.core.errors import ArtifactError, InvalidInput, VersionMismatch
from leti.core.tasks import Task
from leti.service.artifacts import Artifact, ArtifactStore, Part
from leti.service.datasets.checking import Rows, check_header
from leti.service.datasets.reading import opened
from leti.service.reporter import Reporter
from leti.service.settings import Settings
from leti.service.store import Imported, KnownNetwork, Store

log = logging.getLogger(__name__)

IMPORT_DATASET: Final = "import-dataset"
"""The kind of task that reads a file."""

PIECE: Final = 500
"""Networks that are kept at a time."""


@final
class Imports:
    """Takes files of datasets in, and reads them."""

    def __init__(self, store: Store, artifacts: ArtifactStore, settings: Settings) -> None:
        self._store = store
        self._artifacts = artifacts
        self._settings = settings

    def receive(self, part: Part, form: DatasetFormat, by: str) -> Task:
        """Keep a file that has arrived, and have a worker read it; raise :class:`InvalidInput` for one of no bytes."""
        if not part.size_bytes:
            raise InvalidInput("is empty", field="(body)", remedy="send the file as the body")
        self._artifacts.keep(part, "datasets", form)
        return self._store.tasks.add(IMPORT_DATASET, None, ImportRequest(part.sha256, form), by=by)

    def read(self, request: ImportRequest, reporter: Reporter) -> DatasetInfo:
        """Read a file, and keep its dataset; one that was imported before is answered as it is.

        Raises :class:`InvalidInput` naming the row and the column at fault, and what
        :func:`~leti.service.datasets.reading.opened` raises. The file is kept no longer, unless it may be read yet.
        """
        file = Artifact("datasets", request.sha256, request.format)
        found = self._store.datasets.of_file(request.sha256)
        try:
            found = found or self._import(self._artifacts.path(file), request, reporter)
        except (InvalidInput, VersionMismatch):
            self._artifacts.delete(file)
            raise
        except ArtifactError as error:
            error.remedy = "send the file again"
            raise
        self._artifacts.delete(file)
        return found

    def _import(self, path: Path, request: ImportRequest, reporter: Reporter) -> DatasetInfo:
        reporter.at("reading the file")
        with opened(path, request.format, self._settings) as (header, lines):
            reference = check_header(header)
            rows = Rows(header, self._settings.graph_limits)
            total = header.networks_train + header.networks_holdout
            self._store.networks.add([reference])
            networks: list[KnownNetwork] = []
            for done, row in enumerate(lines, 1):
                networks.append(rows.take(row))
                if len(networks) == PIECE:
                    self._store.networks.add(networks)
                    networks.clear()
                    reporter.at("reading networks", done, total)
            rows.end()
        self._store.networks.add(networks)
        reporter.at("keeping the dataset", total, total)
        origin = DatasetOrigin(
            dataset_id=header.dataset_id,
            created_at=header.created_at,
            reference_version=header.reference_version,
            leti_version=header.leti_version,
            format=request.format,
            sha256=request.sha256,
        )
        imported = Imported(
            platform=header.platform,
            reference=header.reference,
            reference_latency_ms=header.reference_latency_ms,
            holdout_share=header.holdout_share,
            seed=header.seed,
            repeatability=header.repeatability,
            parts=rows.parts,
            profiles=rows.profiles,
            origin=origin,
        )
        found = self._store.datasets.keep(imported)
        log.info(
            "dataset %d: %d networks train, %d are held out",
            found.id,
            len(rows.parts["train"]),
            len(rows.parts["test"]),
        )
        return found
