"""Low-dimensional bases of what a layer makes, found while samples stream by, in memory that does not grow with them.

A sketch sees rows, one a sample, and gives an orthonormal basis of few columns on which little of them is lost. What is
lost at most, the tail energy, is known of every sketch: none overstates what its basis captures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

SketchKind = Literal["truncated", "randomised", "frequent_directions"]

_NEGLIGIBLE: Final = 1e-7
"""Singular values under this share of the first are rounding of float32 activations."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """An orthonormal ``basis`` (size, rank) of rows X (samples, size), the best direction first.

    ``captured`` (rank,) are energies along the columns, at most ``‖X v‖²`` each in sum; ``energy`` is ``‖X‖²`` (squared
    Frobenius norm).
    """

    basis: Array
    captured: Array
    energy: float

    @property
    def rank(self) -> int:
        """Number of columns."""
        return int(self.basis.shape[1])

    @property
    def tail_energy(self) -> float:
        """The most that is lost, ``‖X - X V Vᵀ‖²``; exactly that where the sketch is a truncated SVD."""
        return max(self.energy - float(self.captured.sum()), 0.0)

    def cut(self, tail: float) -> Embedding:
        """Return the embedding with as few columns as lose at most the share ``tail`` of the energy, if any do."""
        enough = np.flatnonzero(self.energy - self.captured.cumsum() <= tail * self.energy)
        columns = int(enough[0]) + 1 if enough.size else self.rank
        return Embedding(self.basis[:, :columns], self.captured[:columns], self.energy)


class Sketch(ABC):
    """What is kept of rows of ``size`` elements, for a basis of at most ``rank`` columns."""

    def __init__(self, size: int, rank: int) -> None:
        """Begin with no rows; raise :class:`~leti.core.errors.InvalidInput` for no columns."""
        if rank < 1 or size < 1:
            raise InvalidInput("must be at least 1", field="rank")
        self.size = size
        self.rank = min(rank, size)
        self._energy = 0.0

    @final
    def add(self, rows: Array) -> None:
        """See rows (samples, size); raise :class:`~leti.core.errors.InvalidInput` where they do not fit or end."""
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.size:
            raise InvalidInput(f"must be rows of {self.size} elements, not {rows.shape}", field="rows")
        if not np.isfinite(rows).all():
            raise InvalidInput("must be finite", field="rows")
        self._energy += float((rows**2).sum())
        self._take(rows)

    @final
    def embedding(self) -> Embedding:
        """Return a basis of ``rank`` columns, or of as many as what was seen has dimensions."""
        basis, captured = self._directions()
        kept = captured > _NEGLIGIBLE**2 * captured.max(initial=0.0)
        basis, captured = basis[:, kept][:, : self.rank], captured[kept][: self.rank]
        if not captured.size:  # nothing but zeros was seen: any direction will do
            return Embedding(np.eye(self.size, 1), np.zeros(1), self._energy)
        return Embedding(basis, captured, self._energy)

    @abstractmethod
    def _take(self, rows: Array) -> None:
        """See rows."""

    @abstractmethod
    def _directions(self) -> tuple[Array, Array]:
        """Return an orthonormal basis (size, any), and the energies along it, falling."""


@final
class TruncatedSVD(Sketch):
    """The exact basis: keeps the triangular factor of all rows, at most (size, size)."""

    def __init__(self, size: int, rank: int) -> None:
        """Begin with no rows."""
        super().__init__(size, rank)
        self._factor = np.zeros((0, size))

    def _take(self, rows: Array) -> None:
        self._factor = np.asarray(np.linalg.qr(np.vstack([self._factor, rows]), mode="r"))

    def _directions(self) -> tuple[Array, Array]:
        _, values, basis = np.linalg.svd(self._factor, full_matrices=False)
        return basis.T, values**2


@final
class RandomisedSVD(Sketch):
    """A Nyström sketch of ``XᵀX`` in one pass: keeps (size, 2 rank + 8).

    Tropp, Yurtsever, Udell, Cevher, "Fixed-rank approximation of a positive-semidefinite matrix from streaming data"
    (2017); range finding by random matrices: Halko, Martinsson, Tropp (2011).
    """

    def __init__(self, size: int, rank: int, seed: int = 0) -> None:
        """Begin with no rows; ``seed`` draws the test matrix."""
        super().__init__(size, rank)
        columns = min(2 * self.rank + 8, size)
        self._test = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, columns)))[0]
        self._seen = np.zeros((size, columns))

    def _take(self, rows: Array) -> None:
        self._seen += rows.T @ (rows @ self._test)

    def _directions(self) -> tuple[Array, Array]:
        core = self._test.T @ self._seen
        values, vectors = np.linalg.eigh((core + core.T) / 2)
        kept = values > values.max(initial=0.0) * 1e-12  # the pseudo-inverse: what is under it is rounding
        basis, roots, _ = np.linalg.svd(self._seen @ (vectors[:, kept] / np.sqrt(values[kept])), full_matrices=False)
        return basis, roots**2


@final
class FrequentDirections(Sketch):
    """A deterministic sketch: keeps (4 rank, size), from which the weakest half is taken away when it is full.

    Liberty, "Simple and deterministic matrix sketching" (2013); Ghashami, Liberty, Phillips, Woodruff (2016): with
    ``l`` rows, ``0 ≤ XᵀX - BᵀB ≤ ‖X - X_k‖² / (l - k)`` for every ``k < l``.
    """

    def __init__(self, size: int, rank: int) -> None:
        """Begin with no rows."""
        super().__init__(size, rank)
        self.length = 2 * self.rank
        self._rows = np.zeros((0, size))

    def _take(self, rows: Array) -> None:
        for start in range(0, len(rows), self.length):
            self._rows = np.vstack([self._rows, rows[start : start + self.length]])
            if len(self._rows) > self.length:
                self._shrink()

    def _shrink(self) -> None:
        _, values, basis = np.linalg.svd(self._rows, full_matrices=False)
        if len(values) <= self.length:  # as many directions as there are: nothing need go
            self._rows = values[:, None] * basis
            return
        shrunk = np.sqrt(np.maximum(values**2 - values[self.length] ** 2, 0.0))
        self._rows = (shrunk[:, None] * basis)[: self.length]

    def _directions(self) -> tuple[Array, Array]:
        _, values, basis = np.linalg.svd(self._rows, full_matrices=False)
        return basis.T, values**2


SKETCHES: Final[Mapping[SketchKind, type[TruncatedSVD | RandomisedSVD | FrequentDirections]]] = MappingProxyType(
    {"truncated": TruncatedSVD, "randomised": RandomisedSVD, "frequent_directions": FrequentDirections}
)
"""Every sketch by its name."""

EXACT_SIZE: Final = 1024
"""Up to so many elements, the exact basis costs little."""


def sketch_for(size: int, rank: int, kind: SketchKind | None = None) -> Sketch:
    """Return an empty sketch; without a ``kind``, the exact one up to :data:`EXACT_SIZE` elements, then a random one.

    Raises :class:`~leti.core.errors.InvalidInput` for a kind that is not in :data:`SKETCHES`.
    """
    if kind is None:
        kind = "truncated" if size <= EXACT_SIZE else "randomised"
    if kind not in SKETCHES:
        raise InvalidInput(f"{kind!r} is no sketch", field="sketch", remedy=", ".join(SKETCHES))
    return SKETCHES[kind](size, rank)
