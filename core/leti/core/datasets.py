"""Datasets on the wire: frozen measurements with their split, row by row, and as files that go from service to service.

A file says the same in Parquet and in CSV: a row for each network with the fields of :class:`DatasetRow`, where the
spec, the graph and the operator times are JSON texts (empty where there are none), and one :class:`DatasetHeader`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from leti.core.device import ModelPrecision, Platform
from leti.core.measurement import OperatorTime, Repeatability
from leti.core.wire import Zero

Part = Literal["train", "test"]
"""The side of a split: what is learnt from, and what is held out."""

DatasetFormat = Literal["parquet", "csv"]

FILE_VERSION = 1
"""Version of the files that this release writes and reads."""


@dataclass(frozen=True, slots=True)
class DatasetOrigin:
    """Where an imported dataset comes from: its number, time and reference there, and the file that brought it."""

    dataset_id: int
    created_at: str
    reference_version: int
    leti_version: str
    format: DatasetFormat
    sha256: str


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A frozen dataset: how many networks train and how many are held out, and in which version of the reference.

    ``repeatability`` is what was known when it was frozen. ``origin`` is ``None`` for one that was measured here.
    """

    id: int
    platform_id: str
    reference_version: int
    reference_latency_ms: float
    networks_train: int
    networks_holdout: int
    holdout_share: float
    seed: int
    created_at: str
    repeatability: Repeatability | None = None
    origin: DatasetOrigin | None = None


@dataclass(frozen=True, slots=True)
class DatasetPage:
    """One page of datasets; ``next`` is the cursor of the page after it."""

    items: tuple[DatasetInfo, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One network of a dataset: its recipe, its side, and its truth; ``latency_ms`` is ``ratio`` times the reference's.

    ``graph`` is there where there is no ``spec``. ``group`` is the class that stands on one side as a whole: the search
    space and the isomorphism class in it, or the fingerprint alone. ``operator_times`` are those that a training
    learns from, empty where the network was not profiled.
    """

    fingerprint: str
    space: str
    spec: dict[str, Any] | None
    zero: Zero
    precision: ModelPrecision
    graph: dict[str, Any] | None
    part: Part
    group: str
    ratio: float
    count: int
    spread: float
    latency_ms: float
    operator_times: tuple[OperatorTime, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetRowPage:
    """One page of a dataset's networks, by fingerprint; ``next`` is the cursor of the page after it."""

    items: tuple[DatasetRow, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class DatasetHeader:
    """What a file says of its dataset as a whole: the platform, the reference network, the split, where it is from.

    ``reference`` is the fingerprint of ``reference_spec`` in the precision of the platform's models.
    """

    file_version: int
    leti_version: str
    dataset_id: int
    created_at: str
    platform: Platform
    reference: str
    reference_spec: dict[str, Any]
    reference_zero: Zero
    reference_version: int
    reference_latency_ms: float
    holdout_share: float
    seed: int
    networks_train: int
    networks_holdout: int
    repeatability: Repeatability | None


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """The task of reading one file that was sent; it is queued by the import itself."""

    sha256: str
    format: DatasetFormat
