"""Canonical polyadic decomposition by alternating least squares, kept from degenerating.

A tensor may have no best approximation of a rank: errors fall ever more slowly while components grow without bound and
cancel each other (de Silva & Lim, 2008), and a network fine-tuned from such factors diverges ("Stable Low-rank Tensor
Decomposition for Compression of Convolutional Neural Network", Phan et al. 2020). Two numbers tell: how much larger
the components are than what they add up to, and how far the tensor moves when the factors do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.compression.low_rank.tensors import Array, khatri_rao, leading_vectors, unfolding
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np

MAX_CANCELLATION: Final = 4.0
"""Components whose norms together are so many times the tensor's cancel each other: the decomposition degenerates."""

_RIDGES: Final = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Weight of the factors' squared norms beside the error, of the tensor's squared norm: any above 0 has a minimum."""

_TOLERANCE: Final = 1e-8


@final
@dataclass(frozen=True, slots=True, eq=False)
class Polyadic:
    """Factors ``(size, rank)``, one a mode, columns of one norm each; ``ridge`` is what kept them from degenerating."""

    factors: tuple[Array, ...]
    ridge: float = 0.0

    def tensor(self) -> Array:
        """Return what the factors multiply to, of the shape ``(size, …)``."""
        sizes = [len(factor) for factor in self.factors]
        return (self.factors[0] @ khatri_rao(self.factors[1:]).T).reshape(sizes)

    @property
    def norm(self) -> float:
        """Norm of what the factors multiply to, from the factors alone."""
        return float(np.sqrt(max(_norms_product(self.factors, -1).sum(), 0.0)))

    @property
    def component_norms(self) -> Array:
        """Norm of each of the components that are added up, ``(rank,)``."""
        norms: Array = np.prod([np.linalg.norm(factor, axis=0) for factor in self.factors], axis=0)
        return norms

    @property
    def sensitivity(self) -> float:
        """Expected squared error for each unit of variance of noise on the factors (Phan et al. 2020, definition 1)."""
        return float(sum(len(f) * np.trace(_norms_product(self.factors, mode)) for mode, f in enumerate(self.factors)))

    def largest(self, rank: int) -> tuple[Array, ...]:
        """Return the factors of the components of the largest norms."""
        kept = np.argsort(-self.component_norms, kind="stable")[:rank]
        return tuple(factor[:, kept] for factor in self.factors)

    def cancellation(self, norm: float) -> float:
        """Return how many times larger the components are, taken together, than a tensor of this norm."""
        together = float(np.linalg.norm(self.component_norms))
        return together / norm if norm else together


def polyadic(tensor: Array, rank: int, *, start: Sequence[Array] = (), passes: int = 200, seed: int = 0) -> Polyadic:
    """Return the decomposition of a tensor into ``rank`` components, by at most ``passes`` of least squares a mode.

    Factors start as ``start``, or as random mixtures of the leading singular vectors: the vectors themselves pair up so
    well that the search may stay where it begins. Where the components
    cancel each other (:data:`MAX_CANCELLATION`), factors are found again with a price on their norms, a larger one each
    time: with it, there always is a minimum (Lim & Comon, 2009). Raises :class:`InvalidInput` for a rank under 1.
    """
    if rank < 1:
        raise InvalidInput(f"must be at least 1, not {rank}", field="rank")
    tensor = np.asarray(tensor, np.float64)
    norm = float(np.linalg.norm(tensor))
    if not norm:
        return Polyadic(tuple(np.zeros((size, rank)) for size in tensor.shape))
    found = Polyadic(())
    for ridge in _RIDGES:
        begun = [*start] if start else _start(tensor, rank, np.random.default_rng(seed))
        factors = _alternating(tensor / norm, begun, ridge, passes)
        found = Polyadic(_balanced(factors, norm), ridge)
        if found.cancellation(norm) <= MAX_CANCELLATION:
            break
    return found


def _start(tensor: Array, rank: int, rng: np.random.Generator) -> list[Array]:
    factors = []
    for mode, size in enumerate(tensor.shape):
        vectors = leading_vectors(unfolding(tensor, mode), min(rank, size))
        factors.append(vectors @ rng.standard_normal((vectors.shape[1], rank)) / np.sqrt(rank))
    return factors


def _alternating(tensor: Array, factors: list[Array], ridge: float, passes: int) -> list[Array]:
    """Return factors of a tensor of norm 1, each solved for in turn until the fit moves no more."""
    rank, end = factors[0].shape[1], tensor.ndim - 1
    last = np.inf
    for _ in range(passes):
        summed = np.zeros((1, rank))
        for mode in range(tensor.ndim):
            summed = _summed(tensor, factors, mode)
            factors[mode] = _solved(_norms_product(factors, mode) + ridge * np.eye(rank), summed)
        if ridge:
            factors = list(_balanced(factors, 1.0))  # of all factors of a product, those alike have the least norms
            summed = _summed(tensor, factors, end)
        error = 1 - 2 * float((summed * factors[-1]).sum()) + float(_norms_product(factors, -1).sum())
        if abs(last - error) < _TOLERANCE * max(error, _TOLERANCE):
            break
        last = error
    return factors


def _summed(tensor: Array, factors: Sequence[Array], mode: int) -> Array:
    """Return the unfolding of a mode times the Khatri-Rao product of the other factors, ``(size, rank)``.

    That product is never made: for a narrow mode, such as those of a window, it is many times the tensor.
    """
    first = 0 if mode == tensor.ndim - 1 else tensor.ndim - 1
    result = np.moveaxis(tensor, first, -1) @ factors[first]
    left = [place for place in range(tensor.ndim) if place != first]
    for axis, place in reversed(list(enumerate(left))):
        if place != mode:
            size, rank = factors[place].shape
            result = (result * factors[place].reshape(size, *(1,) * (result.ndim - axis - 2), rank)).sum(axis=axis)
    return result


def _norms_product(factors: Sequence[Array], left_out: int) -> Array:
    """Return the Gram matrices of all factors but one, -1 for none, multiplied element by element."""
    grams = [factor.T @ factor for place, factor in enumerate(factors) if place != left_out]
    result: Array = np.prod(grams, axis=0)
    return result


def _solved(gram: Array, summed: Array) -> Array:
    """Return ``summed / gram``, the shortest one where columns are so alike that there are many."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * 1e-14
    vectors = vectors[:, kept]
    result: Array = (summed @ vectors / values[kept]) @ vectors.T
    return result


def _balanced(factors: Sequence[Array], norm: float) -> tuple[Array, ...]:
    """Return the same components times ``norm``, with the columns of each component of one norm in every factor."""
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
    shared = (np.prod(norms, axis=0) * norm) ** (1 / len(factors))
    return tuple(
        factor * np.divide(shared, own, out=np.zeros_like(own), where=own > 0)
        for factor, own in zip(factors, norms, strict=True)
    )
