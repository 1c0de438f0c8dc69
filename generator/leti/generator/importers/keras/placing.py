"""Placing what a Keras layer does: the draft, the layer's name, its weights and the types of its outputs at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from leti.core.graph import Attribute, TensorType
from leti.generator.cost import Shape, canonical_padding
from leti.generator.importers.draft import Constant, Draft
from leti.generator.weights import Array


@final
@dataclass(frozen=True, slots=True)
class Value:
    """A value of the draft, in the place of Keras's symbolic tensor."""

    number: int
    type: TensorType

    @property
    def shape(self) -> Shape:
        """Shape, batch first."""
        return self.type.shape

    def axis(self, axis: int) -> int:
        """Return an axis counted from 0."""
        return axis % len(self.shape)


Placed = Value | Sequence[Value] | None
"""What a rule placed: the output or outputs of the layer; None where it has no counterpart."""


@final
@dataclass(frozen=True, slots=True)
class Placing:
    """Where one call of a layer goes: ``name`` is the layer's, ``outputs`` are the types of what the call returns.

    ``read`` gives the values of a weight or of a constant tensor of the backend's, ``run`` places another layer.
    """

    draft: Draft
    name: str
    outputs: tuple[TensorType, ...]
    read: Callable[[Any], Array]
    run: Callable[[Placing, Any, tuple[Any, ...]], tuple[Value, ...]]

    @property
    def output(self) -> TensorType:
        """Type of the only output."""
        return self.outputs[0]

    def within(self, name: str, *outputs: TensorType) -> Placing:
        """Return the place of a layer inside this one."""
        return replace(self, name=f"{self.name}/{name}", outputs=outputs or self.outputs)

    def weight(self, variable: Any) -> Constant:
        """Return a weight of the layer, loaded when its values are asked for."""
        return Constant(tuple(variable.shape), str(variable.dtype), lambda: self.read(variable))

    def op(
        self,
        kind: str,
        inputs: Value | Sequence[Value | Constant],
        shape: Shape | None = None,
        *weights: Constant,
        dtype: str = "",
        **attributes: Attribute,
    ) -> Value:
        """Place an operator; its output is of the first input's type but for the ``shape`` and ``dtype`` given."""
        read = [inputs] if isinstance(inputs, Value) else list(inputs)
        first = next(value for value in read if isinstance(value, Value))
        made = TensorType(first.shape if shape is None else shape, dtype or first.type.dtype)
        if weights and weights[0].dtype != made.dtype:
            attributes["weight_dtype"] = weights[0].dtype
        numbers = [value.number if isinstance(value, Value) else value for value in read]
        return Value(self.draft.place(kind, numbers, made, weights=weights, name=self.name, **attributes), made)

    def split(self, x: Value, shapes: Sequence[Shape], kind: str, axis: int) -> tuple[Value, ...]:
        """Place an operator that takes one value apart."""
        types = [TensorType(shape, x.type.dtype) for shape in shapes]
        made = self.draft.place_many(kind, [x.number], types, name=self.name, axis=axis)
        return tuple(map(Value, made, types))

    def unknown(self, kind: str, inputs: Sequence[Value], weights: Sequence[Constant] = ()) -> tuple[Value, ...]:
        """Keep a layer that has no counterpart."""
        read: list[int | Constant] = [*(value.number for value in inputs), *weights]
        return tuple(map(Value, self.draft.unknown(kind, read, self.outputs, name=self.name), self.outputs))

    def binary(self, kind: str, left: Value | Constant, right: Value | Constant, dtype: str = "") -> Value:
        """Place an operator of two operands that broadcast."""
        first = left if isinstance(left, Value) else right
        if not isinstance(first, Value):
            raise TypeError("one operand must be a value")
        made = TensorType(broadcast(left.shape, right.shape), dtype or first.type.dtype)
        numbers = [value.number if isinstance(value, Value) else value for value in (left, right)]
        return Value(self.draft.binary(kind, numbers[0], numbers[1], made, name=self.name), made)

    def with_number(self, kind: str, x: Value, number: float) -> Value:
        """Place an operator of a value and a number."""
        return self.binary(kind, x, Constant.of(number, x.type.dtype))

    def cast(self, x: Value, dtype: str) -> Value:
        """Place a cast where the value is of another data type."""
        return x if x.type.dtype == dtype else self.op("cast", x, dtype=dtype)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Place a reshape where the value is of another shape; one dimension may be -1."""
        known = math.prod(n for n in shape if n != -1)
        to = tuple(math.prod(x.shape) // known if n == -1 else int(n) for n in shape)
        return x if to == x.shape else self.op("reshape", x, to)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """Place a transpose where it changes the order of dimensions."""
        perm = tuple(x.axis(axis) for axis in perm)
        if perm == tuple(range(len(perm))):
            return x
        return self.op("transpose", x, tuple(x.shape[axis] for axis in perm), perm=perm)

    def move_last(self, x: Value, axis: int) -> Value:
        """Place the transpose that makes a dimension the last."""
        return self.transpose(x, [i for i in range(len(x.shape)) if i != x.axis(axis)] + [axis])

    def move_from_last(self, x: Value, axis: int) -> Value:
        """Undo :meth:`move_last`."""
        order = list(range(len(x.shape) - 1))
        order.insert(x.axis(axis), len(x.shape) - 1)
        return self.transpose(x, order)

    def channels_last(self, layer: Any, x: Value) -> Value:
        """Return the layer's input with its channels in the last dimension."""
        return self.move_last(x, 1) if layer.data_format == "channels_first" else x

    def layer_format(self, layer: Any, x: Value) -> Value:
        """Undo :meth:`channels_last` on the layer's output."""
        return self.move_from_last(x, 1) if layer.data_format == "channels_first" else x

    def windows_output(self, layer: Any) -> Shape:
        """Return the output's shape with channels last."""
        shape = self.output.shape
        return (shape[0], *shape[2:], shape[1]) if layer.data_format == "channels_first" else shape


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that shapes broadcast to, without a check that they do."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(max(sizes) for sizes in zip(*padded, strict=True))


def padding_of(word: str, sizes: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> str | Shape:
    """Return how the padding that Keras calls ``same``, ``valid`` or ``causal`` is written."""
    if word == "same":
        return "same"
    pads = [0] * (2 * len(sizes))
    if word == "causal":
        pads[0] = (kernel[0] - 1) * dilations[0]
    return canonical_padding(sizes, kernel, strides, dilations, pads)
