"""Training, predictors, datasets, and the tasks of workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from leti.client.call import Call, Flow, Look, every, get, post, segment
from leti.client.exchange import reader
from leti.core.codec import from_json
from leti.core.datasets import DatasetFormat, DatasetInfo, DatasetPage, DatasetRowPage
from leti.core.errors import InvalidInput, TaskFailed, Unavailable, VersionMismatch
from leti.core.tasks import MAX_WAIT_S, LogPage, Task, TaskPage, WorkerInfo
from leti.core.training import (
    EvaluationReport,
    EvaluationRequest,
    HoldoutPoint,
    PredictorInfo,
    PredictorPage,
    Promotion,
    PromotionPage,
    TrainingReport,
    TrainingRequest,
)

T = TypeVar("T")

TaskProgressed = Callable[[Task], None]
"""Called with a task as it is now."""

MEDIA_TYPES: Final[Mapping[DatasetFormat, str]] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
}
"""What files of datasets are called."""

FILE_S: Final = 600.0
"""Seconds longer than others that an answer may take which is a file, or which reads one."""

LOOK_S: Final = 1.0
"""Seconds between two looks at a task whose progress is followed."""


def train(request: TrainingRequest, timeout_s: float, on_progress: TaskProgressed | None) -> Flow[TrainingReport]:
    task: Task = yield start_training(request)
    return _report(TrainingReport, (yield from wait_for_task(task.id, timeout_s, on_progress)))


def start_training(request: TrainingRequest) -> Call[Task]:
    return post(Task, "/v1/predictors", request, repeats="keyed")


def evaluate(
    request: EvaluationRequest, timeout_s: float, on_progress: TaskProgressed | None
) -> Flow[EvaluationReport]:
    task: Task = yield post(Task, "/v1/evaluations", request, repeats="keyed")
    return _report(EvaluationReport, (yield from wait_for_task(task.id, timeout_s, on_progress)))


def predictors(platform_id: str | None) -> Flow[tuple[PredictorInfo, ...]]:
    return every(PredictorPage, "/v1/predictors", {"platform_id": platform_id})


def predictor(predictor_id: int) -> Call[PredictorInfo]:
    return get(PredictorInfo, f"/v1/predictors/{predictor_id:d}")


def holdout(predictor_id: int) -> Call[tuple[HoldoutPoint, ...]]:
    return get(tuple[HoldoutPoint, ...], f"/v1/predictors/{predictor_id:d}/holdout")


def promote(predictor_id: int) -> Call[PredictorInfo]:
    return post(PredictorInfo, f"/v1/predictors/{predictor_id:d}/promote")


def roll_back(platform_id: str) -> Call[PredictorInfo]:
    return post(PredictorInfo, f"/v1/platforms/{segment(platform_id)}/rollback", repeats="keyed")


def promotions(platform_id: str) -> Flow[tuple[Promotion, ...]]:
    return every(PromotionPage, f"/v1/platforms/{segment(platform_id)}/promotions")


def datasets(params: dict[str, Any]) -> Call[DatasetPage]:
    return get(DatasetPage, "/v1/datasets", params)


def dataset(dataset_id: int) -> Call[DatasetInfo]:
    return get(DatasetInfo, f"/v1/datasets/{dataset_id:d}")


def dataset_rows(dataset_id: int, params: dict[str, Any]) -> Call[DatasetRowPage]:
    return get(DatasetRowPage, f"/v1/datasets/{dataset_id:d}/items", params)


def export_dataset(dataset_id: int, file: Path | None, format: DatasetFormat) -> Call[bytes]:
    path = f"/v1/datasets/{dataset_id:d}/items"
    accept = {"accept": MEDIA_TYPES[format]}
    return Call("GET", path, lambda answer: answer.content, headers=accept, into=file, longer_s=FILE_S)


def import_dataset(
    file: Path | bytes, format: DatasetFormat, timeout_s: float, on_progress: TaskProgressed | None
) -> Flow[DatasetInfo]:
    task: Task = yield start_import(file, format)
    return _report(DatasetInfo, (yield from wait_for_task(task.id, timeout_s, on_progress)))


def start_import(file: Path | bytes, format: DatasetFormat) -> Call[Task]:
    return Call("POST", "/v1/datasets", reader(Task), {"format": format}, file=file, repeats="safe", longer_s=FILE_S)


def tasks(params: dict[str, Any]) -> Call[TaskPage]:
    return get(TaskPage, "/v1/tasks", params)


def task(task_id: int, wait_s: float) -> Call[Task]:
    return get(Task, f"/v1/tasks/{task_id:d}", {"wait_s": wait_s or None}, longer_s=wait_s)


def task_log(task_id: int, after: int, limit: int | None) -> Call[LogPage]:
    return get(LogPage, f"/v1/tasks/{task_id:d}/logs", {"after": after, "limit": limit})


def cancel_task(task_id: int) -> Call[Task]:
    return post(Task, f"/v1/tasks/{task_id:d}/cancel")


def workers() -> Call[tuple[WorkerInfo, ...]]:
    return get(tuple[WorkerInfo, ...], "/v1/workers")


def wait_for_task(task_id: int, timeout_s: float, on_progress: TaskProgressed | None) -> Flow[Task]:
    look_s = MAX_WAIT_S if on_progress is None else LOOK_S
    deadline = (yield Look()) + timeout_s
    while True:
        left_s = deadline - (yield Look())
        found: Task = yield task(task_id, max(min(look_s, left_s), 0.0))
        if on_progress is not None:
            on_progress(found)
        if found.problem is not None:
            raise found.problem.error()
        if found.state == "cancelled":
            raise TaskFailed(f"task {task_id} was cancelled", field="task_id", task_id=task_id)
        if found.ended:
            return found
        if left_s <= 0:
            raise Unavailable(
                f"task {task_id} has not ended within {timeout_s:g} s: it is {found.state}",
                remedy="wait on; where it stays queued, start a worker: leti worker",
                task_id=task_id,
            )


def _report(cls: type[T], task: Task) -> T:
    try:
        return from_json(cls, task.report)
    except InvalidInput as error:
        raise VersionMismatch(
            f"the report of task {task.id} does not fit: {error}",
            remedy="use the same release of LETI on both sides",
        ) from error
