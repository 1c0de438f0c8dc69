"""Site: an operator of a TFLite file in its place, as the functions of the table of operators see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from leti.core.errors import InvalidGraph, TooLarge
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.export.tflite.writer import NO_BIAS
from leti.generator.importers.draft import Constant, Draft, NoCounterpart, Operand, weight_dtype
from leti.generator.importers.tflite.file import (
    FIELD,
    MAX_WHOLE_NUMBERS,
    FileOperator,
    TfliteFile,
    damage_reported,
    damaged,
)


@final
class Values:
    """What each tensor of a file has become: a value of the draft, or a constant; and of what type each tensor is."""

    def __init__(self, file: TfliteFile, draft: Draft, shapes: dict[int, Shape]) -> None:
        self.file = file
        self.draft = draft
        self._shapes = shapes
        self._operands: dict[int, Operand] = {}
        self._placed: dict[int, int] = {}

    def type(self, tensor: int) -> TensorType:
        """Return the type of a tensor."""
        read = self.file.tensor(tensor)
        try:
            return TensorType(self._shapes.get(tensor, read.shape), read.dtype)
        except InvalidGraph as error:
            raise InvalidGraph(error.message, field=f"tensor {read.name!r}", remedy=error.remedy) from error

    def set(self, tensor: int, operand: Operand) -> None:
        """Say what a tensor has become; each is made once."""
        if tensor in self._operands:
            raise damaged(f"tensor {self.file.tensor(tensor).name!r} is made twice")
        self._operands[tensor] = operand

    def get(self, tensor: int) -> Operand | None:
        """Return what a tensor has become; ``None`` for the state that a variable tensor holds."""
        if tensor not in self._operands:
            constant = self.file.constant(tensor)
            if constant is None:
                read = self.file.tensor(tensor)
                if read.is_variable:
                    return None
                raise damaged(f"tensor {read.name!r} is read before it is made")
            self._operands[tensor] = constant
        return self._operands[tensor]

    def number(self, tensor: int) -> int:
        """Return the value of a tensor; a constant is placed as an operator, once."""
        operand = self.get(tensor)
        if operand is None:
            raise NoCounterpart
        if isinstance(operand, int):
            return operand
        if tensor not in self._placed:
            made = self.type(tensor)
            name = self.file.tensor(tensor).name
            dtype = weight_dtype(operand, made)
            self._placed[tensor] = self.draft.place(
                "constant", (), made, weights=(operand,), name=name, weight_dtype=dtype
            )
        return self._placed[tensor]


@final
class Site:
    """One operator with what it reads and makes. Operands are counted as in the file, optional ones among them."""

    def __init__(self, values: Values, operator: FileOperator) -> None:
        self.operator = operator
        self.name = values.file.tensor(operator.outputs[0]).name if operator.outputs else operator.name
        self._values = values

    def tensor(self, i: int) -> int:
        """Return the number of an input's tensor."""
        if i >= len(self.operator.inputs) or self.operator.inputs[i] < 0:
            raise damaged(f"{self.operator.name} {self.name!r} lacks input {i}")
        return self.operator.inputs[i]

    def has(self, i: int) -> bool:
        """Return whether an optional input is there."""
        return i < len(self.operator.inputs) and self.operator.inputs[i] >= 0

    def operand(self, i: int) -> Operand:
        """Return an input, as a value or a constant."""
        operand = self._values.get(self.tensor(i))
        if operand is None:
            raise NoCounterpart
        return operand

    def value(self, i: int) -> int:
        """Return an input as a value."""
        return self._values.number(self.tensor(i))

    def values(self) -> list[int]:
        """Return all inputs as values."""
        return [self.value(i) for i in range(len(self.operator.inputs))]

    def constant(self, i: int) -> Constant:
        """Return an input that must be a constant for the operator to have a counterpart."""
        operand = self.operand(i)
        if not isinstance(operand, Constant):
            raise NoCounterpart
        return operand

    def biases(self, i: int) -> list[Constant]:
        """Return the bias, if there is one.

        LiteRT's convolutions don't go without, so that one of zeros is how writers say that there is none; LETI's own
        exporter says it by the name as well.
        """
        if not self.has(i):
            return []
        bias, file = self.constant(i), self._values.file
        none = file.tensor(self.tensor(i)).name.startswith(NO_BIAS) if file.is_own else True
        return [] if none and not bias.array().any() else [bias]

    def integers(self, i: int) -> tuple[int, ...]:
        """Return the values of a constant of whole numbers, flat."""
        constant = self.constant(i)
        if sum(constant.shape) > MAX_WHOLE_NUMBERS:
            raise TooLarge(f"{self.operator.name} {self.name!r} reads {constant.shape} whole numbers", field=FIELD)
        if not constant.dtype.startswith(("int", "uint")):
            raise damaged(f"{self.operator.name} {self.name!r} reads {constant.dtype} for whole numbers")
        with damage_reported():
            return tuple(int(n) for n in constant.array().reshape(-1).tolist())

    def integer(self, i: int) -> int:
        """Return the value of a constant of one whole number."""
        values = self.integers(i)
        self.require(len(values) == 1, f"takes one number, not {values}")
        return values[0]

    def input(self, i: int = 0) -> TensorType:
        """Return the type of an input."""
        return self._values.type(self.tensor(i))

    def output(self, i: int = 0) -> TensorType:
        """Return the type of an output."""
        if i >= len(self.operator.outputs):
            raise damaged(f"{self.operator.name} {self.name!r} lacks output {i}")
        return self._values.type(self.operator.outputs[i])

    def outputs(self) -> list[TensorType]:
        """Return the types of all outputs."""
        return [self.output(i) for i in range(len(self.operator.outputs))]

    def options(self, table: str, *names: str) -> tuple[Any, ...]:
        """Return fields of the operator's options."""
        return self.operator.options(table, *names)

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis counted from 0."""
        self.require(-rank <= axis < rank, f"has axis {axis} of {rank}")
        return axis % rank

    def require(self, fits: bool, how: str) -> None:
        """Raise :class:`InvalidGraph`, naming the operator and saying how it does not fit together, unless it does."""
        if not fits:
            raise InvalidGraph(f"{self.operator.name} {how}", field=self.name)

    def place(
        self,
        kind: str,
        inputs: Sequence[int],
        output: TensorType | None = None,
        *,
        weights: Sequence[Constant] = (),
        **attributes: Any,
    ) -> int:
        """Place an operator of one output, by default of the type of the file's; return its value."""
        made = output or self.output()
        return self._values.draft.place(kind, inputs, made, weights=weights, name=self.name, **attributes)

    def place_many(self, kind: str, inputs: Sequence[int], **attributes: Any) -> tuple[int, ...]:
        """Place an operator with all the file's outputs; return their values."""
        return self._values.draft.place_many(kind, inputs, self.outputs(), name=self.name, **attributes)

    def binary(self, kind: str, left: Operand, right: Operand, output: TensorType) -> int:
        """Place an operator of two operands; see :meth:`~leti.generator.importers.draft.Draft.binary`."""
        return self._values.draft.binary(kind, left, right, output, name=self.name)

    def unknown(self) -> tuple[int, ...]:
        """Keep the operator as unknown, with all that it reads; return its values."""
        read = [self._values.get(tensor) for tensor in self.operator.inputs if tensor >= 0]
        operands = [operand for operand in read if operand is not None]
        return self._values.draft.unknown(self.operator.name, operands, self.outputs(), name=self.name)

    def activated(self, value: int, code: int) -> tuple[int, ...]:
        """Place the activation that the operator ends in, if any; return the value after it."""
        with damage_reported():
            kind = _ACTIVATIONS[code]
        output = self.output()
        if kind == "SIGN_BIT":
            return self._values.draft.unknown(kind, (value,), (output,), name=self.name)
        return (self.place(kind, (value,), output) if kind else value,)


_ACTIVATIONS = {0: "", 1: "relu", 2: "relu_n1", 3: "relu6", 4: "tanh", 5: "SIGN_BIT"}
