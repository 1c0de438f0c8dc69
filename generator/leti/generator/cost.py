"""What operators cost: multiply-accumulates, parameters, traffic, and the activations alive at once.

One row of :data:`OPERATORS` a kind of operator. What is counted:

- *macs*: multiply-accumulates of convolutions and fully connected layers, one multiplication with its addition as one.
  Pools, additions, activations and the like count 0: they have no weights to multiply by; what they cost is traffic.
- *params*: weights and biases. Batch norms are folded: a convolution has one bias a channel and no more. A batch norm
  that stands alone is a ``scale`` and a ``shift``.
- *traffic*: bytes of inputs, outputs and parameters, each tensor once an operator.
- *peak memory*: bytes of activations, see :func:`peak_memory_bytes`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from leti.core.errors import InvalidGraph
from leti.core.graph import DTYPE_BYTES, Attribute, Op, TensorType

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """A row of the table: ``weights`` gives the shapes of the parameters; ``macs_per_output`` follows from them."""

    weights: Callable[[Shape, Shape, Mapping[str, Attribute]], Shapes]
    macs_per_output: Callable[[Shapes], int]


def _no_weights(_input: Shape, _output: Shape, _attributes: Mapping[str, Attribute]) -> Shapes:
    return ()


def _conv_weights(read: Shape, made: Shape, attributes: Mapping[str, Attribute]) -> Shapes:
    kernel = attributes["kernel"]
    assert isinstance(kernel, tuple)  # noqa: S101 - narrows the type; the builder writes it
    return (made[-1], *kernel, read[-1]), (made[-1],)


def _dense_weights(read: Shape, made: Shape, _attributes: Mapping[str, Attribute]) -> Shapes:
    return (made[-1], read[-1]), (made[-1],)


def _channel_weights(read: Shape, _made: Shape, _attributes: Mapping[str, Attribute]) -> Shapes:
    return ((read[-1],),)


def _no_macs(_weights: Shapes) -> int:
    return 0


def _filter_macs(weights: Shapes) -> int:
    return math.prod(weights[0][1:])


_FREE = OperatorCost(_no_weights, _no_macs)

OPERATORS: Mapping[str, OperatorCost] = {
    "conv2d": OperatorCost(_conv_weights, _filter_macs),
    "fully_connected": OperatorCost(_dense_weights, _filter_macs),
    "scale": OperatorCost(_channel_weights, _no_macs),
    "shift": OperatorCost(_channel_weights, _no_macs),
    "avg_pool2d": _FREE,
    "max_pool2d": _FREE,
    "add": _FREE,
    "relu": _FREE,
    "concat": _FREE,
    "slice": _FREE,
    "mean": _FREE,
    "zero": _FREE,
}
"""Every kind of operator that the generator makes. Weights: kernels as (out, height, width, in), biases as (out,)."""


def weight_shapes(op: Op) -> Shapes:
    """Return the shapes of an operator's parameters; raise :class:`InvalidGraph` for a kind not in the table."""
    return _cost_of(op.kind).weights(op.inputs[0].shape, op.outputs[0].shape, dict(op.attributes))


@functools.lru_cache(maxsize=65_536)
def make_operator(
    kind: str, inputs: tuple[TensorType, ...], output: TensorType, attributes: tuple[tuple[str, Attribute], ...]
) -> Op:
    """Return the operator of this kind with its costs; raise :class:`InvalidGraph` for a kind not in the table."""
    cost, named = _cost_of(kind), dict(attributes)
    weights = cost.weights(inputs[0].shape, output.shape, named)
    params = sum(math.prod(shape) for shape in weights)
    traffic = sum(t.size_bytes for t in inputs) + output.size_bytes + params * DTYPE_BYTES[output.dtype]
    macs = output.elements * cost.macs_per_output(weights)
    return Op.of(kind, inputs, (output,), macs=macs, params=params, traffic_bytes=traffic, **named)


def peak_memory_bytes(
    inputs: Sequence[TensorType],
    ops: Sequence[Op],
    wiring: Sequence[tuple[int, ...]],
    outputs: Sequence[int],
    kernels: Sequence[tuple[int, ...]],
) -> int:
    """Return the most bytes of activations that are alive at once when kernels run one after the other, in order.

    While a kernel runs, its inputs and its output are alive, and everything made before that is read later; the graph's
    inputs and outputs count as well. What passes between the operators of one kernel is never stored, weights are not
    counted, and no kernel works in place.
    """
    sizes = [t.size_bytes for t in inputs] + [op.outputs[0].size_bytes for op in ops]
    first = len(inputs)
    reads, makes = [], []
    for kernel in kernels:
        made = {first + i for i in kernel}
        reads.append({source for i in kernel for source in wiring[i]} - made)
        makes.append(first + kernel[-1])
    last_read = {value: step for step, values in enumerate(reads) for value in values}
    last_read.update(dict.fromkeys(outputs, len(kernels)))
    alive = set(range(first)) & set(last_read)
    now = peak = sum(sizes[value] for value in alive)
    for step, (values, made_value) in enumerate(zip(reads, makes, strict=True)):
        now += sizes[made_value]
        peak = max(peak, now)
        now -= sum(sizes[value] for value in values if last_read[value] == step)
    return peak


def _cost_of(kind: str) -> OperatorCost:
    try:
        return OPERATORS[kind]
    except KeyError:
        raise InvalidGraph(
            f"no cost is known of the operator {kind!r}", field="kind", remedy=", ".join(sorted(OPERATORS))
        ) from None
