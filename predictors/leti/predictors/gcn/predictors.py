"""Graph convolutional predictors: the paper's kind, BRP-NAS's recipe, and one that prices kernels where they stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.extras import needs
from leti.core.prediction import Progress
from leti.predictors.batch import Batch, Vector
from leti.predictors.calibrated import Arrays, CalibratedPredictor, CrossFit, Examples
from leti.predictors.conformal import FOLDS
from leti.predictors.gcn.architecture import Architecture
from leti.predictors.gcn.base_prices import BasePrices
from leti.predictors.gcn.cells import Cell
from leti.predictors.gcn.encoding import GraphEncoder
from leti.predictors.gcn.graphs import OperatorGraphs
from leti.predictors.gcn.model import GraphModel
from leti.predictors.gcn.recipe import Recipe
from leti.predictors.gcn.scaling import Scaling
from leti.predictors.splits import cross_splits

with needs("gcn"):
    import numpy as np
    from numpy.typing import NDArray


class GraphPredictor(CalibratedPredictor[GraphEncoder, OperatorGraphs], ABC):
    """A predictor made of a graph network. Its members, one a fold and perhaps one for all, are trained together.

    The members that each left a fold out predict that fold, which calibrates the interval.
    """

    encoder_type: ClassVar[type[Any]] = GraphEncoder
    recipe: ClassVar[Recipe]
    ensemble: ClassVar[bool]
    """Whether the mean over the folds' members is served; else it is a further member that learns from everything.

    The mean is nearer to the truth than the one member that has not seen a network: its interval is on the wide side.
    """

    @abstractmethod
    def architecture(self, encoder: GraphEncoder, members: int) -> Architecture:
        """Return the sizes of the network."""

    @abstractmethod
    def scaling(self, latencies_ms: Vector) -> Scaling:
        """Return how what the network says becomes a latency."""

    @override
    def learn(self, examples: Examples[GraphEncoder, OperatorGraphs], *, seed: int) -> GraphModel:
        return self._train(examples, np.ones((len(examples), 1), dtype=bool), seed, lambda done, total: None)

    @override
    def cross_fit(
        self, examples: Examples[GraphEncoder, OperatorGraphs], *, seed: int, progress: Progress
    ) -> CrossFit[OperatorGraphs]:
        splits = cross_splits(examples.groups, FOLDS, seed=seed)
        learns = np.ones((len(examples), len(splits) + (not self.ensemble)), dtype=bool)
        for member, (_, fold) in enumerate(splits):
            learns[fold, member] = False
        model = self._train(examples, learns, seed, progress)
        said = model.said(examples.encoded)
        unseen = np.empty(len(examples))
        for member, (_, fold) in enumerate(splits):
            unseen[fold] = said[fold, member]
        served = model if self.ensemble else model.narrowed(len(splits))
        return CrossFit(served, model.scaling.latencies_ms(unseen))

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> GraphModel:
        return GraphModel.read(data, files)

    def _train(
        self,
        examples: Examples[GraphEncoder, OperatorGraphs],
        learns: NDArray[np.bool_],
        seed: int,
        progress: Progress,
    ) -> GraphModel:
        from leti.predictors.gcn.training import train  # serving needs no torch

        graphs, latencies = examples.encoded, examples.latencies_ms
        prices, scaling = BasePrices.fit(graphs, latencies), self.scaling(latencies)
        architecture = self.architecture(examples.encoder, learns.shape[1])
        weights = train(
            architecture,
            graphs,
            prices.of(graphs.costs),
            scaling.said(latencies),
            learns,
            self.recipe,
            seed=seed,
            progress=progress,
            overhead_ms=prices.overhead_ms,
        )
        return GraphModel.of(architecture, scaling, prices, weights)


@final
class PlainGraphPredictor(GraphPredictor):
    """A graph convolutional network on the graph of operators, as the LETI paper has one beside its other predictors.

    Ponomarev et al., "LETI: Latency Estimation Tool and Investigation of Neural Networks inference on Mobile GPU"
    (2021); the layers are those of Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks"
    (2017): neighbours in both directions and the node itself, weighted by degrees. Three layers of 32 units; the
    embeddings of all nodes, added up, say the logarithm of the latency.
    """

    kind: ClassVar[str] = "gcn_plain"
    recipe: ClassVar[Recipe] = Recipe(40, 250, 32, 2e-2, 1e-3, 0.1, 0.2)
    ensemble: ClassVar[bool] = False
    layers: ClassVar[int] = 3

    @override
    def learn_encoder(self, batch: Batch) -> GraphEncoder:
        return GraphEncoder.learn(batch, "symmetric", self.layers + 1)  # a weight tells the neighbour's degree

    @override
    def architecture(self, encoder: GraphEncoder, members: int) -> Architecture:
        return Architecture.of(encoder.sizes, members, units=32, layers=self.layers, ways=1, own=False, head="sum")

    @override
    def scaling(self, latencies_ms: Vector) -> Scaling:
        return Scaling.logarithm(latencies_ms, standardised=True)


@final
class BrpNasPredictor(GraphPredictor):
    """BRP-NAS's latency predictor: Dudziak et al., "BRP-NAS: Prediction-based NAS using GCNs" (2020), as a baseline.

    Kept: one-hot operators, a global node that reads all others and alone is read out, four layers, training on
    normalised latency by AdamW with a cosine. Where training graphs are of one space with a fixed cell (and one input
    shape), the nodes are the cell's, as there. Different from the original: 128 hidden units instead of 600; fewer
    epochs; no dropout; Huber's loss, which is the squared error up to a median latency, so that a stray measurement
    does not take over; and on other graphs the nodes are kernels, one-hot by kind and family beside their costs and
    shapes, with 32 units.
    """

    kind: ClassVar[str] = "brp_nas"
    recipe: ClassVar[Recipe] = Recipe(60, 250, 32, 5e-3, 5e-4, 1.0, 0.1)
    ensemble: ClassVar[bool] = False
    layers: ClassVar[int] = 4

    @override
    def learn_encoder(self, batch: Batch) -> GraphEncoder:
        return GraphEncoder.learn(batch, "global", self.layers, Cell.of(batch))

    @override
    def architecture(self, encoder: GraphEncoder, members: int) -> Architecture:
        units = 128 if encoder.cell else 32
        return Architecture.of(encoder.sizes, members, units=units, layers=self.layers, ways=1, own=False, head="sum")

    @override
    def scaling(self, latencies_ms: Vector) -> Scaling:
        return Scaling.normalised(latencies_ms)


@final
class PricedGraphPredictor(GraphPredictor):
    """Kernels priced by what they are and where they stand: latency is their sum and an overhead, times one factor.

    Each kernel starts at a base price (so much a multiply-accumulate, a byte, a kernel); three rounds of messages, from
    what it reads and from what reads it apart, say by what factor its price differs there. A second, small network says
    a factor for the graph as a whole, from the mean embedding, its totals and its longest paths. Trained on relative
    errors with Huber's loss; served is the geometric mean of five members that each left a fold out.
    """

    kind: ClassVar[str] = "gcn"
    recipe: ClassVar[Recipe] = Recipe(40, 200, 32, 2e-2, 1e-2, 0.1, 0.2)
    ensemble: ClassVar[bool] = True
    layers: ClassVar[int] = 3

    @override
    def learn_encoder(self, batch: Batch) -> GraphEncoder:
        return GraphEncoder.learn(batch, "directed", self.layers)

    @override
    def architecture(self, encoder: GraphEncoder, members: int) -> Architecture:
        return Architecture.of(encoder.sizes, members, units=24, layers=self.layers, ways=2, own=True, head="priced")

    @override
    def scaling(self, latencies_ms: Vector) -> Scaling:
        return Scaling.logarithm(latencies_ms, standardised=False)
