"""TFLite export: Graph → model file, the flatbuffer written directly by LiteRT's own schema module.

The file holds the operators that the TensorFlow converter would write for the same network: a ReLU inside the operator
before it where :func:`~leti.generator.fusion.fuse` says so, batch norms in the weights of their convolutions. Kernels
of convolutions lie as (out, height, width, in), those of fully connected layers as (out, in).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leti.core.codec import to_json
from leti.core.errors import InvalidGraph, TooLarge
from leti.core.extras import needs
from leti.core.graph import Graph, Op, TensorType
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.weights import Array, Weights, check_weights, random_weights

with needs("export"):
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

METADATA_NAME = "leti.network"
METADATA_FORMAT = 1
FILE_IDENTIFIER = b"TFL3"
MAX_PARAMS = 100_000_000
"""400 MB of weights: far below the 2 GiB of a flatbuffer, since writing holds several copies in memory."""

_ALIGNMENT = 16  # bytes; what the schema asks of buffers, so that kernels can read weights in place


def export_tflite(
    graph: Graph, *, seed: int = 0, weights: Weights | None = None, source: tuple[NetworkSpec, Zero] | None = None
) -> bytes:
    """Return the model file of a float32 graph.

    ``weights`` holds a tuple of arrays for each operator of the graph, of the shapes that
    :func:`~leti.generator.cost.weight_shapes` gives; without them,
    :func:`~leti.generator.weights.random_weights` of ``seed``. ``source``, the spec and what its ``none`` does, is
    written into the file's metadata so that the importer can tell what it is. Raises
    :class:`~leti.core.errors.InvalidInput` for weights that do not fit, :class:`InvalidGraph` for an operator that has
    no TFLite form, :class:`TooLarge` for a graph of more than :data:`MAX_PARAMS` parameters.
    """
    if graph.params > MAX_PARAMS:
        raise TooLarge(f"has {graph.params} parameters", field="params", remedy=f"at most {MAX_PARAMS}")
    if weights is None:
        weights = random_weights(graph, seed)
    check_weights(graph, weights)
    writer = _Writer()
    writer.write(graph, weights)
    if source is not None:
        writer.metadata(METADATA_NAME, _describe(graph, *source))
    return writer.finish()


def _describe(graph: Graph, spec: NetworkSpec, zero: Zero) -> bytes:
    values = {
        "format": METADATA_FORMAT,
        "spec": to_json(spec),
        "zero": zero,
        "fingerprint": graph.fingerprint(),
    }
    return json.dumps(values, separators=(",", ":")).encode()


# --- operators -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TfliteForm:
    """How a kind of operator stands in a file: builtin operator, its options, and constants that are not weights."""

    builtin: str
    options: Callable[[Op], Any] = lambda op: None
    constants: Callable[[Op], tuple[Array, ...]] = lambda op: ()


def _conv_options(op: Op) -> Any:
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideH, options.strideW = _pair(op, "strides")
    options.dilationHFactor = options.dilationWFactor = 1
    return options


def _pool_options(op: Op) -> Any:
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideH, options.strideW = _pair(op, "strides")
    options.filterHeight, options.filterWidth = _pair(op, "kernel")
    return options


def _concat_options(op: Op) -> Any:
    options = schema.ConcatenationOptionsT()
    options.axis = len(op.outputs[0].shape) - 1
    return options


def _slice_bounds(op: Op) -> tuple[Array, ...]:
    """Return begin and size; -1, "to the end", in all dimensions but the last, as NAS-Bench-101's own code slices.

    It matters: LiteRT's XNNPACK delegate takes slices of stated sizes alone, and leaves these to the builtin operator.
    """
    shape = op.outputs[0].shape
    return np.zeros(len(shape), np.int32), np.asarray([*[-1] * (len(shape) - 1), shape[-1]], np.int32)


def _pair(op: Op, name: str) -> tuple[int, int]:
    value = op[name]
    if not isinstance(value, tuple) or len(value) != 2:
        raise InvalidGraph(f"must be two numbers, not {value!r}", field=f"{op.kind}.{name}")
    return value[0], value[1]


FORMS: Mapping[str, TfliteForm] = {
    "conv2d": TfliteForm("CONV_2D", _conv_options),
    "avg_pool2d": TfliteForm("AVERAGE_POOL_2D", _pool_options),
    "max_pool2d": TfliteForm("MAX_POOL_2D", _pool_options),
    "add": TfliteForm("ADD", lambda op: schema.AddOptionsT()),
    "relu": TfliteForm("RELU"),
    "concat": TfliteForm("CONCATENATION", _concat_options),
    "slice": TfliteForm("SLICE", lambda op: schema.SliceOptionsT(), _slice_bounds),
    "mean": TfliteForm("MEAN", lambda op: schema.ReducerOptionsT(), lambda op: (np.asarray(op["axes"], np.int32),)),
    "fully_connected": TfliteForm("FULLY_CONNECTED", lambda op: schema.FullyConnectedOptionsT()),
    "zero": TfliteForm("MUL", lambda op: schema.MulOptionsT(), lambda op: (np.zeros((), np.float32),)),
    "scale": TfliteForm("MUL", lambda op: schema.MulOptionsT()),
    "shift": TfliteForm("ADD", lambda op: schema.AddOptionsT()),
}
"""Every kind of operator that can be written; all of them in version 1 of their TFLite operator."""


def form_of(op: Op) -> TfliteForm:
    """Return how an operator is written; raise :class:`InvalidGraph` where it has no TFLite form."""
    try:
        return FORMS[op.kind]
    except KeyError:
        raise InvalidGraph(
            f"{op.kind!r} has no TFLite form", field="kind", remedy=f"known: {', '.join(sorted(FORMS))}"
        ) from None


def kernel_options(graph: Graph, kernel: tuple[int, ...]) -> Any:
    """Return the options of the operator that a kernel is written as, with the activation that ends it, or ``None``.

    Raises :class:`InvalidGraph` where no TFLite operator does in one what the kernel does.
    """
    head, *rest = (graph.ops[i] for i in kernel)
    options = form_of(head).options(head)
    if rest:
        if len(rest) > 1 or rest[0].kind != "relu" or not hasattr(options, "fusedActivationFunction"):
            kinds = ", ".join(op.kind for op in (head, *rest))
            raise InvalidGraph(f"no TFLite operator is {kinds} in one", field="kernels")
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    return options


# --- the file --------------------------------------------------------------------------------------------------------


class _Buffer:
    """Bytes of a constant; takes the place of the schema's own, which does not align them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def Pack(self, builder: Any) -> Any:
        """Write the buffer; return its offset."""
        builder.StartVector(1, len(self._data), _ALIGNMENT)
        builder.head = builder.Head() - len(self._data)
        builder.Bytes[builder.Head() : builder.Head() + len(self._data)] = self._data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class _Writer:
    """Collects buffers, tensors and operators of one subgraph."""

    def __init__(self) -> None:
        self._buffers: list[Any] = [schema.BufferT()]  # the first one is empty: tensors without data refer to it
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}
        self._metadata: list[Any] = []
        self._inputs: list[int] = []
        self._outputs: list[int] = []

    def write(self, graph: Graph, weights: Weights) -> None:
        """Add a graph, one operator a kernel."""
        self._inputs = [self._tensor(f"input{i}", t) for i, t in enumerate(graph.inputs)]
        tensors = dict(enumerate(self._inputs))
        first_values = graph.first_values()
        for kernel in graph.kernels:
            head = kernel[0]
            op = graph.ops[head]
            read = [tensors[value] for value in graph.wiring[head]]
            made = self._tensor(f"{op.kind}{head}", op.outputs[0])
            constants = (*weights[head], *form_of(op).constants(op))
            read += [self._constant(f"{op.kind}{head}/{i}", array) for i, array in enumerate(constants)]
            self._operator(form_of(op).builtin, kernel_options(graph, kernel), read, made)
            tensors[first_values[kernel[-1]]] = made
        self._outputs = [tensors[value] for value in graph.outputs]

    def metadata(self, name: str, value: bytes) -> None:
        """Add a named piece of metadata."""
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(value)
        self._metadata.append(entry)

    def finish(self) -> bytes:
        """Return the file."""
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs = np.asarray(self._inputs, np.int32)
        subgraph.outputs = np.asarray(self._outputs, np.int32)
        model = schema.ModelT()
        model.version, model.description = 3, "leti"
        model.operatorCodes = [_operator_code(name) for name in self._codes]
        model.subgraphs, model.buffers, model.metadata = [subgraph], self._buffers, self._metadata
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, data: bytes) -> int:
        self._buffers.append(_Buffer(data))
        return len(self._buffers) - 1

    def _tensor(self, name: str, tensor_type: TensorType) -> int:
        if tensor_type.dtype != "float32":
            raise InvalidGraph(f"only float32 can be written, not {tensor_type.dtype}", field=name)
        return self._add_tensor(name, tensor_type.shape, schema.TensorType.FLOAT32, 0)

    def _constant(self, name: str, array: Array) -> int:
        kind = schema.TensorType.INT32 if array.dtype == np.int32 else schema.TensorType.FLOAT32
        return self._add_tensor(name, array.shape, kind, self._buffer(array.tobytes()))

    def _add_tensor(self, name: str, shape: tuple[int, ...], kind: int, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.asarray(shape, np.int32), kind, buffer
        tensor.hasRank = True
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _operator(self, builtin: str, options: Any, read: Sequence[int], made: int) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(builtin, len(self._codes))
        operator.inputs, operator.outputs = np.asarray(read, np.int32), np.asarray([made], np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(operator)


def _operator_code(builtin: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, builtin)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    return code
