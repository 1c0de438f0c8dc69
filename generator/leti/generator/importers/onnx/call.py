"""A node of an ONNX file as the table of operators sees it: what it reads, says and makes, and how it is placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.core.graph import Attribute, TensorType
from leti.generator.cost import Shape
from leti.generator.importers.channels_first import place_channels_last, place_transpose
from leti.generator.importers.draft import Constant, Draft, NoCounterpart, Operand, weight_dtype
from leti.generator.weights import Array

with needs("import-onnx"):
    import numpy as np
    import onnx

_A = onnx.AttributeProto
Attributes = dict[str, Any]
"""Attributes of an operator to be placed; each is an :data:`~leti.core.graph.Attribute`."""

Placed = Sequence[Operand]
"""What a node makes, one operand an output."""


@final
@dataclass(frozen=True, slots=True)
class Call:
    """A node in its place. ``outputs`` are the types of what it makes, ``None`` where they could not be found."""

    node: onnx.NodeProto
    opset: int
    inputs: tuple[Operand | None, ...]
    outputs: tuple[TensorType | None, ...]
    draft: Draft
    name: str

    # --- what it reads ------------------------------------------------------------------------------------------------

    def has(self, position: int) -> bool:
        """Return whether the optional input at ``position`` is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def operand(self, position: int = 0) -> Operand:
        """Return an input; raise :class:`ArtifactError` where it is missing."""
        operand = self.inputs[position] if position < len(self.inputs) else None
        if operand is None:
            raise ArtifactError(f"misses input {position}", field=self.name)
        return operand

    def value(self, position: int = 0) -> int:
        """Return an input as a value; a constant is placed as an operator."""
        operand = self.operand(position)
        return self.draft.constant(operand, self.name) if isinstance(operand, Constant) else operand

    def constant(self, position: int) -> Constant:
        """Return an input that must be known; where it is not, the node has no counterpart."""
        operand = self.operand(position)
        if not isinstance(operand, Constant):
            raise NoCounterpart
        return operand

    def numbers(self, position: int) -> Array:
        """Return the values of a small constant input, at least one dimension."""
        return np.atleast_1d(self.constant(position).load())

    def shape(self, position: int = 0) -> Shape:
        """Return the shape of an input."""
        operand = self.operand(position)
        return operand.shape if isinstance(operand, Constant) else self.draft.types[operand].shape

    def output(self, position: int = 0) -> TensorType:
        """Return the type of an output; raise :class:`InvalidInput` where it is not known before the network runs."""
        made = self.outputs[position]
        if made is None:
            raise InvalidInput(
                f"the shape of what {self.node.op_type} makes is not known before it runs",
                field=self.name,
                remedy="state it in the model's value_info",
            )
        return made

    # --- what it says -------------------------------------------------------------------------------------------------

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an attribute that is a whole number."""
        found = self._attribute(name, _A.INT)
        if found is None and default is None:
            raise ArtifactError(f"misses the attribute {name}", field=self.name)
        return int(found.i) if found is not None else int(default or 0)

    def number(self, name: str, default: float | None = None) -> float:
        """Return an attribute that is a number, to the seven digits that it was stored with."""
        found = self._attribute(name, _A.FLOAT)
        if found is None and default is None:
            raise ArtifactError(f"misses the attribute {name}", field=self.name)
        return short(found.f) if found is not None else float(default or 0)

    def text(self, name: str, default: str = "") -> str:
        """Return an attribute that is text."""
        found = self._attribute(name, _A.STRING)
        return found.s.decode("utf-8", "replace") if found is not None else default

    def integers(self, name: str, default: Sequence[int] = ()) -> Shape:
        """Return an attribute that is whole numbers."""
        found = self._attribute(name, _A.INTS)
        return tuple(int(n) for n in found.ints) if found is not None else tuple(default)

    def floats(self, name: str) -> tuple[float, ...]:
        """Return an attribute that is numbers."""
        found = self._attribute(name, _A.FLOATS)
        return tuple(float(n) for n in found.floats) if found is not None else ()

    def says(self, name: str) -> bool:
        """Return whether an attribute is given."""
        return any(attribute.name == name for attribute in self.node.attribute)

    def axis(self, default: int | None = None, *, name: str = "axis", rank: int | None = None) -> int:
        """Return an attribute that is a dimension of the first input, counted from 0."""
        rank = len(self.shape()) if rank is None else rank
        return self.counted((self.integer(name, default),), rank)[0]

    def counted(self, axes: Sequence[int], rank: int) -> Shape:
        """Return dimensions counted from 0; raise :class:`ArtifactError` for one that there is not."""
        if any(not -rank <= axis < rank for axis in axes):
            raise ArtifactError(f"there are no dimensions {tuple(axes)} of {rank}", field=self.name)
        return tuple(int(axis) % rank for axis in axes)

    def _attribute(self, name: str, kind: int) -> onnx.AttributeProto | None:
        for attribute in self.node.attribute:
            if attribute.name == name:
                if attribute.type != kind:
                    raise ArtifactError("is an attribute of another type", field=f"{self.name}.{name}")
                return attribute
        return None

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
        """Place an operator on the first input, unless said otherwise, that makes the first output."""
        read = (self.operand(),) if inputs is None else inputs
        made = self.output() if output is None else output
        if kind == "reshape" and isinstance(read[0], int) and self.draft.types[read[0]].elements != made.elements:
            raise ArtifactError(f"makes {made.shape} of {self.draft.types[read[0]].shape}", field=self.name)
        return self.draft.place(kind, read, made, weights=weights, name=self.name, **attributes)

    def place_channels_last(
        self, kind: str, value: int, *, weights: Sequence[Constant] = (), **attributes: Attribute
    ) -> int:
        """Place an operator that makes the first output on a value, both channels first, between two transpositions."""
        made, name = self.output(), self.name
        return place_channels_last(self.draft, kind, value, made, weights=weights, name=name, **attributes)

    def transpose(self, value: int, perm: Shape) -> int:
        """Place a transposition of a value."""
        return place_transpose(self.draft, value, perm, self.name)

    def reshape(self, value: int, shape: Shape) -> int:
        """Place a reshape of a value, if it has another shape."""
        source = self.draft.types[value]
        return value if source.shape == shape else self.place("reshape", (value,), TensorType(shape, source.dtype))

    def weight_dtype(self, weight: Constant) -> str:
        """Return the attribute ``weight_dtype`` of an operator that reads ``weight``: nothing where it is the usual."""
        return weight_dtype(weight, self.output())


def short(number: float) -> float:
    """Return the shortest decimal number that is the same in single precision, as people write constants."""
    return float(str(np.float32(number)))
