"""Examples of tasks."""

from __future__ import annotations

from typing import Any, Final

from leti.core.codec import to_json
from leti.core.tasks import LogLine, LogPage, Task, TaskPage, TaskProgress, WorkerInfo
from leti.core.training import TrainingRequest
from leti.service.routes.examples.values import AT, PLATFORM_ID

TASK: Final = Task(
    7,
    "train",
    PLATFORM_ID,
    "running",
    to_json(TrainingRequest(PLATFORM_ID)),
    AT,
    "",
    TaskProgress("training xgboost", 6, 9),
    "build-box:4711",
    1,
    started_at=AT,
)

EXAMPLES: Final[dict[type, Any]] = {
    Task: TASK,
    TaskPage: TaskPage((TASK,), None),
    WorkerInfo: WorkerInfo("build-box:4711", "0.1.0", AT, AT, True, (7,)),
    LogPage: LogPage((LogLine(1, AT, "info", "begun by build-box:4711"),), None),
}
