"""The TFLite flatbuffer: operators over numbered tensors, and the bytes of the file that holds them.

Nothing here knows graphs: forms place operators (:mod:`~leti.generator.export.tflite.forms`), precisions change their
tensors (:mod:`~leti.generator.export.tflite.precisions`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, final

from leti.core.errors import InvalidGraph, TooLarge
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("export"):
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"
"""Name of a file's only signature, which is TensorFlow's own."""

NO_TENSOR = -1
"""Where an operator leaves out an optional input."""

NO_BIAS = "no bias"
"""How names of zeros begin that stand for a bias where there is none: LiteRT's convolutions don't go without."""

MAX_BYTES = MAX_INT32 = 2**31 - 1
"""The most that a flatbuffer can be, and that a whole number in a file of LiteRT's can be."""

_LARGE_BYTES = 2**20  # of an array that is not copied without need
_ROOM_BYTES, _ROOM_EACH_BYTES = (
    2**20,
    1024,
)  # of a file beside its constants: in all, for each of them and each operator
_ALIGNMENT = 16  # bytes; what the schema asks of buffers, so that kernels can read weights in place
_TYPES = {
    **{name: name.upper() for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "bool")},
    **{name: name.upper() for name in ("uint8", "uint32", "uint64", "complex64", "complex128", "bfloat16", "int4")},
}
_ACTIVATIONS = {"RELU": "RELU", "RELU6": "RELU6", "RELU_N1_TO_1": "RELU_N1_TO_1"}
_TAKES_ADDITION = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})  # in the bias, their third input
_TAKES_ACTIVATION = frozenset(
    {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D"}
    | {"ADD", "SUB", "MUL", "DIV"}
)


@dataclass(frozen=True, slots=True)
class Quantization:
    """What whole numbers stand for: ``(number - zero_point) * scale``, a pair for each slice along ``dimension``.

    One scale holds for the whole tensor.
    """

    scales: Array
    zero_points: Array
    dimension: int = 0


@final
@dataclass(slots=True)
class Tensor:
    """A tensor of the file: constants have ``data``; ``stored`` is the precision that a constant's operator asks of it.

    ``stored`` is empty for the precision of activations.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None = None
    stored: str = ""
    quantization: Quantization | None = None

    @property
    def values(self) -> Array:
        """Values of a constant."""
        if self.data is None:
            raise InvalidGraph("is not known before the network runs", field=self.name, remedy="make it a constant")
        return self.data

    @property
    def scale(self) -> Quantization:
        """What the numbers of a quantised tensor stand for."""
        if self.quantization is None:
            raise InvalidGraph(
                "has no scale: nothing on the way to it was seen on representative data", field=self.name
            )
        return self.quantization


@final
@dataclass(slots=True)
class Operator:
    """A builtin operator: its options, the numbers of the tensors that it reads and makes, its version.

    ``site`` is the number of the graph's operator that it is part of.
    """

    builtin: str
    options: Any
    reads: list[int]
    makes: list[int]
    version: int = 1
    site: int = -1


@final
@dataclass(slots=True)
class Program:
    """The operators of one subgraph, in order of execution, and their tensors."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    _constants: dict[tuple[str, str, tuple[int, ...], str, bytes], int] = field(default_factory=dict, repr=False)

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str) -> int:
        """Add a tensor without data; return its number."""
        if dtype not in _TYPES:
            raise InvalidGraph(f"{dtype} has no TFLite type", field=name, remedy=", ".join(_TYPES))
        if max(shape, default=0) > MAX_INT32:
            raise TooLarge(f"has a dimension of {max(shape)}", field=name, remedy=f"at most {MAX_INT32}")
        self.tensors.append(Tensor(name, shape, dtype))
        return len(self.tensors) - 1

    def constant(self, name: str, data: Array, stored: str = "", *, kept_apart: bool = False) -> int:
        """Return the number of the tensor of these values, which stand in the file once.

        One that is ``kept_apart`` is shared with those of its name alone.
        """
        array = np.ascontiguousarray(data).reshape(data.shape)  # the former makes a scalar a vector
        content = _bytes(array)
        known = content if isinstance(content, bytes) else hashlib.blake2b(content).digest()
        key = (name if kept_apart else "", array.dtype.name, array.shape, stored, known)
        if key not in self._constants:
            self.tensors.append(Tensor(name, array.shape, array.dtype.name, array, stored))
            self._constants[key] = len(self.tensors) - 1
        return self._constants[key]

    def is_constant(self, tensor: int) -> bool:
        """Return whether a tensor's values stand in the file."""
        return tensor != NO_TENSOR and self.tensors[tensor].data is not None

    def fold_additions(self) -> None:
        """Put each addition of a constant, one value a channel or one for all, into the bias of what alone it reads.

        As the TensorFlow converter does. Additions of the graph's own were folded long before; those of forms that are
        spelled out are left.
        """
        readers, makers = self._readers(), self._makers()
        kept = []
        for operator in self.operators:
            maker = makers.get(operator.reads[0]) if operator.builtin == "ADD" else None
            if maker is None or readers[operator.reads[0]] != 1 or not self._raise_bias(maker, operator.reads[1]):
                kept.append(operator)
                continue
            maker.makes = operator.makes
            maker.options.fusedActivationFunction = operator.options.fusedActivationFunction
            makers[operator.makes[0]] = maker
        self.operators = kept

    def _raise_bias(self, maker: Operator, added: int) -> bool:
        if maker.builtin not in _TAKES_ADDITION or maker.options.fusedActivationFunction or maker.reads[2] == NO_TENSOR:
            return False
        bias, raised = self.tensors[maker.reads[2]], self.tensors[added]
        if bias.data is None or raised.data is None or raised.shape not in ((), bias.shape):
            return False
        if bias.name.startswith(NO_BIAS):
            return False
        maker.reads[2] = self.constant(bias.name, bias.data + raised.data, bias.stored)
        return True

    def fold_reshapes(self) -> None:
        """Drop reshapes to rows that only a fully connected layer reads: it makes rows of what it reads by itself."""
        readers, makers = self._readers(), self._makers()
        dropped: set[int] = set()
        for operator in self.operators:
            before = makers.get(operator.reads[0]) if operator.builtin == "FULLY_CONNECTED" else None
            if before is None or before.builtin != "RESHAPE" or readers[operator.reads[0]] != 1:
                continue
            flat, given = self.tensors[operator.reads[0]], self.tensors[before.reads[0]]
            if len(flat.shape) == 2 and given.shape[-1:] == flat.shape[-1:] and not operator.options.keepNumDims:
                operator.reads[0] = before.reads[0]
                dropped.add(id(before))
        self.operators = [operator for operator in self.operators if id(operator) not in dropped]

    def fuse_activations(self) -> None:
        """Put each ReLU into the operator before it, where nothing else reads what that makes.

        As the TensorFlow converter does; also through a reshape that belongs to the operator itself, as that of a
        one-dimensional convolution does.
        """
        readers, makers = self._readers(), self._makers()
        kept = []
        for operator in self.operators:
            maker = makers.get(operator.reads[0]) if operator.builtin in _ACTIVATIONS else None
            if maker is None or readers[operator.reads[0]] != 1 or not self._activate(maker, makers, operator.builtin):
                kept.append(operator)
                continue
            maker.makes = operator.makes
            makers[operator.makes[0]] = maker
        self.operators = kept

    def _readers(self) -> Counter[int]:
        return Counter(chain(self.outputs, chain.from_iterable(operator.reads for operator in self.operators)))

    def _makers(self) -> dict[int, Operator]:
        return {tensor: operator for operator in self.operators for tensor in operator.makes}

    @staticmethod
    def _activate(maker: Operator, makers: dict[int, Operator], builtin: str) -> bool:
        if maker.builtin == "RESHAPE" and maker.reads[0] in makers and makers[maker.reads[0]].site == maker.site:
            maker = makers[maker.reads[0]]
        if maker.builtin not in _TAKES_ACTIVATION or maker.options.fusedActivationFunction:
            return False
        maker.options.fusedActivationFunction = getattr(schema.ActivationFunctionType, _ACTIVATIONS[builtin])
        return True

    def pack(self, metadata: Iterable[tuple[str, bytes]] = ()) -> bytes:
        """Return the file."""
        return _Packing(self).file(metadata)

    def pack_numbered(self) -> tuple[bytes, dict[int, int]]:
        """Return the file, and the number in it of each tensor that stands in it."""
        packing = _Packing(self)
        return packing.file(()), packing.numbers


def options(table: str, **values: Any) -> Any:
    """Return a table of options of the schema, such as ``Pool2DOptions``."""
    made = getattr(schema, f"{table}T")()
    for name, value in values.items():
        if not hasattr(made, name):
            raise AttributeError(f"{table} has no field {name}")
        setattr(made, name, value)
    return made


def _bytes(array: Array) -> bytes | memoryview:
    """Return the bytes of an array; those of a large one are its own."""
    if array.nbytes < _LARGE_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class _Buffer:
    """Bytes of a constant; takes the place of the schema's own, which does not align them."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data

    def Pack(self, builder: Any) -> Any:
        """Write the buffer; return its offset."""
        builder.StartVector(1, len(self.data), _ALIGNMENT)
        builder.head = builder.Head() - len(self.data)
        builder.Bytes[builder.Head() : builder.Head() + len(self.data)] = self.data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class _Packing:
    """One file being made: tensors that something reads, renumbered, with their buffers."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._buffers: list[Any] = [schema.BufferT()]  # the first one is empty: tensors without data refer to it
        self._tensors: list[Any] = []
        self.numbers = {NO_TENSOR: NO_TENSOR}
        self._codes: dict[tuple[str, int], int] = {}

    def file(self, metadata: Iterable[tuple[str, bytes]]) -> bytes:
        program = self._program
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.inputs = self._renumbered(program.inputs)
        subgraph.operators = [self._operator(operator) for operator in program.operators]
        subgraph.outputs = self._renumbered(program.outputs)
        subgraph.tensors = self._tensors
        model = schema.ModelT()
        model.version, model.description = 3, "leti"
        model.metadata = [self._metadata(name, value) for name, value in metadata]
        model.operatorCodes = [_operator_code(*code) for code in self._codes]
        model.subgraphs, model.buffers = [subgraph], self._buffers
        model.signatureDefs = [_signature(subgraph.inputs, subgraph.outputs)]
        builder = flatbuffers.Builder(self._room())
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(memoryview(builder.Bytes)[builder.Head() :])

    def _room(self) -> int:
        """Return the bytes to set aside for the file, so that it need not be moved while it grows."""
        constants = self._buffers[1:]
        total = sum(len(constant.data) for constant in constants)
        room = total + _ROOM_BYTES + _ROOM_EACH_BYTES * (len(constants) + len(self._program.operators))
        if room > MAX_BYTES:
            raise TooLarge(f"has {total} bytes of constants", field="weights", remedy=f"at most {MAX_BYTES}")
        return room

    def _metadata(self, name: str, value: bytes) -> Any:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(value)
        return entry

    def _buffer(self, data: bytes | memoryview) -> int:
        self._buffers.append(_Buffer(data))
        return len(self._buffers) - 1

    def _renumbered(self, tensors: Sequence[int]) -> Array:
        return np.asarray([self._number(tensor) for tensor in tensors], np.int32)

    def _number(self, tensor: int) -> int:
        if tensor not in self.numbers:
            self._tensors.append(self._tensor(self._program.tensors[tensor]))
            self.numbers[tensor] = len(self._tensors) - 1
        return self.numbers[tensor]

    def _tensor(self, tensor: Tensor) -> Any:
        made = schema.TensorT()
        made.name, made.shape = tensor.name, np.asarray(tensor.shape, np.int32)
        made.type = getattr(schema.TensorType, _TYPES[tensor.dtype])
        made.buffer = 0 if tensor.data is None else self._buffer(_bytes(tensor.data))
        made.hasRank = True
        if tensor.quantization is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = tensor.quantization.scales.astype(np.float32)
            made.quantization.zeroPoint = tensor.quantization.zero_points.astype(np.int64)
            made.quantization.quantizedDimension = tensor.quantization.dimension
        return made

    def _operator(self, operator: Operator) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex = self._codes.setdefault((operator.builtin, operator.version), len(self._codes))
        made.inputs, made.outputs = self._renumbered(operator.reads), self._renumbered(operator.makes)
        if operator.options is not None:
            made.builtinOptions = operator.options
            table = type(operator.options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        return made


def _signature(inputs: Iterable[int], outputs: Iterable[int]) -> Any:
    """Return what LiteRT's quantizer and signature runners call the inputs and outputs: ``input0``, ``output0`` …"""
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = [_named(f"input{i}", tensor) for i, tensor in enumerate(inputs)]
    signature.outputs = [_named(f"output{i}", tensor) for i, tensor in enumerate(outputs)]
    return signature


def _named(name: str, tensor: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, int(tensor)
    return made


def _operator_code(builtin: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, builtin)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    return code
