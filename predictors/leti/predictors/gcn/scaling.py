"""Scaling: between latencies in ms and what a network says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from leti.core.extras import needs
from leti.predictors.batch import Vector

with needs("boosting"):
    import numpy as np

_BEYOND = 2.0
"""A prediction leaves the range of the training latencies by so many times that range at most, in logarithms."""


@final
@dataclass(frozen=True, slots=True)
class Scaling:
    """``latency = unit * said`` where ``linear``, else ``exp(level + unit * said)``; from ``low_ms`` to ``high_ms``."""

    form: Literal["linear", "logarithm"]
    level: float
    unit: float
    low_ms: float
    high_ms: float

    @classmethod
    def normalised(cls, latencies_ms: Vector) -> Scaling:
        """Latency as a multiple of the median."""
        return cls("linear", 0.0, float(np.median(latencies_ms)), *_range(latencies_ms))

    @classmethod
    def logarithm(cls, latencies_ms: Vector, *, standardised: bool) -> Scaling:
        """Logarithm of the latency; in deviations (by quartiles) from the median where ``standardised``."""
        logarithms = np.log(latencies_ms)
        if not standardised:
            return cls("logarithm", 0.0, 1.0, *_range(latencies_ms))
        low, middle, high = np.quantile(logarithms, (0.25, 0.5, 0.75))
        return cls("logarithm", float(middle), max(float(high - low) / 1.349, 1e-9), *_range(latencies_ms))

    def said(self, latencies_ms: Vector) -> Vector:
        """Return what a network should say."""
        if self.form == "linear":
            return latencies_ms / self.unit
        target: Vector = (np.log(latencies_ms) - self.level) / self.unit
        return target

    def latencies_ms(self, said: Vector) -> Vector:
        """Return the latency of what a network said."""
        if self.form == "linear":
            latencies = said * self.unit
        else:
            latencies = np.exp(np.minimum(self.level + self.unit * said, np.log(self.high_ms)))
        bounded: Vector = np.clip(latencies, self.low_ms, self.high_ms)
        return bounded


def _range(latencies_ms: Vector) -> tuple[float, float]:
    low, high = float(latencies_ms.min()), float(latencies_ms.max())
    beyond = (high / low) ** _BEYOND
    return low / beyond, high * beyond
