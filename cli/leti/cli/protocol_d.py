"""Protocol D: a new device from few samples, on HELP's table of NAS-Bench-201.

Nine devices are sources, four are targets. A target's pool is the networks 0 to 899, its queries those from 900 to
1,899, both cut to the middle 80 % by its latency ("HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via
Meta-Learning", Lee et al., 2021). Samples are taken from the pool; figures are those of the queries.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from leti.core.errors import InvalidInput, NotPredictable
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import Predictions, Predictor

with needs("boosting"):
    import numpy as np

    from leti.generator.lowering import lower
    from leti.generator.spaces import get_space, parse_network
    from leti.predictors.adaptation.predictor import SOURCE_KIND, AdaptedPredictor
    from leti.predictors.evaluation import metrics_of
    from leti.predictors.registry import create
    from leti.predictors.sampling import How, choose

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

TABLE: Final = "help_nasbench201.csv.gz"
SOURCES: Final = (
    "1080ti_1",
    "1080ti_32",
    "1080ti_256",
    "silver_4114",
    "silver_4210r",
    "samsung_a50",
    "pixel3",
    "essential_ph_1",
    "samsung_s7",
)
TARGETS: Final = ("titanx_1", "titanx_32", "titanx_256", "gold_6240")
POOL: Final = (0, 900)
QUERIES: Final = (900, 1900)
TRIMMED: Final = 0.8

_JUDGED: Final = ("spearman", "kendall", "within_10", "mdape", "interval_coverage")
"""The metrics that few samples are judged by."""

_METHODS: Final = ("mix", "residual", "bayes", "auto")
_PLAN: Final[Sequence[tuple[str, How, Sequence[str]]]] = (
    ("predicted", "random", _METHODS),
    ("predicted", "diverse", ("auto",)),
    ("predicted", "disagreement", _METHODS),
    ("measured", "random", ("auto",)),
    ("measured", "disagreement", ("auto",)),
)
"""Sources, ways to choose samples, methods: not every pair, to end in minutes."""


@final
@dataclass(frozen=True, slots=True)
class Devices:
    """Networks 0 to 1,899 of the table with their latencies in ms on each device, ``(1900,)``."""

    graphs: tuple[Graph, ...]
    latencies_ms: Mapping[str, NDArray[np.float64]]

    def trimmed(self, device: str, rows: tuple[int, int]) -> NDArray[np.int64]:
        """Return the numbers of a range of networks whose latency on a device is in the middle 80 %."""
        return rows[0] + middle(self.latencies_ms[device][slice(*rows)], TRIMMED)


@final
class Remembered:
    """A predictor asked once about every network of the table, so that hundreds of adaptations need not ask again."""

    kind: ClassVar[str] = "remembered"

    def __init__(self, predictor: Predictor, graphs: Sequence[Graph]) -> None:
        self._places = {id(graph): i for i, graph in enumerate(graphs)}
        self._graphs = graphs  # which keeps their identities theirs
        self._predictor = predictor
        self._answers: dict[float, NDArray[np.float64]] = {}

    def predict(self, graphs: Sequence[Graph], *, coverage: float = 0.9) -> Predictions:
        """Return what the predictor said of these networks of the table."""
        if coverage not in self._answers:
            told = self._predictor.predict(self._graphs, coverage=coverage)
            columns = (told.latency_ms, told.low_ms, told.high_ms)
            self._answers[coverage] = np.array([np.asarray(column) for column in columns])
        rows = [self._places[id(graph)] for graph in graphs]
        latency, low, high = (np.ascontiguousarray(column[rows]) for column in self._answers[coverage])
        return Predictions.of(latency.data, low.data, high.data, coverage=coverage, predictor=self._predictor.kind)

    def fit(self, graphs: Sequence[Graph], latencies_ms: Sequence[float], **more: Any) -> Self:
        """Refuse: it is fitted already."""
        raise NotPredictable("answers from memory and learns nothing", field="predictor")

    def save(self, folder: Path) -> None:
        """Refuse: the predictor itself can be saved."""
        raise NotPredictable("answers from memory and is not saved", field="predictor")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Refuse: it was never saved."""
        raise NotPredictable("answers from memory and is not saved", field="predictor")


def run(
    folder: Path,
    seeds: Sequence[int],
    counts: Sequence[int] = (5, 10, 20, 50),
    *,
    sources: Sequence[str] = SOURCES,
    targets: Sequence[str] = TARGETS,
) -> list[dict[str, object]]:
    """Return one record a target, method, way to choose samples, number of samples, seed and kind of sources.

    ``sources`` in a record is ``predicted`` where each source is a predictor trained on its own pool alone, 900
    networks trimmed as a target's are, which is what HELP's meta-training sees; and ``measured`` where it learnt from
    all of its 1,900 networks, the queries' latencies on the *source* among them. Source devices can be targets of their
    own (``targets=sources``): each is then left out of its sources. That is how methods were compared and tuned.
    """
    devices = read_devices(Path(folder) / TABLE, {*sources, *targets})
    records: list[dict[str, object]] = []
    predictors = {
        known: {source: _source(devices, source, known) for source in sources} for known in ("predicted", "measured")
    }
    for target in targets:
        for seed in seeds:
            own = {
                known: {source: of_one for source, of_one in by_source.items() if source != target}
                for known, by_source in predictors.items()
            }
            records += _run_one(devices, target, own, seed, counts)
    return records


def read_devices(path: Path, names: set[str]) -> Devices:
    """Return the networks of the table's first 1,900 rows, and what these devices take for them."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = list(itertools.islice(csv.DictReader(lines), QUERIES[1]))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in sorted(names)}
        architectures = [row["arch"] for row in rows]
    except (OSError, EOFError, zlib.error, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InvalidInput(f"{path.name} is not HELP's table: {error!r}", field="folder") from None
    if len(rows) < QUERIES[1]:
        raise InvalidInput(f"{path.name} holds {len(rows)} networks, the protocol is for {QUERIES[1]}", field="folder")
    for name, column in columns.items():
        if not np.all(np.isfinite(column) & (column > 0)):
            raise InvalidInput(f"{path.name} holds latencies of {name} that are none", field="folder")
    config = get_space("nasbench201").default_config
    graphs = tuple(lower(parse_network(text, "arch", config), "execute") for text in architectures)
    return Devices(graphs, columns)


def _source(devices: Devices, device: str, known: str) -> Remembered:
    rows = devices.trimmed(device, POOL if known == "predicted" else (POOL[0], QUERIES[1]))
    graphs = [devices.graphs[i] for i in rows.tolist()]
    predictor = create(SOURCE_KIND).fit(graphs, devices.latencies_ms[device][rows].tolist())
    return Remembered(predictor, devices.graphs)


def _run_one(
    devices: Devices,
    target: str,
    predictors: Mapping[str, Mapping[str, Predictor]],
    seed: int,
    counts: Sequence[int],
) -> Iterator[dict[str, object]]:
    pool, queries = devices.trimmed(target, POOL), devices.trimmed(target, QUERIES)
    candidates = [devices.graphs[i] for i in pool.tolist()]
    asked = [devices.graphs[i] for i in queries.tolist()]
    truth = devices.latencies_ms[target]
    population = devices.graphs[slice(*POOL)]  # networks without latencies: they say on what scale networks differ
    for known, how, methods in _PLAN:
        sources = predictors[known]
        for count in counts:
            picked = choose(candidates, count, how=how, seed=seed, predictors=tuple(sources.values()))
            graphs, rows = [candidates[i] for i in picked], pool[picked]
            for method in methods:
                adapted = AdaptedPredictor(sources, method=method, population=population)
                adapted.fit(graphs, truth[rows].tolist(), seed=seed)
                yield {
                    "target": target,
                    "method": method,
                    "chosen": adapted.method,
                    "sampling": how,
                    "n_samples": count,
                    "n_query": len(asked),
                    "n_sources": len(sources),
                    "seed": seed,
                    "sources": known,
                    **judged(adapted, asked, truth[queries]),
                }


def middle(latencies_ms: Sequence[float] | NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Return the numbers of the networks whose latency is in the middle ``share`` of all."""
    measured = np.asarray(latencies_ms, dtype=np.float64)
    low, high = np.quantile(measured, ((1 - share) / 2, (1 + share) / 2))
    return np.flatnonzero((measured >= low) & (measured <= high)).astype(np.int64)


def judged(
    predictor: Predictor, graphs: Sequence[Graph], measured_ms: Sequence[float] | NDArray[np.float64]
) -> dict[str, float | None]:
    """Return how well networks are ranked and how far off they are; no rank where all are predicted or measured alike.

    The interval is that of 90 %.
    """
    measured = np.asarray(measured_ms, dtype=np.float64).tolist()
    metrics = metrics_of(measured, predictor.predict(graphs), n_train=0, fit_s=0.0, us_per_prediction=0.0)
    return {name: getattr(metrics, name) for name in _JUDGED}
