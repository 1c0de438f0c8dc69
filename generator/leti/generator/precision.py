"""Precisions: the graph that a file of a precision runs.

The precision is in the graph: a network of whole numbers is another graph than its float32 twin. What becomes of each
operator follows the TensorFlow converter, with its defaults:

- *float16*: weights are stored so, and sums are still made in float32; LiteRT has no other way on a CPU.
- *dynamic_range*: filters of :data:`MIN_DYNAMIC_ELEMENTS` elements and more are int8; activations are float32.
- *full_integer*: activations and weights are int8. Inputs and outputs of the network stay float32, with ``quantize``
  after and ``dequantize`` before them, and so do operators that LiteRT has no int8 kernel for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar, final, get_args

from leti.core.device import ModelPrecision
from leti.core.errors import InvalidGraph, InvalidInput
from leti.core.extras import needs
from leti.core.graph import Attribute, Graph, Op, TensorType
from leti.generator.cost import MAX_FLOAT32, OPERATORS, make_operator, peak_memory_bytes, weight_shapes
from leti.generator.fusion import find_kernels

with needs("export"):
    import numpy as np

_EPSILON: tuple[str, ...] = ("epsilon",)
_NUMBERS: Mapping[str, tuple[str, ...]] = {"clip": ("low", "high"), "pad": ("value",), "elu": ("alpha",)}
"""Attributes that stand in a file as constants, and are stored like weights."""

WeightT = TypeVar("WeightT")

PRECISIONS: tuple[ModelPrecision, ...] = get_args(ModelPrecision)

REMEMBERED = 65_536
"""Operators of which it is remembered what becomes of them."""

MIN_DYNAMIC_ELEMENTS = 1024
"""Smaller filters stay float32 in a file of dynamic range: the converter's own default."""

DYNAMIC = frozenset({"conv1d", "conv2d", "depthwise_conv2d", "transpose_conv2d", "fully_connected"})
"""Kinds of operator that take int8 filters beside float32 activations. Tables of embeddings become int8 as well."""

_MOVES = (
    *("reshape", "transpose", "slice", "pad", "split", "unstack", "broadcast_to", "tile", "gather", "gather_nd"),
    *("top_k", "reverse", "roll", "depth_to_space", "space_to_depth", "space_to_batch", "batch_to_space", "resize"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "reduce_max", "reduce_min"),
)
_JOINS = frozenset({"concat", "stack", "maximum", "minimum", "where"})
_FIXED = frozenset({"sigmoid", "tanh", "softmax", "log_softmax", "l2_normalize"})

INTEGER = frozenset(
    {
        *("conv1d", "conv2d", "depthwise_conv2d", "transpose_conv2d", "fully_connected", "matmul", "embedding"),
        *("scale", "shift", "prelu", "batch_norm", "normalization", "layer_norm", "instance_norm", "group_norm"),
        *("mean", "sum", "prod", "argmax", "argmin", "zero", "relu", "relu6", "relu_n1", "silu", "hard_swish"),
        *("hard_sigmoid", "mish", "softplus", "exp", "log", "sqrt", "rsqrt", "abs", "leaky_relu", "gelu", "clip"),
        *("selu", "add", "sub", "mul", "squared_difference"),
        *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
        *_MOVES,
        *_JOINS,
        *_FIXED,
    }
)
"""Kinds of operator that run on int8; the others stay float32 between ``dequantize`` and ``quantize``."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A graph in a precision, and for each of its operators the number of the one that it came from (-1: of none)."""

    graph: Graph
    origins: tuple[int, ...]

    def weights(self, weights: Sequence[Sequence[WeightT]]) -> tuple[tuple[WeightT, ...], ...]:
        """Return the weights of the operators that the graph came from as those of this graph, still as float32."""
        return tuple(tuple(weights[origin]) if origin >= 0 else () for origin in self.origins)


def quantize(graph: Graph, precision: ModelPrecision, *, kept: Collection[int] = ()) -> Graph:
    """Return the graph that a file of this precision runs, with LiteRT's kernels; of float32, the graph itself.

    The operators ``kept`` stay float32 (mixed precision). Raises :class:`~leti.core.errors.InvalidInput` for a
    precision or an operator that is none and :class:`InvalidGraph` for a graph that has a precision already.
    """
    return quantized(graph, precision, kept=kept).graph


def quantized(graph: Graph, precision: ModelPrecision, *, kept: Collection[int] = ()) -> Quantized:
    """Return what :func:`quantize` does, and where each operator came from."""
    if precision not in PRECISIONS:
        raise InvalidInput(f"is none of {', '.join(PRECISIONS)}: {precision!r}", field="precision")
    every = tuple(range(len(graph.ops)))
    if not set(kept) <= set(every):
        raise InvalidInput(f"has no operator {min(set(kept) - set(every))}", field="kept", remedy=f"of {len(every)}")
    if precision == "float32":
        return Quantized(graph, every)
    if precision_of(graph) != "float32":
        raise InvalidGraph(f"has the precision {precision_of(graph)} already", field="precision", remedy="give float32")
    if precision == "float16":
        ops = [op if i in kept else _half(op) for i, op in enumerate(graph.ops)]
        return Quantized(_fused(graph, ops, graph.wiring, graph.outputs), every)
    if precision == "dynamic_range":
        return _Quantizing(graph, _integer_table, _dynamic, kept).quantized()
    return _Quantizing(graph, _integer_form, lambda op: op, kept).quantized()


def stored(op: Op, precision: ModelPrecision) -> Op:
    """Return an operator of a float32 graph, no constant, as a file of a precision has it: on int8 where it can be.

    A table to embed of ``dynamic_range`` is taken for one of float32, as are constants: what reads them tells.
    """
    return _STORED[precision](op)


def precision_of(graph: Graph) -> ModelPrecision:
    """Return the precision of a graph: full_integer where operators compute in int8, else what its weights are."""
    made = {op.kind for op in graph.ops if any(t.dtype == "int8" for t in op.outputs)}
    if made - {"embedding", "constant"}:
        return "full_integer"
    stored = {op.get("weight_dtype", "") for op in graph.ops}
    return "dynamic_range" if made or "int8" in stored else "float16" if "float16" in stored else "float32"


def _fused(graph: Graph, ops: Sequence[Op], wiring: Sequence[tuple[int, ...]], outputs: Sequence[int]) -> Graph:
    """Return a graph of operators that are known to fit together, on the inputs of ``graph``, with LiteRT's kernels."""
    kernels = find_kernels(ops, wiring, outputs, len(graph.inputs))
    peak = peak_memory_bytes(graph.inputs, ops, wiring, outputs, kernels)
    return Graph.assembled(graph.inputs, tuple(ops), tuple(wiring), tuple(outputs), peak, kernels, graph.encoding)


# What becomes of an operator depends on nothing else: networks of one search space share most of theirs.


@functools.lru_cache(maxsize=REMEMBERED)
def _half(op: Op) -> Op:
    if op.is_unknown or op.outputs[0].dtype != "float32":
        return op
    changes = {name: _rounded(op[name]) for name, _ in op.attributes if name in _NUMBERS.get(op.kind, _EPSILON)}
    if "weight_dtype" in OPERATORS[op.kind].attributes and weight_shapes(op):
        changes["weight_dtype"] = "float16"
    return _remade(op, op.inputs, op.outputs, changes)


def _rounded(value: Attribute) -> Attribute:
    """Return a number as float16 holds it, in the shortest decimals that say so in float32; no bound stays none."""
    unbounded = value in (MAX_FLOAT32, -MAX_FLOAT32)
    return value if unbounded or isinstance(value, str | tuple) else float(str(np.float32(np.float16(value))))


def _is_large(op: Op) -> bool:
    return op.outputs[0].dtype == "float32" and math.prod(weight_shapes(op)[0]) >= MIN_DYNAMIC_ELEMENTS


@functools.lru_cache(maxsize=REMEMBERED)
def _dynamic(op: Op) -> Op:
    large = op.kind in DYNAMIC and _is_large(op)
    return _remade(op, op.inputs, op.outputs, {"weight_dtype": "int8"}) if large else op


@functools.lru_cache(maxsize=REMEMBERED)
def _integer_table(op: Op) -> Op | None:
    """Return an operator that looks up rows that are stored as int8, else ``None``; what is found is dequantised."""
    return _on_integers(op) if op.kind == "embedding" and _is_large(op) else None


@functools.lru_cache(maxsize=REMEMBERED)
def _integer_form(op: Op) -> Op | None:
    """Return an operator as it runs on int8, ``None`` where it stays as it is."""
    has_floats = any(t.dtype == "float32" for t in (*op.inputs, *op.outputs))
    return _on_integers(op) if has_floats and runs_on_integers(op) else None


_STORED: Final[Mapping[ModelPrecision, Callable[[Op], Op]]] = MappingProxyType(
    {
        "float32": lambda op: op,
        "float16": _half,
        "dynamic_range": _dynamic,
        "full_integer": lambda op: _integer_form(op) or op,
    }
)
"""What becomes of an operator in each precision."""


def _on_integers(op: Op) -> Op:
    return _remade(op, [_int8(t) for t in op.inputs], [_int8(t) for t in op.outputs])


def _remade(
    op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType], changes: Mapping[str, Attribute] | None = None
) -> Op:
    attributes = dict(op.attributes) | dict(changes or {})
    return make_operator(op.kind, tuple(inputs), tuple(outputs), tuple(sorted(attributes.items())))


def runs_on_integers(op: Op) -> bool:
    """Return whether LiteRT runs an operator on int8."""
    if op.kind not in INTEGER:
        return False
    if op.kind == "l2_normalize":
        return op["axes"] == (len(op.inputs[0].shape) - 1,)
    return True


@final
class _Quantizing:
    """One graph on its way to int8: what each value has become as float32, and as int8."""

    def __init__(
        self,
        graph: Graph,
        integer_form: Callable[[Op], Op | None],
        stored: Callable[[Op], Op],
        kept: Collection[int],
    ) -> None:
        """Take what becomes of operators that shall run on int8 (``None``: of the others), and of the others."""
        self._graph = graph
        self._kept = frozenset(kept)
        self._integer_form = integer_form
        self._stored = stored
        self._ops: list[Op] = []
        self._wiring: list[tuple[int, ...]] = []
        self._types: list[TensorType] = list(graph.inputs)
        self._floats: dict[int, int] = {i: i for i in range(len(graph.inputs))}
        self._integers: dict[int, int] = {}
        self._fixed: set[int] = set()  # int8 values whose scale the runtime's kernel fixes
        self._requantized: dict[int, int] = {}
        self._constants: dict[int, int] = {}
        self._origins: list[int] = []

    def quantized(self) -> Quantized:
        value = len(self._graph.inputs)
        for number, (op, sources) in enumerate(zip(self._graph.ops, self._graph.wiring, strict=True)):
            if op.kind == "constant" and op.outputs[0].dtype == "float32":
                self._constants[value] = number  # placed where it is read, as what reads it wants it
            else:
                self._place_op(number, sources, value)
            value += len(op.outputs)
        outputs = [self._float(output) for output in self._graph.outputs]
        return Quantized(_fused(self._graph, self._ops, self._wiring, outputs), tuple(self._origins))

    def _place_op(self, number: int, sources: tuple[int, ...], value: int) -> None:
        """Place an operator, on int8 where it shall; its first output is ``value``."""
        given = self._graph.ops[number]
        integer = None if number in self._kept else self._integer_form(given)
        if integer is None:
            op = given if number in self._kept else self._stored(given)
            read = tuple([self._float(source) for source in sources])
        else:
            op = integer
            pairs = zip(sources, given.inputs, strict=True)
            read = tuple([self._integer(s) if t.dtype == "float32" else self._float(s) for s, t in pairs])
            if op.kind in _JOINS:
                read = tuple([self._loosened(source) for source in read])
        made = self._place(op, read, number)
        for i, output in enumerate(op.outputs):
            (self._integers if output.dtype == "int8" else self._floats)[value + i] = made + i
        if integer and (op.kind in _FIXED or (op.kind in _MOVES and read and read[0] in self._fixed)):
            self._fixed.update(range(made, made + len(op.outputs)))

    def _place(self, op: Op, sources: tuple[int, ...], origin: int = -1) -> int:
        self._origins.append(origin)
        self._ops.append(op)
        self._wiring.append(sources)
        self._types.extend(op.outputs)
        return len(self._types) - len(op.outputs)

    def _float(self, value: int) -> int:
        if value not in self._floats:
            if value in self._constants:
                origin = self._constants[value]
                self._floats[value] = self._place(self._graph.ops[origin], (), origin)
            else:
                self._floats[value] = self._convert("dequantize", self._integers[value], "float32")
        return self._floats[value]

    def _integer(self, value: int) -> int:
        if value not in self._integers:
            if value in self._constants:
                origin = self._constants[value]
                constant = self._graph.ops[origin]
                made = _remade(constant, (), [_int8(constant.outputs[0])])
                self._integers[value] = self._place(made, (), origin)
            else:
                self._integers[value] = self._convert("quantize", self._floats[value], "int8")
        return self._integers[value]

    def _loosened(self, source: int) -> int:
        """Return an int8 value at a scale of its own: operators that join values need one scale for all of them."""
        if source not in self._fixed:
            return source
        if source not in self._requantized:
            self._requantized[source] = self._convert("quantize", source, "int8")
        return self._requantized[source]

    def _convert(self, kind: str, source: int, dtype: str) -> int:
        read = self._types[source]
        return self._place(make_operator(kind, (read,), (TensorType(read.shape, dtype),), ()), (source,))


def _int8(tensor_type: TensorType) -> TensorType:
    return TensorType(tensor_type.shape, "int8") if tensor_type.dtype == "float32" else tensor_type
