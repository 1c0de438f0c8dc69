"""Positional regression: latency as a sum of what each choice costs at its position in a search space.

A ridge regression on relative error that resists strays (:mod:`leti.predictors.additive`), over how often each choice
was made and over where. A runtime may run what a graph leaves out because no output needs it, and the choices tell of
that. Networks without a common search space are told by counts, MACs and bytes of their kinds of operator instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.predictors.adaptation.features import Networks, TransferFeatures
from leti.predictors.additive import Additive, fit_additive
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.calibrated import Arrays, CalibratedPredictor, Examples, Model

with needs("boosting"):
    import numpy as np


@final
@dataclass(frozen=True, slots=True, eq=False)
class PositionalSum(Model[Networks]):
    """A weighted sum of choices and positions."""

    additive: Additive

    @override
    def latencies_ms(self, encoded: Networks) -> Vector:
        return self.additive.latencies_ms(_rows(encoded))

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        return *self.additive.to_parts(), {}


@final
class PositionalPredictor(CalibratedPredictor[TransferFeatures, Networks]):
    """Ridge regression over the choices of a search space and their positions."""

    kind: ClassVar[str] = "positional"
    encoder_type: ClassVar[type[Any]] = TransferFeatures

    @override
    def learn_encoder(self, batch: Batch) -> TransferFeatures:
        return TransferFeatures.learn([graph for graph in batch.graphs if isinstance(graph, Graph)])

    @override
    def learn(self, examples: Examples[TransferFeatures, Networks], *, seed: int) -> Model[Networks]:
        rows = _rows(examples.encoded)
        names = [f"count: {i}" for i in range(rows.shape[1])]
        return PositionalSum(fit_additive(names, rows, examples.latencies_ms, examples.groups, seed=seed))

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model[Networks]:
        return PositionalSum(Additive.from_parts(data, arrays))


def _rows(encoded: Networks) -> Matrix:
    return np.hstack([encoded.parts, encoded.positions])
