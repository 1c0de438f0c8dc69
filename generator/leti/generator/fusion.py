"""Which operators a runtime executes as one kernel.

LiteRT's files carry an activation inside the operator before it. The TensorFlow converter puts it there where nothing
else reads what the activation reads; the exporter writes what :func:`fuse` says.
"""

from __future__ import annotations

from collections.abc import Sequence

from leti.core.graph import Op

TAKES_RELU = frozenset(
    {"conv2d", "fully_connected", "avg_pool2d", "max_pool2d", "add", "shift", "scale", "zero"},
)
"""Kinds of operator whose kernel can end in a ReLU. To LiteRT a ``shift`` is an addition, the last two multiply."""


def fuse(
    ops: Sequence[Op], wiring: Sequence[tuple[int, ...]], outputs: Sequence[int], inputs: int = 1
) -> tuple[tuple[int, ...], ...]:
    """Return the kernels that LiteRT runs, each a tuple of operator numbers; every operator is in exactly one.

    ``wiring`` and ``outputs`` hold value numbers as in :class:`~leti.core.graph.Graph`, ``inputs`` is the number of
    graph inputs. A ReLU goes into the kernel of the operator before it, if that is of :data:`TAKES_RELU` and nothing
    but the ReLU reads its output. Kernels stand in the order of their first operators, which is topological.
    """
    readers = [0] * (inputs + len(ops))
    for value in outputs:
        readers[value] += 1
    for sources in wiring:
        for value in sources:
            readers[value] += 1
    activation: dict[int, int] = {}
    for i, op in enumerate(ops):
        producer = wiring[i][0] - inputs
        if op.kind == "relu" and producer >= 0 and readers[producer + inputs] == 1 and ops[producer].kind in TAKES_RELU:
            activation[producer] = i
    absorbed = set(activation.values())
    return tuple((i, activation[i]) if i in activation else (i,) for i in range(len(ops)) if i not in absorbed)
