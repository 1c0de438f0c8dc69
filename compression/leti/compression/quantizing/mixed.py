"""Sensitivities: what each layer loses in each number of bits, one change at a time, for a solver to choose among.

The table, not the choice. A solver adds its rows up against latencies, as HAWQ-V3 does ("HAWQ-V3: Dyadic Neural Network
Quantization", Yao et al., ICML 2021), or the data-free error of weights where there are no data to score on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, final

from leti.compression.quantizing.affine import RangeMethod
from leti.compression.quantizing.weights import quantized_weights, weighted
from leti.compression.scores import Progress, Score, Scores
from leti.core.extras import needs
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np

BITS: Final = (8, 4)


@final
@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What is lost where the filters of one operator alone are stored in ``bits`` bits.

    ``rise`` is the score's over the float32 network's, and may be negative. ``weight_error`` is the sum of squared
    errors of the filters over the sum of their squares.
    """

    operator: int
    bits: int
    rise: float
    weight_error: float


def sensitivities(
    imported: Imported,
    score: Score,
    *,
    bits: Sequence[int] = BITS,
    operators: Iterable[int] | None = None,
    per_channel: bool = True,
    method: RangeMethod = "min_max",
    cache: Path | None = None,
    evaluation: str = "",
    progress: Progress | None = None,
) -> tuple[Sensitivity, ...]:
    """Return a row for each operator with filters and each number of bits, operators first.

    ``score`` is what a network loses on calibration data, such as a cross entropy. It is asked once for the network and
    once for each row, but for what is in ``cache``, a folder of scores; ``evaluation`` then says what ``score`` does,
    and on which data. Filters are rounded ``per_channel``, in a range that is found by ``method``.
    """
    chosen = tuple(weighted(imported.graph) if operators is None else operators)
    total = 1 + len(chosen) * len(bits)
    scores = Scores(imported, score, cache=cache, evaluation=evaluation, progress=progress, total=total)
    weights, base = imported.loaded_weights(), scores.of(None, lambda: imported)
    rows = []
    for number in chosen:
        for width in bits:
            changed = quantized_weights(imported, {number: width}, per_channel=per_channel, method=method)
            before, after = weights[number][0], changed.loaded_weights()[number][0]
            lost = float(np.square(before - after, dtype=np.float64).sum())
            whole = float(np.square(before, dtype=np.float64).sum())
            rise = scores.of(["bits", number, width, per_channel, method], partial(replace, changed)) - base
            rows.append(Sensitivity(number, width, rise, lost / whole if whole else 0.0))
    return tuple(rows)
