"""What the ONNX exporter writes with: the nodes and constants of a file, and an operator's place among them.

A value lies in some *order*: axis ``k`` of the file's tensor is axis ``order[k]`` of the graph's. Windows read and make
channels first, other operators what they are given where they can. Another order is a node of its own, once a value,
where somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

from leti.core.errors import InvalidGraph
from leti.core.extras import needs
from leti.core.graph import Op, TensorType
from leti.generator.cost import Shape
from leti.generator.orders import Order, channels_first, identity, permuted
from leti.generator.weights import Array

with needs("import-onnx"):
    import numpy as np

    import onnx

Layout = Literal["first", "last", "free"]
"""How an operator reads and makes tensors of three dimensions and more: "free" is whichever is there."""

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
class Program:
    """Nodes and constants of a file, and under which name each value of the graph lies in which order of its axes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.types: list[TensorType] = []
        self.wanted: list[bool] = []  # channels first, by those that read the value
        self._names: list[dict[Order, str]] = []
        self._known: dict[int, Array] = {}
        self._count = 0

    def value(self, tensor_type: TensorType, name: str, order: Order) -> None:
        """Note the name of the next value of the graph, and the order of its axes."""
        self.types.append(tensor_type)
        self._names.append({order: name})

    def known(self, tensor_type: TensorType, array: Array) -> None:
        """Note that the next value of the graph is a constant."""
        self._known[len(self.types)] = array.astype(tensor_type.dtype)
        self.types.append(tensor_type)
        self._names.append({})

    def orders(self, value: int) -> tuple[Order, ...]:
        """Return the orders in which a value can be read without another node; of a constant, which has all, none."""
        return () if value in self._known else tuple(self._names[value])

    def read(self, value: int, order: Order) -> str:
        """Return the name of a value whose axes lie in an order, written now if it is not there yet."""
        names, shape = self._names[value], self.types[value].shape
        if order in names:
            return names[order]
        if value in self._known:
            names[order] = self.constant(self._known[value].transpose(order))
            return names[order]
        held, name = next(iter(names.items()))
        if _memory(shape, held) == _memory(shape, order):
            names[order] = self.reshape(name, permuted(shape, order))
        else:
            names[order] = self.node("Transpose", name, perm=[held.index(axis) for axis in order])
        return names[order]

    def in_memory(self, value: int, order: Order) -> str:
        """Return a name of a value whose elements, if not its axes, lie as in an order."""
        shape = self.types[value].shape
        alike = [held for held in self.orders(value) if _memory(shape, held) == _memory(shape, order)]
        return self.read(value, alike[0] if alike else order)

    def constant(self, array: Array) -> str:
        """Write a constant; return its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def integers(self, numbers: Sequence[int]) -> str:
        """Write whole numbers, as sizes and axes are read; return their name."""
        return self.constant(np.asarray(numbers, np.int64))

    def reshape(self, name: str, shape: Shape) -> str:
        """Write a reshape; return its name."""
        return self.node("Reshape", name, self.integers(shape))

    def node(self, op_type: str, *reads: str, **attributes: Any) -> str:
        """Write a node of one output; return its name."""
        return self.node_of(op_type, reads, 1, attributes)[0]

    def node_of(self, op_type: str, reads: Sequence[str], outputs: int, attributes: dict[str, Any]) -> tuple[str, ...]:
        """Write a node; return the names of what it makes."""
        self._count += 1
        made = tuple(f"{op_type.lower()}{self._count}{f'_{i}' if i else ''}" for i in range(outputs))
        self.nodes.append(onnx.helper.make_node(op_type, reads, made, name=f"{op_type}{self._count}", **attributes))
        return made


def _memory(shape: Shape, order: Order) -> Order:
    """Return the axes along which elements differ, in an order."""
    return tuple(axis for axis in order if shape[axis] > 1)


def is_alike(shape: Shape) -> bool:
    """Return whether the elements of a tensor lie alike channels first and last."""
    return _memory(shape, channels_first(len(shape))) == _memory(shape, identity(len(shape)))


@final
@dataclass(slots=True)
class Site:
    """An operator in its place: its weights, what it reads, and the order of axes that was chosen for it.

    ``made_order`` is that of its outputs: the one in which it reads, unless its form says otherwise.
    """

    program: Program
    op: Op
    sources: tuple[int, ...]
    weights: Sequence[Array]
    order: Order
    made_order: Order = field(init=False)

    def __post_init__(self) -> None:
        """Make outputs as inputs are read."""
        self.made_order = self.order

    @property
    def rank(self) -> int:
        """Number of dimensions of the first input."""
        return len(self.op.inputs[0].shape)

    @property
    def made(self) -> TensorType:
        """Type of the first output, as the graph has it."""
        return self.op.outputs[0]

    def read(self, position: int = 0) -> str:
        """Return the name of an input, its axes in the operator's order if it has as many."""
        rank = len(self.op.inputs[position].shape)
        return self.program.read(self.sources[position], self.order if rank == self.rank else identity(rank))

    def reads(self) -> list[str]:
        """Return the names of all inputs."""
        return [self.read(i) for i in range(len(self.sources))]

    def shape(self, position: int = 0) -> Shape:
        """Return the shape of an output as it is written."""
        return permuted(self.op.outputs[position].shape, self.order)

    def axis(self, name: str = "axis") -> int:
        """Return an attribute that is an axis, as it is written."""
        return self.order.index(self.op.integer(name))

    def node(self, op_type: str, *reads: str, **attributes: Any) -> str:
        """Write a node of one output; return its name."""
        return self.program.node(op_type, *reads, **attributes)

    def chain(self, name: str, *op_types: str) -> str:
        """Write nodes of one operand, one after the other; return the name of what the last makes."""
        for op_type in op_types:
            name = self.node(op_type, name)
        return name

    def constant(self, array: Array) -> str:
        """Write a constant in the operator's data type."""
        return self.program.constant(np.asarray(array).astype(self.dtype))

    @property
    def dtype(self) -> str:
        """Data type of what the operator computes with."""
        return self.op.inputs[0].dtype if self.op.inputs else self.made.dtype

    def number(self, value: float) -> str:
        """Write a scalar in the operator's data type."""
        return self.constant(np.asarray(value))

    def integers(self, numbers: Sequence[int]) -> str:
        """Write whole numbers."""
        return self.program.integers(numbers)

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
