"""Which operators a runtime executes as one kernel.

LiteRT's files carry an activation inside the operator before it. The TensorFlow converter puts it there where nothing
else reads what the activation reads; the exporter writes what :func:`fuse` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

from leti.core.graph import Graph, Op
from leti.generator.cost import peak_memory_bytes

TAKES_RELU = frozenset(
    {"conv2d", "fully_connected", "avg_pool2d", "max_pool2d", "add", "shift", "scale", "zero"},
)
"""Kinds of operator whose kernel can end in a ReLU. To LiteRT a ``shift`` is an addition, the last two multiply."""


Runtime = Literal["litert"]


def fuse(graph: Graph, runtime: Runtime = "litert") -> Graph:
    """Return the graph with the kernels that a runtime executes, and the peak memory that follows from them."""
    kernels = find_kernels(graph.ops, graph.wiring, graph.outputs, len(graph.inputs), runtime)
    peak = peak_memory_bytes(graph.inputs, graph.ops, graph.wiring, graph.outputs, kernels)
    return replace(graph, kernels=kernels, peak_memory_bytes=peak)


def find_kernels(
    ops: Sequence[Op],
    wiring: Sequence[tuple[int, ...]],
    outputs: Sequence[int],
    inputs: int = 1,
    runtime: Runtime = "litert",
) -> tuple[tuple[int, ...], ...]:
    """Return the kernels that a runtime executes, each a tuple of operator numbers; every operator is in exactly one.

    ``wiring`` and ``outputs`` hold value numbers as in :class:`~leti.core.graph.Graph`, ``inputs`` is the number of
    graph inputs. A ReLU goes into the kernel of the operator before it, if that is of :data:`TAKES_RELU` and nothing
    but the ReLU reads its output. Kernels stand in the order of their last operators, which is topological.
    """
    readers = Counter(chain(outputs, chain.from_iterable(wiring)))
    makers = list(chain([-1] * inputs, chain.from_iterable([i] * len(op.outputs) for i, op in enumerate(ops))))
    activation: dict[int, int] = {}
    for i, op in enumerate(ops):
        if op.kind == "relu":
            producer = makers[wiring[i][0]]
            if producer >= 0 and readers[wiring[i][0]] == 1 and ops[producer].kind in TAKES_RELU:
                activation[producer] = i
    absorbed = set(activation.values())
    kernels = [(i, activation[i]) if i in activation else (i,) for i in range(len(ops)) if i not in absorbed]
    return tuple(sorted(kernels, key=lambda kernel: kernel[-1]))
