"""What travels between client, agents and service, as frozen values with one JSON form each.

The service publishes these very types as its OpenAPI schema, the client sends and reads them. Both sides exchange
:data:`PROTOCOL_VERSION` in the header :data:`PROTOCOL_HEADER`: a side that speaks another version is refused with a
clear problem instead of being misread.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from leti.core.device import ModelPrecision, Platform
from leti.core.measurement import Repeatability
from leti.core.prediction import Metrics

PROTOCOL_VERSION = 3
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


# --- predictors and predictions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """Train predictors on everything accepted of a platform, and judge them on classes held out.

    ``kinds`` empty means every kind that is installed and trains in seconds; costly ones are named. Where few networks
    are measured, and other platforms of the same precision have active predictors, ``adapted`` is among them, which
    adapts those: up to a hundred networks beside the others, alone where there are too few for these. The one that
    grouped cross-validation inside the training part finds best becomes active; the holdout only reports. With
    ``learning_curve``, the best kind that is no mix of others is trained on parts of the training part as well, to tell
    what more measurements would bring.
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
    """The predictors of one training, the simplest first, and the repeatability of the platform beside them.

    ``remarks`` says what was odd about the measurements or the predictors, a sentence each.
    """

    dataset_id: int
    platform_id: str
    reference_version: int
    predictors: tuple[PredictorInfo, ...]
    repeatability: Repeatability | None
    learning_curve: LearningCurve | None = None
    remarks: tuple[str, ...] = ()


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

    A measured latency carries ``count``, the number of accepted measurements, and as its interval their spread. A
    predicted one carries ``distance``: above 1 the network is farther from the training than 99 % of its networks are.
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
    distance: float = 0.0


@dataclass(frozen=True, slots=True)
class PredictionResponse:
    """Answers in the order of the request."""

    platform_id: str
    items: tuple[PredictionItem, ...]
