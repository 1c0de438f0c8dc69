"""Robust least squares on relative error, drawn towards a prior; with weights that are not negative, if asked.

Huber's loss by iteratively reweighted least squares (Huber, "Robust Estimation of a Location Parameter", 1964);
non-negative least squares after Lawson and Hanson, *Solving Least Squares Problems* (1974).
"""

from __future__ import annotations

from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector

with needs("boosting"):
    import numpy as np
    from scipy.optimize import nnls

_HUBER = 1.5
_JITTER = 1e-10
"""Share of the mean diagonal that is added to it, where columns say the same as others."""


def fit_prices(
    rows: Matrix, latencies_ms: Vector, prior: Vector, strength: float, *, free: int = 0, rounds: int = 6
) -> Vector:
    """Return non-negative weights ``(columns,)`` with ``rows @ weights`` near ``latencies_ms`` in relative terms.

    ``rows`` is ``(n, columns)``, ``prior`` the weights that are taken where the data say nothing; ``strength`` is how
    hard they are held to it, beside the data of a typical network. The last ``free`` columns are not held at all.
    """
    scale = np.sqrt(np.mean(rows**2, axis=0))
    scale[scale == 0] = 1.0
    relative = rows / scale / latencies_ms[:, None]  # the weighted sum should be 1
    held = np.full(len(scale), strength * len(rows) * float(np.median(1 / latencies_ms)) ** 2)
    held[len(held) - free :] = 0.0
    pull = held * prior * scale
    count = np.ones(len(rows))
    weights = prior * scale
    for _ in range(rounds):
        weighted = relative * count[:, None]
        gram = weighted.T @ relative
        diagonal = np.diag_indices_from(gram)
        gram[diagonal] += held + _JITTER * float(np.mean(gram[diagonal]))
        root = np.linalg.cholesky(gram)  # |root.T w - root^-1 b|² is the same parabola, in as many rows as columns
        weights, _ = nnls(root.T, np.linalg.solve(root, weighted.sum(axis=0) + pull), maxiter=20 * len(scale))
        residual = np.abs(relative @ weights - 1)
        spread = max(1.4826 * float(np.median(residual)), 1e-6)
        count = np.minimum(1.0, _HUBER * spread / np.maximum(residual, 1e-12))
    found: Vector = weights / scale
    return found
