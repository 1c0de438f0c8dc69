"""Correction: from the sum of a network's kernels to what the network takes end to end.

Kernels measured one by one add up to less than the network: launching, waiting and copying stand in no kernel's time.
A few end-to-end times say how much is missing: an overhead a network, a factor on the sum, and, where they earn their
place, a time for each kernel launched and for each byte of weights. No term is negative. Which terms there are is
decided by leaving out one network at a time, so that 20 end-to-end times are enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import InvalidInput, TooFewMeasurements
from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector
from leti.predictors.nonnegative import ROUNDS, fit_nonnegative

with needs("boosting"):
    import numpy as np

OVERHEAD: Final = "overhead"
SUM: Final = "sum"

FEWEST: Final = 5
"""End-to-end times below which nothing is corrected but by a factor."""

_STRENGTH: Final = 1e-3
_FEW_ROUNDS: Final = 3
_CAP: Final = 0.3
"""A network left out counts as at most this far off: a stray is a miss, not for how far it lies."""

_LEFT_OUT: Final = 20
"""Networks up to which each is left out in turn: of more, folds are as good."""


@final
@dataclass(frozen=True, slots=True)
class Correction:
    """Latency in ms as a sum of ``weights`` times ``terms``: the overhead, the sum of kernels, and named features."""

    terms: tuple[str, ...] = (OVERHEAD, SUM)
    weights: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse weights that are none, and a correction that forgets the sum."""
        if len(self.weights) != len(self.terms) or len(set(self.terms)) != len(self.terms) or SUM not in self.terms:
            raise InvalidInput("must hold a weight for each of its terms, the sum among them", field="weights")
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            raise InvalidInput("must be finite, and none negative", field="weights")

    def parts_ms(self, sums_ms: Vector, features: Mapping[str, Vector]) -> Matrix:
        """Return what each term adds to each of n networks, ``(n, terms)``."""
        parts: Matrix = _columns(self.terms, sums_ms, features) * np.asarray(self.weights)
        return parts

    def latencies_ms(self, sums_ms: Vector, features: Mapping[str, Vector]) -> Vector:
        """Return latencies ``(n,)`` for sums of kernels ``(n,)`` and features, each ``(n,)``."""
        latencies: Vector = self.parts_ms(sums_ms, features).sum(axis=1)
        return latencies

    @property
    def factor(self) -> float:
        """What the sum of kernels is multiplied by."""
        return self.weights[self.terms.index(SUM)]


def correct(sums_ms: Vector, features: Mapping[str, Vector], measured_ms: Vector) -> Correction:
    """Fit a correction to n networks: sums of kernels, features that may join in their order, end-to-end times.

    All are ``(n,)``, times in ms. The candidates are the overhead with the sum, and these with the first feature, with
    the first two, and so on; the one with the least mean relative error on networks left out is taken. Raises
    :class:`TooFewMeasurements` for no network, :class:`InvalidInput` for lengths that differ or times that are none.
    """
    _check(sums_ms, features, measured_ms)
    if len(measured_ms) < FEWEST:
        usable = sums_ms > 0
        factor = float(np.median(measured_ms[usable] / sums_ms[usable])) if usable.any() else 1.0
        return Correction((OVERHEAD, SUM), (0.0, factor))
    names = tuple(features)
    candidates = [(OVERHEAD, SUM, *names[:count]) for count in range(len(names) + 1)]
    terms = candidates[0]
    if names:
        errors = [_left_out_error(terms, sums_ms, features, measured_ms) for terms in candidates]
        terms = candidates[int(np.argmin(errors))]
    return Correction(terms, tuple(_fit(terms, _columns(terms, sums_ms, features), measured_ms).tolist()))


def _left_out_error(
    terms: Sequence[str], sums_ms: Vector, features: Mapping[str, Vector], measured_ms: Vector
) -> float:
    """Return the mean relative error over networks that the fit had not seen."""
    columns = _columns(terms, sums_ms, features)
    n = len(measured_ms)
    fold = np.arange(n) % min(n, _LEFT_OUT)
    off = np.empty(n)
    for number in range(int(fold.max()) + 1):
        held, rest = fold == number, fold != number
        predicted = columns[held] @ _fit(terms, columns[rest], measured_ms[rest], _FEW_ROUNDS)
        off[held] = np.abs(predicted / measured_ms[held] - 1)
    return float(np.minimum(off, _CAP).mean())


def _fit(terms: Sequence[str], columns: Matrix, measured_ms: Vector, rounds: int = ROUNDS) -> Vector:
    prior = np.array([1.0 if term == SUM else 0.0 for term in terms])
    size = np.mean((columns / measured_ms[:, None]) ** 2, axis=0)
    return fit_nonnegative(
        columns, measured_ms, prior, _STRENGTH * len(columns) * np.where(size > 0, size, 1.0), rounds=rounds
    )


def _columns(terms: Sequence[str], sums_ms: Vector, features: Mapping[str, Vector]) -> Matrix:
    known = {OVERHEAD: np.ones(len(sums_ms)), SUM: sums_ms, **features}
    return np.column_stack([known[term] for term in terms])


def _check(sums_ms: Vector, features: Mapping[str, Vector], measured_ms: Vector) -> None:
    if not len(measured_ms):
        raise TooFewMeasurements("no end-to-end time is given", field="measured_ms", given=0, needed=1)
    for name, column in {"sums_ms": sums_ms, **features}.items():
        if len(column) != len(measured_ms):
            raise InvalidInput(f"has {len(column)} entries for {len(measured_ms)} networks", field=name)
        if not np.all(np.isfinite(column) & (column >= 0)):
            raise InvalidInput("must hold nothing negative, and finite numbers only", field=name)
    if not np.all(np.isfinite(measured_ms) & (measured_ms > 0)):
        raise InvalidInput("must be positive and finite", field="measured_ms")
