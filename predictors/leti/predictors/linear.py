"""Linear regression: latency as a weighted sum of MACs, bytes and how often each kind of operator stands in a network.

A ridge regression on relative error that resists strays (:mod:`leti.predictors.additive`), over the totals of a graph
and counts, MACs and bytes by kind of operator and by family. Its weights are prices: milliseconds a convolution, a MAC,
a byte. Its strength is chosen by grouped cross-validation inside the training data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.extras import needs
from leti.core.prediction import Share
from leti.predictors.additive import Additive, fit_additive
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.features import TOTALS, FeatureMap
from leti.predictors.regression import Arrays, ConformalRegression, Examples, Model

with needs("boosting"):
    import numpy as np

_SUMS: Final = ("count: ", "macs: ", "traffic_bytes: ")
"""How the names of the columns begin, beside :data:`~leti.predictors.features.TOTALS`, that are summed."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Sum(Model):
    """A weighted sum of columns."""

    additive: Additive

    @override
    def latencies_ms(self, rows: Matrix) -> Vector:
        return self.additive.latencies_ms(rows)

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        return *self.additive.to_parts(), {}

    @override
    def shares(self, encoded: Matrix, batch: Batch, encoder: Any) -> Sequence[tuple[Share, ...]]:
        """Return a share a column that is not zero, one of the whole network, and what the floor adds, if it does."""
        names = np.array(cast("FeatureMap", encoder).names)[self.additive.columns].tolist()
        parts = encoded[:, self.additive.columns] * self.additive.weights
        lifted = self.latencies_ms(encoded) - parts.sum(axis=1) - self.additive.intercept
        return [
            (
                *(Share(name, share) for name, share in zip(names, of_one, strict=True) if share),
                Share("intercept", self.additive.intercept),
                *((Share("floor", more),) if more > 1e-9 * self.additive.floor_ms else ()),
            )
            for of_one, more in zip(parts.tolist(), lifted.tolist(), strict=True)
        ]


@final
class LinearPredictor(ConformalRegression):
    """Ridge regression over totals, and over counts, MACs and bytes of each kind of operator and family of kernel."""

    kind: ClassVar[str] = "linear"

    @property
    def weights_ms(self) -> Mapping[str, float]:
        """Milliseconds for one of each column (a kernel, a MAC, a byte), and ``intercept``, those of any network."""
        fitted = self.fitted
        additive = cast("Sum", fitted.model).additive
        names = np.array(fitted.encoder.names)[additive.columns].tolist()
        return {**dict(zip(names, additive.weights.tolist(), strict=True)), "intercept": additive.intercept}

    @override
    def learn_encoder(self, batch: Batch) -> FeatureMap:
        return FeatureMap.learn(batch, max_columns=0)  # no single shapes, no pairs

    @override
    def learn(self, examples: Examples, *, seed: int) -> Model:
        names = examples.encoder.names
        summed = np.array([i for i, name in enumerate(names) if name in TOTALS or name.startswith(_SUMS)])
        fitted = fit_additive(
            [names[i] for i in summed], examples.encoded[:, summed], examples.latencies_ms, examples.groups, seed=seed
        )
        return Sum(Additive(summed[fitted.columns], fitted.weights, fitted.intercept, fitted.floor_ms))

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model:
        return Sum(Additive.from_parts(data, arrays))
