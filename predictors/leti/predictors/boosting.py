"""XGBoost on features of the graph: an additive model first, boosted trees for what it misses.

Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System" (2016). Trees approximate a sum over many counts poorly
and do not extrapolate, so they start from the additive model's latency and learn the logarithm of the ratio that is
left: what branches side by side, caches and fusion add to or take from the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.predictors.additive import Additive, fit_additive
from leti.predictors.batch import Matrix, Vector
from leti.predictors.regression import Arrays, ConformalRegression, Examples, Model

with needs("boosting"):
    import numpy as np

TREES = 300
_PARAMETERS = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 6,
    "eta": 0.05,
    "subsample": 0.8,
    "colsample_bytree": 0.3,
    "min_child_weight": 1,
    "base_score": 0.0,
}
_CLIP = 5.0
"""Ratios beyond this many deviations (by the median) are drawn in: a few strays must not shape the trees."""

_BOOSTER = "booster.ubj"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Boosted(Model):
    """The additive model's latencies times ``exp`` of what the trees say; ``booster`` is an ``xgboost.Booster``."""

    additive: Additive
    booster: Any

    @override
    def latencies_ms(self, rows: Matrix) -> Vector:
        if not len(rows):
            return np.empty(0)
        base = self.additive.latencies_ms(rows)
        ratio = self.booster.inplace_predict(_inputs(rows, base))
        latency: Vector = base * np.exp(np.asarray(ratio, dtype=np.float64))
        return latency

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        arrays = {"columns": self.additive.columns.astype(np.float64), "weights": self.additive.weights}
        data = {"intercept": self.additive.intercept, "floor_ms": self.additive.floor_ms}
        return data, arrays, {_BOOSTER: bytes(self.booster.save_raw("ubj"))}


@final
class XGBoostPredictor(ConformalRegression):
    """Boosted trees over an additive model of kernels.

    ``threads`` is the number of threads that train and predict: one, unless the cores are known to be free (threads
    that spin on busy cores cost ten times and more).
    """

    kind: ClassVar[str] = "xgboost"

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads

    @override
    def learn(self, examples: Examples, *, seed: int) -> Model:
        with needs("boosting"):
            import xgboost
        rows, latencies = examples.encoded, examples.latencies_ms
        additive = fit_additive(examples.encoder.names, rows, latencies, examples.groups, seed=seed)
        base = additive.latencies_ms(rows)
        left = np.log(latencies / base)
        bound = max(_CLIP * 1.4826 * float(np.median(np.abs(left))), 1e-6)
        data = xgboost.DMatrix(_inputs(rows, base), label=np.clip(left, -bound, bound), nthread=self._threads)
        parameters = {**_PARAMETERS, "nthread": self._threads, "seed": seed % 2**31}
        return Boosted(additive, xgboost.train(parameters, data, TREES))

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model:
        with needs("boosting"):
            import xgboost
        booster = xgboost.Booster({"nthread": 1})
        try:
            booster.load_model(bytearray(files[_BOOSTER]))
        except xgboost.core.XGBoostError as error:
            raise ArtifactError("is not a model that XGBoost reads", field=_BOOSTER) from error
        additive = Additive(
            arrays["columns"].astype(np.int64), arrays["weights"], float(data["intercept"]), float(data["floor_ms"])
        )
        return Boosted(additive, booster)


def _inputs(rows: Matrix, base: Vector) -> Matrix:
    """Return what the trees see: the features and the logarithm of the additive model's latency."""
    return np.column_stack([rows, np.log(base)])
