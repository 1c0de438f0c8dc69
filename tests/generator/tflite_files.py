"""Writes TFLite files tensor by tensor, right ones and wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

DTYPES = {"float32": "FLOAT32", "bool": "BOOL", **{f"int{n}": f"INT{n}" for n in (4, 8, 16, 32, 64)}}


def unpacked(data: bytes) -> Any:
    """Return a file as the schema's own objects."""
    return schema.ModelT.InitFromPackedBuf(data, 0)


def packed(model: Any) -> bytes:
    """Return the file of the schema's own objects."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class File:
    """One subgraph; tensors and operators in the order in which they are added."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "float32",
        data: Any = None,
        *,
        scale: Sequence[float] = (),
        zero: Sequence[int] = (),
        dimension: int = 0,
        signature: Sequence[int] | None = None,
        name: str = "",
    ) -> int:
        """Add a tensor, a constant where it has data; return its number."""
        tensor = schema.TensorT()
        tensor.name = name or f"t{len(self.graph.tensors)}"
        tensor.shape, tensor.hasRank = np.asarray(shape, np.int32), True
        tensor.type = getattr(schema.TensorType, DTYPES.get(dtype, dtype.upper()))
        if signature is not None:
            tensor.shapeSignature = np.asarray(signature, np.int32)
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data if isinstance(data, bytes) else np.asarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(scale, np.float32)
            tensor.quantization.zeroPoint = np.asarray(zero or [0], np.int64)
            tensor.quantization.quantizedDimension = dimension
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def ints(self, *values: int) -> int:
        """Add a constant of whole numbers."""
        return self.tensor((len(values),), "int32", np.asarray(values, np.int32))

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        custom: str = "",
        **fields: Any,
    ) -> None:
        """Add an operator; ``options`` names the kind of its options, ``fields`` are theirs."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = custom or None
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        operator.inputs, operator.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for field, value in fields.items():
                setattr(operator.builtinOptions, field, value)
        self.graph.operators.append(operator)

    def done(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file."""
        self.graph.inputs, self.graph.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        return packed(self.model)


def unary(name: str = "RELU", shape: Sequence[int] = (1, 4), count: int = 1) -> bytes:
    """Return the file of a chain of operators."""
    file = File()
    value = first = file.tensor(shape)
    for _ in range(count):
        made = file.tensor(shape)
        file.operator(name, [value], [made])
        value = made
    return file.done([first], [value])
