"""Where a form places operators: one operator of the graph, the tensors that it reads, its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from leti.core.errors import InvalidGraph
from leti.core.extras import needs
from leti.core.graph import Op, TensorType
from leti.generator.export.tflite.writer import NO_BIAS, NO_TENSOR, Operator, Program
from leti.generator.weights import Array

with needs("export"):
    import numpy as np

FLOATING = frozenset({"float32", "int8"})
"""Data types of tensors that hold real numbers, as such or quantised."""

Shape = tuple[int, ...]


@final
class Site:
    """One operator of the graph, being written."""

    def __init__(
        self, program: Program, number: int, op: Op, inputs: Sequence[int], weights: Sequence[Array], stored: str
    ) -> None:
        """Stand at operator ``number`` of the graph; ``stored`` is the precision of constants that are no weights."""
        self.op = op
        self.inputs = tuple(inputs)
        self._program = program
        self._number = number
        self._weights = weights
        self._stored = stored
        self._made = 0

    @property
    def shape(self) -> Shape:
        """Shape of the first output."""
        return self.op.outputs[0].shape

    @property
    def rank(self) -> int:
        """Number of dimensions of the first input."""
        return len(self.op.inputs[0].shape)

    def shape_of(self, tensor: int) -> Shape:
        """Return the shape of a tensor."""
        return self._program.tensors[tensor].shape

    def emit(
        self,
        builtin: str,
        reads: Sequence[int] | None = None,
        shape: Shape | None = None,
        *,
        options: Any = None,
        dtype: str = "",
    ) -> int:
        """Place a builtin operator of one output; return the output.

        It reads the graph operator's inputs unless told otherwise; shape and data type are the first output's.
        """
        made = TensorType(self.shape if shape is None else shape, dtype or self.op.outputs[0].dtype)
        return self.emit_many(builtin, self.inputs if reads is None else reads, (made,), options=options)[0]

    def emit_many(
        self, builtin: str, reads: Sequence[int], types: Sequence[TensorType], *, options: Any = None
    ) -> tuple[int, ...]:
        """Place a builtin operator of any number of outputs; return them."""
        made = tuple(self._program.tensor(self._name(), t.shape, t.dtype) for t in types)
        self._program.operators.append(Operator(builtin, options, list(reads), list(made), site=self._number))
        return made

    def weight(self, position: int, shape: Shape | None = None, axes: Sequence[int] = ()) -> int:
        """Return one of the operator's weights as a constant, in another order of dimensions or shape if asked for."""
        array = self._weights[position]
        if axes:
            array = array.transpose(axes)
        stored = str(self.op.get("weight_dtype", ""))
        return self._program.constant(self._name(), array if shape is None else array.reshape(shape), stored)

    def values(self, position: int) -> Array:
        """Return one of the operator's weights."""
        return self._weights[position]

    def bias(self, position: int = 1, *, zeros: int = 0) -> int:
        """Return the bias; where there is none, ``zeros`` zeros named as :data:`NO_BIAS` or, of no zeros, no tensor.

        Zeros of another number or type have another name: quantizers know tensors by their names.
        """
        if self.op.get("bias", True):
            return self.weight(position)
        if not zeros:
            return NO_TENSOR
        name = " ".join(filter(None, (NO_BIAS, f"of {zeros}", self._stored)))
        return self._program.constant(name, np.zeros(zeros, np.float32), self._stored, kept_apart=True)

    def constant(self, array: Array) -> int:
        """Return a constant that is no weight; floats take the type of the activations."""
        if array.dtype == np.float32 and self.op.outputs[0].dtype in ("int32", "int64", "float16", "float64"):
            array = array.astype(self.op.outputs[0].dtype)
        return self._program.constant(self._name(), array, self._stored if array.dtype == np.float32 else "")

    def number(self, value: float) -> int:
        """Return a scalar constant of the activations' type."""
        return self.constant(np.asarray(value, np.float32))

    def integers(self, values: Any) -> int:
        """Return a constant of whole numbers, such as axes or sizes."""
        try:
            return self._program.constant(self._name(), np.asarray(values, np.int32))
        except OverflowError as error:
            raise self.refuse("it has numbers of more than 32 bits") from error

    def reshape(self, tensor: int, shape: Shape) -> int:
        """Place a reshape, unless the tensor has the shape already."""
        if self.shape_of(tensor) == shape:
            return tensor
        return self.emit("RESHAPE", (tensor, self.integers(shape)), shape)

    def refuse(self, what: str, remedy: str = "") -> InvalidGraph:
        """Return the error for an operator that has no TFLite form because of ``what``."""
        return InvalidGraph(f"has no TFLite form: {what}", field=f"ops[{self._number}].{self.op.kind}", remedy=remedy)

    def _name(self) -> str:
        self._made += 1
        return f"{self.op.kind}{self._number}/{self._made}"


Form = Callable[[Site], int | tuple[int, ...]]
"""Places the builtin operators that an operator of the graph is written as; returns its output tensors."""
