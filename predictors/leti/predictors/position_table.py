"""A table of latencies by position: what each option of a search space adds at each place, so that a sum tells all.

Differentiable search and solvers want a latency that is a sum over choices. The sum is fitted to latencies of many
networks by the ridge regression on relative error of :mod:`leti.predictors.additive`, over one column an option. The
sum alone does not say what an option takes by itself: adding to all options of a place and taking it from the constant
changes no network. So the cheapest option of each place is set to 0 ms, and the constant holds what remains: no entry
is negative, as solvers of knapsack problems want it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.predictors.additive import fit_additive
from leti.predictors.batch import Ints, Matrix, Vector

with needs("boosting"):
    import numpy as np


@final
@dataclass(frozen=True, slots=True, eq=False)
class PositionTable:
    """A constant in ms, and what each option adds at each place; NaN for options that no network had."""

    constant_ms: float
    options_ms: tuple[Vector, ...]

    def sums_ms(self, choices: Ints) -> Vector:
        """Return latencies ``(n,)`` of vectors of choices ``(n, places)``; NaN where an option is not in the table."""
        total = np.full(len(choices), self.constant_ms)
        for place, of_place in enumerate(self.options_ms):
            total += of_place[choices[:, place]]
        return total


def fit_positions(
    choices: Ints, counts: Sequence[int], latencies_ms: Vector, groups: Sequence[str], *, seed: int
) -> PositionTable:
    """Return the table that fits n networks best, in relative terms.

    ``choices`` ``(n, places)`` are numbers of options, of which each place has ``counts`` ``(places,)``;
    ``latencies_ms`` ``(n,)`` are positive; ``groups`` (n of them) are not parted where the strength of the ridge is
    chosen. Raises :class:`~leti.core.errors.InvalidInput` where shapes do not fit.
    """
    if choices.shape != (len(latencies_ms), len(counts)) or not len(latencies_ms):
        raise InvalidInput(f"is {choices.shape}, for {len(latencies_ms)} networks", field="choices")
    starts = np.concatenate([[0], np.cumsum(counts)])
    rows: Matrix = np.zeros((len(choices), int(starts[-1])))
    rows[np.arange(len(choices))[:, None], choices + starts[:-1]] = 1.0
    names = [f"option {column}" for column in range(rows.shape[1])]
    fitted = fit_additive(names, rows, latencies_ms, groups, seed=seed)
    weights = np.full(rows.shape[1], np.nan)
    weights[fitted.columns] = fitted.weights
    tables, constant = [], fitted.intercept
    for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        cheapest = float(np.nanmin(weights[first:end]))
        tables.append(weights[first:end] - cheapest)
        constant += cheapest
    return PositionTable(constant, tuple(tables))
