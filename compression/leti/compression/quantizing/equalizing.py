"""Data-free quantisation: ranges of neighbouring layers made equal, and the shift that rounding brings taken back.

"Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et al., ICCV 2019). A filter's channels
may be scaled by any positive number that what reads them divides by, where nothing between them but positively
homogeneous operators stands; ranges of the channels become alike, so that one scale serves a whole tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.compression.quantizing.weights import OUTPUT_AXES, with_weights
from leti.compression.training.executing import outputs
from leti.core.extras import needs
from leti.core.graph import Graph, Op
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

EQUALIZED: Final = frozenset({"conv1d", "conv2d", "depthwise_conv2d", "fully_connected"})
"""Kinds of operator whose ranges are made equal."""

HOMOGENEOUS: Final = frozenset({"relu", "leaky_relu", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"})
"""Kinds of operator that scale what they make as what they read, channel by channel. ReLU6 is none: it has a bound."""

Moments = tuple[Array, Array]
"""Mean and variance of each channel."""

_MAX_ROUNDS: Final = 40
_SETTLED: Final = 1e-3  # change of a scale, beyond which another round is worth it


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """Two operators with filters, the second the only one to read the first, ``repeats`` times each channel.

    That is more than once where a fully connected layer reads the pixels of a flattened image.
    """

    first: int
    second: int
    repeats: int = 1


def pairs(graph: Graph) -> Iterator[Pair]:
    """Yield neighbours whose ranges can be made equal."""
    readers: dict[int, list[int]] = {}
    for number, sources in enumerate(graph.wiring):
        for source in sources:
            readers.setdefault(source, []).append(number)
    made = graph.first_values()
    for first, op in enumerate(graph.ops):
        if op.kind not in EQUALIZED:
            continue
        value, channels = made[first], op.outputs[0].shape[-1]
        while value not in graph.outputs and len(readers.get(value, ())) == 1:
            reader = readers[value][0]
            read = graph.ops[reader]
            if read.kind in EQUALIZED:
                yield Pair(first, reader, read.inputs[0].shape[-1] // channels)
                break
            if not _keeps_scales(read, channels):
                break
            value = made[reader]


def _keeps_scales(op: Op, channels: int) -> bool:
    if op.kind == "mean":
        return len(op.inputs[0].shape) - 1 not in op.integers("axes")
    if op.kind == "pad":
        return op.number("value", 0.0) == 0
    if op.kind == "reshape":  # a flattening keeps the batch, and channels innermost
        read, made = op.inputs[0].shape, op.outputs[0].shape
        return read[0] == made[0] and made[-1] % channels == 0 and (len(made) == 2 or made[-1] == channels)
    return op.kind in HOMOGENEOUS


def equalized(imported: Imported) -> Imported:
    """Return the network with the ranges of neighbouring layers made equal, which computes the same function.

    Pairs are gone through until no scale changes by more than a thousandth. Of a channel that one of the two never
    uses, nothing is changed.
    """
    graph = imported.graph
    weights = dict(enumerate(imported.loaded_weights()))
    found = tuple(pairs(graph))
    for _ in range(_MAX_ROUNDS):
        largest = 0.0
        for pair in found:
            scales = _scales(graph, weights, pair)
            largest = max(largest, float(np.abs(np.log(scales)).max(initial=0.0)))
            filters, *bias = weights[pair.first]
            shape = [-1 if axis == OUTPUT_AXES[graph.ops[pair.first].kind] else 1 for axis in range(filters.ndim)]
            changed = (filters / scales.reshape(shape), *(values / scales for values in bias))
            weights[pair.first] = tuple(array.astype(np.float32) for array in changed)
            filters, *bias = weights[pair.second]
            factors = _by_input(graph.ops[pair.second], scales, pair.repeats, filters.ndim)
            weights[pair.second] = ((filters * factors).astype(np.float32), *bias)
        if largest < _SETTLED:
            break
    return with_weights(imported, weights)


def _scales(graph: Graph, weights: Mapping[int, Sequence[Array]], pair: Pair) -> Array:
    """Return what the first operator's channels are divided by: sqrt(r1 r2) / r2 (equation 11)."""
    axis = OUTPUT_AXES[graph.ops[pair.first].kind]
    filters = np.abs(weights[pair.first][0].astype(np.float64))
    first = filters.max(axis=tuple(i for i in range(filters.ndim) if i != axis))
    second = _input_ranges(graph.ops[pair.second], np.abs(weights[pair.second][0].astype(np.float64)), pair.repeats)
    used = (first > 0) & (second > 0)
    ratio: Array = np.sqrt(np.divide(first, second, out=np.ones_like(first), where=used))
    return ratio


def _input_ranges(op: Op, magnitudes: Array, repeats: int) -> Array:
    """Return the greatest magnitude that an operator multiplies each channel with that it reads."""
    channels = op.inputs[0].shape[-1] // repeats
    if op.kind == "depthwise_conv2d":
        ranges: Array = magnitudes.max(axis=(0, 1, 2)).reshape(channels, -1).max(axis=1)
        return ranges
    groups = _groups(op)
    each = magnitudes.reshape(groups, magnitudes.shape[0] // groups, -1, magnitudes.shape[-1]).max(axis=(1, 2))
    ranges = each.reshape(repeats, channels).max(axis=0)
    return ranges


def _by_input(op: Op, factors: Array, repeats: int, rank: int) -> Array:
    """Return a factor for each channel that an operator reads as what its filters are multiplied with."""
    if op.kind == "depthwise_conv2d":
        return np.repeat(factors, op.outputs[0].shape[-1] // len(factors)).reshape(1, 1, 1, -1)
    groups = _groups(op)
    rows = np.tile(factors, repeats).reshape(groups, -1)
    spread = np.repeat(rows, op.outputs[0].shape[-1] // groups, axis=0)
    return spread.reshape(len(spread), *(1,) * (rank - 2), -1)


def _groups(op: Op) -> int:
    return op.integer("groups", 1)


# --- high biases -----------------------------------------------------------------------------------------------------


def absorbed(imported: Imported, mean: Array | float = 0.0, deviation: Array | float = 1.0) -> Imported:
    """Return the network with high biases moved to the layers that read them, so that activations span less.

    What a channel is expected to exceed with three deviations to spare is taken from its bias, and what the next layer
    makes of it is added to that one's: the same function wherever it is exceeded. For neighbours with a ReLU, and
    nothing else, between them, the second of which pads nothing and has a bias. Inputs are those of :func:`moments`.
    """
    graph, known, made = imported.graph, moments(imported, mean, deviation), imported.graph.first_values()
    for pair in pairs(graph):
        first, reader = graph.ops[pair.first], graph.ops[pair.second]
        between = made.index(graph.wiring[pair.second][0])
        is_rectified = graph.ops[between].kind == "relu" and graph.wiring[between] == (made[pair.first],)
        has_biases = first.get("bias", True) and reader.get("bias", True)
        if not (is_rectified and has_biases and made[pair.first] in known and _pads_nothing(reader)):
            continue
        centre, variance = known[made[pair.first]]
        excess = np.maximum(0.0, centre - 3 * np.sqrt(variance))
        moved = _summed(reader, imported.loaded_weights()[pair.second][0].astype(np.float64), excess)
        imported = _raised(_raised(imported, pair.first, -excess), pair.second, moved)
    return imported


def _pads_nothing(op: Op) -> bool:
    return op.kind == "fully_connected" or op["padding"] == "valid" or set(op.integers("kernel")) == {1}


# --- bias correction -------------------------------------------------------------------------------------------------


def corrected(imported: Imported, changed: Imported, inputs: Sequence[Array]) -> Imported:
    """Return ``changed``, a network of rounded weights, with biases that make the mean of every channel what it was.

    The empirical form: layer by layer, the mean over ``inputs`` of what the float32 network makes, less that of the
    changed one, whose earlier layers are corrected already, is added to the bias. Operators without a bias stay.
    """
    graph = imported.graph
    numbers = _biased(graph)
    made = graph.first_values()
    wanted = outputs(imported, inputs, [made[number] for number in numbers])[len(graph.outputs) :]
    for number, target in zip(numbers, wanted, strict=True):
        is_output = outputs(changed, inputs, [made[number]])[-1]
        changed = _raised(changed, number, _channel_means(target) - _channel_means(is_output))
    return changed


def corrected_by_means(imported: Imported, changed: Imported, means: Mapping[int, Array]) -> Imported:
    """Return ``changed`` with biases that take back what the error of its weights adds to the expected output.

    The analytic form, without data: ``means`` are what each operator's input channels are expected to be, by its
    number (see :func:`expected_means`); the error of the filters times these is taken from the bias. Borders, where a
    window reads padding, are not told apart.
    """
    before, after = imported.loaded_weights(), changed.loaded_weights()
    for number in _biased(imported.graph):
        if number in means:
            error = before[number][0].astype(np.float64) - after[number][0]
            shift = _summed(imported.graph.ops[number], error, means[number])
            changed = _raised(changed, number, shift)
    return changed


def expected_means(imported: Imported, mean: Array | float = 0.0, deviation: Array | float = 1.0) -> dict[int, Array]:
    """Return the expected input channels of each operator with filters that is reached from the network's input.

    Inputs are normal, of this mean and standard deviation a channel (see :func:`moments`).
    """
    known = moments(imported, mean, deviation)
    pairs_read = ((number, sources[0]) for number, sources in enumerate(imported.graph.wiring) if sources)
    return {
        number: known[source][0]
        for number, source in pairs_read
        if source in known and imported.graph.ops[number].kind in EQUALIZED
    }


def moments(imported: Imported, mean: Array | float = 0.0, deviation: Array | float = 1.0) -> dict[int, Moments]:
    """Return mean and variance of the channels of each value that is reached from the network's only input.

    Means and variances are taken through filters as if channels were independent and nothing were padded, and through
    ReLUs as those of a clipped normal (appendix C of the paper, which begins with those of batch norms). Values after
    another kind than filters, ReLUs, average pools, additions and flattenings are left out.
    """
    graph, weights = imported.graph, imported.loaded_weights()
    channels = (graph.inputs[0].shape[-1],)
    first = (np.broadcast_to(np.float64(mean), channels), np.broadcast_to(np.square(np.float64(deviation)), channels))
    known: dict[int, Moments] = {0: first}
    for number, (op, sources, made) in enumerate(zip(graph.ops, graph.wiring, graph.first_values(), strict=True)):
        if not sources or any(source not in known for source in sources):
            continue
        read, variance = known[sources[0]]
        if op.kind in EQUALIZED:
            filters, *bias = (array.astype(np.float64) for array in weights[number])
            known[made] = (_summed(op, filters, read) + sum(bias), _summed(op, np.square(filters), variance))
        elif op.kind in _BOUNDS:
            known[made] = clipped_moments(read, np.sqrt(variance), *_BOUNDS[op.kind])
        elif op.kind == "add":
            other, more = known[sources[1]]
            known[made] = (read + other, variance + more)
        elif op.kind.startswith("avg_pool") or (op.kind in ("mean", "reshape") and _keeps_scales(op, len(read))):
            known[made] = (read, variance)
    return known


_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


def clipped_moments(mean: Array, deviation: Array, low: float, high: float) -> tuple[Array, Array]:
    """Return mean and variance of normal values cut at ``low`` and ``high``."""
    from scipy.stats import norm

    spread = np.maximum(deviation, 1e-12)
    a, b = (low - mean) / spread, (high - mean) / spread
    inside = norm.cdf(b) - norm.cdf(a)
    slope = norm.pdf(a) - norm.pdf(b)
    tails = low * norm.cdf(a) + (high * norm.sf(b) if math.isfinite(high) else 0.0)
    first = mean * inside + spread * slope + tails
    edges = np.where(np.isfinite(a), a, 0) * norm.pdf(a) - np.where(np.isfinite(b), b, 0) * norm.pdf(b)
    second = (mean**2 + spread**2) * inside + 2 * mean * spread * slope + spread**2 * edges
    second += low**2 * norm.cdf(a) + (high**2 * norm.sf(b) if math.isfinite(high) else 0.0)
    return first, np.maximum(second - first**2, 0.0)


def _summed(op: Op, filters: Array, means: Array) -> Array:
    """Return what filters make, a channel, of input that is ``means`` everywhere."""
    repeats = op.inputs[0].shape[-1] // len(means)
    weighted = filters * _by_input(op, means, repeats, filters.ndim)
    axis = OUTPUT_AXES[op.kind]
    summed: Array = weighted.sum(axis=tuple(i for i in range(filters.ndim) if i != axis))
    return summed


def _biased(graph: Graph) -> tuple[int, ...]:
    return tuple(i for i, op in enumerate(graph.ops) if op.kind in EQUALIZED and op.get("bias", True))


def _channel_means(values: Array) -> Array:
    means: Array = values.astype(np.float64).mean(axis=tuple(range(values.ndim - 1)))
    return means


def _raised(imported: Imported, number: int, shift: Array) -> Imported:
    filters, bias = imported.loaded_weights()[number]
    return with_weights(imported, {number: (filters, (bias + shift).astype(np.float32))})
