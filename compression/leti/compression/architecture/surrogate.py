"""What objectives are predicted to be from those that are known: by how much vectors of choices are alike."""

from __future__ import annotations

from typing import Final

from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np


_NOISE: Final = 0.1


def predicted(drawn: Array, known: Array, values: Array) -> Array:
    """Return objectives (drawn, objectives) from those of ``known`` vectors, ``values`` (known, objectives).

    Kernel ridge regression; vectors (count, positions) are the more alike the more choices they share.
    """
    mean = values.mean(axis=0)
    weights = np.linalg.solve(_alike(known, known) + _NOISE * np.eye(len(known)), values - mean)
    made: Array = mean + _alike(drawn, known) @ weights
    return made


def _alike(a: Array, b: Array) -> Array:
    same = np.zeros((len(a), len(b)))
    for column_a, column_b in zip(a.T, b.T, strict=True):
        same += column_a[:, None] == column_b[None]
    same /= a.shape[1]
    return same
