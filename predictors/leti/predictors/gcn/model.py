"""A trained graph network as it is served: ONNX Runtime in float64, before saving and after loading alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

from typing_extensions import override

from leti.core.codec import Json, from_json, to_json
from leti.core.errors import ArtifactError, InvalidInput, NotPredictable
from leti.core.extras import needs
from leti.core.prediction import Share
from leti.predictors.batch import Batch, Matrix, Vector
from leti.predictors.calibrated import Model
from leti.predictors.gcn.architecture import Architecture
from leti.predictors.gcn.base_prices import BasePrices
from leti.predictors.gcn.encoding import GraphEncoder
from leti.predictors.gcn.export import Weights, to_onnx
from leti.predictors.gcn.graphs import OperatorGraphs
from leti.predictors.gcn.scaling import Scaling

with needs("gcn"):
    import numpy as np
    import onnxruntime
    import safetensors
    import safetensors.numpy

WEIGHTS = "model.safetensors"
ONNX = "model.onnx"

_CHUNK_NODES = 16_384
"""Graphs are run in portions of so many nodes: what a portion needs stays in the caches."""

_MOST_BYTES = 64 * 2**20
_LIMITS = Architecture(100_000, 100_000, 64, 64, 64, 1024, 16, 2, True, "priced")
"""No size of a saved architecture may lie beyond these."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class GraphModel(Model[OperatorGraphs]):
    """The mean over members of what a network says, as latencies; ``session`` runs ``onnx``, made of ``weights``."""

    architecture: Architecture
    scaling: Scaling
    prices: BasePrices
    weights: Weights
    onnx: bytes
    session: Any

    @classmethod
    def of(cls, architecture: Architecture, scaling: Scaling, prices: BasePrices, weights: Weights) -> GraphModel:
        """Return a model of trained weights."""
        onnx = to_onnx(architecture, weights)
        return cls(architecture, scaling, prices, weights, onnx, _session(onnx))

    def narrowed(self, member: int) -> GraphModel:
        """Return the model of one member alone."""
        weights = {name: _of_member(name, weight, member, self.architecture) for name, weight in self.weights.items()}
        sizes = {**to_json(self.architecture), "members": 1}
        return GraphModel.of(from_json(Architecture, sizes), self.scaling, self.prices, weights)

    def said(self, encoded: OperatorGraphs) -> Matrix:
        """Return what each member says of each graph, ``(graphs, members)``."""
        parts = [self._run(encoded[rows], "said") for rows in _portions(encoded)]
        return np.vstack(parts) if parts else np.empty((0, self.architecture.members))

    @override
    def latencies_ms(self, encoded: OperatorGraphs) -> Vector:
        return self.scaling.latencies_ms(self.said(encoded).mean(axis=1))

    @override
    def unknown(self, encoded: OperatorGraphs) -> Sequence[tuple[str, ...]]:
        if not encoded.strange.any():
            return ()
        return [("encoding: none of the space in training",) if strange else () for strange in encoded.strange]

    @override
    def shares(self, encoded: OperatorGraphs, batch: Batch, encoder: GraphEncoder) -> Sequence[tuple[Share, ...]]:
        if self.architecture.head != "priced":
            raise NotPredictable("a network that prices no kernel cannot say what a latency is made of")
        parts = [self._run(encoded[rows], "prices") for rows in _portions(encoded)]
        price = np.vstack(parts).mean(axis=1)
        overhead = float(np.exp(self.weights["overhead"].astype(np.float64)).mean())
        kernels = price[encoder.classes(batch)]
        latency = self.latencies_ms(encoded)
        sums = np.bincount(batch.kernel_graphs, weights=kernels, minlength=len(batch)) + overhead
        kernels = kernels * (latency / sums)[batch.kernel_graphs]
        op_starts = np.searchsorted(batch.op_graphs, np.arange(len(batch)))
        members: list[list[int]] = [[] for _ in range(len(kernels))]
        for op, kernel in enumerate(batch.op_kernels.tolist()):
            members[kernel].append(op - int(op_starts[batch.op_graphs[op]]))
        told = []
        for graph, start in enumerate(batch.starts.tolist()):
            own = range(start, start + int(batch.lengths[graph]))
            shares = [Share(batch.kernels[batch.numbers[k]].family, float(kernels[k]), tuple(members[k])) for k in own]
            told.append((*shares, Share("overhead", float(overhead * latency[graph] / sums[graph]))))
        return told

    @override
    def to_parts(self) -> tuple[Json, Mapping[str, Any], Mapping[str, bytes]]:
        data = {name: to_json(getattr(self, name)) for name in ("architecture", "scaling", "prices")}
        weights = {name: np.ascontiguousarray(self.weights[name]) for name in sorted(self.weights)}
        return data, {}, {WEIGHTS: safetensors.numpy.save(weights), ONNX: self.onnx}

    @classmethod
    def read(cls, data: Json, files: Mapping[str, bytes]) -> GraphModel:
        """Make a model of :meth:`to_parts`; raise :class:`ArtifactError` for what no training would have made."""
        try:
            architecture = from_json(Architecture, data["architecture"])
            scaling, prices = from_json(Scaling, data["scaling"]), from_json(BasePrices, data["prices"])
        except (InvalidInput, KeyError, TypeError) as error:
            raise ArtifactError(f"is no graph network: {error}", field="model") from error
        _check_sizes(architecture)
        _check_numbers(scaling, prices)
        weights = _read_weights(files.get(WEIGHTS, b""), architecture)
        onnx = to_onnx(architecture, weights)
        if files.get(ONNX) != onnx:
            raise ArtifactError("is not what the weights export to", field=ONNX, remedy="train it again")
        return cls(architecture, scaling, prices, weights, onnx, _session(onnx))

    def _run(self, graphs: OperatorGraphs, output: str) -> Matrix:
        feeds = {
            "kind_number": graphs.kinds,
            "family_number": graphs.families,
            "numbers": graphs.numbers,
            "base": self.prices.of(graphs.costs)[:, None],
            "counts": graphs.counts[:, None],
            "readout": graphs.readout[:, None],
            "whole": graphs.whole,
            "graphs": np.array([len(graphs)]),
            "graph_of": graphs.graph_of[:, None],
        }
        for number, way in enumerate(graphs.ways):
            feeds[f"sources{number}"] = way.sources
            feeds[f"targets{number}"] = way.targets[:, None]
            feeds[f"weights{number}"] = way.weights[:, None]
        read = {put.name for put in self.session.get_inputs()}
        (found,) = self.session.run([output], {name: values for name, values in feeds.items() if name in read})
        return cast("Matrix", found)


def _portions(graphs: OperatorGraphs) -> list[Any]:
    """Return the numbers of the graphs of each portion."""
    before = np.cumsum(graphs.lengths) - graphs.lengths
    cuts = np.flatnonzero(np.diff(before // _CHUNK_NODES)) + 1
    return [part for part in np.split(np.arange(len(graphs)), cuts) if len(part)]


def _session(onnx: bytes) -> Any:
    """Return an ONNX Runtime session of one thread, and the plainest: nothing but what the file computes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _of_member(name: str, weight: Any, member: int, a: Architecture) -> Any:
    """Return the part of a weight that belongs to one member: along the only dimension that has them."""
    if name in ("kind", "family", "number", "first"):
        return weight[..., member * a.units : (member + 1) * a.units]
    if name in ("kind_price", "family_price", "number_price"):
        return weight[:, member : member + 1]
    return weight[member : member + 1]


def _check_sizes(a: Architecture) -> None:
    for name in ("kinds", "families", "numbers", "whole", "members", "units", "layers", "ways"):
        size, most = getattr(a, name), getattr(_LIMITS, name)
        least = 1 if name in ("members", "units", "layers", "ways") else 0
        if not least <= size <= most:
            raise ArtifactError(f"must be {least} to {most}, not {size}", field=f"architecture.{name}")
    if sum(math.prod(shape) for shape in a.shapes().values()) * 4 > _MOST_BYTES:
        raise ArtifactError(f"takes more than {_MOST_BYTES} bytes", field="architecture")


def _check_numbers(scaling: Scaling, prices: BasePrices) -> None:
    good = math.isfinite(scaling.level) and scaling.unit > 0 and 0 < scaling.low_ms <= scaling.high_ms
    values = (*(getattr(prices, name) for name in prices.__slots__), scaling.unit, scaling.high_ms)
    if not good or prices.least_ms <= 0 or not all(math.isfinite(value) and value >= 0 for value in values):
        raise ArtifactError("holds a number that no training would have made", field="model")


def _read_weights(content: bytes, a: Architecture) -> Weights:
    try:
        weights = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError("is not what safetensors reads", field=WEIGHTS) from error
    shapes = a.shapes()
    if {name: weight.shape for name, weight in weights.items()} != shapes:
        raise ArtifactError("does not hold the weights of its architecture", field=WEIGHTS)
    for name, weight in weights.items():
        if weight.dtype != np.float32 or not np.isfinite(weight).all():
            raise ArtifactError(f"must be finite numbers of 32 bits: {name}", field=WEIGHTS)
    return weights
