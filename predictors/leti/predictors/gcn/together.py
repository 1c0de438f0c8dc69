"""One graph network for several platforms: a trunk that all train, and a vector that each platform has to itself.

What the trunk reads out of a graph is the same for every platform; a platform's vector, its embedding, weighs it.
Platforms so tell each other what matters in a graph. A new one's vector is sought among weighted sums of the others',
which is what :mod:`leti.predictors.adaptation.transfer` does with the predictors that come from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, final

from typing_extensions import override

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import Progress
from leti.predictors.batch import Batch, Ints, Vector
from leti.predictors.calibrated import Fitted
from leti.predictors.conformal import FOLDS, Calibration
from leti.predictors.distance import Distance
from leti.predictors.evaluation import Sample
from leti.predictors.experience import Experience
from leti.predictors.gcn.architecture import Architecture
from leti.predictors.gcn.base_prices import BasePrices
from leti.predictors.gcn.cells import Cell
from leti.predictors.gcn.encoding import GraphEncoder
from leti.predictors.gcn.export import Weights
from leti.predictors.gcn.graphs import OperatorGraphs
from leti.predictors.gcn.model import GraphModel
from leti.predictors.gcn.predictors import GraphPredictor
from leti.predictors.gcn.recipe import Recipe
from leti.predictors.gcn.scaling import Scaling
from leti.predictors.splits import cross_splits
from leti.predictors.training_data import TrainingData, check_training_data

with needs("gcn"):
    import numpy as np
    from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NARROWEST: Final = 1e-6
"""Smallest spread of a platform's latencies, as a share of their median."""


@final
class SharedGraphPredictor(GraphPredictor):
    """A graph network whose trunk other platforms may have trained too: see :func:`train_together`.

    BRP-NAS's graphs (a node that reads all others and alone is read out), and three layers that add to what a node was
    rather than replace it. The latency itself is learnt, not its logarithm: so platforms' latencies mix. :meth:`fit`
    alone trains it on one platform.
    """

    kind: ClassVar[str] = "gcn_shared"
    recipe: ClassVar[Recipe] = Recipe(40, 250, 64, 1e-2, 1e-3, 0.5, 0.2)
    ensemble: ClassVar[bool] = True
    layers: ClassVar[int] = 3

    @override
    def learn_encoder(self, batch: Batch) -> GraphEncoder:
        return GraphEncoder.learn(batch, "global", self.layers, Cell.of(batch))

    @override
    def architecture(self, encoder: GraphEncoder, members: int) -> Architecture:
        return Architecture.of(encoder.sizes, members, units=32, layers=self.layers, ways=1, own=True, head="sum")

    @override
    def scaling(self, latencies_ms: Vector) -> Scaling:
        return Scaling.normalised(latencies_ms)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Platforms:
    """Distinct graphs of several platforms, with what is to be said of each: ``targets`` and ``learns`` (graphs, p).

    ``places`` has for each platform the number of each of its training graphs among the distinct ones.
    """

    graphs: tuple[Graph, ...]
    groups: tuple[str, ...]
    places: tuple[Ints, ...]
    scalings: tuple[Scaling, ...]
    levels: tuple[float, ...]
    targets: NDArray[np.float64]
    learns: NDArray[np.bool_]

    @classmethod
    def of(cls, trainings: Sequence[TrainingData]) -> Platforms:
        """Return the graphs of all platforms, equal ones once; latencies standardised, platform by platform."""
        distinct: dict[str, Graph] = {}
        keys = [[graph.fingerprint() for graph in training.graphs] for training in trainings]
        for training, names in zip(trainings, keys, strict=True):
            for name, graph in zip(names, training.graphs, strict=True):
                distinct.setdefault(name, graph)
        number = {name: i for i, name in enumerate(distinct)}
        places = tuple(np.array([number[name] for name in names], dtype=np.int64) for names in keys)
        targets = np.zeros((len(distinct), len(trainings)))
        learns = np.zeros(targets.shape, dtype=bool)
        scalings, levels = [], []
        for platform, (training, rows) in enumerate(zip(trainings, places, strict=True)):
            low, middle, high = np.quantile(training.latencies_ms, (0.25, 0.5, 0.75))
            unit = max(float(high - low) / 1.349, _NARROWEST * float(middle))
            scalings.append(replace(Scaling.normalised(training.latencies_ms), unit=unit))
            levels.append(float(middle) / unit)
            targets[rows, platform] = training.latencies_ms / unit - levels[-1]
            learns[rows, platform] = True
        groups = _joined(trainings, places, len(distinct))
        return cls(tuple(distinct.values()), groups, places, tuple(scalings), tuple(levels), targets, learns)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Trunk:
    """What platforms share, and their vectors: ``out`` (p, members, units) and ``level`` (p, members).

    Of the weights, ``out`` and ``level`` have no say. The vectors are those of standardised latencies.
    """

    encoder: GraphEncoder
    architecture: Architecture
    weights: Weights
    out: NDArray[np.float32]
    level: NDArray[np.float32]

    def of_platform(self, number: int) -> Weights:
        """Return the weights of the network of one platform."""
        return {**self.weights, "out": self.out[number], "level": self.level[number]}


def train_together(
    sources: Mapping[str, Sample], *, seed: int = 0, progress: Progress | None = None
) -> Mapping[str, SharedGraphPredictor]:
    """Return a predictor for each platform, all trained as one network on the measurements of all.

    Five members each leave out a fold of the networks, the same on every platform; their mean is served, and what they
    say of their folds calibrates each platform's interval. Raises :class:`~leti.core.errors.InvalidInput` without
    platforms, and what :meth:`~leti.core.prediction.Predictor.fit` raises. The same measurements and seed give the same
    predictors.
    """
    return train_trunk(sources, seed=seed, progress=progress)[1]


def train_trunk(
    sources: Mapping[str, Sample], *, seed: int = 0, progress: Progress | None = None
) -> tuple[Trunk, Mapping[str, SharedGraphPredictor]]:
    """Return what is shared, beside the predictors: see :func:`train_together`."""
    from leti.predictors.gcn.together_training import train_heads  # serving needs no torch

    if not sources:
        raise InvalidInput("names no platform", field="sources", remedy="give the measurements of one or more")
    trainings = [
        check_training_data(one.graphs, one.latencies_ms, one.groups, one.operator_times) for one in sources.values()
    ]
    platforms = Platforms.of(trainings)
    batch = Batch.of(platforms.graphs)
    kind = SharedGraphPredictor()
    encoder = kind.learn_encoder(batch)
    encoded = encoder.encode(batch)
    splits = cross_splits(platforms.groups, FOLDS, seed=seed)
    keeps = np.ones((len(platforms.graphs), len(splits)), dtype=bool)
    for member, (_, fold) in enumerate(splits):
        keeps[fold, member] = False
    architecture = kind.architecture(encoder, len(splits))
    weights, out, level = train_heads(
        architecture, encoded, platforms.targets, platforms.learns, keeps, kind.recipe, seed=seed, progress=progress
    )
    trunk = Trunk(encoder, architecture, weights, out, level)
    predictors = {
        name: _predictor(trunk, platforms, number, training, encoded, ~keeps)
        for number, (name, training) in enumerate(zip(sources, trainings, strict=True))
    }
    return trunk, MappingProxyType(predictors)


def _predictor(
    trunk: Trunk,
    platforms: Platforms,
    number: int,
    training: TrainingData,
    encoded: OperatorGraphs,
    unseen_by: NDArray[np.bool_],
) -> SharedGraphPredictor:
    """Return the predictor of one platform; ``unseen_by`` (graphs, members) says which member never saw a graph."""
    weights = dict(trunk.of_platform(number))
    weights["level"] = weights["level"] + np.float32(platforms.levels[number])
    rows, scaling = platforms.places[number], platforms.scalings[number]
    own = encoded[rows]
    prices = BasePrices.fit(own, training.latencies_ms)
    model = GraphModel.of(trunk.architecture, scaling, prices, weights)
    unseen: Vector = scaling.latencies_ms(model.said(own)[unseen_by[rows]])  # one member a row
    batch = Batch.of(training.graphs)
    made = Fitted(
        trunk.encoder,
        Experience.of(batch),
        Distance.of(batch),
        Calibration.of(training.latencies_ms, unseen),
        model,
        training.remarks,
    )
    return SharedGraphPredictor().adopt(made, training, unseen)


def _joined(trainings: Sequence[TrainingData], places: Sequence[Ints], graphs: int) -> tuple[str, ...]:
    """Return a group for each distinct graph: graphs that are of one group on any platform are of one group here."""
    names = {pair: i for i, pair in enumerate(dict.fromkeys(_group_keys(trainings)), start=graphs)}
    ends = np.array([names[pair] for pair in _group_keys(trainings)], dtype=np.int64)
    size = graphs + len(names)
    links = sparse.coo_array((np.ones(len(ends)), (np.concatenate(list(places)), ends)), shape=(size, size))
    components = sparse.csgraph.connected_components(links, directed=False)[1]
    return tuple(map(str, components[:graphs].tolist()))


def _group_keys(trainings: Sequence[TrainingData]) -> list[tuple[int, str]]:
    return [(platform, group) for platform, training in enumerate(trainings) for group in training.groups]
