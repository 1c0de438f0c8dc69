"""Intervals by conformal prediction: how far off the predictor was on networks that it had not seen.

Split conformal prediction (Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005; Lei et al.,
"Distribution-Free Predictive Inference for Regression", 2018) takes a quantile of the residuals on data kept apart.
Here every network is kept apart once: K models, each trained without one fold of groups, give the residuals, and the
predictor that is served learns from all of them (cross-validated residuals; Barber et al., "Predictive Inference with
the Jackknife+", 2021).

What is promised: for networks drawn like those of the training, the stated share of intervals holds the latency, to
the extent that a model hardly changes when it sees the last fold too. A finite-sample proof as for one split there is
not (the proven variant, CV+, asks every fold's model for every prediction and then proves ``1 - 2 * (1 - coverage)``);
in practice the intervals are slightly wide, since the fold models saw less than the served one. Nothing is promised for
networks of another kind than the training's: those are what ``unknown`` lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

FOLDS = 5
"""Models whose residuals calibrate the interval, besides the one that is served."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Residuals ``|ln(measured / predicted)|`` of networks that the model had not seen: ``(n,)``, ascending.

    Residuals are relative: a slow network may be off by more milliseconds than a fast one.
    """

    residuals: NDArray[np.float64]

    @classmethod
    def of(cls, measured_ms: NDArray[np.float64], predicted_ms: NDArray[np.float64]) -> Calibration:
        """Return the calibration that measured and predicted latencies give, both ``(n,)`` and positive."""
        return cls(np.sort(np.abs(np.log(measured_ms / predicted_ms))))

    @property
    def max_coverage(self) -> float:
        """Largest coverage for which n residuals give a finite interval: ``n / (n + 1)``."""
        return len(self.residuals) / (len(self.residuals) + 1)

    def half_width(self, coverage: float) -> float:
        """Return the ``ceil((n + 1) * coverage)``-th smallest residual, the half width of the interval in logarithms.

        Raises :class:`~leti.core.errors.InvalidInput` for a coverage outside 0 … 1, and for one so high that only an
        infinite interval would keep the promise.
        """
        if isinstance(coverage, bool) or not (isinstance(coverage, int | float) and 0 < coverage < 1):
            raise InvalidInput(f"must be between 0 and 1, not {coverage!r}", field="coverage")
        n = len(self.residuals)
        rank = math.ceil((n + 1) * coverage - 1e-9)  # 10 * 0.9 is 9.000000000000002 on some paths
        if rank > n:
            raise InvalidInput(
                f"{coverage} cannot be promised from {n} measured networks",
                field="coverage",
                remedy=f"at most {math.floor(self.max_coverage * 1000) / 1000}, or measure more networks",
                maximum=self.max_coverage,
            )
        return float(self.residuals[max(rank, 1) - 1])

    def interval(
        self, latency_ms: NDArray[np.float64], coverage: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower and upper ends, both ``(n,)`` in ms, around predicted latencies ``(n,)``."""
        factor = math.exp(self.half_width(coverage))
        return latency_ms / factor, latency_ms * factor
