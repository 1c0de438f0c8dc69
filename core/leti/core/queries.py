"""What a search asks of the service: the latency of many networks at once, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from leti.core.wire import STRICT, NetworkInput, Zero


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
