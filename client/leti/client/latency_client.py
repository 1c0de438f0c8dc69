"""LatencyClient: one method for each route of the service, in core's types."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final
from urllib.parse import quote

from leti.client.backoff import Backoff
from leti.client.connection import Connection
from leti.core.device import ModelFormat, Platform
from leti.core.errors import ArtifactError, InvalidInput, LetiError, Unavailable, VersionMismatch
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
from leti.core.queries import PredictionItem, PredictionRequest, PredictionResponse
from leti.core.training import HoldoutPoint, PredictorInfo, TrainingReport, TrainingRequest
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

    def train(self, request: TrainingRequest, *, timeout_s: float = 3600.0) -> TrainingReport:
        """Train predictors and judge them on classes held out; wait up to ``timeout_s`` for the report."""
        return self._post(TrainingReport, "/v1/predictors", request, idempotent=False, timeout_s=timeout_s)

    def predictors(self, platform_id: str | None = None) -> tuple[PredictorInfo, ...]:
        """Return the predictors of a platform, or of all."""
        return self._get(tuple[PredictorInfo, ...], "/v1/predictors", {"platform_id": platform_id})

    def holdout(self, predictor_id: int) -> tuple[HoldoutPoint, ...]:
        """Return measured and predicted latency of every network in a predictor's holdout."""
        return self._get(tuple[HoldoutPoint, ...], f"/v1/predictors/{predictor_id:d}/holdout")

    def activate(self, predictor_id: int) -> PredictorInfo:
        """Make a predictor the one that its platform serves."""
        return self._post(PredictorInfo, f"/v1/predictors/{predictor_id:d}/activate", None, idempotent=True)

    def predict(self, request: PredictionRequest) -> PredictionResponse:
        """Return the latency of each network in the order of the request: measured if known, else predicted."""
        items: list[PredictionItem] = []
        for start in _batches(len(request.networks)):
            part = dataclasses.replace(request, networks=request.networks[start : start + BATCH])
            answer = self._post_batch(PredictionResponse, "/v1/predictions", part, len(part.networks))
            if len(answer.items) != len(part.networks):
                raise Unavailable(
                    f"the service answered {len(answer.items)} predictions for {len(part.networks)} networks"
                )
            items += answer.items
        return PredictionResponse(request.platform_id, tuple(items))

    # --- the ways of asking ------------------------------------------------------------------------------------------

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
