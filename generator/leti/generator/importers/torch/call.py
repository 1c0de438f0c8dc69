"""A node of an exported program as the table of operators sees it: what it reads, says and makes, how it is placed."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.core.graph import DTYPE_BITS, Attribute, TensorType
from leti.generator.cost import Shape
from leti.generator.importers.channels_first import place_channels_last, place_transpose
from leti.generator.importers.draft import Constant, Draft, NoCounterpart, Operand, weight_dtype
from leti.generator.importers.torch.program import Argument, Dtype, Name, ProgramNode

with needs("import-torch"):
    import numpy as np

Placed = Operand | Sequence[Operand | None]
"""What a node makes, one operand an output; ``None`` for one that nothing reads."""


@final
@dataclass(frozen=True, slots=True)
class Call:
    """A node in its place. ``outputs`` are the types of what it makes, ``find`` gives the operand of a name."""

    node: ProgramNode
    outputs: tuple[TensorType, ...]
    find: Callable[[str], Operand]
    read: Container[str]
    draft: Draft

    # --- what it reads ------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Return whether an argument is given."""
        return self.node.arguments.get(name) is not None

    def operand(self, name: str = "") -> Operand:
        """Return an argument that is a tensor or a number; without a name, the first argument."""
        argument = self._first() if not name else self.node.arguments.get(name)
        if isinstance(argument, Name):
            return self.find(argument.name)
        if isinstance(argument, bool | int | float):
            return self.scalar(argument, self._beside(argument))
        raise self._wrong(name or "its first argument")

    def operands(self, name: str) -> list[Operand]:
        """Return an argument that is a list of tensors."""
        argument = self.node.arguments.get(name)
        if not isinstance(argument, tuple) or not all(isinstance(item, Name) for item in argument):
            raise self._wrong(name)
        return [self.find(item.name) for item in argument]

    def value(self, name: str = "") -> int:
        """Return an argument as a value; a constant is placed as an operator."""
        operand = self.operand(name)
        return self.draft.constant(operand, self.node.layer) if isinstance(operand, Constant) else operand

    def constant(self, name: str) -> Constant:
        """Return an argument that must be known; where it is not, the node has no counterpart."""
        operand = self.operand(name)
        if not isinstance(operand, Constant):
            raise NoCounterpart
        return operand

    def scalar(self, number: float, like: TensorType | None = None) -> Constant:
        """Return a number as a constant of the data type of the first output, or of another type's."""
        dtype = (like or self.outputs[0]).dtype
        return Constant.of(np.asarray(number, np.float32 if isinstance(number, float) else np.int64), dtype)

    def type_of(self, operand: Operand) -> TensorType:
        """Return the type of an operand."""
        return TensorType(operand.shape, operand.dtype) if isinstance(operand, Constant) else self.draft.types[operand]

    def shape(self, name: str = "") -> Shape:
        """Return the shape of an argument; without a name, of the first."""
        return self.type_of(self.operand(name)).shape

    @property
    def output(self) -> TensorType:
        """Type of the first output."""
        return self.outputs[0]

    def is_read(self, position: int) -> bool:
        """Return whether anything reads an output."""
        return position < len(self.node.outputs) and self.node.outputs[position] in self.read

    # --- what it says -------------------------------------------------------------------------------------------------

    def integers(self, name: str, default: Sequence[int] | None = None, rank: int = 0) -> Shape:
        """Return an argument that is whole numbers; one alone stands for ``rank`` of them."""
        argument = self.node.arguments.get(name)
        if (argument is None or argument == ()) and default is not None:
            argument = tuple(default)
        if isinstance(argument, int):
            argument = (argument,)
        if not isinstance(argument, tuple) or any(type(item) is not int for item in argument):
            raise self._wrong(name)
        return argument * rank if rank and len(argument) == 1 else argument

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an argument that is a whole number."""
        argument = self.node.arguments.get(name, default)
        if type(argument) is not int:
            raise self._wrong(name)
        return argument

    def number(self, name: str, default: float | None = None) -> float:
        """Return an argument that is a number."""
        argument = self.node.arguments.get(name, default)
        if isinstance(argument, bool) or not isinstance(argument, int | float):
            raise self._wrong(name)
        return float(argument)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return an argument that is true or false."""
        return bool(self.node.arguments.get(name, default))

    def text(self, name: str, default: str) -> str:
        """Return an argument that is text."""
        return str(self.node.arguments.get(name, default))

    def dtype(self, name: str = "dtype") -> str:
        """Return an argument that is a data type, or nothing."""
        argument = self.node.arguments.get(name)
        return argument.name if isinstance(argument, Dtype) else ""

    def axis(self, name: str = "dim", default: int | None = None, rank: int | None = None) -> int:
        """Return an argument that is a dimension, of the first argument unless ``rank`` is said, counted from 0."""
        return self.counted((self.integer(name, default),), rank)[0]

    def axes(self, name: str = "dim") -> Shape:
        """Return an argument that is dimensions of the first argument; all of them where none is named."""
        rank = len(self.shape())
        return self.counted(self.integers(name, range(rank)), rank)

    def counted(self, axes: Sequence[int], rank: int | None = None) -> Shape:
        """Return dimensions counted from 0; raise :class:`ArtifactError` for one that there is not."""
        rank = len(self.shape()) if rank is None else rank
        if any(not -rank <= axis < rank for axis in axes):
            raise ArtifactError(f"there are no dimensions {tuple(axes)} of {rank}", field=self.node.layer)
        return tuple(axis % rank for axis in axes)

    def _beside(self, number: float) -> TensorType:
        """Return the type that a number has: that of what is made, or of what it is compared with."""
        compared = [self.type_of(self.find(a.name)) for a in self.node.arguments.values() if isinstance(a, Name)]
        if self.output.dtype != "bool" or not compared:
            return self.output
        own = "bool" if isinstance(number, bool) else "int64" if isinstance(number, int) else "float32"
        return TensorType((), promoted([*compared, TensorType((), own)]))

    def _first(self) -> Argument:
        return next(iter(self.node.arguments.values()), None)

    def _wrong(self, name: str) -> ArtifactError:
        return ArtifactError(f"{self.node.target}: {name} is missing or of another type", field=self.node.layer)

    # --- how it is placed ---------------------------------------------------------------------------------------------

    def place(
        self,
        kind: str,
        inputs: Sequence[Operand] | None = None,
        output: TensorType | None = None,
        *,
        weights: Sequence[Constant] = (),
        **attributes: Attribute,
    ) -> int:
        """Place an operator on the first argument, unless said otherwise, that makes the first output."""
        read = (self.operand(),) if inputs is None else inputs
        made = self.output if output is None else output
        return self.draft.place(kind, read, made, weights=weights, name=self.node.layer, **attributes)

    def place_channels_last(self, kind: str, value: int, *, weights: Sequence[Constant] = (), **attributes: Any) -> int:
        """Place an operator that makes the first output on a value, both channels first, between two transpositions."""
        made, name = self.output, self.node.layer
        return place_channels_last(self.draft, kind, value, made, weights=weights, name=name, **attributes)

    def transpose(self, operand: Operand, perm: Shape) -> Operand:
        """Place a transposition, or turn a constant, unless nothing moves."""
        if perm == tuple(range(len(perm))):
            return operand
        if isinstance(operand, Constant):
            return operand.transposed(perm)
        return place_transpose(self.draft, operand, perm, self.node.layer)

    def reshape(self, operand: Operand, shape: Shape) -> Operand:
        """Place a reshape, or reshape a constant, unless the shape is the same."""
        source = self.type_of(operand)
        if source.shape == shape:
            return operand
        if math.prod(shape) != source.elements:
            raise ArtifactError(f"cannot make {shape} of {source.shape}", field=self.node.layer)
        if isinstance(operand, Constant):
            return operand.reshaped(shape)
        return self.place("reshape", (operand,), TensorType(shape, source.dtype))

    def binary(self, kind: str, left: Operand, right: Operand, made: TensorType | None = None) -> int:
        """Place an operator of two operands of one data type, the first output unless said otherwise."""
        made = self.output if made is None else made
        dtype = made.dtype if made.dtype != "bool" else promoted([self.type_of(left), self.type_of(right)])
        left, right = self.cast(left, dtype), self.cast(right, dtype)
        if isinstance(left, Constant) and isinstance(right, Constant):
            left = self.draft.constant(left, self.node.layer)
        return self.draft.binary(kind, left, right, made, name=self.node.layer)

    def cast(self, operand: Operand, dtype: str) -> Operand:
        """Place a cast, or give a constant another data type, unless it has that one."""
        source = self.type_of(operand)
        if source.dtype == dtype:
            return operand
        if isinstance(operand, Constant):
            kind = np.float32 if _rank_of(dtype)[0] == _FLOATING else np.int64
            return Constant(operand.shape, dtype, lambda: operand.array().astype(kind))
        return self.place("cast", (operand,), TensorType(source.shape, dtype))

    def weight_dtype(self, weight: Constant) -> str:
        """Return the attribute ``weight_dtype`` of an operator that reads ``weight``: nothing where it is the usual."""
        return weight_dtype(weight, self.output)


def promoted(types: Iterable[TensorType]) -> str:
    """Return the data type in which PyTorch computes with tensors of several.

    The most general of truth values, whole numbers and floats wins; of one sort, the widest of those that have
    dimensions (https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc).
    """
    _, _, _, dtype = max((_rank_of(t.dtype)[0], bool(t.shape), _rank_of(t.dtype)[1], t.dtype) for t in types)
    return dtype


def _rank_of(dtype: str) -> tuple[int, int]:
    """Return the sort of a data type, 0 for truth values, and its width."""
    sort = 0 if dtype == "bool" else _FLOATING if "float" in dtype else 3 if dtype.startswith("complex") else 1
    return sort, DTYPE_BITS[dtype]


_FLOATING: Final = 2
