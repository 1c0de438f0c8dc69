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
from leti.core.errors import LetiError, error_classes
from leti.core.measurement import Repeatability

PROTOCOL_VERSION = 4
PROTOCOL_HEADER = "leti-protocol"

PROBLEM_TYPE = "urn:leti:problem:"
"""What the ``type`` of every problem begins with; the kind of the error follows."""

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
"""A network as users give it: an architecture string of NAS-Bench-201, or a spec's JSON object.

Requests for predictions take further forms; see :class:`~leti.core.queries.PredictionRequest`."""


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

    def error(self) -> LetiError:
        """Return the error that the problem says."""
        cls = error_classes().get(self.type.removeprefix(PROBLEM_TYPE), LetiError)
        found = cls(self.detail, field=self.field, remedy=self.remedy)
        found.details = self.details
        return found


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
class NetworkRequest:
    """One network to be known to the service by a fingerprint that the sender has found by itself."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    network: NetworkInput
    zero: Zero = "execute"
    precision: ModelPrecision = "float32"


NetworkSource = Literal["spec", "upload", "graph", "patch"]
"""What a network was first known from: a spec, an uploaded model file, a graph alone, or a patch of another network."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network that the service knows. ``degenerate`` says that no input reaches the output of its cell.

    One that came without a spec has the space "", and is a class of its own; ``source`` says where it came from. A
    compressed one is of the class of the network ``base`` (a fingerprint) that ``patch`` makes it of, as
    :class:`~leti.core.patches.Patch` says it.
    """

    fingerprint: str
    space: str
    spec: dict[str, Any] | None
    zero: Zero
    isomorphism_class: str
    degenerate: bool
    macs: int
    params: int
    peak_memory_bytes: int
    precision: ModelPrecision = "float32"
    source: NetworkSource = "spec"
    base: str | None = None
    patch: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AccuracyRequest:
    """What a trained network reached on a task: ``accuracy`` is a share from 0 to 1, ``remark`` says how it was had."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    accuracy: float
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of a network on a task such as ``cifar10-valid``, as it was said last; LETI itself trains none."""

    fingerprint: str
    task: str
    accuracy: float
    remark: str
    updated_at: str


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
