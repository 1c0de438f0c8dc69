"""FLOPs regression: latency as a straight line over multiply-accumulates, one for all networks or one a cluster.

Ponomarev et al., "Latency Estimation Tool and Investigation of Neural Networks Inference on Mobile GPU" (2021), fit the
line with RANSAC (Fischler and Bolles, 1981), so that stray measurements do not tilt it, and fit one line for each
cluster of networks of like peak memory. The simplest predictors: what another one adds is seen against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.extras import needs
from leti.predictors.additive import FLOOR
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.features import TOTALS, FeatureMap
from leti.predictors.regression import Arrays, ConformalRegression, Examples, Model
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

MAX_CLUSTERS = 6
MIN_CLUSTER = 10
"""Fewest networks that a line of their own is fitted to."""

_MACS = TOTALS.index("macs")
_PEAK = TOTALS.index("peak_memory_bytes")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Lines(Model):
    """One line a cluster: ``centres`` of ln(peak memory in bytes), ``slopes`` in ms a MAC, ``intercepts`` in ms.

    All of shape ``(clusters,)``; a network belongs to the nearest centre.
    """

    centres: Vector
    slopes: Vector
    intercepts: Vector
    floor_ms: float

    @override
    def latencies_ms(self, rows: Matrix) -> Vector:
        cluster = _nearest(self.centres, _log_peak(rows))
        latency = self.slopes[cluster] * rows[:, _MACS] + self.intercepts[cluster]
        return np.maximum(latency, self.floor_ms)

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        arrays = {"centres": self.centres, "slopes": self.slopes, "intercepts": self.intercepts}
        return {"floor_ms": self.floor_ms}, arrays, {}


class _LinearByMacs(ConformalRegression):
    @override
    def learn_encoder(self, batch: Batch) -> FeatureMap:
        return FeatureMap()

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model:
        return Lines(arrays["centres"], arrays["slopes"], arrays["intercepts"], float(data["floor_ms"]))


@final
class FlopsPredictor(_LinearByMacs):
    """One line over multiply-accumulates, fitted with RANSAC."""

    kind: ClassVar[str] = "flops"

    @override
    def learn(self, examples: Examples, *, seed: int) -> Model:
        return _fit_lines(examples, np.zeros(1), seed)


@final
class FlopsByMemoryPredictor(_LinearByMacs):
    """One RANSAC line over multiply-accumulates for each cluster of networks of like peak memory.

    Clusters come from k-means over the logarithm of peak memory; grouped cross-validation inside the training data
    chooses their number, from one (the plain FLOPs regression) to :data:`MAX_CLUSTERS`. A cluster of fewer than
    :data:`MIN_CLUSTER` networks is dissolved into its neighbours.
    """

    kind: ClassVar[str] = "flops_by_memory"

    @override
    def learn(self, examples: Examples, *, seed: int) -> Model:
        candidates: dict[int, Vector] = {}
        for wanted in range(1, MAX_CLUSTERS + 1):
            centres = _cluster(_log_peak(examples.encoded), wanted, seed)
            candidates.setdefault(len(centres), centres)
        if len(candidates) == 1 or len(set(examples.groups)) < 2:
            return _fit_lines(examples, next(iter(candidates.values())), seed)
        errors = {count: _held_out_error(examples, centres, seed) for count, centres in candidates.items()}
        best = min(errors, key=lambda count: (errors[count], count))
        return _fit_lines(examples, candidates[best], seed)


def _held_out_error(examples: Examples, centres: Vector, seed: int) -> float:
    """Return the median absolute relative error in grouped cross-validation."""
    errors = []
    for rest, fold in cross_splits(examples.groups, 5, seed=seed):
        predicted = _fit_lines(examples.part(rest), centres, seed).latencies_ms(examples.encoded[fold])
        errors.append(np.abs(predicted / examples.latencies_ms[fold] - 1))
    return float(np.median(np.concatenate(errors)))


def _fit_lines(examples: Examples, centres: Vector, seed: int) -> Lines:
    cluster = _nearest(centres, _log_peak(examples.encoded))
    macs, latencies = examples.encoded[:, _MACS], examples.latencies_ms
    pooled = _ransac(macs, latencies, seed)
    lines = [pooled] * len(centres)
    for number in range(len(centres)) if len(centres) > 1 else ():
        members = cluster == number
        if members.sum() >= MIN_CLUSTER // 2:  # a fold of cross-validation leaves fewer than the whole has
            lines[number] = _ransac(macs[members], latencies[members], seed)
    slopes, intercepts = np.array(lines, dtype=np.float64).T
    return Lines(centres, slopes, intercepts, FLOOR * float(latencies.min()))


def _ransac(macs: Vector, latencies: Vector, seed: int) -> tuple[float, float]:
    """Return slope and intercept; a least-squares line where RANSAC finds no consensus."""
    with needs("boosting"):
        from sklearn import config_context
        from sklearn.linear_model import LinearRegression, RANSACRegressor
    if np.ptp(macs) == 0:
        return 0.0, float(np.median(latencies))
    spread = np.median(np.abs(latencies - np.median(latencies)))  # scikit-learn's own threshold, but never zero
    scale = float(macs.max())  # conditions the least squares; MACs run to 1e9, latencies to 1
    column = (macs / scale).reshape(-1, 1)
    line = RANSACRegressor(
        LinearRegression(),
        min_samples=2,
        residual_threshold=max(float(spread), 1e-9 * float(latencies.max())),
        is_data_valid=lambda pair, _: pair[0, 0] != pair[1, 0],  # two networks of like MACs have no line
        random_state=seed,
    )
    with config_context(assume_finite=True, skip_parameter_validation=True):  # a hundred fits a line
        try:
            line = line.fit(column, latencies).estimator_
        except ValueError:
            line = LinearRegression().fit(column, latencies)
    return float(line.coef_[0]) / scale, float(line.intercept_)


def _cluster(log_peak: Vector, wanted: int, seed: int) -> Vector:
    """Return the centres of at most ``wanted`` clusters, ascending, each nearest to MIN_CLUSTER networks or more."""
    with needs("boosting"):
        from sklearn.cluster import KMeans
    count = min(wanted, len(np.unique(log_peak)))
    if count < 2:
        return np.array([log_peak.mean()])
    fitted = KMeans(count, n_init=5, random_state=seed).fit(log_peak.reshape(-1, 1))
    centres: Vector = np.sort(fitted.cluster_centers_[:, 0]).astype(np.float64)
    while len(centres) > 1:
        sizes = np.bincount(_nearest(centres, log_peak), minlength=len(centres))
        if sizes.min() >= MIN_CLUSTER:
            break
        centres = np.delete(centres, sizes.argmin())
    return centres


def _nearest(centres: Vector, log_peak: Vector) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = np.abs(log_peak[:, None] - centres[None, :]).argmin(axis=1)
    return nearest


def _log_peak(rows: Matrix) -> Vector:
    logarithm: Vector = np.log(np.maximum(rows[:, _PEAK], 1.0))
    return logarithm
