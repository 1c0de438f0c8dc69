"""Training, predictors, datasets and tasks, awaited: methods of the client, one for each route or flow."""

from __future__ import annotations

from abc import ABC
from pathlib import Path

from leti.client.calls import learning
from leti.client.calls.learning import TaskProgressed
from leti.client.connection import AsyncConnection
from leti.core.datasets import DatasetFormat, DatasetInfo, DatasetPage, DatasetRowPage
from leti.core.tasks import LogPage, Task, TaskPage, TaskState, WorkerInfo
from leti.core.training import (
    EvaluationReport,
    EvaluationRequest,
    HoldoutPoint,
    PredictorInfo,
    Promotion,
    TrainingReport,
    TrainingRequest,
)


class AsyncLearningMethods(ABC):
    """Methods over a connection."""

    _connection: AsyncConnection

    async def train(
        self, request: TrainingRequest, *, timeout_s: float = 3600.0, on_progress: TaskProgressed | None = None
    ) -> TrainingReport:
        """Have predictors trained and judged on classes held out; return the report.

        See :meth:`start_training` and :meth:`wait_for_task`, whose errors it raises.
        """
        return await self._connection.run(learning.train(request, timeout_s, on_progress))

    async def start_training(self, request: TrainingRequest) -> Task:
        """Queue a training, and return its task at once."""
        return await self._connection.send(learning.start_training(request))

    async def evaluate(
        self, request: EvaluationRequest, *, timeout_s: float = 600.0, on_progress: TaskProgressed | None = None
    ) -> EvaluationReport:
        """Have predictors judged on what was measured since they were trained; return the report."""
        return await self._connection.run(learning.evaluate(request, timeout_s, on_progress))

    async def predictors(self, platform_id: str | None = None) -> tuple[PredictorInfo, ...]:
        """Return every predictor, of a platform or of all, the oldest first."""
        return await self._connection.run(learning.predictors(platform_id))

    async def predictor(self, predictor_id: int) -> PredictorInfo:
        """Return one predictor; raise :class:`~leti.core.errors.NotFound` where it is unknown."""
        return await self._connection.send(learning.predictor(predictor_id))

    async def holdout(self, predictor_id: int) -> tuple[HoldoutPoint, ...]:
        """Return measured and predicted latency of every network in a predictor's holdout."""
        return await self._connection.send(learning.holdout(predictor_id))

    async def promote(self, predictor_id: int) -> PredictorInfo:
        """Make a predictor the one that its platform serves."""
        return await self._connection.send(learning.promote(predictor_id))

    async def roll_back(self, platform_id: str) -> PredictorInfo:
        """Let the predictor serve again that served before the one that does; again, and it goes one further back."""
        return await self._connection.send(learning.roll_back(platform_id))

    async def promotions(self, platform_id: str) -> tuple[Promotion, ...]:
        """Return which predictors began to serve a platform, when and why, the newest first."""
        return await self._connection.run(learning.promotions(platform_id))

    async def datasets(
        self, platform_id: str | None = None, *, cursor: int | None = None, limit: int | None = None
    ) -> DatasetPage:
        """Return one page of frozen datasets; ``cursor`` is the ``next`` of the page before."""
        return await self._connection.send(
            learning.datasets({"platform_id": platform_id, "cursor": cursor, "limit": limit})
        )

    async def dataset(self, dataset_id: int) -> DatasetInfo:
        """Return what is known of a frozen dataset."""
        return await self._connection.send(learning.dataset(dataset_id))

    async def dataset_rows(
        self, dataset_id: int, *, cursor: str | None = None, limit: int | None = None
    ) -> DatasetRowPage:
        """Return one page of a dataset's networks; ``cursor`` is the ``next`` of the page before."""
        return await self._connection.send(learning.dataset_rows(dataset_id, {"cursor": cursor, "limit": limit}))

    async def export_dataset(
        self, dataset_id: int, file: Path | None = None, *, format: DatasetFormat = "parquet"
    ) -> bytes:
        """Return a dataset as a file; with ``file``, it is written there as it comes, and nothing is returned."""
        return await self._connection.send(learning.export_dataset(dataset_id, file, format))

    async def import_dataset(
        self,
        file: Path | bytes,
        *,
        format: DatasetFormat = "parquet",
        timeout_s: float = 3600.0,
        on_progress: TaskProgressed | None = None,
    ) -> DatasetInfo:
        """Have a dataset imported that was exported, given as a file or as its content; return it.

        The same file again is the same dataset. See :meth:`start_import` and :meth:`wait_for_task`, whose errors it
        raises.
        """
        return await self._connection.run(learning.import_dataset(file, format, timeout_s, on_progress))

    async def start_import(self, file: Path | bytes, *, format: DatasetFormat = "parquet") -> Task:
        """Send a dataset's file, and return the task that imports it at once."""
        return await self._connection.send(learning.start_import(file, format))

    async def tasks(
        self,
        *,
        platform_id: str | None = None,
        kind: str | None = None,
        state: TaskState | None = None,
        cursor: int | None = None,
        limit: int | None = None,
    ) -> TaskPage:
        """Return one page of tasks; ``cursor`` is the ``next`` of the page before."""
        return await self._connection.send(
            learning.tasks({"platform_id": platform_id, "kind": kind, "state": state, "cursor": cursor, "limit": limit})
        )

    async def task(self, task_id: int, *, wait_s: float = 0.0) -> Task:
        """Return a task, or wait up to ``wait_s`` (30 at most) for its end first."""
        return await self._connection.send(learning.task(task_id, wait_s))

    async def task_log(self, task_id: int, *, after: int = 0, limit: int | None = None) -> LogPage:
        """Return lines of a task's log after the one with this number."""
        return await self._connection.send(learning.task_log(task_id, after, limit))

    async def cancel_task(self, task_id: int) -> Task:
        """End a task that waits or runs."""
        return await self._connection.send(learning.cancel_task(task_id))

    async def workers(self) -> tuple[WorkerInfo, ...]:
        """Return every worker: since when it runs, when it was last heard of, and the tasks that it runs."""
        return await self._connection.send(learning.workers())

    async def wait_for_task(
        self, task_id: int, *, timeout_s: float = 3600.0, on_progress: TaskProgressed | None = None
    ) -> Task:
        """Return a task once it has ended; ``on_progress`` is called with it about once a second until then.

        Raises the error that the task ended with; :class:`~leti.core.errors.TaskFailed` where it was cancelled; and
        :class:`~leti.core.errors.Unavailable` where it has not ended within ``timeout_s``: it goes on all the same.
        """
        return await self._connection.run(learning.wait_for_task(task_id, timeout_s, on_progress))
