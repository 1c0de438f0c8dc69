"""Linear algebra of kernels: unfoldings, leading singular vectors, orthonormal bases, all in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leti.core.extras import needs

with needs("compression"):
    import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def unfolding(tensor: Array, mode: int) -> Array:
    """Return the tensor as a matrix, ``(size of the mode, all else)`` (Kolda & Bader, 2009)."""
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def times(tensor: Array, matrix: Array, mode: int) -> Array:
    """Return the product of a tensor with a matrix ``(new size, size of the mode)`` in that mode."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, mode)), 0, mode)


def leading_vectors(matrix: Array, rank: int) -> Array:
    """Return the ``rank`` leading left singular vectors, ``(rows, rank)``, those past the matrix's width included.

    Wide matrices go through their Gram matrix: its eigenvectors are the same, and float64 leaves weights of float32
    digits to spare.
    """
    rows, columns = matrix.shape
    if columns > rows:
        return np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :rank]
    return np.linalg.svd(matrix, full_matrices=rank > columns)[0][:, :rank]


def orthonormal(factor: Array) -> tuple[Array, Array]:
    """Return ``Q, R`` with ``Q R = factor``, where that makes it smaller; else the unit matrix and the factor."""
    rows, columns = factor.shape
    if rows <= columns:
        return np.eye(rows), factor
    q, r = np.linalg.qr(factor)
    return q, r


def khatri_rao(factors: Sequence[Array]) -> Array:
    """Return the column-wise Kronecker product of factors ``(size, rank)``: ``(product of sizes, rank)``."""
    result = factors[0]
    for factor in factors[1:]:
        result = (result[:, None, :] * factor[None, :, :]).reshape(-1, factor.shape[1])
    return result


def relative_error(tensor: Array, approximation: Array) -> float:
    """Return the Frobenius norm of the difference over that of the tensor, 0 where both are nothing."""
    norm = float(np.linalg.norm(tensor))
    missing = float(np.linalg.norm(np.asarray(tensor, np.float64) - approximation))
    return missing / norm if norm else missing
