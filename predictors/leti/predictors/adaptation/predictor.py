"""Adaptation: a predictor for a new platform from a handful of measurements there, and predictors of other platforms.

What is learnt, and how, is told in :mod:`leti.predictors.adaptation.transfer`; the columns that it is learnt from in
:mod:`leti.predictors.adaptation.features`.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import OperatorTimes, Predictions, Predictor, Progress
from leti.predictors import artifacts
from leti.predictors.adaptation.features import Networks, SourceScale, TransferFeatures
from leti.predictors.adaptation.transfer import METHODS, PRIOR, Columns, Formula
from leti.predictors.batch import Batch, Vector
from leti.predictors.calibrated import Arrays, CalibratedPredictor, Examples, Fitted, Model
from leti.predictors.conformal import Calibration
from leti.predictors.distance import Distance
from leti.predictors.evaluation import Sample
from leti.predictors.experience import Experience
from leti.predictors.registry import create
from leti.predictors.splits import cross_splits
from leti.predictors.training_data import TrainingData, check_training_data

with needs("boosting"):
    import numpy as np
    from scipy import stats

if TYPE_CHECKING:
    from typing import Self

MIN_SAMPLES: Final = 5
"""Fewest measured networks of the new platform."""

MAX_SOURCES: Final = 64
POPULATION: Final = 512
"""Most networks over which columns are brought to one scale."""

SOURCE_KIND: Final = "positional"
"""Kind of predictor that is fitted to a source that comes as measurements."""

SHARED_KIND: Final = "gcn_shared"
"""Kind of predictor that is fitted to all such sources together: a graph network with an embedding for each."""

_LEFT_OUT: Final = 20
"""Up to so many networks (or groups) are left out one at a time, more of them in ten parts."""

_PRIOR_WEIGHT: Final = 4
_PRIOR_FACTOR: Final = 1.5
"""The sources' typical error, times this, counts as much as so many networks of the new platform."""

_QUANTILES: Final = 199
_FILE: Final = re.compile(r"source-(\d{1,2})\.([A-Za-z0-9][A-Za-z0-9_.-]{0,127})")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Adapted(Model[Networks]):
    """The sources by name, what is made of their predictions, and how it was learnt."""

    sources: Mapping[str, Predictor]
    formula: Formula
    method: str
    errors: Mapping[str, float]
    _asked: list[tuple[Networks, tuple[Predictions, ...]]] = field(default_factory=list)

    def columns(self, encoded: Networks) -> Columns:
        """Return what is known of networks."""
        return _columns(_ask(self.sources, encoded.graphs), encoded)

    @override
    def latencies_ms(self, encoded: Networks) -> Vector:
        return self.formula.latencies_ms(_columns(self._answers(encoded), encoded))

    @override
    def unknown(self, encoded: Networks) -> Sequence[tuple[str, ...]]:
        """Return what any of the sources did not know."""
        said = [answer.unknown for answer in self._answers(encoded) if answer.unknown]
        return [tuple(sorted(set().union(*of_one))) for of_one in zip(*said, strict=True)]

    def _answers(self, encoded: Networks) -> tuple[Predictions, ...]:
        """Return what the sources say, asked once for what is predicted and remarked upon in one call."""
        for networks, answers in tuple(self._asked):
            if networks is encoded:
                return answers
        answers = _ask(self.sources, encoded.graphs)
        self._asked[:] = [(encoded, answers)]
        return answers

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        formula = self.formula
        arrays = {name: getattr(formula, name) for name in ("anchor", "sources", "parts", "positions")}
        data = {
            "sources": list(self.sources),
            "method": self.method,
            "errors": dict(self.errors),
            "intercept": formula.intercept,
            "is_factor": formula.is_factor,
        }
        files: dict[str, bytes] = {}
        for i, source in enumerate(self.sources.values()):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary) / "source"
                artifacts.save(source, folder)
                files |= {f"source-{i}.{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
        return cast("Json", data), arrays, files


@final
class AdaptedPredictor(CalibratedPredictor[TransferFeatures, Networks]):
    """A predictor for a platform of which little is measured, on top of ``sources``, those of other platforms by name.

    :meth:`fit` takes :data:`MIN_SAMPLES` networks or more. ``method`` is one of
    :data:`~leti.predictors.adaptation.transfer.METHODS` or ``auto``: the one with the least error when networks are
    left out, weighted by :data:`~leti.predictors.adaptation.transfer.PRIOR`. ``population`` is networks like those that
    will be asked for; the measured ones where it is empty.

    The interval is *not* conformal: so few residuals could not bound it. It is a Student's t interval in logarithms,
    whose scale is learnt from the errors on networks that were left out, and from the sources' own typical error, which
    counts as much as four networks where it is the larger. It holds what it states to the extent that errors are like
    that; nothing is proved.
    """

    kind: ClassVar[str] = "adapted"
    encoder_type: ClassVar[type[Any]] = TransferFeatures

    def __init__(
        self, sources: Mapping[str, Predictor] | None = None, *, method: str = "auto", population: Sequence[Graph] = ()
    ) -> None:
        super().__init__()
        if method != "auto" and method not in METHODS:
            raise InvalidInput(
                f"there is no way to adapt called {str(method)[:80]!r}",
                field="method",
                remedy=f"one of auto, {', '.join(METHODS)}",
            )
        self._sources = MappingProxyType(dict(sources or {}))
        self._wanted = method
        self._population = tuple(population)
        for name, source in self._sources.items():
            if isinstance(source, AdaptedPredictor):
                raise InvalidInput("is adapted itself: give what it was adapted from", field=f"sources[{name}]")

    @property
    def method(self) -> str:
        """How the predictor was learnt."""
        return cast("Adapted", self.fitted.model).method

    @property
    def errors(self) -> Mapping[str, float]:
        """Root mean square error in logarithms of each method that was tried, on networks that were left out."""
        return cast("Adapted", self.fitted.model).errors

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
        if not 1 <= len(self._sources) <= MAX_SOURCES:
            raise InvalidInput(
                f"{len(self._sources)} predictors of other platforms are given, 1 to {MAX_SOURCES} are needed",
                field="sources",
                remedy="name predictors of other platforms: adapt(sources, …)",
            )
        training = check_training_data(graphs, latencies_ms, groups, operator_times, minimum=MIN_SAMPLES)
        spread = np.linspace(0, len(self._population) - 1, min(len(self._population), POPULATION)).astype(int)
        like = (*(self._population[i] for i in spread.tolist()), *training.graphs)
        features = TransferFeatures.learn(like)
        scale = SourceScale.of(_latencies(_ask(self._sources, like)))
        answers = _ask(self._sources, training.graphs, coverage=0.6827)
        columns = _columns(answers, features.encode(Batch.of(training.graphs)))
        tried = tuple(METHODS) if self._wanted == "auto" else (self._wanted,)
        unseen = {}
        for done, name in enumerate(tried):
            if progress is not None:
                progress(done, len(tried))
            unseen[name] = _left_out(name, columns, training, scale, seed)
        errors = {name: _rms(training.latencies_ms, found) for name, found in unseen.items()}
        method = min(tried, key=lambda name: errors[name] * PRIOR[name])
        formula = METHODS[method](columns, training.latencies_ms, scale)
        seen = Batch.of(like)
        made = Fitted(
            features,
            Experience.of(seen),
            Distance.of(seen),
            _calibration(training.latencies_ms, unseen[method], answers),
            Adapted(self._sources, formula, method, MappingProxyType(errors)),
            training.remarks,
        )
        self.adopt(made, training, unseen[method])
        if progress is not None:
            progress(len(tried), len(tried))
        return self

    @override
    def learn_encoder(self, batch: Batch) -> TransferFeatures:
        return TransferFeatures.learn([graph for graph in batch.graphs if isinstance(graph, Graph)])

    @override
    def learn(self, examples: Examples[TransferFeatures, Networks], *, seed: int) -> Model[Networks]:
        fitted = AdaptedPredictor(self._sources, method=self._wanted, population=self._population).fit(
            examples.encoded.graphs, examples.latencies_ms.tolist(), groups=examples.groups, seed=seed
        )
        return fitted.fitted.model

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model[Networks]:
        names = data["sources"]
        anchor, weights = arrays["anchor"], arrays["sources"]
        if len(set(names)) != len(names) or not 1 <= len(names) <= MAX_SOURCES:
            raise ArtifactError("do not name sources, each once", field="sources")
        if anchor.shape != (len(names),) or weights.shape != anchor.shape or data["method"] not in METHODS:
            raise ArtifactError("do not fit the sources", field="anchor")
        formula = Formula(
            anchor, weights, arrays["parts"], arrays["positions"], float(data["intercept"]), bool(data["is_factor"])
        )
        if not all(np.all(np.isfinite(array)) for array in arrays.values()) or not math.isfinite(formula.intercept):
            raise ArtifactError("are not finite", field="weights")
        sources = {name: _read_source(i, files) for i, name in enumerate(names)}
        errors = {str(name): float(error) for name, error in data["errors"].items()}
        return Adapted(MappingProxyType(sources), formula, data["method"], MappingProxyType(errors))

    @classmethod
    @override
    def load(cls, folder: Path) -> Self:
        loaded = super().load(folder)
        fitted = loaded.fitted
        formula = cast("Adapted", fitted.model).formula
        wanted = (len(fitted.encoder.parts.columns), len(fitted.encoder.positions.columns))
        if (formula.parts.shape, formula.positions.shape) != ((wanted[0],), (wanted[1],)):
            raise ArtifactError("has weights for other columns than its encoder's", field=folder.name)
        return loaded


def adapt(
    sources: Mapping[str, Predictor | Sample],
    graphs: Sequence[Graph],
    latencies_ms: Sequence[float],
    *,
    method: str = "auto",
    source_kind: str = SOURCE_KIND,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> AdaptedPredictor:
    """Return a predictor for a new platform, of which n networks with latencies in ms are given, 5 to 50 typically.

    ``sources`` are other platforms by name: fitted predictors, or measurements, to which one of ``source_kind`` is
    fitted, or, where that is :data:`SHARED_KIND`, one network for all of them; their networks also say on what scale
    networks differ. Raises :class:`~leti.core.errors.TooFewMeasurements` below :data:`MIN_SAMPLES`, and
    :class:`~leti.core.errors.InvalidInput` without sources, for an unknown method and for latencies that are none.
    """
    samples = {name: source for name, source in sources.items() if isinstance(source, Sample)}
    taught = _teach(samples, source_kind, seed)
    fitted = {name: source if not isinstance(source, Sample) else taught[name] for name, source in sources.items()}
    like = {id(graph): graph for sample in samples.values() for graph in sample.graphs}
    predictor = AdaptedPredictor(fitted, method=method, population=tuple(like.values()))
    return predictor.fit(graphs, latencies_ms, groups=groups, seed=seed)


def _teach(samples: Mapping[str, Sample], kind: str, seed: int) -> Mapping[str, Predictor]:
    """Return a predictor of a kind for each platform."""
    if kind == SHARED_KIND and samples:
        with needs("gcn"):
            from leti.predictors.gcn.together import train_together
        return train_together(samples, seed=seed)
    return {name: sample.teach(create(kind), seed=seed) for name, sample in samples.items()}


def _ask(sources: Mapping[str, Predictor], graphs: Sequence[Graph], coverage: float = 0.5) -> tuple[Predictions, ...]:
    return tuple(source.predict(graphs, coverage=coverage) for source in sources.values())


def _latencies(answers: Sequence[Predictions]) -> Any:
    return np.column_stack([np.asarray(answer.latency_ms) for answer in answers])


def _columns(answers: Sequence[Predictions], encoded: Networks) -> Columns:
    return Columns(_latencies(answers), encoded.parts, encoded.positions)


def _left_out(method: str, columns: Columns, training: TrainingData, scale: SourceScale, seed: int) -> Vector:
    """Return what is predicted for each network ``(n,)`` from others, its group left out."""
    different = len(set(training.groups))
    folds = different if different <= _LEFT_OUT else 10
    unseen = np.empty(len(columns))
    for rest, fold in cross_splits(training.groups, folds, seed=seed):
        formula = METHODS[method](columns.part(list(rest)), training.latencies_ms[list(rest)], scale)
        unseen[list(fold)] = formula.latencies_ms(columns.part(list(fold)))
    return unseen


def _rms(measured_ms: Vector, predicted_ms: Vector) -> float:
    """Return the root mean square of errors in logarithms, each at most three times the median: one may be a stray."""
    off = np.abs(np.log(measured_ms / predicted_ms))
    return float(np.sqrt(np.mean(np.minimum(off, 3 * np.median(off)) ** 2)))


def _calibration(measured_ms: Vector, unseen_ms: Vector, answers: Sequence[Predictions]) -> Calibration:
    """Return quantiles of |t| times the scale of errors, in place of residuals: see :class:`AdaptedPredictor`."""
    widths = [np.log(np.asarray(answer.high_ms) / np.asarray(answer.low_ms)) / 2 for answer in answers]
    typical = _PRIOR_FACTOR * float(np.median([np.median(width) for width in widths]))
    square = float(np.mean(np.log(measured_ms / unseen_ms) ** 2))
    freedom = len(measured_ms) - 1
    blended = _PRIOR_WEIGHT * typical**2 + len(measured_ms) * square
    # Quieter sources do not make the new platform quiet: their error can only widen the interval.
    scale = max(math.sqrt(max(square, blended / (_PRIOR_WEIGHT + len(measured_ms)))), 1e-6)
    shares = np.arange(1, _QUANTILES + 1) / (_QUANTILES + 1)
    return Calibration(scale * stats.t.ppf((1 + shares) / 2, freedom))


def _read_source(number: int, files: Mapping[str, bytes]) -> Predictor:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, content in files.items():
            found = _FILE.fullmatch(name)
            if found is None:
                raise ArtifactError(f"lists a file that cannot be: {name[:80]!r}", field="files")
            if int(found[1]) == number:
                (folder / found[2]).write_bytes(content)
        source = artifacts.load(folder)
    if isinstance(source, AdaptedPredictor):
        raise ArtifactError("has a source that is adapted itself", field="sources")
    return source
