"""The kinds of task: a row each, with the types of what is asked for and of what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

from leti.core.datasets import DatasetInfo, ImportRequest
from leti.core.training import EvaluationReport, EvaluationRequest, TrainingReport, TrainingRequest
from leti.core.uploads import ReadUpload, Upload
from leti.service.datasets.intake import IMPORT_DATASET
from leti.service.reporter import Reporter
from leti.service.tasks import evaluating, importing, training, uploading
from leti.service.tasks.work import Work
from leti.service.uploads.intake import READ_UPLOAD


@final
@dataclass(frozen=True, slots=True)
class TaskKind:
    """A kind of task: its name, the types of its request and of its report, and what does it.

    ``run`` imports what is heavy itself: the web process has this table too. ``alone`` says that a platform has one of
    it at a time.
    """

    name: str
    request: type[Any]
    report: type[Any]
    run: Callable[[Work, Any, Reporter], Any]
    alone: bool = False


KINDS: Final[Mapping[str, TaskKind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            TaskKind("train", TrainingRequest, TrainingReport, training.run, alone=True),
            TaskKind("evaluate", EvaluationRequest, EvaluationReport, evaluating.run),
            TaskKind(IMPORT_DATASET, ImportRequest, DatasetInfo, importing.run),
            TaskKind(READ_UPLOAD, ReadUpload, Upload, uploading.run),
        )
    }
)
"""Every kind of task by its name. To add one, write a module with its ``run`` in this package, and a row here."""

ALONE: Final = tuple(kind.name for kind in KINDS.values() if kind.alone)
