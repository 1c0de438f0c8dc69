"""Draft: a network as an importer reads it, still to be simplified; it becomes a :class:`~leti.core.graph.Graph`.

An importer places nodes of the kinds in :data:`~leti.generator.cost.OPERATORS`, channels last, with the constants that
they read. Passes (layout, patterns, folding) make a draft of a draft. Values are numbers; types are known throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from leti.core.errors import InvalidGraph, InvalidInput, TooLarge, printable
from leti.core.extras import needs
from leti.core.graph import Attribute, Graph, Op, TensorType
from leti.core.operators import as_integer, as_integers, as_number
from leti.generator.cost import OPERATORS, Shape, constant_attribute, make_operator, make_unknown, weight_shapes
from leti.generator.fusion import fuse
from leti.generator.weights import Array

with needs("export"):
    import numpy as np

UNKNOWN = "unknown:"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A tensor that is known before the network runs. Its values are loaded when somebody asks, not before.

    ``dtype`` is what the file stores; :meth:`array` gives floats as float32 (quantised values dequantised) and whole
    numbers as int64.
    """

    shape: Shape
    dtype: str
    load: Callable[[], Array] = field(repr=False)

    @classmethod
    def of(cls, values: object, dtype: str = "float32") -> Constant:
        """Return a constant of values at hand."""
        array = np.asarray(values)
        return cls(array.shape, dtype, lambda: array)

    def array(self) -> Array:
        """Return the values; raise :class:`InvalidGraph` where they are not of the shape that was stated."""
        loaded = np.asarray(self.load())
        if loaded.shape != self.shape:
            raise InvalidGraph(f"holds {loaded.shape}, not {self.shape}", field="constant")
        return loaded.astype(np.float32 if loaded.dtype.kind == "f" else np.int64, copy=False)

    def map(self, change: Callable[[Array], Array], shape: Shape | None = None) -> Constant:
        """Return the constant that ``change`` makes of this one's values, once they are asked for."""
        return Constant(self.shape if shape is None else shape, self.dtype, lambda: change(self.array()))

    def transposed(self, perm: Sequence[int]) -> Constant:
        """Return the constant with its dimensions in another order."""
        return self.map(lambda array: array.transpose(perm), tuple(self.shape[i] for i in perm))

    def reshaped(self, shape: Shape) -> Constant:
        """Return the constant in another shape."""
        return self.map(lambda array: array.reshape(shape), shape)


Operand = int | Constant
"""What an operator of a file reads: a value of the draft, or a constant."""


def weight_dtype(weight: Constant, output: TensorType) -> str:
    """Return what an operator says of the data type of its weights: nothing where it is that of the output."""
    return "" if weight.dtype == output.dtype else weight.dtype


class NoCounterpart(Exception):
    """What a file says computes what no operator of the table of costs does; it is kept as ``unknown``."""


@final
@dataclass(frozen=True, slots=True)
class Node:
    """An operator in its place: what it reads and makes, its weights in the order of its row of costs, its name."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attributes: Mapping[str, Attribute]
    weights: tuple[Constant, ...] = ()
    name: str = ""

    def attribute(self, name: str) -> Attribute:
        """Return an attribute, its default where the node does not say it; raise ``KeyError`` for one that is not."""
        value = self.attributes.get(name)
        if value is None:
            value = OPERATORS[self.kind].attributes[name]
        if value is None:
            raise KeyError(name)
        return value

    def integer(self, name: str) -> int:
        """Return an attribute that is a whole number, such as an axis; raise :class:`InvalidGraph` for another."""
        return as_integer(self.attribute(name), f"{self.kind}.{name}")

    def number(self, name: str) -> float:
        """Return an attribute that is a number, such as an epsilon; raise :class:`InvalidGraph` for another."""
        return as_number(self.attribute(name), f"{self.kind}.{name}")

    def integers(self, name: str) -> Shape:
        """Return an attribute that is whole numbers, such as axes; raise :class:`InvalidGraph` for another."""
        return as_integers(self.attribute(name), f"{self.kind}.{name}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A network from outside: its graph, the name of each operator's layer, and its weights where they were asked for.

    ``weights`` holds a tuple of float32 arrays for each operator, as exporters take them.
    """

    graph: Graph
    names: tuple[str, ...]
    weights: tuple[tuple[Array, ...], ...] | None = None

    def loaded_weights(self) -> tuple[tuple[Array, ...], ...]:
        """Return the weights; raise :class:`InvalidInput` where the network was imported without them."""
        if self.weights is None:
            raise InvalidInput("has no weights", field="weights", remedy="import the model with weights=True")
        return self.weights


@final
class Draft:
    """Nodes in topological order over numbered values; ``types[value]`` is each value's type."""

    def __init__(self) -> None:
        self.types: list[TensorType] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.nodes: list[Node] = []

    def input(self, tensor_type: TensorType) -> int:
        """Add an input of the network; return its value."""
        self.inputs.append(self._value(tensor_type))
        return self.inputs[-1]

    def place(
        self,
        kind: str,
        inputs: Sequence[Operand],
        output: TensorType,
        *,
        weights: Sequence[Constant] = (),
        name: str = "",
        **attributes: Attribute,
    ) -> int:
        """Place an operator of one output; return its value. A constant among ``inputs`` becomes an operator too.

        Raises :class:`InvalidGraph` for a kind, an attribute or weights that the table of costs does not have, and
        :class:`TooLarge` for more operators than a graph may have.
        """
        return self.place_many(kind, inputs, (output,), weights=weights, name=name, **attributes)[0]

    def place_many(
        self,
        kind: str,
        inputs: Sequence[Operand],
        outputs: Sequence[TensorType],
        *,
        weights: Sequence[Constant] = (),
        name: str = "",
        **attributes: Attribute,
    ) -> tuple[int, ...]:
        """Place an operator of any number of outputs; return their values."""
        if len(self.nodes) >= Graph.MAX_OPS:
            raise TooLarge(f"has more than {Graph.MAX_OPS} operators", field="model", limit=Graph.MAX_OPS)
        read = tuple(self.constant(value, name) if isinstance(value, Constant) else value for value in inputs)
        made = tuple(self._value(tensor_type) for tensor_type in outputs)
        node = Node(kind, read, made, attributes, tuple(weights), name)
        try:
            _check(node, self._op(node))
        except InvalidGraph as error:
            raise InvalidGraph(error.message, field=f"{name or kind}.{error.field}", remedy=error.remedy) from error
        self.nodes.append(node)
        return made

    def constant(self, value: Constant, name: str = "") -> int:
        """Place a constant that an operator without weights of its own reads; return its value."""
        return self.place("constant", (), TensorType(value.shape, value.dtype), weights=(value,), name=name)

    def unknown(
        self, kind: str, inputs: Sequence[Operand], outputs: Sequence[TensorType], *, name: str = ""
    ) -> tuple[int, ...]:
        """Keep an operator ``kind`` of the file that has no row in the format's table; return its values."""
        return self.place_many(
            UNKNOWN + printable(kind),
            [value for value in inputs if not isinstance(value, Constant)],
            outputs,
            weights=[value for value in inputs if isinstance(value, Constant)],
            name=name,
        )

    def binary(self, kind: str, left: Operand, right: Operand, output: TensorType, *, name: str = "") -> int:
        """Place an operator of two operands, at least one of which is a value.

        Multiplication by a constant is a ``scale`` and addition of one a ``shift``, whatever the file calls it; other
        kinds read their constants as operators.
        """
        if isinstance(left, Constant) and kind in ("add", "mul"):
            left, right = right, left
        same = not isinstance(left, Constant) and self.types[left] == output and output.dtype not in _INDICES
        if same and isinstance(right, Constant) and kind in _AFFINE:
            kind, change = _AFFINE[kind]
            kept = constant_attribute(right.shape, output.shape[-1] if output.shape else 1)
            weight = right.map(change).reshaped(kept or output.shape[-1:])
            dtype = weight_dtype(right, output)
            return self.place(kind, (left,), output, weights=(weight,), name=name, constant=kept, weight_dtype=dtype)
        return self.place(kind, (left, right), output, name=name)

    def readers(self) -> list[int]:
        """Return how often each value is read, by nodes and as an output of the network."""
        counts = [0] * len(self.types)
        for node in self.nodes:
            for value in node.inputs:
                counts[value] += 1
        for value in self.outputs:
            counts[value] += 1
        return counts

    def finish(self, *, weights: bool = False) -> Imported:
        """Return the graph, in an order of execution that does not depend on that of the file, and its weights."""
        nodes = self._ordered()
        numbers = {value: i for i, value in enumerate(self.inputs)}
        ops, wiring = [], []
        for node in nodes:
            ops.append(self._op(node))
            wiring.append(tuple(numbers[value] for value in node.inputs))
            for value in node.outputs:
                numbers[value] = len(numbers)
        inputs = tuple(self.types[value] for value in self.inputs)
        graph = Graph(inputs, tuple(ops), tuple(wiring), tuple(numbers[value] for value in self.outputs))
        names = tuple(printable(node.name) for node in nodes)
        loaded = tuple(tuple(_float32(weight) for weight in node.weights) for node in nodes) if weights else None
        return Imported(fuse(graph), names, loaded)

    def _value(self, tensor_type: TensorType) -> int:
        self.types.append(tensor_type)
        return len(self.types) - 1

    def _op(self, node: Node) -> Op:
        inputs = tuple(self.types[value] for value in node.inputs)
        outputs = tuple(self.types[value] for value in node.outputs)
        if node.kind.startswith(UNKNOWN):
            return make_unknown(
                node.kind.removeprefix(UNKNOWN), inputs, outputs, tuple(weight.shape for weight in node.weights)
            )
        return make_operator(node.kind, inputs, outputs, tuple(sorted(node.attributes.items())))

    def _ordered(self) -> list[Node]:
        """Return the nodes depth first from the outputs, the deeper branch of an operator before the shallower.

        Files of one network list independent branches in different orders; the activations that are alive at once
        depend on it.
        """
        maker = {value: i for i, node in enumerate(self.nodes) for value in node.outputs}
        before = [[maker[value] for value in node.inputs if value in maker] for node in self.nodes]
        depth: list[int] = []
        for makers in before:
            depth.append(max((depth[i] for i in makers), default=0) + 1)
        read = {value for node in self.nodes for value in node.inputs}
        last = [maker[value] for value in self.outputs if value in maker]
        last += [i for i, node in enumerate(self.nodes) if not read.intersection(node.outputs)]
        ordered: list[Node] = []
        placed: set[int] = set()
        stack = last[::-1]
        while stack:
            missing = [] if stack[-1] in placed else [i for i in before[stack[-1]] if i not in placed]
            if missing:
                stack.extend(sorted(missing, key=depth.__getitem__))  # the deepest is the next to be popped
                continue
            number = stack.pop()
            if number not in placed:
                placed.add(number)
                ordered.append(self.nodes[number])
        return ordered


_INDICES = frozenset({"int32", "int64"})  # arithmetic of shapes and positions, not of activations
_AFFINE: Mapping[str, tuple[str, Callable[[Array], Array]]] = {
    "mul": ("scale", lambda array: array),
    "div": ("scale", lambda array: 1 / array),
    "add": ("shift", lambda array: array),
    "sub": ("shift", lambda array: -array),
}


def _float32(weight: Constant) -> Array:
    # A copy: what a file maps into memory changes, or crashes the process, once somebody writes the file anew.
    return np.array(weight.array(), dtype=np.float32, order="C")


def _check(node: Node, op: Op) -> None:
    expected = weight_shapes(op)
    given = tuple(weight.shape for weight in node.weights)
    if given != expected:
        raise InvalidGraph(f"has weights of {given}, {node.kind} takes {expected}", field="weights")
