"""Distiller's summaries of a network, ``sparsity`` and ``compute``, the latter with predicted milliseconds.

"Neural Network Distiller", Zmora et al., 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.compression.pruning.removing import FILTERS_FIRST
from leti.core.extras import needs
from leti.core.graph import Graph, Op
from leti.core.prediction import Breakdown
from leti.core.searching import NetworkBreakdown
from leti.generator.cost import weight_shapes
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

FILTERS: Final = FILTERS_FIRST | {"depthwise_conv2d"}
"""Operators whose first weight is a filter or a matrix: what pruning is about."""

LatencyOf = Callable[[Graph, int], float | None]
"""Returns the predicted milliseconds of an operator, by its number; ``None`` where it is not known by itself."""

Latencies = Breakdown | NetworkBreakdown | LatencyOf


@final
@dataclass(frozen=True, slots=True)
class SparsityRow:
    """What of an operator's filter is zero; shares are in percent, nought where the structure is not there.

    ``columns_pct`` and ``rows_pct`` are of matrices, as they are multiplied from the right: a column makes an output, a
    row reads an input. ``channels_pct`` are input channels, ``kernels_pct`` (Distiller's 2D) a filter's slices of one
    input channel, ``filters_pct`` (3D) whole filters, ``elements_pct`` (Fine) single weights.
    """

    name: str
    shape: tuple[int, ...]
    nonzero_dense: int
    nonzero_sparse: int
    columns_pct: float
    rows_pct: float
    channels_pct: float
    kernels_pct: float
    filters_pct: float
    elements_pct: float
    std: float
    mean: float
    abs_mean: float


@final
@dataclass(frozen=True, slots=True)
class ComputeRow:
    """What an operator computes: feature maps in and out and their volumes (elements of one sample), weights, MACs.

    ``macs`` are one sample's, too; ``predicted_ms`` is the latency of the whole batch, ``None`` where no prediction
    speaks of this operator.
    """

    name: str
    kind: str
    attributes: str
    input_map: tuple[int, ...]
    input_volume: int
    output_map: tuple[int, ...]
    output_volume: int
    weights_volume: int
    macs: int
    predicted_ms: float | None = None


def sparsity(imported: Imported) -> tuple[SparsityRow, ...]:
    """Return a row for each filter or matrix of a network, and their total, named ``Total sparsity:``, last.

    Raises :class:`InvalidInput` where the network came without weights.
    """
    found = [
        (name, op, arrays[0])
        for op, name, arrays in zip(imported.graph.ops, imported.names, imported.loaded_weights(), strict=True)
        if op.kind in FILTERS
    ]
    rows = [_sparsity_row(name or op.kind, op, weight) for name, op, weight in found]
    dense, sparse = sum(row.nonzero_dense for row in rows), sum(row.nonzero_sparse for row in rows)
    values = np.concatenate([weight.ravel() for _, _, weight in found]) if found else np.zeros(1, np.float32)
    moments = float(values.std()), float(values.mean()), float(np.abs(values).mean())
    share = 100 * (1 - sparse / dense) if dense else 0.0
    return (*rows, SparsityRow("Total sparsity:", (), dense, sparse, 0.0, 0.0, 0.0, 0.0, 0.0, share, *moments))


def compute(graph: Graph, names: Sequence[str] = (), *, latencies: Latencies | None = None) -> tuple[ComputeRow, ...]:
    """Return a row for each filter or matrix of a network, and their total, named ``Total:``, last.

    ``latencies`` is a breakdown, as the service or a predictor gives it, or a function of the graph and an operator's
    number. A breakdown's share is shown at the one filter that it stands for, with what runs in its kernel; the total
    is the latency of the whole network. A function's total is the sum of what it knows.
    """
    shown, total_ms = _milliseconds(graph, latencies)
    rows = [
        _compute_row(names[i] if i < len(names) and names[i] else op.kind, op, shown.get(i))
        for i, op in enumerate(graph.ops)
        if op.kind in FILTERS
    ]
    read, made = sum(row.input_volume for row in rows), sum(row.output_volume for row in rows)
    weights, macs = sum(row.weights_volume for row in rows), sum(row.macs for row in rows)
    return (*rows, ComputeRow("Total:", "", "", (), read, (), made, weights, macs, total_ms))


SPARSITY_COLUMNS: Final[Mapping[str, str]] = {
    "Name": "name",
    "Shape": "shape",
    "NNZ (dense)": "nonzero_dense",
    "NNZ (sparse)": "nonzero_sparse",
    "Cols (%)": "columns_pct",
    "Rows (%)": "rows_pct",
    "Ch (%)": "channels_pct",
    "2D (%)": "kernels_pct",
    "3D (%)": "filters_pct",
    "Fine (%)": "elements_pct",
    "Std": "std",
    "Mean": "mean",
    "Abs-Mean": "abs_mean",
}
"""Distiller's headings, and the fields below them."""

COMPUTE_COLUMNS: Final[Mapping[str, str]] = {
    "Name": "name",
    "Type": "kind",
    "Attrs": "attributes",
    "IFM": "input_map",
    "IFM volume": "input_volume",
    "OFM": "output_map",
    "OFM volume": "output_volume",
    "Weights volume": "weights_volume",
    "MACs": "macs",
    "Predicted ms": "predicted_ms",
}
"""Distiller's headings with one more, and the fields below them."""


def table(rows: Sequence[SparsityRow] | Sequence[ComputeRow]) -> str:
    """Return rows as text under Distiller's headings, a line each, columns aligned."""
    columns = COMPUTE_COLUMNS if rows and isinstance(rows[0], ComputeRow) else SPARSITY_COLUMNS
    lines = [list(columns), *([_written(getattr(row, name)) for name in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _sparsity_row(name: str, op: Op, weight: Array) -> SparsityRow:
    used = weight != 0
    dense, sparse = weight.size, int(used.sum())
    columns = rows = channels = kernels = whole = 0.0
    if op.kind == "fully_connected":  # (out, in), read transposed
        columns, rows = _empty_pct(used.any(axis=1)), _empty_pct(used.any(axis=0))
        kernels = columns
    elif op.kind == "depthwise_conv2d":  # (1, *kernel, channels): a filter is one slice
        kernels = whole = channels = _empty_pct(used.any(axis=tuple(range(used.ndim - 1))))
    else:
        window = tuple(range(1, used.ndim - 1))
        slices = used.any(axis=window) if window else used
        kernels, whole, channels = _empty_pct(slices), _empty_pct(slices.any(axis=1)), _empty_pct(slices.any(axis=0))
    moments = float(weight.std()), float(weight.mean()), float(np.abs(weight).mean())
    share = 100 * (1 - sparse / dense)
    return SparsityRow(name, weight.shape, dense, sparse, columns, rows, channels, kernels, whole, share, *moments)


def _empty_pct(used: Array) -> float:
    return 100 * (1 - float(used.mean()))


def _compute_row(name: str, op: Op, predicted_ms: float | None) -> ComputeRow:
    batch = op.outputs[0].shape[0]
    read, made = op.inputs[0].shape[1:], op.outputs[0].shape[1:]
    volume = math.prod(weight_shapes(op)[0])
    macs = op.macs // batch
    return ComputeRow(
        name, op.kind, _attributes(op), read, math.prod(read), made, math.prod(made), volume, macs, predicted_ms
    )


_SAID: Final[Mapping[str, str]] = {"kernel": "k", "strides": "s", "groups": "g", "dilations": "dl"}


def _attributes(op: Op) -> str:
    said = dict(op.attributes)
    return ", ".join(f"{short}={_sizes(said[name])}" for name, short in _SAID.items() if name in said)


def _sizes(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _milliseconds(graph: Graph, latencies: Latencies | None) -> tuple[dict[int, float], float | None]:
    """Return the milliseconds of each filter that something is known of, and those of the network."""
    if latencies is None:
        return {}, None
    found: dict[int, float] = {}
    if isinstance(latencies, Breakdown | NetworkBreakdown):
        for share in latencies.shares:
            inside = [i for i in share.operators if graph.ops[i].kind in FILTERS]
            if len(inside) == 1:
                found[inside[0]] = found.get(inside[0], 0.0) + share.latency_ms
        return found, latencies.latency_ms
    for i, op in enumerate(graph.ops):
        said = latencies(graph, i) if op.kind in FILTERS else None
        if said is not None:
            found[i] = said
    return found, math.fsum(found.values()) if found else None


def _written(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return "x".join(map(str, value)) or "-"
    return f"{value:.5f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
