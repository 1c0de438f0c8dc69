"""An exported program as its JSON says it: inputs, stored tensors, and nodes; every size a number."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, final

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.importers.torch.archive import FIELD, damage_reported, dtype_of

_MOST_EXPRESSION = 2_000  # characters of a size
_MOST_SIZE = 2**40


@final
@dataclass(frozen=True, slots=True)
class Name:
    """A tensor of a program, by its name."""

    name: str


@final
@dataclass(frozen=True, slots=True)
class Subgraph:
    """A graph that an operator is given, such as a branch."""

    graph: Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True)
class Dtype:
    """A data type that an operator is given."""

    name: str


Argument = None | bool | int | float | str | Name | Subgraph | Dtype | tuple[Any, ...]


@final
@dataclass(frozen=True, slots=True)
class ProgramNode:
    """A node: the operator ("aten.conv2d.default"), its arguments by their names in the operator's schema, its layer.

    ``outputs`` are the names of the tensors that it makes; those that are no tensors are left out.
    """

    target: str
    arguments: Mapping[str, Argument]
    outputs: tuple[str, ...]
    layer: str

    def tensors(self) -> Iterator[str]:
        """Yield the names of all tensors among the arguments."""
        for argument in self.arguments.values():
            yield from _names(argument)


@final
class ProgramGraph:
    """A graph of a program: nodes in order, and the type of every tensor.

    ``sizes`` gives the value of each symbol that a size is written with.
    """

    def __init__(self, graph: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self._graph = graph
        self._sizes = sizes
        with damage_reported():
            self.nodes = [self._node(i, node) for i, node in enumerate(graph["nodes"])]
            self.inputs = tuple(name for argument in graph["inputs"] for name in _names(self._argument(argument)))
            self.outputs = tuple(self._argument(argument) for argument in graph["outputs"])

    def type(self, name: str) -> TensorType:
        """Return the type of a tensor."""
        with damage_reported(f"tensor_values.{name}"):
            meta = self._graph["tensor_values"][name]
            shape = tuple(self._size(size) for size in meta["sizes"])
            return TensorType(shape, dtype_of(meta["dtype"], name))

    def is_empty(self, name: str) -> bool:
        """Return whether a tensor has no elements."""
        with damage_reported(f"tensor_values.{name}"):
            return any(self._size(size) == 0 for size in self._graph["tensor_values"][name]["sizes"])

    def inner(self, subgraph: Subgraph) -> ProgramGraph:
        """Return a graph that an operator of this one is given."""
        return ProgramGraph(subgraph.graph, self._sizes)

    def _node(self, number: int, node: Mapping[str, Any]) -> ProgramNode:
        arguments = {str(item["name"]): self._argument(item["arg"]) for item in node["inputs"]}
        if len(arguments) < len(node["inputs"]):  # operators of higher order name none
            arguments = {str(i): self._argument(item["arg"]) for i, item in enumerate(node["inputs"])}
        outputs = tuple(name for output in node["outputs"] for name in _names(self._argument(output)))
        name = str(node.get("name") or (outputs[0] if outputs else number))
        target = str(node["target"]).removeprefix("torch.ops.")
        return ProgramNode(target, arguments, outputs, _layer(node.get("metadata") or {}) or name)

    def _argument(self, argument: Mapping[str, Any]) -> Argument:
        ((kind, value),) = argument.items()
        if kind in _PLAIN:
            return _PLAIN[kind](value)
        if kind in ("as_sym_int", "as_sym_ints"):
            return self._sym_int(value) if kind == "as_sym_int" else tuple(map(self._sym_int, value))
        return str(kind)  # devices, layouts, memory formats and the like: nothing that is counted depends on them

    def _sym_int(self, value: Mapping[str, Any]) -> int:
        if "as_int" in value:
            return int(value["as_int"])
        return self._size(self._graph["sym_int_values"][value["as_name"]], least=-_MOST_SIZE)

    def _size(self, size: Mapping[str, Any], least: int = 0) -> int:
        number = size["as_int"] if "as_int" in size else evaluate(size["as_expr"]["expr_str"], self._sizes)
        if type(number) is not int or not least <= number <= _MOST_SIZE:
            raise ValueError(number)
        return number


@final
@dataclass(frozen=True, slots=True)
class Program:
    """An exported program. ``stored`` says where tensors lie in the archive: the kind, and the name there."""

    graph: ProgramGraph
    inputs: tuple[str, ...]
    stored: Mapping[str, tuple[str, str]]
    parameters: frozenset[str]
    outputs: tuple[str, ...]


def read_program(model: Mapping[str, Any], input_shapes: Mapping[str, Shape]) -> Program:
    """Return the program of an archive's JSON, its open sizes taken from ``input_shapes``.

    A first dimension that is open is 1 unless it is said, as one asks for the latency of one image. Raises
    :class:`InvalidInput` for another size that is open and not said, and :class:`ArtifactError` for other JSON.
    """
    with damage_reported():
        graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
        inputs, stored, parameters = [], {}, set()
        for item in signature["input_specs"]:
            ((kind, spec),) = item.items()
            if kind in _STORED_AS:
                where, key = _STORED_AS[kind]
                kept = where if spec.get("persistent", True) else "constants"
                stored[str(spec["arg"]["name"])] = (kept, str(spec[key]))
                if kind == "parameter":
                    parameters.add(str(spec["arg"]["name"]))
            elif kind == "user_input" and "as_tensor" in spec["arg"]:
                inputs.append(str(spec["arg"]["as_tensor"]["name"]))
        outputs = [
            str(item["user_output"]["arg"]["as_tensor"]["name"])
            for item in signature["output_specs"]
            if "user_output" in item and "as_tensor" in item["user_output"]["arg"]
        ]
        declared = {name: graph["tensor_values"][name]["sizes"] for name in inputs}
    if not inputs or not outputs:
        raise InvalidInput(f"has {len(inputs)} inputs and {len(outputs)} outputs that are tensors", field=FIELD)
    sizes = _bind(declared, input_shapes)
    program = ProgramGraph(graph, sizes)
    for name, shape in input_shapes.items():
        if program.type(name or inputs[0]).shape != tuple(shape):
            raise InvalidInput(
                f"is exported for the shape {program.type(name or inputs[0]).shape}, not {tuple(shape)}",
                field=f"input_shapes.{name or inputs[0]}",
                remedy="export it again with an input of that shape, or with dynamic_shapes",
            )
    return Program(program, tuple(inputs), MappingProxyType(stored), frozenset(parameters), tuple(outputs))


def evaluate(text: str, sizes: Mapping[str, int]) -> int:
    """Return the number that a size's expression, as sympy writes it, stands for; nothing is run.

    Raises :class:`InvalidInput` for a symbol without a value and :class:`ArtifactError` for another expression.
    """
    if not isinstance(text, str) or len(text) > _MOST_EXPRESSION:
        raise ArtifactError("has a size that is no expression", field=FIELD)
    try:
        number = _value(ast.parse(text, mode="eval").body, sizes)
    except (SyntaxError, ValueError, TypeError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        raise ArtifactError(f"has the size {text!r:.80}, which is not understood", field=FIELD) from error
    if number.denominator != 1:
        raise ArtifactError(f"has a size of {number}, which is not whole", field=FIELD)
    return int(number)


_STORED_AS: Mapping[str, tuple[str, str]] = {
    "parameter": ("weights", "parameter_name"),
    "buffer": ("weights", "buffer_name"),
    "tensor_constant": ("constants", "tensor_constant_name"),
}

_NUMBERS: Mapping[object, float] = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def _number(value: object) -> float:
    return _NUMBERS[value] if isinstance(value, str) else float(value)  # type: ignore[arg-type]


def _integer(value: object) -> int:
    if not isinstance(value, int) or not -(2**63) <= value < 2**64:
        raise ValueError(value)
    return int(value)


def _optional(value: Mapping[str, Any]) -> Name | None:
    return Name(str(value["as_tensor"]["name"])) if "as_tensor" in value else None


_PLAIN: Mapping[str, Callable[[Any], Argument]] = {
    "as_none": lambda _: None,
    "as_tensor": lambda value: Name(str(value["name"])),
    "as_tensors": lambda value: tuple(Name(str(item["name"])) for item in value),
    "as_nested_tensors": lambda value: tuple(Name(str(item["name"])) for items in value for item in items),
    "as_optional_tensor": _optional,
    "as_optional_tensors": lambda value: tuple(map(_optional, value)),
    "as_int": _integer,
    "as_ints": lambda value: tuple(map(_integer, value)),
    "as_float": _number,
    "as_floats": lambda value: tuple(map(_number, value)),
    "as_string": str,
    "as_bool": bool,
    "as_bools": lambda value: tuple(map(bool, value)),
    "as_scalar_type": lambda value: Dtype(dtype_of(value, FIELD)),
    "as_graph": lambda value: Subgraph(value["graph"]),
}


def _names(argument: Argument) -> Iterator[str]:
    if isinstance(argument, Name):
        yield argument.name
    elif isinstance(argument, tuple):
        for item in argument:
            yield from _names(item)


def _layer(metadata: Mapping[str, str]) -> str:
    """Return the path of the innermost module that a node is of: "key,path,class" entries with ";" between them."""
    innermost = str(metadata.get("nn_module_stack", "")).rpartition(";")[2].split(",")
    return innermost[1] if len(innermost) > 2 else ""


def _bind(declared: Mapping[str, Sequence[Mapping[str, Any]]], given: Mapping[str, Shape]) -> dict[str, int]:
    """Return the size that each symbol of the inputs' shapes stands for."""
    for name in given:
        if name not in declared and (name or len(declared) > 1):
            raise InvalidInput("is no input", field=f"input_shapes.{name}", remedy=f"one of {', '.join(declared)}")
    found: dict[str, int] = {}
    for name, sizes in declared.items():
        shape = given.get(name, given.get(""))
        if shape is not None and len(shape) != len(sizes):
            raise InvalidInput(f"has {len(sizes)} dimensions, not {len(shape)}", field=f"input_shapes.{name}")
        for axis, size in enumerate(sizes):
            symbol = _symbol(size)
            if symbol and shape is not None:
                found.setdefault(symbol, shape[axis])
            elif symbol and axis == 0:
                found.setdefault(symbol, 1)
    for name, sizes in declared.items():
        if any(_symbol(size) not in (None, *found) for size in sizes):
            written = ",".join(str(size.get("as_int", "1" if axis == 0 else "?")) for axis, size in enumerate(sizes))
            raise InvalidInput(
                f"the shape of {name!r} is open",
                field=f"input_shapes.{name}",
                remedy=f"give it: --input-shape {name}={written}",
            )
    return found


def _symbol(size: Mapping[str, Any]) -> str | None:
    """Return the symbol that a size is, if it is no number and no expression of several."""
    if "as_expr" not in size:
        return None
    with damage_reported():
        try:
            call = ast.parse(str(size["as_expr"]["expr_str"])[:_MOST_EXPRESSION], mode="eval").body
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError("no expression") from error
    match call:
        case ast.Call(ast.Name("Symbol"), [ast.Constant(str(name)), *_]):
            return name
    return None


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or not -1 <= exponent <= 4:
        raise ValueError(exponent)
    return base ** int(exponent)


_FUNCTIONS: Final[Mapping[str, Callable[..., Fraction]]] = {
    "Integer": Fraction,
    "Rational": Fraction,
    "Add": lambda *terms: sum(terms, Fraction(0)),
    "Mul": lambda *factors: math.prod(factors, start=Fraction(1)),
    "Pow": _power,
    "PowByNatural": _power,
    **dict.fromkeys(("FloorDiv", "CleanDiv"), lambda a, b: Fraction(a // b)),
    "CeilDiv": lambda a, b: Fraction(-(-a // b)),
    "IntTrueDiv": lambda a, b: a / b,
    **dict.fromkeys(("Mod", "PythonMod"), lambda a, b: a % b),
    **dict.fromkeys(("floor", "FloorToInt", "TruncToInt"), lambda a: Fraction(math.floor(a))),
    **dict.fromkeys(("ceiling", "CeilToInt"), lambda a: Fraction(math.ceil(a))),
    **dict.fromkeys(("ToFloat", "Identity"), lambda a: a),
    "Max": max,
    "Min": min,
}


def _value(expression: ast.expr, sizes: Mapping[str, int]) -> Fraction:
    match expression:
        case ast.Constant(int(number)):
            return Fraction(number)
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand, sizes)
        case ast.Call(ast.Name("Symbol"), [ast.Constant(str(name)), *_]):
            if name not in sizes:
                raise InvalidInput(
                    f"a size depends on {name}, which is known only when the network runs",
                    field=FIELD,
                    remedy="export it without dynamic_shapes",
                )
            return Fraction(sizes[name])
        case ast.Call(ast.Name(name), arguments, []) if name in _FUNCTIONS:
            return Fraction(_FUNCTIONS[name](*(_value(argument, sizes) for argument in arguments)))
    raise ValueError(ast.dump(expression)[:80])
