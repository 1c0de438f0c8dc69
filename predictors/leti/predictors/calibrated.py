"""What every predictor of this room shares: checked input, calibration, remarks on the unknown, saving.

A subclass says how a batch of graphs is encoded (as rows of features, as kernels with edges, …), how to learn a
:class:`Model` from encoded graphs, and how to write and read one; the rest is here.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from typing_extensions import override

from leti.core.codec import Json, from_json, to_json
from leti.core.errors import ArtifactError, InvalidInput, LetiError, NotPredictable, VersionMismatch
from leti.core.extras import needs
from leti.core.graph import Graph, Op, TensorType
from leti.core.prediction import Breakdown, OperatorTimes, Predictions, Predictor, Progress, Share
from leti.predictors.batch import Batch, Vector
from leti.predictors.conformal import FOLDS, Calibration
from leti.predictors.distance import Distance
from leti.predictors.experience import Experience
from leti.predictors.splits import cross_splits
from leti.predictors.training_data import MIN_NETWORKS, TrainingData, check_training_data

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing import Self

__all__ = ["FORMAT", "MIN_NETWORKS", "Arrays", "CalibratedPredictor", "CrossFit", "Encoder", "Examples", "Model"]

FORMAT = 2
"""Version of the files below; raised when their meaning changes."""

AT_ONCE = 1_024
"""Graphs that are predicted in one call of the model: arrays of more are larger than the processor's cache, and their
memory is asked of the system anew for each, which takes as long as all the rest."""

_STATE = "state.json"
_ARRAYS = "arrays.npz"

Arrays = Mapping[str, NDArray[np.float64]]

E = TypeVar("E")
"""Encoded graphs: anything that has a length and can be indexed by an array of row numbers, as NumPy's arrays can."""


class Encoder(Protocol):
    """Makes of a batch what a model reads; a frozen dataclass that :mod:`leti.core.codec` writes and reads."""

    def encode(self, batch: Batch) -> Any:
        """Return the graphs of a batch, encoded; what the encoder does not know must not be lost without a trace."""
        ...


C = TypeVar("C", bound=Encoder)


class Model(ABC, Generic[E]):
    """A fitted model from encoded graphs to latencies in ms; immutable, so that requests may share it."""

    @abstractmethod
    def latencies_ms(self, encoded: E) -> Vector:
        """Return positive latencies ``(n,)`` of n encoded graphs."""

    @abstractmethod
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        """Return what it takes to make the model again: JSON data, arrays of float64, and further files by name."""

    def unknown(self, encoded: E) -> Sequence[tuple[str, ...]]:
        """Return remarks on each graph besides those of the experience, or nothing where there are none."""
        return ()

    def shares(self, encoded: E, batch: Batch, encoder: Any) -> Sequence[tuple[Share, ...]]:
        """Return what the latency of each graph is made of; the shares of a graph add up to its latency."""
        raise NotPredictable("this kind of predictor cannot say what a latency is made of", field="predictor")


@dataclass(frozen=True)  # a frozen generic with slots cannot be made through an alias such as regression.Examples
class Examples(Generic[C, E]):
    """Training data: n encoded graphs with their encoder, latencies ``(n,)`` in ms, n groups, times of kernels."""

    encoder: C
    encoded: E
    latencies_ms: Vector
    groups: tuple[str, ...]
    operator_times: tuple[Sequence[float] | None, ...] | None = None

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.groups)

    def part(self, rows: Sequence[int]) -> Examples[C, E]:
        """Return the examples with these numbers."""
        chosen = np.asarray(rows, dtype=np.intp)
        encoded: E = self.encoded[chosen]  # type: ignore[index]  # see E
        times = None if self.operator_times is None else tuple(self.operator_times[i] for i in rows)
        return Examples(self.encoder, encoded, self.latencies_ms[chosen], tuple(self.groups[i] for i in rows), times)


@dataclass(frozen=True, slots=True)
class CrossFit(Generic[E]):
    """A model, and what was predicted for each example ``(n,)`` in ms by a model that had not seen its group."""

    model: Model[E]
    unseen_ms: Vector


@dataclass(frozen=True, slots=True)
class Fitted(Generic[C, E]):
    """All that it takes to predict: immutable, so that requests may share it."""

    encoder: C
    experience: Experience
    distance: Distance
    calibration: Calibration
    model: Model[E]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    latency_ms: Vector
    unknown: tuple[tuple[str, ...], ...]
    distance: Vector


class CalibratedPredictor(Predictor, ABC, Generic[C, E]):
    """A predictor that learns a :class:`Model` and calibrates its interval by conformal prediction.

    After :meth:`fit`, ``training`` holds what was learnt from and ``unseen_ms`` what was predicted for each network of
    it out of fold, ``(n,)``; neither is saved. ``remarks`` says what was odd about the data.
    """

    kind: ClassVar[str]
    encoder_type: ClassVar[type[Any]]

    def __init__(self) -> None:
        self._fitted: Fitted[C, E] | None = None
        self.training: TrainingData | None = None
        self.unseen_ms: Vector | None = None

    @abstractmethod
    def learn_encoder(self, batch: Batch) -> C:
        """Return how this predictor encodes graphs like those of a batch."""

    @abstractmethod
    def learn(self, examples: Examples[C, E], *, seed: int) -> Model[E]:
        """Learn a model; the same examples and seed give the same model."""

    @classmethod
    @abstractmethod
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model[E]:
        """Make a model of what :meth:`Model.to_parts` returned; raise ``ArtifactError`` where it cannot be one."""

    def cross_fit(self, examples: Examples[C, E], *, seed: int, progress: Progress) -> CrossFit[E]:
        """Return a model learnt from all examples, and predictions for each by a model that had not seen its group.

        A kind that is made of models of the folds may do without the last training.
        """
        splits = cross_splits(examples.groups, FOLDS, seed=seed)
        unseen = np.empty(len(examples))
        for done, (rest, fold) in enumerate(splits):
            progress(done, len(splits) + 1)
            fold_model = self.learn(examples.part(rest), seed=seed)
            unseen[fold] = fold_model.latencies_ms(examples.part(fold).encoded)
        progress(len(splits), len(splits) + 1)
        model = self.learn(examples, seed=seed)
        progress(len(splits) + 1, len(splits) + 1)
        return CrossFit(model, unseen)

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
        training = check_training_data(graphs, latencies_ms, groups, operator_times)
        batch = Batch.of(training.graphs)
        encoder = self.learn_encoder(batch)
        examples: Examples[C, E] = Examples(
            encoder, encoder.encode(batch), training.latencies_ms, training.groups, training.operator_times
        )
        found = self.cross_fit(examples, seed=seed, progress=progress or _silent)
        made = Fitted(
            encoder,
            Experience.of(batch),
            Distance.of(batch),
            Calibration.of(training.latencies_ms, found.unseen_ms),
            found.model,
            training.remarks,
        )
        return self.adopt(made, training, found.unseen_ms)

    @property
    def fitted(self) -> Fitted[C, E]:
        """What :meth:`fit` or :meth:`load` made; raise :class:`InvalidInput` where neither was called."""
        if self._fitted is None:
            raise InvalidInput("is not trained", field="predictor", remedy="call fit, or load a saved predictor")
        return self._fitted

    def adopt(
        self, fitted: Fitted[C, E], training: TrainingData | None = None, unseen_ms: Vector | None = None
    ) -> Self:
        """Predict with what is handed in, and keep what it was learnt from, where that is known; return itself."""
        self._fitted, self.training, self.unseen_ms = fitted, training, unseen_ms
        return self

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was odd about the measurements that it learnt from, a sentence each."""
        return self.fitted.remarks

    @override
    def predict(self, graphs: Sequence[Graph], *, coverage: float = 0.9) -> Predictions:
        fitted = self.fitted
        fitted.calibration.half_width(coverage)  # a wrong coverage is told before the work
        answers = [self._answer(graphs[first : first + AT_ONCE], first) for first in range(0, len(graphs), AT_ONCE)]
        latency = _joined([answer.latency_ms for answer in answers])
        distance = _joined([answer.distance for answer in answers])
        low, high = fitted.calibration.interval(latency, coverage)
        return Predictions.of(
            latency.data,
            low.data,
            high.data,
            coverage=coverage,
            predictor=self.kind,
            unknown=tuple(chain.from_iterable([answer.unknown for answer in answers])),
            distance=distance.data,
        )

    def _answer(self, graphs: Sequence[Graph], first: int) -> _Answer:
        """Return what is said of graphs, of which the first has this number."""
        fitted = self.fitted
        batch = Batch.of(graphs)
        encoded = fitted.encoder.encode(batch)
        latency = fitted.model.latencies_ms(encoded)
        _check_answers(latency, first)
        unknown = fitted.experience.unknown(batch)
        more = fitted.model.unknown(encoded)
        if more:
            unknown = tuple(tuple(sorted({*a, *b})) for a, b in zip(unknown, more, strict=True))
        return _Answer(latency, unknown, fitted.distance.measure(batch))

    def explain(self, graphs: Sequence[Graph]) -> tuple[Breakdown, ...]:
        """Return what the latency of each graph is made of; see :class:`~leti.core.prediction.Explains`."""
        fitted = self.fitted
        if not graphs:
            return ()
        batch = Batch.of(graphs)
        encoded = fitted.encoder.encode(batch)
        latencies = fitted.model.latencies_ms(encoded).tolist()
        shares = fitted.model.shares(encoded, batch, fitted.encoder)
        return tuple(Breakdown(latency, of_one) for latency, of_one in zip(latencies, shares, strict=True))

    @override
    def save(self, folder: Path) -> None:
        fitted = self.fitted
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InvalidInput("is not empty", field="folder", remedy="give an empty or absent folder")
        data, arrays, files = fitted.model.to_parts()
        contents = {**files, _ARRAYS: _pack({"residuals": fitted.calibration.residuals, **arrays})}
        state = {
            "format": FORMAT,
            "kind": self.kind,
            "encoder": to_json(fitted.encoder),
            "experience": to_json(fitted.experience),
            "distance": to_json(fitted.distance),
            "remarks": list(fitted.remarks),
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
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                raise ArtifactError("holds what is no number", field=name)
        try:
            encoder = from_json(cls.encoder_type, state["encoder"])
            experience = from_json(Experience, state["experience"])
            distance = from_json(Distance, state["distance"])
            remarks = from_json(tuple[str, ...], state["remarks"])
        except InvalidInput as error:
            raise ArtifactError(str(error), field=_STATE) from error
        predictor = cls()
        calibration = Calibration(arrays.pop("residuals"))
        if calibration.residuals.ndim != 1 or not np.all(calibration.residuals >= 0):
            raise ArtifactError("must be positive", field="residuals")
        model = cls.read_model(state["model"], arrays, files)
        predictor.adopt(Fitted(encoder, experience, distance, calibration, model, remarks))
        try:
            predictor.predict([_trial()], coverage=calibration.max_coverage / 2)
        except NotPredictable as error:
            raise ArtifactError(f"gives no latency: {error}", field="model") from error
        return predictor


_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    zipfile.BadZipFile,
)
"""What reading a damaged file, and predicting from what was read, may raise."""


def _trial() -> Graph:
    """Return a network to try a loaded predictor on: parts that do not fit together show before anybody asks."""
    image = TensorType((1, 8, 8, 8))
    op = Op.of("conv2d", [image], [image], macs=36_864, params=584, traffic_bytes=6_432, kernel=(3, 3))
    return Graph((image,), (op,), ((0,),), (1,), 4_096)


def _check_answers(latency_ms: Vector, number: int) -> None:
    """Raise :class:`NotPredictable` where a model gives what is no latency: never a silent number.

    The first one is that of the graph with this number.
    """
    right = (latency_ms > 0) & (latency_ms < np.inf)
    if not right.all():
        first = int(right.argmin())
        raise NotPredictable(
            f"the model gives {latency_ms[first]!r} ms, which is no latency", field=f"graphs[{number + first}]"
        )


def _joined(columns: Sequence[Vector]) -> Vector:
    return columns[0] if len(columns) == 1 else np.concatenate([np.empty(0), *columns])


def _silent(done: int, total: int) -> None:
    """Tell nobody."""


def _pack(arrays: Arrays) -> bytes:
    """Return arrays in NumPy's npz format, without the time of writing: the same predictor is the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return packed.getvalue()
