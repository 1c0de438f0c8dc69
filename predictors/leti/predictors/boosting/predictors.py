"""Boosting on features of the graph: an additive model first, boosted trees for what it misses.

Trees approximate a sum over many counts poorly and do not extrapolate, so they start from the latency of an additive
model of kernels and of the critical path, and learn the logarithm of the ratio that is left: what caches, fusion and
branches in each other's way add to or take from it.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.core.prediction import Share
from leti.predictors.additive import Additive, fit_additive
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.boosting.critical_path import (
    COSTS,
    KnownPaths,
    PathEncoder,
    PathGraphs,
    learn_prices,
    on_path,
    width,
)
from leti.predictors.boosting.libraries import CatBoostTrees, LightGBMTrees, Trees, XGBoostTrees
from leti.predictors.calibrated import Arrays, CalibratedPredictor, Examples, Model

with needs("boosting"):
    import numpy as np

_CLIP = 5.0
"""Ratios beyond this many deviations (by the median) are drawn in: a few strays must not shape the trees."""

_SMALL = 1e-6
"""Shares below this part of the latency are not told, but counted with the intercept."""

_WHOLE = "intercept"
_FLOOR = "floor"
_BASE = "latency before trees"
"""Names of shares that are no column's."""


@final
@dataclass(frozen=True, eq=False)
class Boosted(Model[PathGraphs]):
    """The additive model's latencies times ``exp`` of what the trees say.

    ``prices`` (groups, costs) find the critical path, what stands on it joins the features, and both feed the additive
    model and, with its latency, the trees: ``inputs`` columns in all.
    """

    prices: Matrix
    additive: Additive
    trees: Trees
    inputs: int

    @override
    def latencies_ms(self, encoded: PathGraphs) -> Vector:
        if not len(encoded):
            return np.empty(0)
        inputs, base = self.tree_inputs(encoded)
        latency: Vector = base * np.exp(self.trees.predict(inputs))
        return latency

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        data, arrays = self.additive.to_parts()
        files = {self.trees.file: self.trees.to_bytes()}
        return {**data, "inputs": self.inputs}, {"prices": self.prices, **arrays}, files

    @override
    def shares(self, encoded: PathGraphs, batch: Batch, encoder: Any) -> Sequence[tuple[Share, ...]]:
        """Return a share a column that counts: its term of the sum, and its part in what the trees add to the sum."""
        names = (*cast("PathEncoder", encoder).names, _BASE, _WHOLE, _FLOOR)
        inputs, base = self.tree_inputs(encoded)
        rows = inputs[:, :-1]
        terms = np.zeros((len(rows), len(names)))
        terms[:, self.additive.columns] = rows[:, self.additive.columns] * self.additive.weights
        terms[:, -2] = self.additive.intercept
        terms[:, -1] = base - terms.sum(axis=1)
        logs = self.trees.contributions(inputs)
        whole = self.trees.predict(inputs)
        terms[:, :-1] += logs * (base * _growth(whole))[:, None]
        small = np.abs(terms) < _SMALL * base[:, None]
        terms[:, -2] += np.where(small, terms, 0.0)[:, :-2].sum(axis=1)
        terms[:, :-2][small[:, :-2]] = 0.0
        terms[:, -2] += base * np.exp(whole) - terms.sum(axis=1)  # what rounding left
        return [
            tuple(Share(names[i], terms[row, i].item()) for i in np.flatnonzero(terms[row]).tolist())
            for row in range(len(terms))
        ]

    @cached_property
    def _paths(self) -> KnownPaths:
        return KnownPaths(self.prices)

    def tree_inputs(self, graphs: PathGraphs) -> tuple[Matrix, Vector]:
        """Return what the trees see, and the additive model's latency that stands in the last column.

        Raises :class:`~leti.core.errors.ArtifactError` where the columns are those of another encoder.
        """
        columns = graphs.rows.shape[1]
        if len(graphs.encoder.groups) != len(self.prices) or columns + width(len(self.prices)) + 1 != self.inputs:
            raise ArtifactError("reads other columns than its encoder makes", field="model")
        inputs = np.empty((len(graphs), self.inputs))
        inputs[:, :columns] = graphs.rows
        inputs[:, columns:-1] = self._paths.rows(graphs)
        base = self.additive.latencies_ms(inputs[:, :-1])
        np.log(base, out=inputs[:, -1])
        return inputs, base


class BoostedPredictor(CalibratedPredictor[PathEncoder, PathGraphs], ABC):
    """Boosted trees over an additive model of kernels and of the critical path.

    ``threads`` is the number of threads that train: one, unless the cores are known to be free (threads that spin on
    busy cores cost ten times and more).
    """

    encoder_type: ClassVar[type[Any]] = PathEncoder
    trees: ClassVar[type[Trees]]

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads

    @override
    def learn_encoder(self, batch: Batch) -> PathEncoder:
        return PathEncoder.learn(batch)

    @override
    def learn(self, examples: Examples[PathEncoder, PathGraphs], *, seed: int) -> Boosted:
        encoder, graphs, latencies = examples.encoder, examples.encoded, examples.latencies_ms
        prices = learn_prices(graphs, latencies, len(encoder.groups))
        rows = _rows(graphs, prices)
        additive = fit_additive(encoder.names, rows, latencies, examples.groups, seed=seed)
        base = additive.latencies_ms(rows)
        left = np.log(latencies / base)
        bound = max(_CLIP * 1.4826 * float(np.median(np.abs(left))), 1e-6)
        inputs = _inputs(rows, base)
        target = np.clip(left, -bound, bound)
        trees = self.trees.train(inputs, target, seed=seed % 2**31, threads=self._threads)
        return Boosted(prices, additive, trees, inputs.shape[1])

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Boosted:
        inputs, prices, additive = int(data["inputs"]), arrays["prices"], Additive.from_parts(data, arrays)
        if not np.all((additive.columns >= 0) & (additive.columns < inputs - 1)):
            raise ArtifactError("do not fit together", field="weights")
        if prices.ndim != 2 or prices.shape[1] != len(COSTS):
            raise ArtifactError("are no prices of kernels", field="prices")
        numbers = np.concatenate([prices.ravel(), additive.weights, [additive.intercept, additive.floor_ms]])
        if not np.all(np.isfinite(numbers)) or additive.floor_ms <= 0:
            raise ArtifactError("must be finite, and no latency below zero", field="weights")
        return Boosted(prices, additive, cls.trees.read(files[cls.trees.file], inputs), inputs)


@final
class XGBoostPredictor(BoostedPredictor):
    """Trees of XGBoost over the additive model."""

    kind: ClassVar[str] = "xgboost"
    trees: ClassVar[type[Trees]] = XGBoostTrees


@final
class LightGBMPredictor(BoostedPredictor):
    """Trees of LightGBM over the additive model."""

    kind: ClassVar[str] = "lightgbm"
    trees: ClassVar[type[Trees]] = LightGBMTrees


@final
class CatBoostPredictor(BoostedPredictor):
    """Trees of CatBoost over the additive model."""

    kind: ClassVar[str] = "catboost"
    trees: ClassVar[type[Trees]] = CatBoostTrees


def _rows(graphs: PathGraphs, prices: Matrix) -> Matrix:
    """Return the features, and what stands on the critical path by these prices."""
    return np.hstack([graphs.rows, on_path(graphs, prices)])


def _inputs(rows: Matrix, base: Vector) -> Matrix:
    """Return what the trees see: the columns and the logarithm of the additive model's latency."""
    return np.column_stack([rows, np.log(base)])


def _growth(logs: Vector) -> Vector:
    """Return ``(exp(x) - 1) / x``: how much of a factor ``exp(x)`` falls to each unit of its logarithm."""
    small = np.abs(logs) < 1e-9
    growth: Vector = np.where(small, 1.0, np.expm1(logs) / np.where(small, 1.0, logs))
    return growth
