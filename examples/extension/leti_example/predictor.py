"""A predictor: latency as a weighted sum of a graph's totals, by least squares of the relative error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from leti.core.codec import Json
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.features import FeatureMap
from leti.predictors.regression import Arrays, ConformalRegression, Examples, Model


@final
@dataclass(frozen=True, slots=True, eq=False)
class WeightedSum(Model):
    """``rows @ weights[:-1] + weights[-1]`` in ms, never below ``floor_ms``."""

    weights: Vector
    floor_ms: float

    @override
    def latencies_ms(self, rows: Matrix) -> Vector:
        latency: Vector = np.maximum(rows @ self.weights[:-1] + self.weights[-1], self.floor_ms)
        return latency

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        return {"floor_ms": self.floor_ms}, {"weights": self.weights}, {}


@final
class LeastSquaresPredictor(ConformalRegression):
    """Least squares over MACs, parameters, bytes moved, kernels, peak memory, input size and operators."""

    kind: ClassVar[str] = "least_squares"

    @override
    def learn_encoder(self, batch: Batch) -> FeatureMap:
        return FeatureMap()  # the totals alone

    @override
    def learn(self, examples: Examples, *, seed: int) -> Model:
        measured = examples.latencies_ms
        columns = np.column_stack([examples.encoded, np.ones(len(measured))])
        scale = np.maximum(np.abs(columns).max(axis=0), 1.0)  # MACs run to 1e9, kernels to 1e2
        # Divided by the latency, every network should come to 1: a wild measurement is off by 1 at most.
        weights = np.linalg.lstsq(columns / scale / measured[:, None], np.ones(len(measured)), rcond=None)[0]
        return WeightedSum(weights / scale, 0.1 * float(measured.min()))

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model:
        return WeightedSum(arrays["weights"], float(data["floor_ms"]))
