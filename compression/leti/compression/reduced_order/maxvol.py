"""Rows of a tall matrix that span all others with small coefficients.

Square: Goreinov, Oseledets, Savostyanov, Tyrtyshnikov, Zamarashkin, "How to find a good submatrix" (2010).
Rectangular: Mikhalev and Oseledets, "Rectangular maximum-volume submatrices and their applications" (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    from scipy.linalg import lu, solve_triangular

MAX_SWAPS: Final = 10_000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Chosen ``rows`` (p,), and the ``coefficients`` (n, p) that give all rows: ``A = coefficients @ A[rows]``.

    Of all such coefficients they are the smallest: ``A @ pinv(A[rows])``.
    """

    rows: Array
    coefficients: Array


def maxvol(matrix: Array, tolerance: float = 1.05) -> Selection:
    """Return ``r`` rows of a matrix (n, r) whose volume no exchange of one row makes ``tolerance`` times larger.

    No coefficient is larger than ``tolerance`` in magnitude. Raises :class:`~leti.core.errors.InvalidInput` for a
    matrix that is not tall or not of full column rank, and for a tolerance under 1.
    """
    matrix = _checked(matrix, tolerance)
    width = matrix.shape[1]
    order, lower, upper = lu(matrix, p_indices=True)
    if np.abs(np.diagonal(upper)).min() <= np.finfo(float).eps * np.abs(upper).max() * len(matrix):
        raise InvalidInput("is not of full column rank", field="matrix", remedy="fewer columns")
    rows = np.argsort(order)[:width]  # order says where each row went
    # A = L U, and the rows chosen are those that came first: coefficients are L times the inverse of its head.
    coefficients = solve_triangular(lower[:width], lower.T, trans=1, lower=True, unit_diagonal=True).T[order]
    for _ in range(MAX_SWAPS):
        i, j = np.unravel_index(np.argmax(np.abs(coefficients)), coefficients.shape)
        if abs(coefficients[i, j]) <= tolerance:
            break
        rows[j] = i
        change = coefficients[i].copy()
        change[j] -= 1
        coefficients -= np.outer(coefficients[:, j] / coefficients[i, j], change)
    return Selection(rows, coefficients)


def rectangular_maxvol(matrix: Array, rows: int, tolerance: float = 1.0) -> Selection:
    """Return at most ``rows`` rows of a matrix (n, r), at least r: those of :func:`maxvol`, and the farthest others.

    Rows are added while one is left whose coefficients have a norm over ``tolerance``, the largest norm first. Raises
    :class:`~leti.core.errors.InvalidInput` for what :func:`maxvol` does, and for fewer rows than columns.
    """
    matrix = _checked(matrix, max(tolerance, 1.0))
    if rows < matrix.shape[1]:
        raise InvalidInput(f"must be at least the {matrix.shape[1]} columns", field="rows")
    square = maxvol(matrix)
    chosen, coefficients = list(square.rows), square.coefficients
    norms = (coefficients**2).sum(1)
    norms[chosen] = 0
    while len(chosen) < min(rows, len(matrix)):
        i = int(norms.argmax())
        if norms[i] <= tolerance**2:
            break
        row = coefficients[i].copy()
        along = coefficients @ row
        scale = 1 / (1 + row @ row)
        coefficients = np.hstack([coefficients - np.outer(along * scale, row), along[:, None] * scale])
        norms -= along**2 * scale
        chosen.append(i)
        norms[chosen] = 0
    return Selection(np.array(chosen), coefficients)


def _checked(matrix: Array, tolerance: float) -> Array:
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or not 1 <= matrix.shape[1] <= matrix.shape[0]:
        raise InvalidInput(f"must have at least as many rows as columns, not {matrix.shape}", field="matrix")
    if not np.isfinite(matrix).all():
        raise InvalidInput("must be finite", field="matrix")
    if tolerance < 1:
        raise InvalidInput("must be at least 1", field="tolerance")
    return matrix
