"""EVBMF: how many singular values of a noisy matrix are signal, by the global analytic solution.

"Global Analytic Solution of Fully-observed Variational Bayesian Matrix Factorization" (Nakajima, Sugiyama, Babacan &
Tomioka, JMLR 14, 2013). The free energy, minimised over everything else in closed form, depends on the noise's
variance alone; a singular value is signal where it is over a threshold that follows from it.
"""

from __future__ import annotations

import math
from typing import Final

from leti.compression.low_rank.tensors import Array
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np

_POINTS: Final = 257
_ZOOMS: Final = 6
_ROUNDING: Final = 2.0**-24
"""Of the largest element, the least noise that there is: weights are float32, and rounding is no signal."""


def extreme_rank(matrix: Array) -> int:
    """Return the number of singular values of a matrix that are signal, 0 where all of it may be noise.

    The noise's variance is estimated as well; of ``(rows, columns)``, tall or wide, at most a share
    ``1 / (1 + fewer / more)`` of the fewer can be told from noise. Raises :class:`InvalidInput` for what is no matrix
    of finite numbers.
    """
    if matrix.ndim != 2 or not matrix.size:
        raise InvalidInput(f"must have two dimensions, not the shape {matrix.shape}", field="matrix")
    if not np.isfinite(matrix).all():
        raise InvalidInput("must be finite", field="matrix")
    fewer, more = sorted(matrix.shape)
    values = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    if not values[0]:
        return 0
    squares = (values / values[0]) ** 2 / more
    ratio = fewer / more
    threshold = _threshold(ratio)
    rounding = _ROUNDING * float(np.abs(matrix).max()) / float(values[0])
    variance = _noise_variance(squares, ratio, threshold, rounding**2)
    return int((squares > variance * threshold).sum())


def _threshold(ratio: float) -> float:
    """Return what a squared singular value is over, in units of noise, where it is signal.

    That is ``(1 + τ)(1 + α / τ)``, with ``τ`` where ``Φ(τ) + Φ(τ / α) = 0``, ``Φ(z) = log(z + 1) / z − 1/2``. The root
    is found; for square matrices it is the 2.5129 that is often taken, times ``sqrt(α)``, for all.
    """
    low, high = 2.5 * ratio, 2.6  # Φ falls, and is 0 at 2.5129
    for _ in range(60):
        tau = (low + high) / 2
        rises = math.log1p(tau) / tau + ratio * math.log1p(tau / ratio) / tau - 1 > 0
        low, high = (tau, high) if rises else (low, tau)
    return (1 + low) * (1 + ratio / low)


def _noise_variance(squares: Array, ratio: float, threshold: float, least: float) -> float:
    """Return the variance of least free energy, of squared singular values over the matrix's longer side.

    The free energy may have several minima: it is looked at on a grid of logarithms between the bounds that are known
    of the variance, then closer about the best place.
    """
    most = min(math.ceil(len(squares) / (1 + ratio)) - 1, len(squares) - 1)
    tail = squares[most:]
    low = math.log(max(tail[0] / threshold, tail.mean(), least))
    high = math.log(max(squares.mean(), math.exp(low)))
    for _ in range(_ZOOMS):
        grid = np.linspace(low, high, _POINTS)
        best = int(np.argmin(_free_energy(squares, ratio, threshold, grid)))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, _POINTS - 1)]
    return math.exp((low + high) / 2)


def _free_energy(squares: Array, ratio: float, threshold: float, log_variances: Array) -> Array:
    """Return the free energy at each variance, but for a constant: singular values of 0 would make that infinite."""
    x = squares[None, :] / np.exp(log_variances)[:, None]
    signal = np.maximum(x, threshold)  # what is noise gains nothing, as at the threshold
    centred = signal - (1 + ratio)
    tau = (centred + np.sqrt(np.maximum(centred**2 - 4 * ratio, 0))) / 2
    gained = np.log1p(tau) + ratio * np.log1p(tau / ratio) - tau
    energy: Array = (x + log_variances[:, None] + gained).sum(axis=1)
    return energy
