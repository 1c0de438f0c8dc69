"""What the ONNX exporter writes with: the nodes and constants of a file, and an operator's place among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from typing_extensions import override

from leti.core.errors import InvalidGraph
from leti.core.extras import needs
from leti.generator.cost import Shape
from leti.generator.export.layouts import Layout, Place, Values
from leti.generator.orders import Order, permuted
from leti.generator.weights import Array

with needs("import-onnx"):
    import numpy as np

    import onnx

_ELEMENTS = {
    **{"float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16, "float64": onnx.TensorProto.DOUBLE},
    **{"int64": onnx.TensorProto.INT64, "int32": onnx.TensorProto.INT32, "int16": onnx.TensorProto.INT16},
    **{"int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8, "bool": onnx.TensorProto.BOOL},
}


def element_of(dtype: str) -> int:
    """Return ONNX's number of a data type; raise :class:`InvalidGraph` for one that is not written."""
    try:
        return int(_ELEMENTS[dtype])
    except KeyError:
        raise InvalidGraph(f"{dtype} cannot be written as ONNX", field="dtype", remedy=", ".join(_ELEMENTS)) from None


@final
class Program(Values[str]):
    """Nodes and constants of a file, and under which name each value of the graph lies in which order of its axes."""

    def __init__(self, wanted: Sequence[bool]) -> None:
        super().__init__(wanted)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    @override
    def constant(self, array: Array) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    @override
    def reshape(self, handle: str, shape: Shape) -> str:
        return self.node("Reshape", handle, self.integers(shape))

    @override
    def transpose(self, handle: str, perm: Order) -> str:
        return self.node("Transpose", handle, perm=perm)

    def integers(self, numbers: Sequence[int]) -> str:
        """Write whole numbers, as sizes and axes are read; return their name."""
        return self.constant(np.asarray(numbers, np.int64))

    def node(self, op_type: str, *reads: str, **attributes: Any) -> str:
        """Write a node of one output; return its name."""
        return self.node_of(op_type, reads, 1, attributes)[0]

    def node_of(self, op_type: str, reads: Sequence[str], outputs: int, attributes: dict[str, Any]) -> tuple[str, ...]:
        """Write a node; return the names of what it makes."""
        self._count += 1
        made = tuple(f"{op_type.lower()}{self._count}{f'_{i}' if i else ''}" for i in range(outputs))
        self.nodes.append(onnx.helper.make_node(op_type, reads, made, name=f"{op_type}{self._count}", **attributes))
        return made


@final
class Site(Place[str]):
    """An operator of the graph in its place among the nodes of a file."""

    values: Program

    def shape(self, position: int = 0) -> Shape:
        """Return the shape of an output as it is written."""
        return permuted(self.op.outputs[position].shape, self.order)

    def node(self, op_type: str, *reads: str, **attributes: Any) -> str:
        """Write a node of one output; return its name."""
        return self.values.node(op_type, *reads, **attributes)

    def chain(self, name: str, *op_types: str) -> str:
        """Write nodes of one operand, one after the other; return the name of what the last makes."""
        for op_type in op_types:
            name = self.node(op_type, name)
        return name

    def constant(self, array: Array) -> str:
        """Write a constant in the operator's data type."""
        return self.values.constant(np.asarray(array).astype(self.dtype))

    def number(self, value: float) -> str:
        """Write a scalar in the operator's data type."""
        return self.constant(np.asarray(value))

    def integers(self, numbers: Sequence[int]) -> str:
        """Write whole numbers."""
        return self.values.integers(numbers)

    def per_channel(self, array: Array) -> str:
        """Write a constant that is broadcast against the operator's first input."""
        if array.size > 1:
            array = array.reshape((1,) * (self.rank - array.ndim) + array.shape).transpose(self.order)
        return self.constant(array)

    def bias(self) -> tuple[str, ...]:
        """Write the bias, if the operator has one."""
        return (self.constant(self.weights[1]),) if self.op.get("bias", True) else ()

    def refuse(self, why: str) -> InvalidGraph:
        """Return the error that the operator has no ONNX form."""
        return InvalidGraph(f"{self.op.kind!r} has no ONNX form: {why}", field="kind")


Write = Callable[[Site], "str | tuple[str, ...]"]
"""Writes an operator; returns the names of what it makes."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind of operator is written, and the layout in which it reads."""

    layout: Layout
    write: Write
