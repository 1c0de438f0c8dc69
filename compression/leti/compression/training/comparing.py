"""How many samples networks get right, and whether one gets more right than another: by the same samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from leti.compression.training.data import Data
from leti.compression.training.distilling import logits_value
from leti.compression.training.executing import executable, threads
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np
    import torch
    from scipy.stats import binomtest, norm


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """How a network ``b`` does beside a network ``a`` on the same samples.

    ``difference`` is b's accuracy less a's, with its interval at ``confidence``; ``p_value`` is that of the exact test
    that both are right equally often. ``only_a`` and ``only_b`` count what one alone gets right.
    """

    samples: int
    accuracy_a: float
    accuracy_b: float
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p_value: float
    confidence: float


def correct(imported: Imported, data: Data) -> Any:
    """Return of each sample that ``data`` judges with whether a network names its class: (samples,)."""
    network = executable(imported, values=(logits_value(imported.graph),))
    right = []
    with threads(1), torch.inference_mode():
        for images, classes in data.evaluate():
            made = network(torch.from_numpy(np.ascontiguousarray(images)))[-1]
            right.append(made.argmax(dim=-1).numpy() == classes)
    if not right:
        raise InvalidInput("has nothing to judge with", field="data.evaluate")
    return np.concatenate(right)


def accuracy(imported: Imported, data: Data) -> float:
    """Return the share of samples whose class a network names."""
    return float(correct(imported, data).mean())


def compare(a: Imported, b: Imported, data: Data, *, confidence: float = 0.95) -> Comparison:
    """Return how ``b`` does beside ``a``, the same samples given to both."""
    return paired(correct(a, data), correct(b, data), confidence=confidence)


def paired(a: Any, b: Any, *, confidence: float = 0.95) -> Comparison:
    """Return the comparison of two networks that are right or not on the same samples, (samples,) of each.

    The test is McNemar's (1947), exact by the binomial distribution; the interval Newcombe's tenth ("Improved
    confidence intervals for the difference between binomial proportions based on paired data", 1998), of Wilson's
    intervals of both shares and their correlation. Both take samples for independent of each other.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise InvalidInput(f"must be of the same samples, not {a.shape} and {b.shape}", field="samples")
    if not 0 < confidence < 1:
        raise InvalidInput("must lie between 0 and 1", field="confidence")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    low, high = _newcombe(both, only_b, only_a, neither, float(norm.ppf((1 + confidence) / 2)))
    apart = only_a + only_b
    return Comparison(
        samples=a.size,
        accuracy_a=float(a.mean()),
        accuracy_b=float(b.mean()),
        only_a=only_a,
        only_b=only_b,
        difference=(only_b - only_a) / a.size,
        low=low,
        high=high,
        p_value=float(binomtest(only_b, apart).pvalue) if apart else 1.0,
        confidence=confidence,
    )


def _newcombe(both: int, first: int, second: int, neither: int, z: float) -> tuple[float, float]:
    """Return the interval of the first share less the second; ``first`` and ``second`` count what one alone has."""
    count = both + first + second + neither
    shares = (both + first) / count, (both + second) / count
    (low1, high1), (low2, high2) = (_wilson(share, count, z) for share in shares)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    linked = both * neither - first * second
    continuous = max(linked - count / 2, 0.0) if linked > 0 else float(linked)
    phi = continuous / math.sqrt(product) if product else 0.0
    below = _distance(shares[0] - low1, high2 - shares[1], phi)
    above = _distance(high1 - shares[0], shares[1] - low2, phi)
    difference = shares[0] - shares[1]
    return difference - below, difference + above


def _distance(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))


def _wilson(share: float, count: int, z: float) -> tuple[float, float]:
    middle = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    return (middle - half) / scale, (middle + half) / scale
