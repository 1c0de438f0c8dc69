"""Networks: graph convolutions in torch, several members side by side, on any collation of graphs.

A member is a network with weights of its own; all members read the same graphs in the same pass, in which the hidden
units of node i are a row ``(members * units)``. How neighbours are gathered and graphs read out is the collation's
(:mod:`leti.predictors.gcn.collation`), the formulas are here; :mod:`leti.predictors.gcn.export` writes them as ONNX.
"""

from __future__ import annotations

import math
from typing import final

from typing_extensions import override

from leti.core.extras import needs
from leti.predictors.gcn.architecture import MAX_CORRECTION, Architecture
from leti.predictors.gcn.collation import Collated

with needs("gcn"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

_ZERO = frozenset({"first", "level", "kind_price", "family_price", "number_price", "overhead", "surroundings_out"})
_TABLES = 0.3
"""Deviation of the first embeddings' entries."""


@final
class GraphNetwork(nn.Module):
    """Layers ``h + relu([h, gathered h, …] W + b)`` (without ``own``: ``relu([gathered h, …] W + b)``), and a head.

    The priced head prices node i at ``base_i * exp(c_i)``, where ``c_i`` is a line over its embedding, kind, family and
    numbers; the output is the logarithm of the sum of prices and an overhead, plus what a small network says of the
    graph as a whole from its mean embedding and its numbers. The base is in ms.
    """

    kind: nn.Parameter
    family: nn.Parameter
    number: nn.Parameter
    first: nn.Parameter
    out: nn.Parameter
    level: nn.Parameter
    kind_price: nn.Parameter
    family_price: nn.Parameter
    number_price: nn.Parameter
    overhead: nn.Parameter
    surroundings: nn.Parameter
    surroundings_bias: nn.Parameter
    surroundings_out: nn.Parameter

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        for name, shape in architecture.shapes().items():
            self.register_parameter(name, nn.Parameter(_initial(name, shape, architecture)))

    @override
    def forward(self, graphs: Collated) -> Tensor:
        """Return what each member says of each graph, ``(graphs, members)``."""
        a = self.architecture
        hidden = functional.embedding(graphs.kinds, self.kind) + functional.embedding(graphs.families, self.family)
        hidden = torch.relu(hidden + graphs.numbers @ self.number + self.first)
        for layer in range(a.layers):
            hidden = self._layer(layer, hidden, graphs)
        return self._summed(hidden, graphs) if a.head == "sum" else self._priced(hidden, graphs)

    def _layer(self, layer: int, hidden: Tensor, graphs: Collated) -> Tensor:
        a = self.architecture
        read = [graphs.gather(way, hidden) for way in range(a.ways)]
        parts = [part.view(-1, a.members, a.units) for part in ((hidden, *read) if a.own else read)]
        weight, bias = self.get_parameter(f"layer{layer}"), self.get_parameter(f"bias{layer}")
        update = torch.relu(_by_member(torch.cat(parts, dim=-1), weight) + bias).flatten(1)
        return hidden + update if a.own else update

    def _summed(self, hidden: Tensor, graphs: Collated) -> Tensor:
        a = self.architecture
        pooled = graphs.pool(hidden * graphs.readout).view(-1, a.members, a.units)
        return (pooled * self.out).sum(-1) + self.level

    def _priced(self, hidden: Tensor, graphs: Collated) -> Tensor:
        a = self.architecture
        correction = (hidden.view(-1, a.members, a.units) * self.out).sum(-1) + graphs.numbers @ self.number_price
        correction = correction + functional.embedding(graphs.kinds, self.kind_price)
        correction = correction + functional.embedding(graphs.families, self.family_price)
        prices = torch.exp(correction.clamp(-MAX_CORRECTION, MAX_CORRECTION)) * graphs.base * graphs.counts
        summed = graphs.pool(prices) + torch.exp(self.overhead)
        mean = (graphs.pool(hidden * graphs.counts) / graphs.pool(graphs.counts)).view(-1, a.members, a.units)
        seen = torch.cat([mean, graphs.whole[:, None].expand(-1, a.members, -1)], dim=-1)
        around = torch.relu(_by_member(seen, self.surroundings) + self.surroundings_bias)
        return torch.log(summed) + (around * self.surroundings_out).sum(-1)


def _by_member(rows: Tensor, weights: Tensor) -> Tensor:
    """Return ``(n, members, out)`` of rows ``(n, members, in)`` and each member's weights ``(members, in, out)``."""
    return torch.bmm(rows.transpose(0, 1), weights).transpose(0, 1)


def _initial(name: str, shape: tuple[int, ...], architecture: Architecture) -> Tensor:
    """Return small random weights, drawn from torch's generator; zeros for biases and what starts without a say."""
    if name in _ZERO or "bias" in name or (name == "out" and architecture.head == "priced"):
        return torch.zeros(shape)
    if name in ("kind", "family"):
        return torch.randn(shape) * _TABLES
    fan_in = shape[-2] if len(shape) > 2 or name == "number" else shape[-1]
    gain = _TABLES if name == "number" else (1.0 if architecture.own else math.sqrt(2.0))
    return torch.randn(shape) * gain / math.sqrt(max(fan_in, 1))
