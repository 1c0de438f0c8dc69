"""Sensitivities: what each layer loses in each number of bits, one change at a time, for a solver to choose among.

The table, not the choice. A solver adds its rows up against latencies, as HAWQ-V3 does ("HAWQ-V3: Dyadic Neural Network
Quantization", Yao et al., ICML 2021), or the data-free error of weights where there are no data to score on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.compression.quantizing.affine import RangeMethod
from leti.compression.quantizing.weights import quantized_weights, weighted
from leti.core.extras import needs
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np

Score = Callable[[Imported], float]
"""What a network loses on calibration data, such as a cross entropy: the less, the better."""

Scores = MutableMapping[str, float]
"""Scores by the content of what was scored; one that is kept on disk spares a run that is taken up again."""

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
    known: Scores | None = None,
) -> tuple[Sensitivity, ...]:
    """Return a row for each operator with filters and each number of bits, operators first.

    ``score`` is asked once for the network and once for each row, and not for those that are in ``known``, which is
    filled as rows come: long work can be broken off. Scores are known by graph, weights and change; one ``known``
    belongs to one ``score``.
    """
    known = {} if known is None else known
    weights = imported.loaded_weights()

    def scored(network: Imported) -> float:
        key = _key(network)
        if key not in known:
            known[key] = float(score(network))
        return known[key]

    base = scored(imported)
    rows = []
    for number in weighted(imported.graph) if operators is None else operators:
        for width in bits:
            changed = quantized_weights(imported, {number: width}, per_channel=per_channel, method=method)
            before, after = weights[number][0], changed.loaded_weights()[number][0]
            lost = float(np.square(before - after, dtype=np.float64).sum())
            whole = float(np.square(before, dtype=np.float64).sum())
            rows.append(Sensitivity(number, width, scored(changed) - base, lost / whole if whole else 0.0))
    return tuple(rows)


def _key(network: Imported) -> str:
    """Return what tells a network's function: its graph and its weights."""
    digest = hashlib.sha256(network.graph.fingerprint().encode())
    for arrays in network.loaded_weights():
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
