"""Prices: non-negative weights of columns of any size, held to a prior as hard as the data of a typical network."""

from __future__ import annotations

from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector
from leti.predictors.nonnegative import fit_nonnegative

with needs("boosting"):
    import numpy as np

_JITTER = 1e-10
"""How hard even a free column is held: there is one answer where columns say the same as others."""


def fit_prices(
    rows: Matrix, latencies_ms: Vector, prior: Vector, strength: float, *, free: int = 0, rounds: int = 6
) -> Vector:
    """Return non-negative weights ``(columns,)`` with ``rows @ weights`` near ``latencies_ms`` in relative terms.

    ``rows`` is ``(n, columns)``, ``prior`` the weights that are taken where the data say nothing; ``strength`` is how
    hard they are held to it, beside the data of a typical network. The last ``free`` columns are not held at all.
    """
    scale = np.sqrt(np.mean(rows**2, axis=0))
    scale[scale == 0] = 1.0
    held = np.full(len(scale), (strength + _JITTER) * len(rows) * float(np.median(1 / latencies_ms)) ** 2)
    held[len(held) - free :] *= _JITTER / (strength + _JITTER)
    found: Vector = fit_nonnegative(rows / scale, latencies_ms, prior * scale, held, rounds=rounds) / scale
    return found
