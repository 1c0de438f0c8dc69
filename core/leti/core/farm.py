"""What the farm says on the wire: devices, campaigns, jobs, leases and results, each with one JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from leti.core.device import Device
from leti.core.measurement import Measurement
from leti.core.patches import CompressedSample
from leti.core.spec import NetworkConfig
from leti.core.wire import STRICT, NetworkInput, Problem, Zero

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


Sampling = Literal["random", "diverse", "active"]
"""How networks are chosen: drawn, standing for many others, or such that predictors disagree about them."""


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
    """What to measure, where: samples of spaces, networks by name, and compressed forms, on one platform.

    A share ``repeat_share`` of the networks is measured ``repeats`` times, apart in time, the others once. Jobs of a
    higher ``priority`` are lent out first, then those that came first. With ``profile``, the first measurement of each
    network carries the times of its operators, from a run of its own. Where ``sampling`` is not random, the networks of
    the samples are chosen among many that are drawn by their seeds. Networks take every form that they take in a
    :class:`~leti.core.queries.PredictionRequest`; an uploaded one is named by its fingerprint. A ``baseline``, one more
    network, is measured in turns with the others, in every lease of two jobs or more: as often as that takes.
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
    sampling: Sampling = "random"
    compressed: tuple[CompressedSample, ...] = ()
    baseline: NetworkInput | None = None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign and the state of its jobs; ``poison`` counts jobs set aside because they killed their agents.

    ``baseline`` is the fingerprint of the network that the others are measured beside, empty where there is none.
    ``remark`` is said once, when it is created: why its networks were chosen otherwise than asked for.
    """

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
    remark: str = ""
    baseline: str = ""

    @property
    def jobs(self) -> int:
        """Number of jobs in all."""
        return self.queued + self.leased + self.done + self.failed + self.poison + self.cancelled

    @property
    def finished(self) -> bool:
        """Whether nothing is left to measure."""
        return self.queued + self.leased == 0


@dataclass(frozen=True, slots=True)
class CampaignPage:
    """One page of campaigns; ``next`` is the cursor of the page after it."""

    items: tuple[Campaign, ...]
    next: int | None


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


@dataclass(frozen=True, slots=True)
class FailedJobPage:
    """One page of jobs that ended without a measurement; ``next`` is the cursor of the page after it."""

    items: tuple[FailedJob, ...]
    next: int | None


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
class AgentInfo:
    """An agent on a platform: the last lease that it was given there, since when, and when it was last heard of.

    ``jobs`` are those of the lease that it has yet to hand in, none where the lease is not ``held`` any more. What
    state its device is in says :class:`DeviceInfo`.
    """

    agent: str
    platform_id: str
    device: str
    last_seen: str | None
    lease_id: int
    since: str
    held: bool
    jobs: int


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
class ResultBatch:
    """Results to be handed in together; what is wrong with one keeps nothing of the others back."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class ResultOutcome:
    """What became of one result of a batch, by its place there: a receipt, or the problem with it."""

    index: int
    receipt: Receipt | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """What became of each result of a batch, in its order."""

    items: tuple[ResultOutcome, ...]


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """A stored measurement in short; the raw samples are had by its id. ``latency_ms`` is ratio × reference latency.

    Those of one ``lease_id`` were measured together, in turns.
    """

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
    lease_id: int


@dataclass(frozen=True, slots=True)
class MeasurementPage:
    """One page of measurements; ``next`` is the cursor of the page after it."""

    items: tuple[MeasurementRow, ...]
    next: int | None
