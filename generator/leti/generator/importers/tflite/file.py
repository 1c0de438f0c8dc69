"""A TFLite file, read in place: tensors, constants, operators and their options, each when it is asked for.

The flatbuffer is never unpacked: what is read of it is bounded by what is asked. Offsets that lead nowhere, lengths
that do not fit and numbers out of range raise :class:`~leti.core.errors.ArtifactError`, whatever the schema module
makes of them.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from leti.core.errors import ArtifactError, InvalidInput, TooLarge
from leti.core.extras import needs
from leti.core.graph import DTYPE_BITS, Graph
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant
from leti.generator.weights import Array

with needs("export"):
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER = b"TFL3"
DESCRIPTION = "leti"
FIELD = "model"
MAX_RANK = 8
MAX_OPERANDS = 500_000
"""The most that all operators of a file may read and make, counted each time."""

MAX_CONSTANT_BYTES = 2**31 - 1
"""The most that the constants of a file may take; two may share their bytes, so that these alone are no limit."""

MAX_WHOLE_NUMBERS = 2**16
"""The most elements of a constant that is read at once: axes, shapes, paddings."""

_MAX_NAME = 512
_MAX_METADATA = 64
_REMEDY = "give a .tflite file as its converter wrote it"
_NO_OPTIONS = (b"\x04\x00\x04\x00\x04\x00\x00\x00", 4)  # a table without fields, and where it starts: all defaults

_HANDLES = frozenset({"string", "resource", "variant"})  # what a tensor of these holds lies elsewhere
_PACKED = {"int4": 4, "int2": 2}
_BUILTINS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


@contextmanager
def damage_reported() -> Iterator[None]:
    """Turn what the schema module raises for offsets that lead nowhere into :class:`ArtifactError`."""
    try:
        yield
    except (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise damaged("its tables lead outside the file") from error


def damaged(how: str) -> ArtifactError:
    """Return the error of a file whose parts do not fit together."""
    return ArtifactError(f"is damaged: {how}", field=FIELD, remedy=_REMEDY)


@final
@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of the file. ``signature`` is its shape with -1 where that is open; ``table`` the schema's own."""

    name: str
    shape: Shape
    signature: Shape
    dtype: str
    is_variable: bool
    table: Any


@final
@dataclass(frozen=True, slots=True)
class FileOperator:
    """An operator of the file: its builtin's name or the custom operator's, and its tensors' numbers, -1 for none."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: Any

    def options(self, table: str, *names: str) -> tuple[Any, ...]:
        """Return fields of the operator's options, which must be of the kind ``table``; defaults where it has none."""
        with damage_reported():
            kind = self.table.BuiltinOptionsType()
            options = getattr(schema, table)()
            if kind == schema.BuiltinOptions.NONE:
                options.Init(*_NO_OPTIONS)
            elif kind != getattr(schema.BuiltinOptions, table):
                raise ValueError(kind)
            else:
                stored = self.table.BuiltinOptions()
                options.Init(stored.Bytes, stored.Pos)
            return tuple(getattr(options, name)() for name in names)


@final
class TfliteFile:
    """The first subgraph of a model file, which is the one that runs."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        if len(data) < 8 or data[4:8] != FILE_IDENTIFIER:
            raise ArtifactError("is no TFLite model file", field=FIELD, remedy=_REMEDY)
        self._data = data
        self._tensors: dict[int, FileTensor] = {}
        self._codes: dict[int, str] = {}
        self._constants: dict[int, Constant | None] = {}
        self._constant_bytes = 0
        with damage_reported():
            self._model = schema.Model.GetRootAs(data, 0)
            if not self._model.SubgraphsLength():
                raise ValueError("no subgraph")
            self._subgraph = self._model.Subgraphs(0)
            self.inputs = self._numbers(self._subgraph, "Inputs")
            self.outputs = self._numbers(self._subgraph, "Outputs")
            count = self._subgraph.OperatorsLength()
            self.is_own = _text(self._model, 10) == DESCRIPTION
            """Whether LETI's exporter wrote it."""
        if count > Graph.MAX_OPS:
            raise TooLarge(f"has {count} operators", field=FIELD, remedy=f"at most {Graph.MAX_OPS}")
        self._count = count

    def operators(self) -> Iterator[FileOperator]:
        """Yield the operators in the order in which they run."""
        operands = 0
        for i in range(self._count):
            with damage_reported():
                table = self._subgraph.Operators(i)
                operands += table.InputsLength() + table.OutputsLength()
                if operands > MAX_OPERANDS:
                    raise TooLarge(f"has more than {MAX_OPERANDS} operands", field=FIELD, limit=MAX_OPERANDS)
                inputs, outputs = self._numbers(table, "Inputs"), self._numbers(table, "Outputs")
                operator = FileOperator(self._operator_name(table.OpcodeIndex()), inputs, outputs, table)
            yield operator

    def tensor(self, number: int) -> FileTensor:
        """Return a tensor by its number."""
        if number not in self._tensors:
            with damage_reported():
                self._tensors[number] = self._read_tensor(number)
        return self._tensors[number]

    def constant(self, number: int) -> Constant | None:
        """Return what a tensor holds before the network runs; ``None`` where that is nothing.

        Quantised values are given dequantised, of the data type that is stored.
        """
        if number not in self._constants:
            self._constants[number] = self._read_constant(number)
        return self._constants[number]

    def metadata(self, name: str, limit: int) -> bytes | None:
        """Return a named piece of metadata of at most ``limit`` bytes; ``None`` where the file has none."""
        with damage_reported():
            for i in range(min(self._model.MetadataLength(), _MAX_METADATA)):
                entry = self._model.Metadata(i)
                if _text(entry, 4) == name:
                    value = self._buffer(entry.Buffer())
                    if len(value) > limit:
                        raise ValueError(len(value))
                    return bytes(value)
        return None

    def signature_names(self) -> dict[str, int]:
        """Return the tensor of each input by the name that the model's signatures give it."""
        found = {}
        with damage_reported():
            for i in range(min(self._model.SignatureDefsLength(), _MAX_METADATA)):
                signature = self._model.SignatureDefs(i)
                if signature.SubgraphIndex() == 0:
                    for j in range(min(signature.InputsLength(), len(self.inputs))):
                        found[_text(signature.Inputs(j), 4)] = int(signature.Inputs(j).TensorIndex())
        return found

    def _numbers(self, table: Any, name: str) -> tuple[int, ...]:
        """Return a vector of tensor numbers; -1 says that there is none."""
        if getattr(table, f"{name}IsNone")():
            return ()
        if getattr(table, f"{name}Length")() > MAX_OPERANDS:
            raise ValueError(name)
        numbers = getattr(table, f"{name}AsNumpy")()
        if numbers.size and not -1 <= numbers.min() <= numbers.max() < self._subgraph.TensorsLength():
            raise IndexError(name)
        return tuple(numbers.tolist())

    def _operator_name(self, index: int) -> str:
        if index not in self._codes:
            if index >= self._model.OperatorCodesLength():
                raise IndexError(index)
            code = self._model.OperatorCodes(index)
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # files of old have the second alone
            name = _BUILTINS.get(number, f"BUILTIN_{number}")
            self._codes[index] = (_text(code, 6) or name) if name == "CUSTOM" else name
        return self._codes[index]

    def _read_tensor(self, number: int) -> FileTensor:
        if not 0 <= number < self._subgraph.TensorsLength():
            raise IndexError(number)
        table = self._subgraph.Tensors(number)
        dtype = _DTYPES[table.Type()]
        if dtype not in DTYPE_BITS and dtype not in _HANDLES:
            raise InvalidInput(f"holds tensors of {dtype}, which are not read", field=FIELD)
        shape, signature = (_shape(table, name) for name in ("Shape", "ShapeSignature"))
        if len(signature) != len(shape):
            signature = shape
        known = "uint64" if dtype in _HANDLES else dtype
        return FileTensor(_text(table, 10), shape, signature, known, bool(table.IsVariable()), table)

    def _read_constant(self, number: int) -> Constant | None:
        tensor = self.tensor(number)
        elements = math.prod(tensor.shape)
        with damage_reported():
            if tensor.table.ExternalBuffer():
                return Constant(tensor.shape, tensor.dtype, not_loaded("lie outside the file"))
            held = len(self._buffer(tensor.table.Buffer()))
            if not held and elements:
                return None
            if _DTYPES[tensor.table.Type()] in _HANDLES:
                return Constant(tensor.shape, tensor.dtype, not_loaded("are no numbers"))
            if tensor.table.Sparsity() is not None:
                return Constant(tensor.shape, tensor.dtype, not_loaded("are stored sparse"))
        expected = -(-elements * DTYPE_BITS[tensor.dtype] // 8)
        if min(tensor.shape, default=0) < 0 or held != expected:
            raise damaged(f"tensor {tensor.name!r} takes {expected} bytes, the file has {held} of it")
        self._constant_bytes += held
        if self._constant_bytes > MAX_CONSTANT_BYTES:
            raise TooLarge(f"has constants of more than {MAX_CONSTANT_BYTES} bytes", field=FIELD)
        return Constant(tensor.shape, tensor.dtype, lambda: self._load(tensor))

    def _buffer(self, index: int) -> Array:
        """Return the bytes of a buffer, not copied."""
        if index >= self._model.BuffersLength():
            raise IndexError(index)
        buffer = self._model.Buffers(index)
        if buffer.Offset() > 1:  # beyond the flatbuffer, as in files of more than 2 GB; 0 and 1 say that it is not
            return np.frombuffer(self._data, np.uint8, buffer.Size(), buffer.Offset())
        return np.zeros(0, np.uint8) if buffer.DataIsNone() else buffer.DataAsNumpy()

    def _load(self, tensor: FileTensor) -> Array:
        with damage_reported():
            data = self._buffer(tensor.table.Buffer())
            values = _decoded(data, tensor.dtype, math.prod(tensor.shape)).reshape(tensor.shape)
            quantization = tensor.table.Quantization()
            if quantization is None or values.dtype.kind not in "iu":
                return values
            if quantization.DetailsType() != schema.QuantizationDetails.NONE:
                raise InvalidInput(f"weights {tensor.name!r} are quantised in a way that is not read", field=FIELD)
            return _dequantised(values, quantization)


def _text(table: Any, field: int) -> str:
    """Return a string field; no more of it than a name needs, and only what can be printed."""
    offset = table._tab.Offset(field)
    if not offset:
        return ""
    length, start = table._tab.VectorLen(offset), table._tab.Vector(offset)
    text = bytes(table._tab.Bytes[start : start + min(length, _MAX_NAME)]).decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in text)


def _shape(table: Any, name: str) -> Shape:
    if getattr(table, f"{name}IsNone")():
        return ()
    if getattr(table, f"{name}Length")() > MAX_RANK:
        raise ValueError(name)
    return tuple(getattr(table, f"{name}AsNumpy")().tolist())


def not_loaded(why: str) -> Callable[[], Array]:
    """Return the loader of weights that cannot be had; it raises :class:`InvalidInput`, saying why."""

    def load() -> Array:
        raise InvalidInput(f"has weights that {why}, which are not read", field=FIELD, remedy="import without weights")

    return load


def _decoded(data: Array, dtype: str, count: int) -> Array:
    """Return ``count`` values from their bytes, flat; what is packed into a byte starts with its low bits."""
    if dtype in _PACKED:
        bits = _PACKED[dtype]
        parts = (data[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & np.uint8(2**bits - 1)
        values = parts.reshape(-1)[:count].astype(np.int8)
        return np.where(values >= 2 ** (bits - 1), values - 2**bits, values)
    if dtype == "bfloat16":
        return (data.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return data.view(np.dtype(dtype))


def _dequantised(values: Array, quantization: Any) -> Array:
    """Return ``scale * (value - zero point)``, by tensor or along one dimension; whole numbers as they are."""
    count = quantization.ScaleLength()
    if not count:
        return values
    scale = np.asarray(quantization.ScaleAsNumpy(), np.float32)
    zero = np.asarray(quantization.ZeroPointAsNumpy() if quantization.ZeroPointLength() else [0], np.int64)
    shape: Sequence[int] = ()
    if count > 1:
        dimension = quantization.QuantizedDimension()
        if not 0 <= dimension < values.ndim or values.shape[dimension] != count:
            raise ValueError(dimension)
        shape = [count if i == dimension else 1 for i in range(values.ndim)]
    zero = np.broadcast_to(zero, (count,)) if len(zero) in (1, count) else zero[:0]
    wide: Array = values.astype(np.float64 if values.itemsize > 2 else np.float32)  # in which a difference is exact
    return np.asarray((wide - zero.reshape(shape)) * scale.reshape(shape), np.float32)
