"""What the PyTorch exporter writes with: the nodes and tensors of a program, and an operator's place among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from typing_extensions import override

from leti.core.errors import InvalidGraph
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.export.layouts import Layout, Place, Values
from leti.generator.orders import Order, permuted
from leti.generator.weights import Array

with needs("export"):
    import numpy as np

ELEMENTS: Final[Mapping[str, int]] = {
    **{"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5},
    **{"float16": 6, "float32": 7, "float64": 8, "bool": 12},
}
"""The number of each data type in the schema of exported programs."""


def element_of(dtype: str) -> int:
    """Return PyTorch's number of a data type; raise :class:`InvalidGraph` for one that is not written."""
    try:
        return ELEMENTS[dtype]
    except KeyError:
        raise InvalidGraph(f"{dtype} cannot be written as PyTorch", field="dtype", remedy=", ".join(ELEMENTS)) from None


@final
@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a program: its name, and its type as it lies there."""

    name: str
    type: TensorType


@final
@dataclass(frozen=True, slots=True)
class Dtype:
    """A data type that an operator is given."""

    name: str


Argument = None | bool | int | float | str | Dtype | Tensor | Sequence[int] | Sequence["Tensor | None"]


@final
@dataclass(frozen=True, slots=True)
class Node:
    """A call of an operator of ATen, its arguments by their names in the operator's schema.

    ``is_list`` says that it makes one list of tensors, however many.
    """

    name: str
    target: str
    arguments: Mapping[str, Argument]
    outputs: tuple[Tensor, ...]
    is_list: bool


@final
@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that a program keeps, under a name in its state; parameters can be trained, buffers cannot."""

    tensor: Tensor
    name: str
    array: Array
    is_parameter: bool


@final
class Program(Values[Tensor]):
    """The nodes and kept tensors of a program."""

    def __init__(self, wanted: Sequence[bool]) -> None:
        super().__init__(wanted)
        self.inputs: list[Tensor] = []
        self.nodes: list[Node] = []
        self.stored: list[Stored] = []
        self._names: dict[str, int] = {}

    def input(self, tensor_type: TensorType, order: Order) -> None:
        """Write an input of the network, the next value of the graph."""
        tensor = Tensor(self._name("x"), TensorType(permuted(tensor_type.shape, order), tensor_type.dtype))
        self.inputs.append(tensor)
        self.value(tensor_type, tensor, order)

    def store(self, array: Array, owner: str, role: str, *, is_parameter: bool) -> Tensor:
        """Write a tensor of the module ``owner``, in which it is called ``role``."""
        element_of(str(array.dtype))
        path = self._name(f"{owner}.{role}")
        kind = "p" if is_parameter else "b"
        tensor = Tensor(self._name(f"{kind}_{path.replace('.', '_')}"), TensorType(array.shape, str(array.dtype)))
        self.stored.append(Stored(tensor, path, array, is_parameter))
        return tensor

    @override
    def constant(self, array: Array) -> Tensor:
        return self.store(np.asarray(array, order="C"), "constants", "tensor", is_parameter=False)

    @override
    def reshape(self, handle: Tensor, shape: Shape) -> Tensor:
        return self.node("reshape", TensorType(shape, handle.type.dtype), self=handle, shape=shape)

    @override
    def transpose(self, handle: Tensor, perm: Order) -> Tensor:
        made = TensorType(permuted(handle.type.shape, perm), handle.type.dtype)
        return self.node("permute", made, self=handle, dims=perm)

    def node(self, target: str, made: TensorType, /, **arguments: Argument) -> Tensor:
        """Write a call that makes one tensor of type ``made``; return the tensor."""
        return self.call(target, (made,), arguments)[0]

    def call(
        self, target: str, made: Sequence[TensorType], arguments: Mapping[str, Argument], *, is_list: bool = False
    ) -> tuple[Tensor, ...]:
        """Write a call of an operator, ``.default`` unless another overload is said; return what it makes."""
        packet, _, overload = target.partition(".")
        for tensor_type in made:
            element_of(tensor_type.dtype)
        called = self._name(packet)
        is_one = len(made) == 1 and not is_list
        outputs = tuple(Tensor(called if is_one else self._name("getitem"), tensor_type) for tensor_type in made)
        name = f"torch.ops.aten.{packet}.{overload or 'default'}"
        self.nodes.append(Node(called, name, arguments, outputs, is_list))
        return outputs

    def _name(self, wanted: str) -> str:
        """Return a name that nothing has yet."""
        count = self._names[wanted] = self._names.get(wanted, -1) + 1
        return f"{wanted}_{count}" if count else wanted


@final
class Site(Place[Tensor]):
    """An operator of the graph in its place among the nodes of a program."""

    values: Program

    def written(self, position: int = 0) -> TensorType:
        """Return the type of an output as it lies in the program."""
        made = self.op.outputs[position]
        order = self.made_order if len(self.made_order) == len(made.shape) else tuple(range(len(made.shape)))
        return TensorType(permuted(made.shape, order), made.dtype)

    def node(self, target: str, made: TensorType | None = None, /, **arguments: Argument) -> Tensor:
        """Write a call that makes one tensor, the operator's first output unless its type is said."""
        return self.values.node(target, made or self.written(), **arguments)

    def parameter(self, array: Array, role: str) -> Tensor:
        """Write a parameter in the operator's data type."""
        return self._stored(array, role, is_parameter=True)

    def buffer(self, array: Array, role: str) -> Tensor:
        """Write a buffer in the operator's data type."""
        return self._stored(array, role, is_parameter=False)

    def bias(self) -> Tensor | None:
        """Write the bias, if the operator has one."""
        return self.parameter(self.weights[1], "bias") if self.op.get("bias", True) else None

    def per_channel(self, array: Array) -> float | Tensor:
        """Return a constant that is broadcast against the operator's first input; a single one is a number."""
        if array.size == 1:
            return float(array.reshape(()))
        wide = array.reshape((1,) * (self.rank - array.ndim) + array.shape).transpose(self.order)
        while wide.ndim > 1 and wide.shape[0] == 1:
            wide = wide[0]
        return self.buffer(wide, "constant")

    def cast(self, tensor: Tensor, dtype: str) -> Tensor:
        """Write a cast, unless the tensor is of that data type."""
        if tensor.type.dtype == dtype:
            return tensor
        return self.node("to.dtype", TensorType(tensor.type.shape, dtype), self=tensor, dtype=Dtype(dtype))

    def padded(self, tensor: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
        """Write constant padding of the last dimensions, as many as there are numbers."""
        return pad(self.values, tensor, before, after, "constant", value)

    def refuse(self, why: str) -> InvalidGraph:
        """Return the error that the operator has no form in PyTorch."""
        return InvalidGraph(f"{self.op.kind!r} has no PyTorch form: {why}", field="kind")

    def _stored(self, array: Array, role: str, *, is_parameter: bool) -> Tensor:
        made = np.asarray(array, np.dtype(self.dtype), order="C")
        # The position of the operator among those that are written tells its module from others of its kind.
        return self.values.store(made, f"{self.op.kind}_{len(self.values.types)}", role, is_parameter=is_parameter)


def pad(
    program: Program, tensor: Tensor, before: Sequence[int], after: Sequence[int], mode: str, value: float | None
) -> Tensor:
    """Write padding of the last dimensions; return the tensor itself where it is none."""
    if not any((*before, *after)):
        return tensor
    shape = list(tensor.type.shape)
    start = len(shape) - len(before)
    for i, (low, high) in enumerate(zip(before, after, strict=True)):
        shape[start + i] += low + high
    flat = [n for low, high in zip(reversed(before), reversed(after), strict=True) for n in (low, high)]
    while len(flat) > 2 and flat[-2:] == [0, 0] and mode == "constant":
        del flat[-2:]
    made = TensorType(tuple(shape), tensor.type.dtype)
    return program.node("pad", made, self=tensor, pad=flat, mode=mode, value=value)


Write = Callable[[Site], "Tensor | tuple[Tensor, ...]"]
"""Writes an operator; returns what it makes."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind of operator is written, and the layout in which it reads."""

    layout: Layout
    write: Write
