"""Predictor files: trained predictors as artifacts, each named by the SHA-256 of its manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from leti.core.errors import ArtifactError
from leti.service.artifacts import Artifact, ArtifactStore

if TYPE_CHECKING:
    from leti.core.prediction import Predictor


@final
class PredictorFiles:
    """Saved predictors: what one machine saves, every other loads."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def save(self, predictor: Predictor) -> str:
        """Save a predictor under the SHA-256 of its content, at once or not at all; return the SHA-256."""
        from leti.predictors import artifacts  # brings numpy

        with self._store.making() as folder:
            sha256 = artifacts.save(predictor, folder)
            self._store.keep_folder(folder, Artifact("predictors", sha256), last=artifacts.MANIFEST)
        return sha256

    def load(self, sha256: str) -> Predictor:
        """Return a predictor; raise :class:`ArtifactError` where its files are gone or damaged."""
        from leti.predictors import artifacts

        artifact = Artifact("predictors", sha256)
        try:
            return artifacts.load(self._store.folder(artifact), sha256)
        except ArtifactError:
            if not self._store.forget(artifact):
                raise
        return artifacts.load(self._store.folder(artifact), sha256)  # what was damaged was this machine's copy
