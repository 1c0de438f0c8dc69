"""LatencyClient: one method for each route of the service, in core's types."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final
from urllib.parse import quote

from leti.client.backoff import Backoff
from leti.client.connection import Connection
from leti.client.prediction_batches import Part, joined_columns, joined_rows, split
from leti.core.codec import from_json
from leti.core.device import ModelFormat, Platform
from leti.core.errors import ArtifactError, InvalidInput, LetiError, TaskFailed, Unavailable, VersionMismatch
from leti.core.farm import (
    BatchReceipt,
    Campaign,
    CampaignPage,
    CampaignRequest,
    DeviceInfo,
    DeviceReport,
    FailedJob,
    FailedJobPage,
    FailureCount,
    Heartbeat,
    JobPage,
    JobsChanged,
    JobSelection,
    JobState,
    Lease,
    LeaseRequest,
    MeasurementPage,
    Quarantine,
    Receipt,
    Result,
    ResultBatch,
    ResultOutcome,
)
from leti.core.measurement import Measurement
from leti.core.queries import PredictionColumns, PredictionRequest, PredictionResponse
from leti.core.tasks import MAX_WAIT_S, LogPage, Task, TaskPage, TaskState
from leti.core.training import (
    DatasetInfo,
    DatasetPage,
    EvaluationReport,
    EvaluationRequest,
    HoldoutPoint,
    PredictorInfo,
    Promotion,
    TrainingReport,
    TrainingRequest,
)
from leti.core.wire import MODEL_SHA256_HEADER, Health, Network, NetworksRequest, PlatformInfo

if TYPE_CHECKING:
    from typing import Self

    import httpx

T = TypeVar("T")

DEFAULT_BACKOFF: Final = Backoff()
PAGE: Final = 1_000
"""Items of a list in one answer."""

BATCH: Final = 10_000
"""Networks in one request; larger requests are split."""

LOOK_S: Final = 1.0
"""Seconds between looks at a task whose progress is shown."""

S_PER_NETWORK: Final = 0.05
"""Seconds that an answer may take longer for each network in the request."""


@final
class LatencyClient:
    """A service's answers in core's types: ``with LatencyClient("http://127.0.0.1:8000") as client: …``.

    Every method raises the errors that the service raised, as the same classes of :mod:`leti.core.errors`, with their
    field and remedy; :class:`~leti.core.errors.Unavailable` where the service cannot be reached; and
    :class:`~leti.core.errors.VersionMismatch` where it speaks another version. Requests that are safe to repeat are
    repeated up to ``retries`` times. A client may be shared between threads.

    ``token`` is what the service knows the caller by: sent with every request (``Authorization: Bearer``), never
    logged nor followed anywhere by a redirect. Give it only over https, or on this machine: over plain http to another
    one it can be read on the way, and a warning says so.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        retries: int = 3,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self._timeout_s = timeout_s
        self._connection = Connection(
            base_url, timeout_s=timeout_s, retries=retries, backoff=backoff, transport=transport, token=token
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        self._connection.close()

    @property
    def base_url(self) -> str:
        """The address of the service."""
        return self._connection.base_url

    def health(self) -> Health:
        """Return what the service says of itself."""
        return self._get(Health, "/v1/health")

    # --- networks and platforms --------------------------------------------------------------------------------------

    def add_networks(self, request: NetworksRequest) -> tuple[Network, ...]:
        """Make networks known to the service; return them in the order of the request."""
        answers: list[Network] = []
        for start in _batches(len(request.networks)):
            part = dataclasses.replace(request, networks=request.networks[start : start + BATCH])
            answers += self._post_batch(tuple[Network, ...], "/v1/networks", part, len(part.networks))
        return tuple(answers)

    def network(self, fingerprint: str) -> Network:
        """Return the network of this fingerprint; raise :class:`~leti.core.errors.NotFound` where it is unknown."""
        return self._get(Network, f"/v1/networks/{_segment(fingerprint)}")

    def model(self, fingerprint: str, format: ModelFormat = "tflite") -> bytes:
        """Return a network's model file, checked against the SHA-256 that the service states.

        Raises :class:`~leti.core.errors.ArtifactError` where file and SHA-256 differ,
        :class:`~leti.core.errors.InvalidInput` where files of this format cannot hold the network, and
        :class:`~leti.core.errors.MissingExtra` where the service cannot write them.
        """
        path = f"/v1/networks/{_segment(fingerprint)}/model"
        answer = self._connection.request("GET", path, params={"format": format})
        stated = answer.headers.get(MODEL_SHA256_HEADER, "")
        found = hashlib.sha256(answer.content).hexdigest()
        if stated.lower() != found:
            raise ArtifactError(
                f"the model file of {fingerprint} has SHA-256 {found}, but the service states {stated or 'none'}",
                field=MODEL_SHA256_HEADER,
                remedy="try again; if it stays so, check what stands between service and client",
            )
        return answer.content

    def register_platform(self, platform: Platform) -> PlatformInfo:
        """Make a platform known to the service, or find it there; return what is known of it."""
        return self._post(PlatformInfo, "/v1/platforms", platform, idempotent=True)

    def platforms(self) -> tuple[PlatformInfo, ...]:
        """Return every platform that the service knows."""
        return self._get(tuple[PlatformInfo, ...], "/v1/platforms")

    def platform(self, platform_id: str) -> PlatformInfo:
        """Return one platform; raise :class:`~leti.core.errors.NotFound` where it is unknown."""
        return self._get(PlatformInfo, f"/v1/platforms/{_segment(platform_id)}")

    # --- devices -----------------------------------------------------------------------------------------------------

    def devices(self) -> tuple[DeviceInfo, ...]:
        """Return every device with its state now, and the reason for it."""
        return self._get(tuple[DeviceInfo, ...], "/v1/devices")

    def report_device(self, name: str, report: DeviceReport) -> DeviceInfo:
        """Tell the service of a device's state, as its agent sees it."""
        return self._ask(DeviceInfo, "PUT", f"/v1/devices/{_segment(name)}/state", report)

    def quarantine(self, name: str, reason: str) -> DeviceInfo:
        """Let the service lend a device no more jobs until it is released."""
        return self._ask(DeviceInfo, "PUT", f"/v1/devices/{_segment(name)}/quarantine", Quarantine(reason))

    def release_device(self, name: str) -> DeviceInfo:
        """End a device's quarantine, whoever began it."""
        return self._ask(DeviceInfo, "DELETE", f"/v1/devices/{_segment(name)}/quarantine")

    # --- campaigns ---------------------------------------------------------------------------------------------------

    def create_campaign(self, request: CampaignRequest) -> Campaign:
        """Queue networks to be measured on a platform."""
        count = len(request.networks) + sum(sample.count for sample in request.samples)
        return self._post_batch(Campaign, "/v1/campaigns", request, count, idempotent=False)

    def campaigns(self, platform_id: str | None = None) -> tuple[Campaign, ...]:
        """Return every campaign, of a platform or of all, with the state of its jobs."""
        found: list[Campaign] = []
        cursor: int | None = 0
        while cursor is not None:
            params = {"platform_id": platform_id, "cursor": cursor, "limit": PAGE}
            page = self._get(CampaignPage, "/v1/campaigns", params)
            found += page.items
            cursor = page.next
        return tuple(found)

    def campaign(self, campaign_id: int) -> Campaign:
        """Return one campaign with the state of its jobs."""
        return self._get(Campaign, f"/v1/campaigns/{campaign_id:d}")

    def failures(self, campaign_id: int, *, limit: int = 100) -> tuple[FailedJob, ...]:
        """Return the first jobs of a campaign that ended without a measurement, and why."""
        return self._get(FailedJobPage, f"/v1/campaigns/{campaign_id:d}/failures", {"limit": limit}).items

    # --- jobs --------------------------------------------------------------------------------------------------------

    def jobs(
        self,
        *,
        platform_id: str | None = None,
        campaign_id: int | None = None,
        state: JobState | None = None,
        fingerprint: str | None = None,
        cursor: int | None = None,
        limit: int | None = None,
    ) -> JobPage:
        """Return one page of jobs; ``cursor`` is the ``next`` of the page before."""
        params = {
            "platform_id": platform_id,
            "campaign_id": campaign_id,
            "state": state,
            "fingerprint": fingerprint,
            "cursor": cursor,
            "limit": limit,
        }
        return self._get(JobPage, "/v1/jobs", params)

    def retry_jobs(self, selection: JobSelection) -> JobsChanged:
        """Queue jobs again that failed, were set aside or cancelled."""
        return self._post(JobsChanged, "/v1/jobs/retry", selection, idempotent=False)

    def cancel_jobs(self, selection: JobSelection) -> JobsChanged:
        """Take jobs out of the queue, also those that are lent."""
        return self._post(JobsChanged, "/v1/jobs/cancel", selection, idempotent=False)

    def failure_counts(
        self,
        *,
        by: Literal["network", "device"],
        platform_id: str | None = None,
        campaign_id: int | None = None,
        limit: int | None = None,
    ) -> tuple[FailureCount, ...]:
        """Return how often each network, or each device, failed in which way, the most frequent first."""
        params = {"by": by, "platform_id": platform_id, "campaign_id": campaign_id, "limit": limit}
        return self._get(tuple[FailureCount, ...], "/v1/failures", params)

    # --- leases and results ------------------------------------------------------------------------------------------

    def lease(self, request: LeaseRequest, *, wait_s: float = 0.0) -> Lease | None:
        """Ask for jobs, wait up to ``wait_s`` for some; return ``None`` where there are none.

        It is not repeated: each call may lease others.
        """
        answer = self._connection.request(
            "POST",
            "/v1/leases",
            params={"wait_s": wait_s or None},
            body=request,
            idempotent=False,
            timeout_s=self._timeout_s + wait_s,
        )
        if answer.status == 204:
            return None
        lease: Lease = self._connection.decoded(answer, Lease, "POST /v1/leases")
        return lease

    def heartbeat(self, lease_id: int, token: int) -> None:
        """Renew a lease; raise :class:`~leti.core.errors.LeaseLost` where it is lost."""
        path = f"/v1/leases/{lease_id:d}/heartbeat"
        self._connection.request("POST", path, body=Heartbeat(token), idempotent=True)

    def release(self, lease_id: int, token: int) -> None:
        """Give a lease back before it runs out; its unfinished jobs go back to the queue."""
        self._connection.request("DELETE", f"/v1/leases/{lease_id:d}", params={"token": token})

    def post_result(self, result: Result) -> Receipt:
        """Hand in a result; posting it twice stores it once."""
        return self._post(Receipt, "/v1/results", result, idempotent=True)

    def post_results(self, results: Sequence[Result]) -> tuple[Receipt | LetiError, ...]:
        """Hand in up to 256 results; return a receipt for each, or the error that says why it was not taken."""
        answer = self._post(BatchReceipt, "/v1/results/batch", ResultBatch(tuple(results)), idempotent=True)
        return tuple(_receipt(item) for item in answer.items)

    def measurements(
        self,
        *,
        platform_id: str | None = None,
        campaign_id: int | None = None,
        fingerprint: str | None = None,
        cursor: int | None = None,
        limit: int | None = None,
    ) -> MeasurementPage:
        """Return one page of measurements in short; ``cursor`` is the ``next`` of the page before."""
        params = {
            "platform_id": platform_id,
            "campaign_id": campaign_id,
            "fingerprint": fingerprint,
            "cursor": cursor,
            "limit": limit,
        }
        return self._get(MeasurementPage, "/v1/measurements", params)

    def measurement(self, measurement_id: int) -> Measurement:
        """Return one measurement with every sample."""
        return self._get(Measurement, f"/v1/measurements/{measurement_id:d}")

    # --- predictors and predictions ----------------------------------------------------------------------------------

    def train(
        self,
        request: TrainingRequest,
        *,
        timeout_s: float = 3600.0,
        on_progress: Callable[[Task], None] | None = None,
    ) -> TrainingReport:
        """Have predictors trained and judged on classes held out; return the report.

        See :meth:`start_training` and :meth:`wait_for_task`, whose errors it raises.
        """
        task = self.wait_for_task(self.start_training(request).id, timeout_s=timeout_s, on_progress=on_progress)
        return self._report(TrainingReport, task)

    def start_training(self, request: TrainingRequest) -> Task:
        """Queue a training, and return its task at once. It is not repeated: each call would train."""
        return self._post(Task, "/v1/predictors", request, idempotent=False)

    def evaluate(
        self,
        request: EvaluationRequest,
        *,
        timeout_s: float = 600.0,
        on_progress: Callable[[Task], None] | None = None,
    ) -> EvaluationReport:
        """Have predictors judged on what was measured since they were trained; return the report."""
        queued = self._post(Task, "/v1/evaluations", request, idempotent=False)
        task = self.wait_for_task(queued.id, timeout_s=timeout_s, on_progress=on_progress)
        return self._report(EvaluationReport, task)

    def predictors(self, platform_id: str | None = None) -> tuple[PredictorInfo, ...]:
        """Return the predictors of a platform, or of all."""
        return self._get(tuple[PredictorInfo, ...], "/v1/predictors", {"platform_id": platform_id})

    def holdout(self, predictor_id: int) -> tuple[HoldoutPoint, ...]:
        """Return measured and predicted latency of every network in a predictor's holdout."""
        return self._get(tuple[HoldoutPoint, ...], f"/v1/predictors/{predictor_id:d}/holdout")

    def promote(self, predictor_id: int) -> PredictorInfo:
        """Make a predictor the one that its platform serves."""
        return self._post(PredictorInfo, f"/v1/predictors/{predictor_id:d}/promote", None, idempotent=True)

    def roll_back(self, platform_id: str) -> PredictorInfo:
        """Let the predictor serve again that served before the one that does; again, and it goes one further back."""
        path = f"/v1/platforms/{_segment(platform_id)}/rollback"
        return self._post(PredictorInfo, path, None, idempotent=False)

    def promotions(self, platform_id: str) -> tuple[Promotion, ...]:
        """Return which predictors began to serve a platform, when and why, the newest first."""
        return self._get(tuple[Promotion, ...], f"/v1/platforms/{_segment(platform_id)}/promotions")

    def datasets(
        self, platform_id: str | None = None, *, cursor: int | None = None, limit: int | None = None
    ) -> DatasetPage:
        """Return one page of frozen datasets; ``cursor`` is the ``next`` of the page before."""
        return self._get(DatasetPage, "/v1/datasets", {"platform_id": platform_id, "cursor": cursor, "limit": limit})

    def dataset(self, dataset_id: int) -> DatasetInfo:
        """Return what is known of a frozen dataset."""
        return self._get(DatasetInfo, f"/v1/datasets/{dataset_id:d}")

    # --- tasks -------------------------------------------------------------------------------------------------------

    def tasks(
        self,
        *,
        platform_id: str | None = None,
        kind: str | None = None,
        state: TaskState | None = None,
        cursor: int | None = None,
        limit: int | None = None,
    ) -> TaskPage:
        """Return one page of tasks; ``cursor`` is the ``next`` of the page before."""
        params = {"platform_id": platform_id, "kind": kind, "state": state, "cursor": cursor, "limit": limit}
        return self._get(TaskPage, "/v1/tasks", params)

    def task(self, task_id: int, *, wait_s: float = 0.0) -> Task:
        """Return a task, or wait up to ``wait_s`` (30 at most) for its end first."""
        path = f"/v1/tasks/{task_id:d}"
        params = {"wait_s": wait_s} if wait_s else None
        answer = self._connection.request("GET", path, params=params, timeout_s=self._timeout_s + wait_s)
        found: Task = self._connection.decoded(answer, Task, f"GET {path}")
        return found

    def task_log(self, task_id: int, *, after: int = 0, limit: int | None = None) -> LogPage:
        """Return lines of a task's log after the one with this number."""
        return self._get(LogPage, f"/v1/tasks/{task_id:d}/logs", {"after": after, "limit": limit})

    def cancel_task(self, task_id: int) -> Task:
        """End a task that waits or runs."""
        return self._post(Task, f"/v1/tasks/{task_id:d}/cancel", None, idempotent=True)

    def wait_for_task(
        self, task_id: int, *, timeout_s: float = 3600.0, on_progress: Callable[[Task], None] | None = None
    ) -> Task:
        """Return a task once it has ended; ``on_progress`` is called with it about once a second until then.

        Raises the error that the task ended with; :class:`~leti.core.errors.TaskFailed` where it was cancelled; and
        :class:`~leti.core.errors.Unavailable` where it has not ended within ``timeout_s``: it goes on all the same.
        """
        look_s = MAX_WAIT_S if on_progress is None else LOOK_S
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            task = self.task(task_id, wait_s=max(min(look_s, left_s), 0.0))
            if on_progress is not None:
                on_progress(task)
            if task.problem is not None:
                raise task.problem.error()
            if task.state == "cancelled":
                raise TaskFailed(f"task {task_id} was cancelled", field="task_id", task_id=task_id)
            if task.ended:
                return task
            if left_s <= 0:
                raise Unavailable(
                    f"task {task_id} has not ended within {timeout_s:g} s: it is {task.state}",
                    remedy="wait on; where it stays queued, start a worker: leti worker",
                    task_id=task_id,
                )

    def predict(self, request: PredictionRequest, *, measure: bool = False) -> PredictionResponse:
        """Return the latency of each network in the order of the request: measured if known, else predicted.

        What cannot be answered stands among the failures, by index. With ``measure``, what is not measured is queued.
        """
        asked = dataclasses.replace(request, form="rows")
        return joined_rows([(part, self._predict(PredictionResponse, part, measure)) for part in split(asked)])

    def predict_columns(self, request: PredictionRequest, *, measure: bool = False) -> PredictionColumns:
        """Return what :meth:`predict` does as columns, with no object a network: the form for large batches."""
        asked = dataclasses.replace(request, form="columns")
        return joined_columns([(part, self._predict(PredictionColumns, part, measure)) for part in split(asked)])

    def _predict(self, cls: type[T], part: Part, measure: bool) -> T:
        path = "/v1/predictions?wait=measure" if measure else "/v1/predictions"
        return self._post_batch(cls, path, part.request, len(part.request))

    # --- the ways of asking ------------------------------------------------------------------------------------------

    def _report(self, cls: type[T], task: Task) -> T:
        try:
            return from_json(cls, task.report)
        except InvalidInput as error:
            raise VersionMismatch(
                f"the report of task {task.id} does not fit: {error}",
                remedy="use the same release of LETI on both sides",
            ) from error

    def _get(self, cls: type[T], path: str, params: dict[str, Any] | None = None) -> T:
        answer = self._connection.request("GET", path, params=params)
        value: T = self._connection.decoded(answer, cls, f"GET {path}")
        return value

    def _ask(self, cls: type[T], method: Literal["PUT", "DELETE"], path: str, body: object = None) -> T:
        answer = self._connection.request(method, path, body=body)
        value: T = self._connection.decoded(answer, cls, f"{method} {path}")
        return value

    def _post(self, cls: type[T], path: str, body: object, *, idempotent: bool, timeout_s: float | None = None) -> T:
        answer = self._connection.request("POST", path, body=body, idempotent=idempotent, timeout_s=timeout_s)
        value: T = self._connection.decoded(answer, cls, f"POST {path}")
        return value

    def _post_batch(self, cls: type[T], path: str, body: object, count: int, *, idempotent: bool = True) -> T:
        timeout_s = self._timeout_s + S_PER_NETWORK * count
        return self._post(cls, path, body, idempotent=idempotent, timeout_s=timeout_s)


def _batches(count: int) -> Iterator[int]:
    """Yield the start of each batch; an empty request is still one request, so that the service can refuse it."""
    yield from range(0, max(count, 1), BATCH)


def _receipt(outcome: ResultOutcome) -> Receipt | LetiError:
    """Return the receipt of one result of a batch, or the error that says why it was not taken."""
    if outcome.problem is not None:
        return outcome.problem.error()
    if outcome.receipt is None:
        raise VersionMismatch(
            "the service says nothing of a result", remedy="use the same release of LETI on both sides"
        )
    return outcome.receipt


def _segment(text: str) -> str:
    """Return ``text`` as one segment of a path, whatever it holds."""
    if text in ("", ".", ".."):
        raise InvalidInput(f"{text!r} is no identifier", field="path")
    return quote(text, safe="")
