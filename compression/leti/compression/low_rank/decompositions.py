"""Kernels as products of smaller ones: SVD, Tucker-2 and CP, each of which compresses again by its core alone.

Kernels lie as in :mod:`leti.generator.cost`, ``(out, *window, in)``; a matrix ``(out, in)`` has no window. What is
decomposed once decomposes again without the full kernel (MUSCO, Gusak et al. 2019; equation 1.13 of Ponomarev's
dissertation): with bases made orthonormal, all else of the kernel is in a core of the size of its ranks, and the
factors of the core times the bases are those of the kernel.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import prod
from typing import Final, Protocol, final

from leti.compression.low_rank.polyadic import Polyadic, polyadic
from leti.compression.low_rank.tensors import Array, leading_vectors, orthonormal, relative_error, times, unfolding
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np

Ranks = tuple[int, ...]

_SWEEPS: Final = 30
_SETTLED: Final = 1e-13


class Factors(Protocol):
    """A kernel as the product of smaller ones."""

    @property
    @abstractmethod
    def ranks(self) -> Ranks:
        """What is left between the factors: ``(rank,)``, or ``(rank in, rank out)`` of Tucker-2."""

    @property
    @abstractmethod
    def weights(self) -> tuple[Array, ...]:
        """The factors as kernels of operators one after the other, ``(out, *window, in)`` each, in float32."""

    @abstractmethod
    def kernel(self) -> Array:
        """Return what the factors multiply to, ``(out, *window, in)``."""

    @abstractmethod
    def core(self) -> Array:
        """Return what is left of the kernel between orthonormal bases, ``(rank out, *window, rank in)``."""

    @abstractmethod
    def again(self, ranks: Ranks) -> tuple[Factors, float]:
        """Return the factors of lower ranks that the full kernel has, found in the core alone, and their error.

        That is relative to the kernel as it is, as :func:`~leti.compression.low_rank.tensors.relative_error` has it.
        """


@final
@dataclass(frozen=True, slots=True, eq=False)
class Svd:
    """A matrix, or the kernel of a window of one element, as ``last (out, rank) @ first (rank, in)``."""

    first: Array
    last: Array
    window: tuple[int, ...] = ()

    @property
    def ranks(self) -> Ranks:
        """Its rank."""
        return (len(self.first),)

    @property
    def weights(self) -> tuple[Array, ...]:
        """Kernels of two operators."""
        return _as_kernels(self.window, self.first, self.last)

    def kernel(self) -> Array:
        """Return the product, ``(out, *window, in)``."""
        return (self.last @ self.first).reshape(len(self.last), *self.window, -1)

    def core(self) -> Array:
        """Return the part between orthonormal bases, ``(rank, rank)``."""
        return orthonormal(self.last)[1] @ orthonormal(self.first.T)[1].T

    def again(self, ranks: Ranks) -> tuple[Svd, float]:
        """Return the SVD of a lower rank."""
        out_basis, in_basis = orthonormal(self.last)[0], orthonormal(self.first.T)[0]
        core = self.core()
        smaller = svd(core, ranks)
        made = Svd(smaller.first @ in_basis.T, out_basis @ smaller.last, self.window)
        return made, relative_error(core, smaller.kernel())


@final
@dataclass(frozen=True, slots=True, eq=False)
class Tucker2:
    """``middle (rank out, *window, rank in)`` between ``first (rank in, in)`` and ``last (out, rank out)``."""

    first: Array
    middle: Array
    last: Array

    @property
    def ranks(self) -> Ranks:
        """Rank of what is read, rank of what is made."""
        return len(self.first), self.last.shape[1]

    @property
    def weights(self) -> tuple[Array, ...]:
        """Kernels of three operators: 1×1, the window, 1×1."""
        first, last = _as_kernels((1,) * (self.middle.ndim - 2), self.first, self.last)
        return first, self.middle.astype(np.float32), last

    def kernel(self) -> Array:
        """Return the product, ``(out, *window, in)``."""
        return times(times(self.middle, self.last, 0), self.first.T, -1)

    def core(self) -> Array:
        """Return the part between orthonormal bases, ``(rank out, *window, rank in)``."""
        return times(times(self.middle, orthonormal(self.last)[1], 0), orthonormal(self.first.T)[1], -1)

    def again(self, ranks: Ranks) -> tuple[Tucker2, float]:
        """Return the Tucker-2 decomposition of lower ranks."""
        out_basis, in_basis = orthonormal(self.last)[0], orthonormal(self.first.T)[0]
        core = self.core()
        smaller = tucker2(core, ranks)
        made = Tucker2(smaller.first @ in_basis.T, smaller.middle, out_basis @ smaller.last)
        return made, relative_error(core, smaller.kernel())


@final
@dataclass(frozen=True, slots=True, eq=False)
class Cp:
    """Factors ``(size, rank)`` of a kernel's modes: out, each dimension of the window, in (CP-4, Lebedev et al. 2015).

    With ``window``, all dimensions of the window are one mode (CP-3). ``found`` knows how it stands with degeneracy.
    """

    found: Polyadic
    window: tuple[int, ...] = ()

    @property
    def ranks(self) -> Ranks:
        """Its rank."""
        return (self.found.factors[0].shape[1],)

    @property
    def weights(self) -> tuple[Array, ...]:
        """Kernels of operators: 1×1, depthwise ones along each dimension (or the window's) ``(1, …, rank)``, 1×1."""
        last, *between, first = self.found.factors
        dimensions = len(self.window) or len(between)
        outer = _as_kernels((1,) * dimensions, first.T, last)
        if self.window:
            depthwise = [between[0].reshape(1, *self.window, -1)]
        else:
            depthwise = [
                factor.reshape(1, *(-1 if place == axis else 1 for axis in range(dimensions)), factor.shape[1])
                for place, factor in enumerate(between)
            ]
        return outer[0], *(kernel.astype(np.float32) for kernel in depthwise), outer[1]

    def kernel(self) -> Array:
        """Return the product, ``(out, *window, in)``."""
        tensor = self.found.tensor()
        return tensor.reshape(len(tensor), *self.window, -1) if self.window else tensor

    def core(self) -> Array:
        """Return the part between orthonormal bases, ``(at most rank, *window, at most rank)``."""
        return Cp(self._inner(), self.window).kernel()

    def again(self, ranks: Ranks) -> tuple[Cp, float]:
        """Return the CP decomposition of a lower rank: the closer of those found from the largest components on and
        from mixtures of singular vectors, as there are many minima.
        """
        last, *_, first = self.found.factors
        (rank,) = _checked(ranks, self.ranks)
        inner = self._inner()
        tensor = inner.tensor()
        found = [polyadic(tensor, rank, start=start) for start in (inner.largest(rank), ())]
        smaller = min(found, key=lambda each: relative_error(tensor, each.tensor()))
        core_last, *between, core_first = smaller.factors
        factors = (orthonormal(last)[0] @ core_last, *between, orthonormal(first)[0] @ core_first)
        return Cp(Polyadic(factors, smaller.ridge), self.window), relative_error(tensor, smaller.tensor())

    def _inner(self) -> Polyadic:
        last, *between, first = self.found.factors
        return Polyadic((orthonormal(last)[1], *between, orthonormal(first)[1]))


def svd(kernel: Array, ranks: Ranks) -> Svd:
    """Return the best product of two of a matrix, or of a kernel whose window is one element (Eckart & Young, 1936).

    The singular values are shared between the factors, so that neither is much larger than the other when trained.
    Raises :class:`InvalidInput` for a wider window and for a rank that the matrix cannot have.
    """
    window = kernel.shape[1:-1]
    if prod(window) != 1:
        raise InvalidInput(f"a window of {window} is no matrix", field="kernel", remedy="tucker2 or cp")
    matrix = np.asarray(kernel, np.float64).reshape(kernel.shape[0], kernel.shape[-1])
    (rank,) = _checked(ranks, (min(matrix.shape),))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    shared = np.sqrt(values[:rank])
    return Svd(shared[:, None] * right[:rank], left[:, :rank] * shared, window)


def tucker2(kernel: Array, ranks: Ranks) -> Tucker2:
    """Return the Tucker decomposition of a kernel's channels, the window left whole (Kim et al. 2016).

    Started by HOSVD (De Lathauwer et al. 2000a), then by higher-order orthogonal iteration (2000b) until the core
    gains no more. Raises :class:`InvalidInput` for ranks that the kernel cannot have.
    """
    kernel = np.asarray(kernel, np.float64)
    rank_in, rank_out = _checked(ranks, (kernel.shape[-1], kernel.shape[0]))
    last = leading_vectors(unfolding(kernel, 0), rank_out)
    first = leading_vectors(unfolding(kernel, -1), rank_in)
    middle = times(times(kernel, last.T, 0), first.T, -1)
    total, captured = float((kernel**2).sum()), float((middle**2).sum())
    for _ in range(_SWEEPS):
        last = leading_vectors(unfolding(times(kernel, first.T, -1), 0), rank_out)
        projected = times(kernel, last.T, 0)
        first = leading_vectors(unfolding(projected, -1), rank_in)
        middle = times(projected, first.T, -1)
        gained, captured = float((middle**2).sum()) - captured, float((middle**2).sum())
        if gained <= _SETTLED * total:
            break
    return Tucker2(first.T, middle, last)


def cp(kernel: Array, ranks: Ranks, *, merged: bool = False) -> Cp:
    """Return the CP decomposition of a kernel, that of its window as one mode where ``merged`` (CP-3, else CP-4).

    See :func:`~leti.compression.low_rank.polyadic.polyadic` for how it is kept from degenerating.
    """
    window = kernel.shape[1:-1]
    tensor = kernel.reshape(len(kernel), -1, kernel.shape[-1]) if merged else kernel
    (rank,) = _checked(ranks, (prod(kernel.shape),))
    return Cp(polyadic(tensor, rank), window if merged else ())


def decompose(kernel: Array, ranks: Ranks) -> Factors:
    """Return the factors that ranks stand for: two are Tucker-2, one is SVD, or CP-4 where there is a window.

    Raises :class:`InvalidInput` for another number of ranks, and for ranks that the kernel cannot have.
    """
    if len(ranks) == 2 and prod(kernel.shape[1:-1]) > 1:
        return tucker2(kernel, ranks)
    return svd(kernel, ranks) if prod(kernel.shape[1:-1]) == 1 else cp(kernel, ranks)


def _checked(ranks: Ranks, most: Ranks) -> Ranks:
    if len(ranks) != len(most) or any(not 1 <= rank <= limit for rank, limit in zip(ranks, most, strict=False)):
        remedy = f"{len(most)} of them, at least 1 and at most {', '.join(map(str, most))}"
        raise InvalidInput(f"{list(ranks)} are no ranks of it", field="ranks", remedy=remedy)
    return ranks


def _as_kernels(window: tuple[int, ...], *matrices: Array) -> tuple[Array, ...]:
    ones = (1,) * len(window)
    return tuple(m.reshape(len(m), *ones, m.shape[1]).astype(np.float32) for m in matrices)
