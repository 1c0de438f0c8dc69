"""Tasks that import datasets."""

from __future__ import annotations

from leti.core.datasets import DatasetInfo, ImportRequest
from leti.service.artifacts import ArtifactStore
from leti.service.reporter import Reporter
from leti.service.tasks.work import Work


def run(work: Work, request: ImportRequest, reporter: Reporter) -> DatasetInfo:
    """Read a file of a dataset, and keep what it holds; raises what :meth:`Imports.read` does."""
    from leti.service.datasets.intake import Imports

    return Imports(work.store, ArtifactStore.open(work.settings), work.settings).read(request, reporter)
