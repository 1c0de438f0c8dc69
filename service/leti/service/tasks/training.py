"""Tasks that train predictors."""

from __future__ import annotations

from typing import Final

from leti.core.training import PromotionReason, TrainingReport, TrainingRequest
from leti.service.artifacts import ArtifactStore
from leti.service.predictor_files import PredictorFiles
from leti.service.reporter import Reporter
from leti.service.serving import LoadedPredictors
from leti.service.tasks.work import Work

NOBODY: Final = ""
"""Who asks for a training that begins by itself: no token can be called so."""


def run(work: Work, request: TrainingRequest, reporter: Reporter) -> TrainingReport:
    """Train predictors; the task ends as they are kept. Raises what :meth:`Trainer.train` does."""
    from leti.service.training import Trainer

    files = PredictorFiles(ArtifactStore.open(work.settings))
    trainer = Trainer(work.store, LoadedPredictors(files), work.settings, files)
    reason: PromotionReason = "retrained" if work.by == NOBODY else "trained"
    return trainer.train(request, reporter, by=work.by, reason=reason)
