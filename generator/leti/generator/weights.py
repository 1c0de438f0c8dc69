"""Weights: a table beside a graph, a tuple of arrays for each operator, of the shapes that the table of costs gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph, Op
from leti.generator.cost import Shape, weight_shapes

with needs("export"):
    import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Weights = Sequence[Sequence[Array]]

_NORMS = frozenset({"batch_norm", "layer_norm", "instance_norm", "group_norm", "rms_norm"})


def random_weights(graph: Graph, seed: int) -> tuple[tuple[Array, ...], ...]:
    """Return seeded float32 weights, a tuple for each operator: He-scaled kernels, biases that are not zero.

    The scaling ("Delving Deep into Rectifiers", He et al., 2015) keeps activations of one size through the network, so
    that none is denormal: processors compute those slowly.
    """
    rng = np.random.default_rng(seed)
    return tuple(tuple(_random(rng, op, i, shape) for i, shape in enumerate(weight_shapes(op))) for op in graph.ops)


def check_weights(graph: Graph, weights: Weights) -> None:
    """Raise :class:`InvalidInput`, naming the operator, where weights are not float32 of the shapes that it takes."""
    if len(weights) != len(graph.ops):
        raise InvalidInput(f"has {len(weights)} entries for {len(graph.ops)} operators", field="weights")
    for i, (op, given) in enumerate(zip(graph.ops, weights, strict=True)):
        expected = weight_shapes(op)
        shapes = tuple(array.shape for array in given)
        if shapes != expected:
            raise InvalidInput(f"has the shapes {shapes}, {op.kind} takes {expected}", field=f"weights[{i}]")
        if any(array.dtype != np.float32 for array in given):
            raise InvalidInput("must be float32", field=f"weights[{i}]")


def weight_names(op: Op) -> tuple[str, ...]:
    """Return what each of an operator's weights is, for kinds whose weights are one value a channel; else nothing."""
    if op.kind == "normalization":
        return ("mean", "variance", "count") if op.get("adapted", True) else ("mean", "variance")
    if op.kind not in _NORMS:
        return ()
    names = [name for name in ("scale", "center") if op.get(name, name == "scale" or op.kind != "rms_norm")]
    return (*names, "mean", "variance") if op.kind == "batch_norm" else tuple(names)


def _random(rng: np.random.Generator, op: Op, position: int, shape: Shape) -> Array:
    values = rng.standard_normal(shape, dtype=np.float32)
    if position == 0 and op.macs:
        summed = shape[1:-1] if op.kind == "depthwise_conv2d" else shape[1:]
        return values * np.float32(np.sqrt(2 / math.prod(summed)))
    names = weight_names(op)
    positive = op.kind == "scale" or (names and names[position] in ("scale", "variance", "count"))
    return np.abs(values) * np.float32(0.1) + np.float32(1) if positive else values * np.float32(0.1)
