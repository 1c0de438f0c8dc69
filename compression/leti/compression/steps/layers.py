"""Layer by layer, before and after: channels, ranks, multiply-accumulates, and latencies where kernels have prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from leti.compression.pricing.by_cells import CellTable
from leti.compression.pricing.prices import Prices
from leti.compression.results import Layer
from leti.core.errors import NotPredictable
from leti.core.extras import needs
from leti.core.graph import Graph, Op
from leti.core.patches import Patch
from leti.generator.compressing.patching import Patching
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np

_FORMS: Final = {(1, False): "SVD of rank", (2, True): "Tucker-2 of ranks", (1, True): "CP of rank"}
"""What an operator of so many ranks, with a window or without, is taken apart into."""


def layers(network: Imported, patch: Patch, before: Prices, after: Prices, factor: float) -> tuple[Layer, ...]:
    """Return every operator with weights before and after a patch, predicted latencies times ``factor``.

    Latencies are those of the kernels that the operators run in, without what an invoke takes beside them; ``None``
    where prices do not tell kernels apart, or lack one.
    """
    base = network.graph
    changed = Patching(base).patched(patch)
    before_ms = _by_operator(base, before, factor)
    parts_ms = _by_operator(changed.graph, after, factor)
    found = []
    for number, op in enumerate(base.ops):
        if not op.params:
            continue
        parts = [i for i, (origin, _) in enumerate(changed.origins) if origin == number]
        after_ms = None if parts_ms is None else float(sum(parts_ms[i] for i in parts))
        found.append(
            Layer(
                name=network.names[number] or f"{op.kind} {number}",
                kind=op.kind,
                shape=_shape(op),
                after=_words(op, [changed.graph.ops[i] for i in parts], patch.ranks.get(number, ())),
                macs_before=op.macs,
                macs_after=sum(changed.graph.ops[i].macs for i in parts),
                predicted_ms_before=None if before_ms is None else float(before_ms[number]),
                predicted_ms_after=after_ms,
            )
        )
    return tuple(found)


def _by_operator(graph: Graph, prices: Prices, factor: float) -> Any:
    """Return the latency of each operator's kernel, at the kernel's first operator with weights: ``(operators,)``."""
    if not isinstance(prices, CellTable):
        return None
    try:
        kernels = prices.kernels_ms(graph)
    except NotPredictable:
        return None
    found = np.zeros(len(graph.ops))
    for operators, latency_ms in kernels:
        first = next((i for i in operators if graph.ops[i].params), operators[0])
        found[first] += factor * latency_ms
    return found


def _shape(op: Op) -> str:
    read, made = (types[0].shape if types else () for types in (op.inputs, op.outputs))
    window = "×".join(map(str, op.integers("kernel", ())))
    sizes = f"{_size(read)} → {_size(made)}"
    return f"{window} {sizes}" if window and math.prod(op.integers("kernel")) > 1 else sizes


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape[1:]))


def _words(op: Op, parts: Sequence[Op], ranks: Sequence[int]) -> str:
    """Say what became of an operator."""
    if not parts:
        return "gone"
    said = []
    read = op.inputs[0].shape[-1], parts[0].inputs[0].shape[-1]
    made = op.outputs[0].shape[-1], parts[-1].outputs[0].shape[-1]
    if made[0] != made[1]:
        said.append(f"{made[1]} of {made[0]} channels")
    if read[0] != read[1]:
        said.append(f"reads {read[1]} of {read[0]}")
    if ranks:
        has_window = math.prod(op.integers("kernel", ())) > 1
        said.append(f"{_FORMS[len(ranks), has_window]} {', '.join(map(str, ranks))}")
    return ", ".join(said) or "unchanged"
