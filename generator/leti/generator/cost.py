"""What operators cost: multiply-accumulates, parameters, traffic, and the activations alive at once.

One row of :data:`OPERATORS` a kind of operator; importers, search spaces and exporters speak of no others. Tensors are
batch first and channels last. An attribute that a row gives a default is left out of the operator where it has that
value, so that one operator is written in one way. What is counted:

- *macs*: multiply-accumulates of convolutions, fully connected layers and matrix products, one multiplication with its
  addition as one. Pools, additions, activations and the like count 0: what they cost is traffic.
- *params*: weights and biases, and constants of more than one element that the network reads. A scalar constant counts
  0: the formats disagree on which of those are tensors.
- *traffic*: bytes of inputs, outputs and parameters, each tensor once an operator; of an embedding, the rows read.
- *peak memory*: bytes of activations, see :func:`peak_memory_bytes`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Final

from leti.core.errors import InvalidGraph
from leti.core.graph import DTYPE_BITS, Attribute, Op, TensorType
from leti.core.operators import as_integers

Shape = tuple[int, ...]
Sizes = Sequence[int]
Shapes = tuple[Shape, ...]
Attributes = Mapping[str, Attribute]

MAX_FLOAT32: Final = 3.4028234663852886e38

REQUIRED: Final = None
"""In a row's ``attributes``: the operator must say it."""


def _no_weights(_inputs: Shapes, _outputs: Shapes, _attributes: Attributes) -> Shapes:
    return ()


def _no_macs(_inputs: Shapes, _outputs: Shapes, _weights: Shapes) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """A row of the table: ``attributes`` with their defaults, shapes of ``weights``, ``macs`` from all shapes."""

    attributes: Mapping[str, Attribute | None] = field(default_factory=dict)
    weights: Callable[[Shapes, Shapes, Attributes], Shapes] = _no_weights
    macs: Callable[[Shapes, Shapes, Shapes], int] = _no_macs


def _integers(attributes: Attributes, name: str) -> Shape:
    return as_integers(attributes[name], name)


def _with_bias(attributes: Attributes, filters: Shape, channels: int) -> Shapes:
    return (filters, (channels,)) if attributes.get("bias", True) else (filters,)


def _conv_weights(inputs: Shapes, outputs: Shapes, attributes: Attributes) -> Shapes:
    groups, channels = attributes.get("groups", 1), outputs[0][-1]
    if not isinstance(groups, int) or groups < 1 or inputs[0][-1] % groups or channels % groups:
        raise InvalidGraph(f"{groups!r} groups do not divide {inputs[0][-1]} and {channels} channels", field="groups")
    filters = (channels, *_integers(attributes, "kernel"), inputs[0][-1] // groups)
    return _with_bias(attributes, filters, channels)


def _depthwise_weights(_inputs: Shapes, outputs: Shapes, attributes: Attributes) -> Shapes:
    return _with_bias(attributes, (1, *_integers(attributes, "kernel"), outputs[0][-1]), outputs[0][-1])


def _dense_weights(inputs: Shapes, outputs: Shapes, attributes: Attributes) -> Shapes:
    return _with_bias(attributes, (outputs[0][-1], inputs[0][-1]), outputs[0][-1])


def _channels(inputs: Shapes) -> Shape:
    return inputs[0][-1:]


def _constant_weights(inputs: Shapes, _outputs: Shapes, attributes: Attributes) -> Shapes:
    return (_integers(attributes, "constant") if "constant" in attributes else _channels(inputs),)


def _statistics(inputs: Shapes, _outputs: Shapes, attributes: Attributes) -> Shapes:
    return (_channels(inputs),) * 2 + (((),) if attributes.get("adapted", True) else ())


def _table_weights(_inputs: Shapes, outputs: Shapes, attributes: Attributes) -> Shapes:
    return ((int(str(attributes["rows"])), outputs[0][-1]),)


def _own_output(_inputs: Shapes, outputs: Shapes, _attributes: Attributes) -> Shapes:
    return outputs


def _norm_weights(*always: str, center: bool = True) -> Callable[[Shapes, Shapes, Attributes], Shapes]:
    """Return weights of one value a channel: those that a norm always has, and its scale and offset unless without."""

    def weights(inputs: Shapes, _outputs: Shapes, attributes: Attributes) -> Shapes:
        kept = (attributes.get("scale", True), attributes.get("center", center))
        return (_channels(inputs),) * (sum(map(bool, kept)) + len(always))

    return weights


def _filter_macs(_inputs: Shapes, outputs: Shapes, weights: Shapes) -> int:
    return math.prod(outputs[0]) * math.prod(weights[0][1:])


def _depthwise_macs(_inputs: Shapes, outputs: Shapes, weights: Shapes) -> int:
    return math.prod(outputs[0]) * math.prod(weights[0][1:-1])


def _transpose_conv_macs(inputs: Shapes, _outputs: Shapes, weights: Shapes) -> int:
    return math.prod(inputs[0][:-1]) * math.prod(weights[0])


def _matmul_macs(inputs: Shapes, outputs: Shapes, _weights: Shapes) -> int:
    # Of the two matrices only the first has the rows of the output, so that what is left of it is what is summed over.
    return math.prod(outputs[0]) * (math.prod(inputs[0][-2:]) // outputs[0][-2])


_WINDOW: Mapping[str, Attribute | None] = {"kernel": REQUIRED, "strides": REQUIRED, "padding": REQUIRED}
_FILTER: Mapping[str, Attribute | None] = {**_WINDOW, "bias": True, "weight_dtype": ""}
_NORM: Mapping[str, Attribute | None] = {"epsilon": REQUIRED, "scale": True, "center": True, "weight_dtype": ""}


def _conv(rank: int) -> OperatorCost:
    return OperatorCost({**_FILTER, "dilations": (1,) * rank, "groups": 1}, _conv_weights, _filter_macs)


def _pool(rank: int, **more: Attribute | None) -> OperatorCost:
    return OperatorCost({**_WINDOW, "dilations": (1,) * rank, **more})


_CONSTANTS = frozenset({"constant", "scale", "shift", "unknown"})  # their weights may be mere numbers
_PLAIN = OperatorCost()
_REDUCTION = OperatorCost({"axes": REQUIRED, "keep_dims": False})
_SCALED = OperatorCost({"constant": (), "weight_dtype": ""}, _constant_weights)

REDUCTIONS: Final = ("mean", "sum", "prod", "reduce_max", "reduce_min")
ELEMENTWISE: Final = (
    *("relu", "relu6", "relu_n1", "selu", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid", "mish"),
    *("softplus", "softsign", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "abs", "neg", "sign"),
    *("floor", "ceil", "round", "sin", "cos", "erf", "logical_not", "cast", "quantize", "dequantize", "zero"),
    *("add", "sub", "mul", "div", "maximum", "minimum", "power", "squared_difference", "floor_div", "floor_mod"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or"),
    "where",
)

OPERATORS: Mapping[str, OperatorCost] = MappingProxyType(
    {
        # Filters lie as (out, *kernel, in / groups), biases as (out,). ``padding`` is "same", "valid", or the elements
        # before and after each dimension; see canonical_padding. ``weight_dtype`` is said where it is not that of the
        # activations.
        "conv1d": _conv(1),
        "conv2d": _conv(2),
        "conv3d": _conv(3),
        "depthwise_conv2d": OperatorCost({**_FILTER, "dilations": (1, 1)}, _depthwise_weights, _depthwise_macs),
        "transpose_conv2d": OperatorCost(
            {**_FILTER, "dilations": (1, 1), "groups": 1}, _conv_weights, _transpose_conv_macs
        ),
        "fully_connected": OperatorCost({"bias": True, "weight_dtype": ""}, _dense_weights, _filter_macs),
        "matmul": OperatorCost({"transpose_a": False, "transpose_b": False}, macs=_matmul_macs),
        # (rows, width); reads indices
        "embedding": OperatorCost({"rows": REQUIRED, "weight_dtype": ""}, _table_weights),
        # A constant tensor that an operator without weights of its own reads. No inputs.
        "constant": OperatorCost({"weight_dtype": ""}, _own_output),
        # Multiplication by, and addition of, a constant: one value a channel, or of the shape ``constant``; scalars are
        # of the shape (1,), unless there is but one channel. See constant_attribute.
        "scale": _SCALED,
        "shift": _SCALED,
        "prelu": _SCALED,
        # Scale, offset, mean, variance; what there is of the first two.
        "batch_norm": OperatorCost(_NORM, _norm_weights("mean", "variance")),
        # Keras's Normalization: mean, variance, and the count of what they were taken from. Where it is not adapted to
        # data, mean and variance are settings of the layer and not parameters of the network.
        "normalization": OperatorCost({"adapted": True}, _statistics),
        "layer_norm": OperatorCost(_NORM, _norm_weights()),
        "instance_norm": OperatorCost(_NORM, _norm_weights()),
        "group_norm": OperatorCost({**_NORM, "groups": REQUIRED}, _norm_weights()),
        "rms_norm": OperatorCost({**_NORM, "center": False}, _norm_weights(center=False)),
        "local_response_norm": OperatorCost({"radius": REQUIRED, "alpha": REQUIRED, "beta": REQUIRED, "bias": 1.0}),
        "l2_normalize": OperatorCost({"axes": REQUIRED}),
        "avg_pool1d": _pool(1, count_padding=False),
        "avg_pool2d": _pool(2, count_padding=False),
        "avg_pool3d": _pool(3, count_padding=False),
        "max_pool1d": _pool(1),
        "max_pool2d": _pool(2),
        "max_pool3d": _pool(3),
        **dict.fromkeys(REDUCTIONS, _REDUCTION),
        **dict.fromkeys(("argmax", "argmin"), OperatorCost({"axis": REQUIRED, "keep_dims": False})),
        **dict.fromkeys(ELEMENTWISE, _PLAIN),
        "leaky_relu": OperatorCost({"alpha": REQUIRED}),
        "elu": OperatorCost({"alpha": 1.0}),
        "gelu": OperatorCost({"approximate": False}),
        "clip": OperatorCost({"low": REQUIRED, "high": REQUIRED}),
        "softmax": OperatorCost({"axis": REQUIRED}),
        "log_softmax": OperatorCost({"axis": REQUIRED}),
        # Where data goes. Axes are counted from 0; sizes follow from the shapes.
        "concat": OperatorCost({"axis": REQUIRED}),
        "split": OperatorCost({"axis": REQUIRED}),
        "stack": OperatorCost({"axis": REQUIRED}),
        "unstack": OperatorCost({"axis": REQUIRED}),
        "slice": OperatorCost({"begin": (), "strides": ()}),  # () is 0 or 1 everywhere; else a number a dimension
        "reshape": _PLAIN,
        "transpose": OperatorCost({"perm": REQUIRED}),
        "broadcast_to": _PLAIN,
        "tile": OperatorCost({"multiples": REQUIRED}),
        "pad": OperatorCost({"paddings": REQUIRED, "mode": "constant", "value": 0.0}),  # before and after, flat
        "gather": OperatorCost({"axis": REQUIRED, "batch_dims": 0}),
        "gather_nd": _PLAIN,
        "top_k": _PLAIN,
        "one_hot": OperatorCost({"axis": REQUIRED}),
        "cumsum": OperatorCost({"axis": REQUIRED, "exclusive": False, "reverse": False}),
        "reverse": OperatorCost({"axes": REQUIRED}),
        "roll": OperatorCost({"axes": REQUIRED, "shifts": REQUIRED}),
        "depth_to_space": OperatorCost({"block": REQUIRED}),
        "space_to_depth": OperatorCost({"block": REQUIRED}),
        "space_to_batch": OperatorCost({"block": REQUIRED, "paddings": REQUIRED}),
        "batch_to_space": OperatorCost({"block": REQUIRED, "crops": REQUIRED}),
        "resize": OperatorCost({"method": REQUIRED, "coordinates": "half_pixel"}),  # or align_corners, asymmetric
    }
)
"""Every kind of operator that can be priced. Importers keep any other as ``unknown:NAME``."""


def weight_shapes(op: Op) -> Shapes:
    """Return the shapes of an operator's parameters; raise :class:`InvalidGraph` for a kind not in the table.

    An unknown operator says them itself, in the attribute ``constants``.
    """
    if op.is_unknown:
        said = [str(value) for name, value in op.attributes if name == "constants"]
        return tuple(_read_shape(text) for text in said[0].split(";")) if said else ()
    return _cost_of(op.kind).weights(_shapes(op.inputs), _shapes(op.outputs), dict(op.attributes))


@functools.lru_cache(maxsize=65_536)
def make_operator(
    kind: str,
    inputs: tuple[TensorType, ...],
    outputs: tuple[TensorType, ...],
    attributes: tuple[tuple[str, Attribute], ...],
) -> Op:
    """Return the operator of this kind with its costs, attributes of default value left out.

    Raises :class:`InvalidGraph` for a kind not in the table, an attribute that it has not, or one that it misses.
    """
    cost = _cost_of(kind)
    named = _named(kind, cost, dict(attributes))
    if "constant" in named and named["constant"] == inputs[0].shape[-1:]:
        del named["constant"]  # one value a channel
    weights = cost.weights(_shapes(inputs), _shapes(outputs), named)
    return Op.of(
        kind,
        inputs,
        outputs,
        macs=cost.macs(_shapes(inputs), _shapes(outputs), weights),
        params=_params(kind, weights) if named.get("adapted", True) else 0,
        traffic_bytes=_traffic_bytes(kind, inputs, outputs, weights, str(named.get("weight_dtype", ""))),
        **named,
    )


def make_unknown(name: str, inputs: Sequence[TensorType], outputs: Sequence[TensorType], constants: Shapes) -> Op:
    """Return the operator ``unknown:NAME``: its types and constants are counted, what it computes is not."""
    inputs, outputs = tuple(inputs), tuple(outputs)
    traffic = _traffic_bytes("unknown", inputs, outputs, constants, "")
    params = _params("unknown", constants)
    kind = f"unknown:{name}"
    if not constants:
        return Op.of(kind, inputs, outputs, params=params, traffic_bytes=traffic)
    written = ";".join("x".join(map(str, shape)) for shape in constants)
    return Op.of(kind, inputs, outputs, params=params, traffic_bytes=traffic, constants=written)


def constant_attribute(shape: Shape, channels: int) -> Shape:
    """Return the attribute ``constant`` for a constant of this shape: leading ones dropped, () for one a channel."""
    kept = tuple(shape) or (1,)
    while len(kept) > 1 and kept[0] == 1:
        kept = kept[1:]
    return () if kept == (channels,) else kept


def canonical_padding(sizes: Sizes, kernel: Sizes, strides: Sizes, dilations: Sizes, pads: Sizes) -> str | Shape:
    """Return how the padding of a window is written, of ``pads`` before and after each dimension, flat.

    ``"same"`` where it is what TensorFlow puts in for that word (outputs of ``ceil(size / stride)``, the odd element
    after), else ``"valid"`` where it is none, else the numbers.
    """
    if tuple(pads) == same_padding(sizes, kernel, strides, dilations):
        return "same"
    return tuple(pads) if any(pads) else "valid"


def same_padding(sizes: Sizes, kernel: Sizes, strides: Sizes, dilations: Sizes) -> Shape:
    """Return the elements before and after each dimension, flat, that ``"same"`` stands for."""
    pads: list[int] = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        missing = max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        pads += (missing // 2, missing - missing // 2)
    return tuple(pads)


def peak_memory_bytes(
    inputs: Sequence[TensorType],
    ops: Sequence[Op],
    wiring: Sequence[tuple[int, ...]],
    outputs: Sequence[int],
    kernels: Sequence[tuple[int, ...]],
) -> int:
    """Return the most bytes of activations that are alive at once when kernels run one after the other, in order.

    While a kernel runs, its inputs and outputs are alive, and everything made before that is read later; the graph's
    inputs and outputs count as well. What passes between the operators of one kernel alone is never stored, constants
    and weights are not counted, and no kernel works in place.
    """
    sizes = [t.size_bytes for t in inputs]
    for op in ops:
        sizes += [0 if op.kind == "constant" else t.size_bytes for t in op.outputs]
    first = list(accumulate((len(op.outputs) for op in ops), initial=len(inputs)))
    made_by = [[value for i in kernel for value in range(first[i], first[i + 1])] for kernel in kernels]
    read_by = [{source for i in kernel for source in wiring[i]} for kernel in kernels]
    last_read = {value: step for step, values in enumerate(read_by) for value in values}
    last_read.update(dict.fromkeys(outputs, len(kernels)))
    now = peak = sum(sizes[value] for value in range(len(inputs)) if value in last_read)
    for step, (made, read) in enumerate(zip(made_by, read_by, strict=True)):
        stored = [value for value in made if last_read.get(value) != step]  # the others stay inside the kernel
        now += sum(sizes[value] for value in stored)
        peak = max(peak, now)
        now -= sum(sizes[value] for value in read.difference(made) if last_read[value] == step)
        now -= sum(sizes[value] for value in stored if value not in last_read)
    return peak


def _cost_of(kind: str) -> OperatorCost:
    try:
        return OPERATORS[kind]
    except KeyError:
        raise InvalidGraph(
            f"no cost is known of the operator {kind!r}", field="kind", remedy=", ".join(sorted(OPERATORS))
        ) from None


def _named(kind: str, cost: OperatorCost, given: dict[str, Attribute]) -> dict[str, Attribute]:
    for name in cost.attributes:
        if cost.attributes[name] is REQUIRED and name not in given:
            raise InvalidGraph("is missing", field=f"{kind}.{name}")
    for name in given:
        if name not in cost.attributes:
            raise InvalidGraph(
                "is no attribute of it", field=f"{kind}.{name}", remedy=f"known: {', '.join(cost.attributes) or 'none'}"
            )
    return {name: _finite(value, f"{kind}.{name}") for name, value in given.items() if value != cost.attributes[name]}


def _finite(value: Attribute, place: str) -> Attribute:
    """Return an infinite number as the last one of float32, as JSON has none; refuse what is no number."""
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        raise InvalidGraph("is not a number", field=place)
    return min(max(value, -MAX_FLOAT32), MAX_FLOAT32)


def _shapes(types: Sequence[TensorType]) -> Shapes:
    return tuple(t.shape for t in types)


def _params(kind: str, weights: Shapes) -> int:
    return sum(size for size in map(math.prod, weights) if size > 1 or kind not in _CONSTANTS)


def _traffic_bytes(
    kind: str, inputs: Sequence[TensorType], outputs: Sequence[TensorType], weights: Shapes, weight_dtype: str
) -> int:
    activations = sum(t.size_bytes for t in (*inputs, *outputs))
    if kind == "embedding":
        return activations + outputs[0].elements * DTYPE_BITS[weight_dtype or outputs[0].dtype] // 8
    made = outputs[0].dtype if outputs else "float32"  # an unknown operator may make nothing but an effect
    return activations + sum(_weight_bytes(shape, made, weight_dtype) for shape in weights)


def _weight_bytes(shape: Shape, dtype: str, weight_dtype: str) -> int:
    """Return the bytes of a weight; vectors beside integer weights keep the precision that sums are made in."""
    stored = weight_dtype or dtype
    if len(shape) == 1 and stored not in ("float16", "bfloat16", "float64"):
        stored = "float32"  # or int32, which is as wide
    return -(-math.prod(shape) * DTYPE_BITS[stored] // 8)


def _read_shape(text: str) -> Shape:
    return tuple(int(n) for n in text.split("x") if n)
