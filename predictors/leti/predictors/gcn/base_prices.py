"""Base prices: what a kernel costs by its multiplications and bytes alone, before a network corrects it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector
from leti.predictors.gcn.graphs import OperatorGraphs

with needs("boosting"):
    import numpy as np
    from scipy.optimize import nnls

_SMALLEST = 1e-3
"""Neither a kernel nor the overhead starts below this share of its even share: ``exp`` could never lift it."""


@final
@dataclass(frozen=True, slots=True)
class BasePrices:
    """Milliseconds a multiply-accumulate, a byte and a kernel, none of them negative; never below ``least_ms``."""

    mac_ms: float
    byte_ms: float
    kernel_ms: float
    least_ms: float
    overhead_ms: float

    @classmethod
    def fit(cls, graphs: OperatorGraphs, latencies_ms: Vector) -> BasePrices:
        """Fit to latencies ``(graphs,)`` by non-negative least squares on relative error."""
        graph_of, counts = graphs.graph_of, graphs.counts
        columns = [graphs.costs[:, 0] * counts, graphs.costs[:, 1] * counts, counts]
        summed = [np.bincount(graph_of, weights=column, minlength=len(graphs)) for column in columns]
        relative = np.column_stack([*summed, np.ones(len(graphs))]) / latencies_ms[:, None]
        size = np.sqrt(np.mean(relative**2, axis=0))
        size[size == 0] = 1.0
        solution, _ = nnls(relative / size, np.ones(len(graphs)))
        mac, byte, kernel, overhead = map(float, solution / size)
        middle = float(np.median(latencies_ms))
        nodes = max(float(np.mean(summed[2])), 1.0)
        return cls(mac, byte, kernel, _SMALLEST * middle / nodes, max(overhead, _SMALLEST * middle))

    def of(self, costs: Matrix) -> Vector:
        """Return the base price in ms of nodes that cost ``(n, 2: macs and bytes)``."""
        priced: Vector = np.maximum(costs @ np.array([self.mac_ms, self.byte_ms]) + self.kernel_ms, self.least_ms)
        return priced
