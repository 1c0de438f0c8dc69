"""A table of latencies set right by a few networks that were measured: a factor, and what comes on top of it.

Sums of operators that were measured alone overstate networks that are much compressed, and a device is faster or slower
from day to day: two numbers for a platform and a precision take most of both away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np

MAX_ROUNDS: Final = 3
TOLERANCE: Final = 0.05

_LEAST_FOR_OFFSET: Final = 3  # networks: two points fit any line
_OFFSET: Final = 0.05  # of the latency of the network in the middle: as large as an offset is before anything is known


@final
@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are from measurements: the mean absolute percentage error, and shares within ±5 and ±10 %.

    ``bias`` is the mean of predicted over measured, less 1.
    """

    count: int
    mape: float
    within_5: float
    within_10: float
    worst: float
    bias: float


@final
@dataclass(frozen=True, slots=True)
class Calibration:
    """Latency is ``factor`` times the table's sum, and ``offset_ms``.

    ``before`` and ``after`` are errors on the networks that it was fitted to, ``held_out`` those of each of them by a
    fit to the others (the same as ``after`` where there are too few for that).
    """

    factor: float
    offset_ms: float
    before: Errors
    after: Errors
    held_out: Errors

    def apply(self, predicted_ms: Any) -> Any:
        """Return latencies of the table as the device has them."""
        return self.factor * np.asarray(predicted_ms, np.float64) + self.offset_ms


def errors(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Errors:
    """Return how far predictions are from measurements, as shares of the measured latency."""
    predicted, measured = _checked(predicted_ms, measured_ms)
    apart = predicted / measured - 1
    off = np.abs(apart)
    return Errors(
        count=len(measured),
        mape=float(off.mean()),
        within_5=float((off <= 0.05).mean()),
        within_10=float((off <= 0.10).mean()),
        worst=float(off.max()),
        bias=float(apart.mean()),
    )


def calibrate(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Calibration:
    """Return the line of least squared relative errors, so that a small network counts as much as a large one.

    The offset is drawn to nothing the more the further the networks lie off the line, as few networks that err say
    little of it (the mean of a normal posterior, whose prior is about 5 % of the latency in the middle). With fewer
    than three networks, of one size, or where the line would fall, it goes through the origin. Raises
    :class:`~leti.core.errors.InvalidInput` for latencies that are no positive numbers.
    """
    predicted, measured = _checked(predicted_ms, measured_ms)
    factor, offset = _line(predicted, measured)
    after = errors(_positive(factor * predicted + offset), measured.tolist())
    held_out = after
    if len(measured) > _LEAST_FOR_OFFSET:
        others = [np.arange(len(measured)) != i for i in range(len(measured))]
        lines = [_line(predicted[kept], measured[kept]) for kept in others]
        left_out = np.array([a * value + b for (a, b), value in zip(lines, predicted, strict=True)])
        held_out = errors(_positive(left_out), measured.tolist())
    return Calibration(factor, offset, errors(predicted.tolist(), measured.tolist()), after, held_out)


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """A plan's network on the device: what was predicted of it in the round that proposed it, and what it takes."""

    predicted_ms: float
    measured_ms: float


Step = Literal["done", "again", "missed"]
"""What follows a round: the best is within its budget and predictions hold; calibrate, solve, measure; or give up."""


def next_step(
    rounds_done: int, measured: Sequence[Measured], budget_ms: float, *, tolerance: float = TOLERANCE
) -> Step:
    """Return what follows the rounds that are done, by the networks that the last of them measured.

    A round is good enough where a network keeps the budget and every prediction was within ``tolerance`` of what was
    measured. After the third the search ends: done where a network keeps the budget, else missed.
    """
    if not measured or rounds_done < 1:
        raise InvalidInput("there is nothing measured", field="measured")
    keeps = any(network.measured_ms <= budget_ms for network in measured)
    holds = all(abs(network.predicted_ms / network.measured_ms - 1) <= tolerance for network in measured)
    if keeps and holds:
        return "done"
    if rounds_done < MAX_ROUNDS:
        return "again"
    return "done" if keeps else "missed"


def _checked(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> tuple[Any, Any]:
    predicted, measured = np.asarray(predicted_ms, np.float64), np.asarray(measured_ms, np.float64)
    if predicted.shape != measured.shape or predicted.ndim != 1 or not len(predicted):
        raise InvalidInput("must be one latency for each prediction", field="measured_ms")
    for name, values in (("predicted_ms", predicted), ("measured_ms", measured)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise InvalidInput("must be positive numbers", field=name)
    return predicted, measured


def _positive(values: Any) -> Any:
    """Return latencies that a line made, none of them below what a float can say."""
    return np.maximum(values, np.finfo(np.float64).tiny)


def _line(predicted: Any, measured: Any) -> tuple[float, float]:
    """Return factor and offset of least squared relative errors."""
    relative = predicted / measured
    if len(measured) >= _LEAST_FOR_OFFSET and np.ptp(predicted) > 1e-9 * predicted.max():
        rows = np.stack([relative, 1 / measured], axis=1)
        free = np.linalg.lstsq(rows, np.ones(len(measured)))[0]
        noise = np.sqrt(np.square(rows @ free - 1).sum() / (len(measured) - 2))
        held = np.vstack([rows, [0, noise / (_OFFSET * np.median(measured))]])
        factor, offset = (float(value) for value in np.linalg.lstsq(held, [*np.ones(len(measured)), 0])[0])
        if free[0] > 0 and factor > 0:
            return factor, offset
    return float(relative.sum() / np.square(relative).sum()), 0.0
