"""Tasks that read uploaded model files."""

from __future__ import annotations

from leti.core.uploads import ReadUpload, Upload
from leti.service.artifacts import ArtifactStore
from leti.service.reporter import Reporter
from leti.service.tasks.work import Work
from leti.service.uploads.intake import Uploads


def run(work: Work, request: ReadUpload, reporter: Reporter) -> Upload:
    """Read a file, and keep the network that it holds; a file that is refused is no failure of the task."""
    reporter.at("reading the file")
    return Uploads(work.store, ArtifactStore.open(work.settings), work.settings).read(request.upload_id)
