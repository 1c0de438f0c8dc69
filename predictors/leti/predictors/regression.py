"""What every predictor of this room shares: checked input, features, calibration, remarks on the unknown, saving.

A subclass says how to learn a :class:`Model` from rows of features, and how to write and read one; the rest is here.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from leti.core.codec import Json, from_json, to_json
from leti.core.errors import ArtifactError, InvalidInput, LetiError, TooFewMeasurements, VersionMismatch
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import OperatorTimes, Predictions, Predictor, Progress
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.conformal import FOLDS, Calibration
from leti.predictors.experience import Experience
from leti.predictors.features import FeatureMap
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing import Self

MIN_NETWORKS = 20
"""Fewest measured networks to train on: 19 residuals are the fewest that can bound an interval of 95 % coverage."""

FORMAT = 1
"""Version of the files below; raised when their meaning changes."""

_STATE = "state.json"
_ARRAYS = "arrays.npz"

Arrays = Mapping[str, NDArray[np.float64]]


class Model(ABC):
    """A fitted regression from rows of features to latencies in ms; immutable, so that requests may share it."""

    @abstractmethod
    def latencies_ms(self, rows: Matrix) -> Vector:
        """Return positive latencies ``(n,)`` for features ``(n, columns)``."""

    @abstractmethod
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        """Return what it takes to make the model again: JSON data, arrays of float64, and further files by name."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Training data: features ``(n, columns)`` with the columns' names, latencies ``(n,)`` in ms, n groups."""

    names: tuple[str, ...]
    rows: Matrix
    latencies_ms: Vector
    groups: tuple[str, ...]

    def part(self, rows: Sequence[int]) -> Examples:
        """Return the examples with these numbers."""
        chosen = np.asarray(rows, dtype=np.intp)
        groups = tuple(self.groups[i] for i in rows)
        return Examples(self.names, self.rows[chosen], self.latencies_ms[chosen], groups)


@dataclass(frozen=True, slots=True)
class _Fitted:
    features: FeatureMap
    experience: Experience
    calibration: Calibration
    model: Model


class ConformalRegression(Predictor, ABC):
    """A predictor that learns a :class:`Model` from features and calibrates its interval by conformal prediction."""

    kind: ClassVar[str]

    def __init__(self) -> None:
        self._fitted: _Fitted | None = None

    @abstractmethod
    def learn(self, examples: Examples, *, seed: int) -> Model:
        """Learn a model; the same examples and seed give the same model."""

    @classmethod
    @abstractmethod
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model:
        """Make a model of what :meth:`Model.to_parts` returned."""

    def choose_features(self, batch: Batch) -> FeatureMap:
        """Return the columns that this predictor learns from."""
        return FeatureMap.learn(batch)

    @override
    def fit(
        self,
        graphs: Sequence[Graph],
        latencies_ms: Sequence[float],
        *,
        operator_times: OperatorTimes | None = None,
        groups: Sequence[str] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        measured = check_latencies(graphs, latencies_ms)
        named = _check_groups(groups, len(graphs))
        batch = Batch.of(graphs)
        features = self.choose_features(batch)
        examples = Examples(features.names, features.rows(batch), measured, named)
        splits = cross_splits(named, FOLDS, seed=seed)
        unseen = np.empty(len(measured))
        for done, (rest, fold) in enumerate(splits):
            if progress is not None:
                progress(done, len(splits) + 1)
            unseen[fold] = self.learn(examples.part(rest), seed=seed).latencies_ms(examples.rows[fold])
        if progress is not None:
            progress(len(splits), len(splits) + 1)
        model = self.learn(examples, seed=seed)
        self._fitted = _Fitted(features, Experience.of(batch), Calibration.of(measured, unseen), model)
        if progress is not None:
            progress(len(splits) + 1, len(splits) + 1)
        return self

    @override
    def predict(self, graphs: Sequence[Graph], *, coverage: float = 0.9) -> Predictions:
        fitted = self._require_fitted()
        fitted.calibration.half_width(coverage)  # a wrong coverage is told before the work
        batch = Batch.of(graphs)
        latency = fitted.model.latencies_ms(fitted.features.rows(batch)) if graphs else np.empty(0)
        low, high = fitted.calibration.interval(latency, coverage)
        unknown = fitted.experience.unknown(batch)
        return Predictions.of(
            latency.data, low.data, high.data, coverage=coverage, predictor=self.kind, unknown=unknown
        )

    @override
    def save(self, folder: Path) -> None:
        fitted = self._require_fitted()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InvalidInput("is not empty", field="folder", remedy="give an empty or absent folder")
        data, arrays, files = fitted.model.to_parts()
        contents = {**files, _ARRAYS: _pack({"residuals": fitted.calibration.residuals, **arrays})}
        state = {
            "format": FORMAT,
            "kind": self.kind,
            "features": to_json(fitted.features),
            "experience": to_json(fitted.experience),
            "model": data,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / _STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")

    @classmethod
    @override
    def load(cls, folder: Path) -> Self:
        try:
            return cls._load(folder)
        except (LetiError, MemoryError):
            raise
        except _DAMAGE as error:
            raise ArtifactError(f"cannot be read: {error}", field=str(folder.name)) from error

    @classmethod
    def _load(cls, folder: Path) -> Self:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise VersionMismatch(
                f"the predictor was saved in format {state['format']!r}",
                remedy=f"this version reads format {FORMAT}: train it again",
            )
        if state["kind"] != cls.kind:
            raise ArtifactError(f"holds a predictor of kind {state['kind']!r}, not {cls.kind!r}", field="kind")
        files = {}
        for name, digest in state["files"].items():
            content = (folder / Path(name).name).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise ArtifactError("does not match its checksum", field=Path(name).name)
            files[name] = content
        with np.load(io.BytesIO(files.pop(_ARRAYS)), allow_pickle=False) as packed:
            arrays = {name: packed[name].astype(np.float64) for name in packed.files}
        try:
            features = from_json(FeatureMap, state["features"])
            experience = from_json(Experience, state["experience"])
        except InvalidInput as error:
            raise ArtifactError(str(error), field=_STATE) from error
        predictor = cls()
        calibration = Calibration(arrays.pop("residuals"))
        predictor._fitted = _Fitted(features, experience, calibration, cls.read_model(state["model"], arrays, files))
        return predictor

    def _require_fitted(self) -> _Fitted:
        if self._fitted is None:
            raise InvalidInput("is not trained", field="predictor", remedy="call fit, or load a saved predictor")
        return self._fitted


_DAMAGE = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, zipfile.BadZipFile)
"""What reading a damaged file may raise."""


def _pack(arrays: Arrays) -> bytes:
    """Return arrays in NumPy's npz format, without the time of writing: the same predictor is the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return packed.getvalue()


def check_latencies(graphs: Sequence[Graph], latencies_ms: Sequence[float]) -> Vector:
    """Return latencies as float64 ``(n,)``; raise :class:`InvalidInput` or ``TooFewMeasurements`` where unfit."""
    if len(graphs) != len(latencies_ms):
        raise InvalidInput(f"has {len(latencies_ms)} entries for {len(graphs)} graphs", field="latencies_ms")
    for i, latency in enumerate(latencies_ms):
        try:
            good = not isinstance(latency, bool) and math.isfinite(latency) and latency > 0
        except TypeError:
            good = False
        if not good:
            raise InvalidInput(f"must be positive and finite, not {latency!r}", field=f"latencies_ms[{i}]")
    if len(graphs) < MIN_NETWORKS:
        raise TooFewMeasurements(
            f"{len(graphs)} measured networks are given, {MIN_NETWORKS} are needed",
            field="graphs",
            remedy=f"measure {MIN_NETWORKS - len(graphs)} more",
            given=len(graphs),
            needed=MIN_NETWORKS,
        )
    return np.asarray(latencies_ms, dtype=np.float64)


def _check_groups(groups: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """Return one group a graph, each its own where none are given."""
    if groups is None:
        return tuple(map(str, range(n)))
    if len(groups) != n:
        raise InvalidInput(f"has {len(groups)} entries for {n} graphs", field="groups")
    if len(set(groups)) < 2:
        raise TooFewMeasurements(
            "all networks are of one group, so none can be kept apart to calibrate the interval",
            field="groups",
            remedy="measure networks of at least 2 groups",
            given=1,
            needed=2,
        )
    return tuple(groups)
