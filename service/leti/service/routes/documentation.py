"""What OpenAPI says besides the types: examples of what is sent and answered, and the problems of each route."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from leti.core.codec import to_json
from leti.core.device import Device, Platform
from leti.core.errors import (
    Conflict,
    InvalidInput,
    LetiError,
    MissingExtra,
    NotFound,
    StorageError,
    TooLarge,
    VersionMismatch,
)
from leti.core.farm import (
    Campaign,
    CampaignRequest,
    DeviceInfo,
    DeviceReport,
    FailedJob,
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
    Sample,
)
from leti.core.measurement import Measurement, Pass, Recipe, Repeatability
from leti.core.prediction import Metrics
from leti.core.spec import NetworkConfig
from leti.core.wire import (
    PROTOCOL_VERSION,
    Health,
    HoldoutPoint,
    Network,
    NetworksRequest,
    PlatformInfo,
    PredictionItem,
    PredictionRequest,
    PredictionResponse,
    PredictorInfo,
    Problem,
    TrainingReport,
    TrainingRequest,
)
from leti.service.problems import MEDIA_TYPE, problem

FINGERPRINT: Final = "5b0c8f1e" * 8
REFERENCE: Final = "0d9a7c42" * 8
SHA256: Final = "9f3b61aa" * 8
AT: Final = "2026-01-31T12:00:00.000Z"
ARCHITECTURE: Final = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|"

PLATFORM: Final = Platform(
    Device("build-box", "desktop", "Xeon 8488C", 2, "Linux"), "litert", "2.3.0", "xnnpack", affinity=(0,)
)
_PLATFORM_ID: Final = PLATFORM.id
_AGREEMENT: Final = Repeatability(
    30, 120, {"0.01": 0.71, "0.05": 0.97, "0.1": 1.0}, {"0.01": 0.55, "0.05": 0.94, "0.1": 1.0}
)
_METRICS: Final = Metrics(113, 37, 0.35, 0.86, 0.97, 0.015, 0.021, 0.99, 0.99, 0.93, 0.9, 0.92, 1.8, 41.0)
_SPEC: Final[dict[str, Any]] = {
    "space": "nasbench101",
    "adjacency": [[0, 1, 1], [0, 0, 1], [0, 0, 0]],
    "layers": ["input", "conv3x3-bn-relu", "output"],
    "config": to_json(NetworkConfig(modules_per_stack=1)),
}
_NETWORK: Final = Network(FINGERPRINT, "nasbench101", _SPEC, "execute", "c32cb6dc", False, 38_211_584, 272_474, 196_608)
_MEASUREMENT: Final = Measurement(
    FINGERPRINT,
    _PLATFORM_ID,
    REFERENCE,
    (Pass((0.71, 0.7), (1.38, 1.4)), Pass((0.72, 0.71), (1.41, 1.4))),
    Recipe("0.1.0", "2.3.0", SHA256, measured_at=AT),
    init_ms=11.2,
    first_inference_ms=1.9,
)
_PREDICTOR: Final = PredictorInfo(2, "xgboost", _PLATFORM_ID, 1, 1, True, SHA256, _METRICS, 0.017, AT)

EXAMPLES: Final[dict[type, Any]] = {
    Health: Health("ok", "0.1.0", PROTOCOL_VERSION),
    NetworksRequest: NetworksRequest((ARCHITECTURE, _SPEC)),
    Network: _NETWORK,
    Platform: PLATFORM,
    PlatformInfo: PlatformInfo(_PLATFORM_ID, PLATFORM, REFERENCE, 1, 1.39, 150, 240, _AGREEMENT, AT),
    DeviceInfo: DeviceInfo(
        PLATFORM.device,
        "quarantined",
        "the service: 5 failures in a row speak against the device, lastly timeout: no inference ended within 60 s",
        AT,
        AT,
        (_PLATFORM_ID,),
        240,
        {"lost": 1, "timeout": 5},
        5,
    ),
    DeviceReport: DeviceReport("cooling", "the battery has 43 °C"),
    Quarantine: Quarantine("its fan is broken"),
    CampaignRequest: CampaignRequest("first", _PLATFORM_ID, (Sample("nasbench201", 100, 7),), (ARCHITECTURE,)),
    Campaign: Campaign(1, "first", _PLATFORM_ID, "execute", 101, 92, 8, 61, 0, 0, 1, AT),
    FailedJob: FailedJob(17, FINGERPRINT, 0, 1, "bad-model", "LiteRT cannot load or run the model"),
    JobPage: JobPage(
        (JobInfo(17, 1, _PLATFORM_ID, FINGERPRINT, 0, "queued", 0, 1, 1, "device-gone", "adb lists no such device"),),
        None,
    ),
    JobSelection: JobSelection((17, 18), kinds=("timeout",)),
    JobsChanged: JobsChanged(2, 0),
    FailureCount: FailureCount(FINGERPRINT, "timeout", 3),
    LeaseRequest: LeaseRequest("build-box-1", _PLATFORM_ID),
    Lease: Lease(5, 5, _PLATFORM_ID, "build-box-1", 60.0, REFERENCE, (Job(17, FINGERPRINT, 0, 1),)),
    Heartbeat: Heartbeat(5),
    Result: Result(5, 5, 17, 0, _MEASUREMENT),
    Failure: Result(5, 5, 17, 0, failure=Failure("timeout", "no inference ended within 60 s")),
    Receipt: Receipt("stored", 12),
    MeasurementPage: MeasurementPage(
        (MeasurementRow(12, FINGERPRINT, _PLATFORM_ID, 17, 0, 0.507, 0.705, 0.71, 0.7, False, False, AT),), None
    ),
    Measurement: _MEASUREMENT,
    TrainingRequest: TrainingRequest(_PLATFORM_ID),
    TrainingReport: TrainingReport(1, _PLATFORM_ID, 1, (_PREDICTOR,), _AGREEMENT),
    PredictorInfo: _PREDICTOR,
    HoldoutPoint: HoldoutPoint(FINGERPRINT, "nasbench101", 0.705, 0.712, 0.68, 0.745),
    PredictionRequest: PredictionRequest(_PLATFORM_ID, (ARCHITECTURE,)),
    PredictionResponse: PredictionResponse(
        _PLATFORM_ID,
        (PredictionItem(FINGERPRINT, 0.712, 0.68, 0.745, 0.9, "predicted", "xgboost", 1, (), False),),
    ),
}
"""A value of each type that is sent or answered."""

_PROBLEMS: Final[dict[int, tuple[str, LetiError]]] = {
    400: ("The body is not JSON.", InvalidInput("is not JSON", field="(body)")),
    404: ("Something that the request names does not exist.", NotFound("there is no such thing", field="platform_id")),
    409: ("The request contradicts what is stored.", Conflict("another campaign is called so", field="name")),
    413: ("The body or the batch is over its limit.", TooLarge("holds 20000 networks", field="networks")),
    422: (
        "A value is wrong; the field and the remedy say which and what would be right.",
        InvalidInput("must be a whole number, not '3'", field="job_id", remedy="give a number"),
    ),
    426: ("Client and service speak different protocols.", VersionMismatch("the request speaks protocol '1'")),
    501: ("What the request needs is not installed here.", MissingExtra.named("import-onnx", "onnx")),
    503: ("The database cannot be reached.", StorageError("the database refused", remedy="try again")),
}

_REF: Final = {"$ref": "#/components/schemas/Problem"}


def example(cls: type) -> Any:
    """Return the example of a type as JSON."""
    return to_json(EXAMPLES[cls])


def body_examples(*classes: type) -> dict[str, Any]:
    """Return the examples of a request's body."""
    return {cls.__name__: {"summary": cls.__name__, "value": example(cls)} for cls in classes}


def responses(
    *statuses: int, answer: type | None = None, many: bool = False, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a route: its own with an example, the given problems, and everybody's."""
    found: dict[int | str, dict[str, Any]] = {}
    if answer is not None:
        value = [example(answer)] if many else example(answer)
        found[status] = {"content": {"application/json": {"example": value}}}
    for code in sorted({*statuses, 422, 426, 503}):
        description, error = _PROBLEMS[code]
        sample = to_json(problem(error, 400 if code == 400 else None))
        found[code] = {"description": description, "content": {MEDIA_TYPE: {"schema": _REF, "example": sample}}}
    return found


def posted(*statuses: int, answer: type, many: bool = False, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a route that takes a body."""
    return responses(400, 413, *statuses, answer=answer, many=many, status=status)


def install(app: FastAPI) -> None:
    """Make the document of ``app`` know the shape of problems."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = TypeAdapter(Problem).json_schema(ref_template="#/components/schemas/{model}")
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
