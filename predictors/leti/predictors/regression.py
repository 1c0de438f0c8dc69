"""Predictors that learn from rows of features: what they share beyond :mod:`leti.predictors.calibrated`."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

from typing_extensions import override

from leti.predictors.batch import Batch, Matrix
from leti.predictors.calibrated import Arrays, CalibratedPredictor
from leti.predictors.calibrated import Examples as _Examples
from leti.predictors.calibrated import Model as _Model
from leti.predictors.features import FeatureMap

__all__ = ["Arrays", "ConformalRegression", "Examples", "Model"]

Model = _Model[Matrix]
"""A fitted regression from rows of features ``(n, columns)`` to latencies ``(n,)`` in ms."""

Examples = _Examples[FeatureMap, Matrix]
"""Training data: ``encoder.names`` are the columns of the features ``encoded``, ``(n, columns)``."""


class ConformalRegression(CalibratedPredictor[FeatureMap, Matrix], ABC):
    """A predictor that learns a :class:`Model` from features and calibrates its interval by conformal prediction."""

    encoder_type: ClassVar[type[Any]] = FeatureMap

    @override
    def learn_encoder(self, batch: Batch) -> FeatureMap:
        return FeatureMap.learn(batch)
