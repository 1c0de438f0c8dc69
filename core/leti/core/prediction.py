"""Prediction and Predictor: what a predictor promises, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, cast, runtime_checkable

from leti.core.errors import InvalidInput
from leti.core.graph import Graph

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Buffer

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""

OperatorTimes = Sequence[Sequence[float] | None]
"""Measured milliseconds of each kernel of each graph, ``(graphs, kernels of the graph)``; ``None``: none are known.

Kernels stand in the order of their last operators; an operator in no group is a kernel by itself.
"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A latency in ms, an interval that holds it with probability ``coverage``, and where the number comes from.

    ``unknown`` lists operators or shapes outside what the predictor was trained on, empty where it knew them all.
    ``distance`` says how far the network lies from those of the training: 99 % of them lie within 1, and a prediction
    far beyond that is a guess, whatever its interval. It is 0 for what was measured.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    source: Literal["measured", "predicted"]
    predictor: str = ""
    version: int = 0
    unknown: tuple[str, ...] = ()
    distance: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Many predictions as columns of float64, each of shape ``(graphs,)``; an item is a :class:`Prediction`.

    The columns accept anything that speaks the buffer protocol (a NumPy array, ``array.array("d")``) and are memory
    views on it: no copy is made. ``distance`` is ``None`` where a predictor does not tell.
    """

    latency_ms: memoryview[float]
    low_ms: memoryview[float]
    high_ms: memoryview[float]
    coverage: float
    predictor: str
    version: int = 0
    unknown: tuple[tuple[str, ...], ...] = field(default=())
    distance: memoryview[float] | None = None

    @classmethod
    def of(
        cls,
        latency_ms: Buffer,
        low_ms: Buffer,
        high_ms: Buffer,
        *,
        coverage: float,
        predictor: str,
        version: int = 0,
        unknown: Sequence[tuple[str, ...]] = (),
        distance: Buffer | None = None,
    ) -> Predictions:
        """Return columns over these buffers; raise :class:`InvalidInput` where they are not float64 of one length."""
        given = {"latency_ms": latency_ms, "low_ms": low_ms, "high_ms": high_ms}
        if distance is not None:
            given["distance"] = distance
        columns = [memoryview(column) for column in given.values()]
        for name, column in zip(given, columns, strict=True):
            if column.format != "d" or column.ndim != 1 or len(column) != len(columns[0]):
                raise InvalidInput("must be one dimension of float64, as long as latency_ms", field=name)
        if unknown and len(unknown) != len(columns[0]):
            raise InvalidInput("must hold one entry a graph, or none", field="unknown")
        latency, low, high, *far = (cast("memoryview[float]", column) for column in columns)
        return cls(latency, low, high, coverage, predictor, version, tuple(unknown), far[0] if far else None)

    def __len__(self) -> int:
        """Return the number of predictions."""
        return len(self.latency_ms)

    def __getitem__(self, index: int) -> Prediction:
        """Return one prediction."""
        return Prediction(
            self.latency_ms[index],
            self.low_ms[index],
            self.high_ms[index],
            self.coverage,
            "predicted",
            self.predictor,
            self.version,
            self.unknown[index] if self.unknown else (),
            0.0 if self.distance is None else self.distance[index],
        )

    def __iter__(self) -> Iterator[Prediction]:
        """Iterate over the predictions."""
        return (self[i] for i in range(len(self)))


@runtime_checkable
class Predictor(Protocol):
    """Learns the latency of graphs on one platform. Never undercounts in silence.

    An operator that it cannot price is listed in ``unknown``, or the call raises
    :class:`~leti.core.errors.NotPredictable`. One conformance suite holds every implementation.
    """

    kind: ClassVar[str]
    """The name by which it is asked for, saved and shown: ``flops``, ``xgboost``, …"""

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
        """Learn from graphs and their latencies, both of length n; return itself.

        A graph that is given more than once counts once, with the median of its latencies. ``groups`` (length n) names
        the class that each graph must not be parted from when data are split, for the calibration of intervals among
        others. The same seed gives the same predictor. Raises
        :class:`~leti.core.errors.TooFewMeasurements`, and :class:`~leti.core.errors.InvalidInput` for latencies that
        are not positive and finite.
        """
        ...

    def predict(self, graphs: Sequence[Graph], *, coverage: float = 0.9) -> Predictions:
        """Return a latency and an interval for each graph, in one call of the model."""
        ...

    def save(self, folder: Path) -> None:
        """Write the predictor into an empty or absent folder, without pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote; raise :class:`~leti.core.errors.ArtifactError` or ``VersionMismatch``."""
        ...


@dataclass(frozen=True, slots=True)
class Share:
    """What a layer or a feature adds to a predicted latency, in ms; it may be negative.

    ``operators`` are the numbers of the graph's operators that it stands for, empty where it is of the whole graph.
    """

    name: str
    latency_ms: float
    operators: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A predicted latency in ms, and the shares that add up to it."""

    latency_ms: float
    shares: tuple[Share, ...]


@runtime_checkable
class Explains(Protocol):
    """A predictor that can say what its latencies are made of."""

    def explain(self, graphs: Sequence[Graph]) -> tuple[Breakdown, ...]:
        """Return a breakdown of the latency of each graph.

        Raises :class:`~leti.core.errors.NotPredictable` where this predictor cannot tell.
        """
        ...


@dataclass(frozen=True, slots=True)
class Metrics:
    """How a predictor did on networks that it has never seen; shares are 0 … 1, times in the unit of their name.

    ``interval_coverage`` is the share of measured latencies inside the interval stated for ``coverage``. ``r2``,
    ``spearman`` and ``kendall`` are ``None`` where the measured latencies are all the same.
    """

    n_train: int
    n_test: int
    within_1: float
    within_5: float
    within_10: float
    mdape: float
    mape: float
    r2: float | None
    spearman: float | None
    kendall: float | None
    coverage: float
    interval_coverage: float
    fit_s: float
    us_per_prediction: float
