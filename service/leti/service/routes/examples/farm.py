"""Examples of devices, campaigns, jobs, leases, results and measurements."""

from __future__ import annotations

from typing import Any, Final

from leti.core.errors import NotFound
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
    Failure,
    FailureCount,
    Heartbeat,
    Job,
    JobInfo,
    JobPage,
    JobsChanged,
    JobSelection,
    Lease,
    LeaseRequest,
    MeasurementPage,
    MeasurementRow,
    Quarantine,
    Receipt,
    Result,
    ResultBatch,
    ResultOutcome,
    Sample,
)
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.patches import CompressedSample
from leti.service.problems import problem
from leti.service.routes.examples.values import ARCHITECTURE, AT, FINGERPRINT, PLATFORM, PLATFORM_ID, REFERENCE, SHA256

MEASUREMENT: Final = Measurement(
    FINGERPRINT,
    PLATFORM_ID,
    REFERENCE,
    (Pass((0.71, 0.7), (1.38, 1.4)), Pass((0.72, 0.71), (1.41, 1.4))),
    Recipe("0.1.0", "2.3.0", SHA256, measured_at=AT),
    init_ms=11.2,
    first_inference_ms=1.9,
)

CAMPAIGN: Final = Campaign(1, "first", PLATFORM_ID, "execute", 101, 92, 8, 61, 0, 0, 1, AT, baseline=FINGERPRINT)
FAILURE: Final = Failure("timeout", "no inference ended within 60 s")

EXAMPLES: Final[dict[type, Any]] = {
    DeviceInfo: DeviceInfo(
        PLATFORM.device,
        "quarantined",
        "the service: 5 failures in a row speak against the device, lastly timeout: no inference ended within 60 s",
        AT,
        AT,
        (PLATFORM_ID,),
        240,
        {"lost": 1, "timeout": 5},
        5,
    ),
    DeviceReport: DeviceReport("cooling", "the battery has 43 °C"),
    Quarantine: Quarantine("its fan is broken"),
    CampaignRequest: CampaignRequest(
        "first",
        PLATFORM_ID,
        (Sample("nasbench201", 100, 7),),
        (ARCHITECTURE,),
        compressed=(CompressedSample(ARCHITECTURE, 20, 7),),
        baseline=ARCHITECTURE,
    ),
    Campaign: CAMPAIGN,
    CampaignPage: CampaignPage((CAMPAIGN,), None),
    FailedJobPage: FailedJobPage(
        (FailedJob(17, FINGERPRINT, 0, 1, "bad-model", "LiteRT cannot load or run the model"),), None
    ),
    JobPage: JobPage(
        (JobInfo(17, 1, PLATFORM_ID, FINGERPRINT, 0, "queued", 0, 1, 1, "device-gone", "adb lists no such device"),),
        None,
    ),
    JobSelection: JobSelection((17, 18), kinds=("timeout",)),
    JobsChanged: JobsChanged(2, 0),
    FailureCount: FailureCount(FINGERPRINT, "timeout", 3),
    LeaseRequest: LeaseRequest("build-box-1", PLATFORM_ID),
    Lease: Lease(5, 5, PLATFORM_ID, "build-box-1", 60.0, REFERENCE, (Job(17, FINGERPRINT, 0, 1),)),
    AgentInfo: AgentInfo("build-box-1", PLATFORM_ID, PLATFORM.device.name, AT, 5, AT, True, 3),
    Heartbeat: Heartbeat(5),
    Result: Result(5, 5, 17, 0, MEASUREMENT),
    Failure: Result(5, 5, 17, 0, failure=FAILURE),
    Receipt: Receipt("stored", 12),
    ResultBatch: ResultBatch((Result(5, 5, 17, 0, MEASUREMENT), Result(5, 5, 18, 0, failure=FAILURE))),
    BatchReceipt: BatchReceipt(
        (
            ResultOutcome(0, Receipt("stored", 12)),
            ResultOutcome(1, problem=problem(NotFound("there is no job 18", field="job_id"))),
        )
    ),
    MeasurementPage: MeasurementPage(
        (MeasurementRow(12, FINGERPRINT, PLATFORM_ID, 17, 0, 0.507, 0.705, 0.71, 0.7, False, False, AT, 5),), None
    ),
    Measurement: MEASUREMENT,
}
