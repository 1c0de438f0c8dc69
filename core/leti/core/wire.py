"""What travels between client, agents and service, as frozen values with one JSON form each.

The service publishes these very types as its OpenAPI schema, the client sends and reads them. Both sides exchange
:data:`PROTOCOL_VERSION` in the header :data:`PROTOCOL_HEADER`: a side that speaks another version is refused with a
clear problem instead of being misread.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from leti.core.device import Device, ModelPrecision, Platform
from leti.core.measurement import Measurement, Repeatability
from leti.core.prediction import Metrics
from leti.core.spec import NetworkConfig

PROTOCOL_VERSION = 2
PROTOCOL_HEADER = "leti-protocol"

MODEL_SHA256_HEADER = "leti-model-sha256"
"""The header of a model file's answer: the SHA-256 of the body, hexadecimal."""

MAX_SEED = 2**32 - 1
"""Seeds are whole numbers from 0 to this one."""

STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}
"""How the service validates a body: unknown fields and numbers that are not finite are refused."""

Zero = Literal["execute", "fold", "prune"]
"""What NAS-Bench-201's ``none`` does: multiply by zero, be added, and feed what runs all the same; or vanish from sums
while what only zeros feed runs all the same; or take away what only zeros feed."""

NetworkInput = str | dict[str, Any]
"""A network as users give it: an architecture string of NAS-Bench-201, or a spec's JSON object."""


@dataclass(frozen=True, slots=True)
class Problem:
    """RFC 9457: ``type`` ends in the error's kind; ``field`` names the fault, ``remedy`` what would be right."""

    type: str
    title: str
    status: int
    detail: str
    field: str = ""
    remedy: str = ""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """What the service says of itself."""

    status: Literal["ok"]
    version: str
    protocol: int


# --- networks and platforms ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NetworksRequest:
    """Networks to be known to the service: lowered, checked, given fingerprints."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    networks: tuple[NetworkInput, ...]
    zero: Zero = "execute"
    precision: ModelPrecision = "float32"


@dataclass(frozen=True, slots=True)
class Network:
    """A network that the service knows. ``degenerate`` says that no input reaches the output of its cell."""

    fingerprint: str
    space: str
    spec: dict[str, Any]
    zero: Zero
    isomorphism_class: str
    degenerate: bool
    macs: int
    params: int
    peak_memory_bytes: int
    precision: ModelPrecision = "float32"


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """A platform by its id, with what is known of it; ``reference_latency_ms`` is ``None`` until it was measured."""

    id: str
    platform: Platform
    reference: str
    reference_version: int
    reference_latency_ms: float | None
    networks_measured: int
    measurements: int
    repeatability: Repeatability | None
    last_heartbeat: str | None


# --- devices ---------------------------------------------------------------------------------------------------------

DeviceState = Literal["available", "busy", "cooling", "quarantined", "gone"]
"""``busy`` has a lease, ``cooling`` waits for a hot device, ``quarantined`` gets no jobs, ``gone`` is silent."""


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What an agent says of its device; the service finds out by itself what is busy or silent."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    state: Literal["available", "cooling", "gone"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a device gets no more jobs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    reason: str


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device with its state, the reason for it, and what was measured and failed there (by kind)."""

    device: Device
    state: DeviceState
    reason: str
    since: str
    last_heartbeat: str | None
    platforms: tuple[str, ...]
    measured: int
    failures: dict[str, int]
    failures_in_a_row: int


# --- campaigns -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """``count`` networks of a space, drawn by ``seed`` without isomorphic or degenerate repeats.

    Without a ``config``, the space's own.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    space: str
    count: int
    seed: int = 0
    config: NetworkConfig | None = None


@dataclass(frozen=True, slots=True)
class CampaignRequest:
    """What to measure, where: samples of spaces and networks by name, on one platform.

    A share ``repeat_share`` of the networks is measured ``repeats`` times, apart in time, the others once. Jobs of a
    higher ``priority`` are lent out first, then those that came first. With ``profile``, the first measurement of each
    network carries the times of its operators, from a run of its own.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    platform_id: str
    samples: tuple[Sample, ...] = ()
    networks: tuple[NetworkInput, ...] = ()
    zero: Zero = "execute"
    repeats: int = 4
    repeat_share: float = 0.2
    priority: int = 0
    profile: bool = True


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign and the state of its jobs; ``poison`` counts jobs set aside because they killed their agents."""

    id: int
    name: str
    platform_id: str
    zero: Zero
    networks: int
    queued: int
    leased: int
    done: int
    failed: int
    poison: int
    noisy: int
    created_at: str
    cancelled: int = 0
    priority: int = 0

    @property
    def jobs(self) -> int:
        """Number of jobs in all."""
        return self.queued + self.leased + self.done + self.failed + self.poison + self.cancelled

    @property
    def finished(self) -> bool:
        """Whether nothing is left to measure."""
        return self.queued + self.leased == 0


JobState = Literal["queued", "leased", "done", "failed", "poison", "cancelled"]


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the queue keeps it; ``kind`` and ``message`` say how it last failed, ``agent`` who holds it now.

    ``attempts`` counts the leases that it was in, ``deaths`` those that ended in silence or by a device's fault.
    """

    id: int
    campaign_id: int
    platform_id: str
    fingerprint: str
    repeat: int
    state: JobState
    priority: int
    attempts: int
    deaths: int
    kind: str = ""
    message: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs; ``next`` is the cursor of the page after it."""

    items: tuple[JobInfo, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class JobSelection:
    """Jobs to be retried or cancelled: by id, or all of a campaign, or both; ``kinds`` narrows to kinds of failure."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    job_ids: tuple[int, ...] = ()
    campaign_id: int | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobsChanged:
    """How many jobs a request changed; those that it names and that cannot be changed so are ``skipped``."""

    changed: int
    skipped: int


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often a network, or a device, failed in one way; ``subject`` is a fingerprint or a device's name."""

    subject: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that ended without a measurement, and why: a failure that an agent reported, or ``poison``."""

    id: int
    fingerprint: str
    repeat: int
    attempts: int
    kind: str
    message: str


# --- leases and results ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """An agent asks for jobs of its platform."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    agent: str
    platform_id: str
    max_jobs: int = 8


@dataclass(frozen=True, slots=True)
class Job:
    """One network to be measured once; ``repeat`` numbers the measurements of a network in a campaign from 0.

    With ``profile``, the times of its operators are wanted as well.
    """

    id: int
    fingerprint: str
    repeat: int
    attempt: int
    profile: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """Jobs lent to an agent until ``expires_in_s`` from now; ``token`` fences off whoever held them before.

    ``reference`` is the fingerprint of the platform's reference network, whose model file is had like any other.
    """

    id: int
    token: int
    platform_id: str
    agent: str
    expires_in_s: float
    reference: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The agent is alive and still at it: renews the lease."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    token: int


FailureKind = Literal[
    "bad-model",  # the network's fault: the job has failed
    "unsupported",
    "partial-delegation",
    "crashed",
    "timeout",
    "out-of-memory",
    "device-gone",  # the device's fault: the job goes back to the queue
    "link-lost",
    "too-hot",
    "no-space",
    "tool-missing",
    "other",
]

DEVICE_FAULTS: frozenset[FailureKind] = frozenset({"device-gone", "link-lost", "too-hot", "no-space", "tool-missing"})
"""Failures of a device, not of what it was to measure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a model could not be measured: data, not a row with a hole."""

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a job: a measurement or a failure. The pair of job and repeat is its idempotency key."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    lease_id: int
    token: int
    job_id: int
    repeat: int
    measurement: Measurement | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a result: stored, known already, or late (kept apart, because the lease was lost)."""

    status: Literal["stored", "duplicate", "late"]
    measurement_id: int | None


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """A stored measurement in short; the raw samples are had by its id. ``latency_ms`` is ratio × reference latency."""

    id: int
    fingerprint: str
    platform_id: str
    job_id: int
    repeat: int
    ratio: float
    latency_ms: float
    median_ms: float
    min_ms: float
    noisy: bool
    late: bool
    created_at: str


@dataclass(frozen=True, slots=True)
class MeasurementPage:
    """One page of measurements; ``next`` is the cursor of the page after it."""

    items: tuple[MeasurementRow, ...]
    next: int | None


# --- predictors and predictions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """Train predictors on everything accepted of a platform, and judge them on classes held out.

    ``kinds`` empty means every kind that is installed. The predictor that grouped cross-validation inside the training
    part finds best becomes active; the holdout only reports. With ``learning_curve``, the best kind is trained on parts
    of the training part as well, to tell what more measurements would bring.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    kinds: tuple[str, ...] = ()
    holdout_share: float = 0.25
    seed: int = 0
    activate: bool = True
    learning_curve: bool = False


@dataclass(frozen=True, slots=True)
class PredictorInfo:
    """A trained predictor: what it was trained on, how it did on the holdout, and in cross-validation (MdAPE)."""

    id: int
    kind: str
    platform_id: str
    dataset_id: int
    version: int
    active: bool
    artifact_sha256: str
    metrics: Metrics
    cross_validation_mdape: float
    created_at: str


@dataclass(frozen=True, slots=True)
class HoldoutPoint:
    """One network of a predictor's holdout: what was measured, and what was predicted."""

    fingerprint: str
    space: str
    measured_ms: float
    latency_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The median absolute percentage error (MdAPE) after training on so many networks, and its bounds at 90 %."""

    networks: int
    mdape: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """How the error of a kind of predictor falls with the networks trained on, and how it should go on falling.

    ``measured`` is from cross-validation inside the training part. ``expected`` continues it by a power law, first to
    the whole training part, at last to four times as much; it is empty where that cannot be told, for ``reason``.
    """

    kind: str
    measured: tuple[CurvePoint, ...]
    expected: tuple[CurvePoint, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The predictors of one training, the simplest first, and the repeatability of the platform beside them."""

    dataset_id: int
    platform_id: str
    reference_version: int
    predictors: tuple[PredictorInfo, ...]
    repeatability: Repeatability | None
    learning_curve: LearningCurve | None = None


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """Networks whose latency is wanted; ``predictor_id`` asks for one predictor instead of the active one."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    networks: tuple[NetworkInput, ...]
    zero: Zero = "execute"
    coverage: float = 0.9
    predictor_id: int | None = None


@dataclass(frozen=True, slots=True)
class PredictionItem:
    """One answer: milliseconds, the interval at the stated coverage, the source, and what the predictor did not know.

    A measured latency carries ``count``, the number of accepted measurements, and as its interval their spread.
    """

    fingerprint: str
    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    source: Literal["measured", "predicted"]
    predictor: str
    version: int
    unknown: tuple[str, ...]
    degenerate: bool
    count: int = 0


@dataclass(frozen=True, slots=True)
class PredictionResponse:
    """Answers in the order of the request."""

    platform_id: str
    items: tuple[PredictionItem, ...]
