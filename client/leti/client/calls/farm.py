"""Devices, campaigns, jobs, leases, results and measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leti.client.call import Call, Flow, every, get, nothing, post, segment
from leti.client.exchange import Answer, reader
from leti.core.errors import LetiError, VersionMismatch
from leti.core.farm import (
    AgentInfo,
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

_read_device = reader(DeviceInfo)
_read_lease = reader(Lease)


def devices() -> Call[tuple[DeviceInfo, ...]]:
    return get(tuple[DeviceInfo, ...], "/v1/devices")


def agents() -> Call[tuple[AgentInfo, ...]]:
    return get(tuple[AgentInfo, ...], "/v1/agents")


def report_device(name: str, report: DeviceReport) -> Call[DeviceInfo]:
    return Call("PUT", f"/v1/devices/{segment(name)}/state", _read_device, body=report)


def quarantine(name: str, reason: str) -> Call[DeviceInfo]:
    return Call("PUT", f"/v1/devices/{segment(name)}/quarantine", _read_device, body=Quarantine(reason))


def release_device(name: str) -> Call[DeviceInfo]:
    return Call("DELETE", f"/v1/devices/{segment(name)}/quarantine", _read_device)


def create_campaign(request: CampaignRequest) -> Call[Campaign]:
    count = len(request.networks) + sum(sample.count for sample in request.samples)
    return post(Campaign, "/v1/campaigns", request, repeats="keyed", networks=count)


def campaigns(platform_id: str | None) -> Flow[tuple[Campaign, ...]]:
    return every(CampaignPage, "/v1/campaigns", {"platform_id": platform_id})


def campaign(campaign_id: int) -> Call[Campaign]:
    return get(Campaign, f"/v1/campaigns/{campaign_id:d}")


def failures(campaign_id: int, limit: int) -> Flow[tuple[FailedJob, ...]]:
    page: FailedJobPage = yield get(FailedJobPage, f"/v1/campaigns/{campaign_id:d}/failures", {"limit": limit})
    return page.items


def jobs(params: dict[str, Any]) -> Call[JobPage]:
    return get(JobPage, "/v1/jobs", params)


def retry_jobs(selection: JobSelection) -> Call[JobsChanged]:
    return post(JobsChanged, "/v1/jobs/retry", selection, repeats="never")


def cancel_jobs(selection: JobSelection) -> Call[JobsChanged]:
    return post(JobsChanged, "/v1/jobs/cancel", selection, repeats="never")


def failure_counts(params: dict[str, Any]) -> Call[tuple[FailureCount, ...]]:
    return get(tuple[FailureCount, ...], "/v1/failures", params)


def lease(request: LeaseRequest, wait_s: float) -> Call[Lease | None]:
    def read(answer: Answer) -> Lease | None:
        return None if answer.status == 204 else _read_lease(answer)

    params = {"wait_s": wait_s or None}
    return Call("POST", "/v1/leases", read, params, request, repeats="never", longer_s=wait_s)


def heartbeat(lease_id: int, token: int) -> Call[None]:
    return Call("POST", f"/v1/leases/{lease_id:d}/heartbeat", nothing, body=Heartbeat(token))


def release(lease_id: int, token: int) -> Call[None]:
    return Call("DELETE", f"/v1/leases/{lease_id:d}", nothing, {"token": token})


def post_result(result: Result) -> Call[Receipt]:
    return post(Receipt, "/v1/results", result)


def post_results(results: Sequence[Result]) -> Flow[tuple[Receipt | LetiError, ...]]:
    answer: BatchReceipt = yield post(BatchReceipt, "/v1/results/batch", ResultBatch(tuple(results)))
    return tuple(_receipt(item) for item in answer.items)


def measurements(params: dict[str, Any]) -> Call[MeasurementPage]:
    return get(MeasurementPage, "/v1/measurements", params)


def measurement(measurement_id: int) -> Call[Measurement]:
    return get(Measurement, f"/v1/measurements/{measurement_id:d}")


def _receipt(outcome: ResultOutcome) -> Receipt | LetiError:
    """Return the receipt of one result of a batch, or the error that says why it was not taken."""
    if outcome.problem is not None:
        return outcome.problem.error()
    if outcome.receipt is None:
        raise VersionMismatch(
            "the service says nothing of a result", remedy="use the same release of LETI on both sides"
        )
    return outcome.receipt
