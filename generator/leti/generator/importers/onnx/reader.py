"""ONNX import: a model file → Draft.

Nodes are read in order. What is computed of constants and of shapes, which are all fixed once the inputs' are, is
computed at once; the rest is placed by the table in ``onnx_operators``. Shapes come from ONNX's own rules, asked node
by node. Weights stay in the file until somebody asks for them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from leti.core.errors import ArtifactError, InvalidInput, LetiError, TooLarge
from leti.core.extras import needs
from leti.core.graph import Graph, TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, Draft, NoCounterpart, Operand
from leti.generator.importers.onnx.call import Call
from leti.generator.importers.onnx.constants import attribute_values, constant_of, dtype_of, tensor_of
from leti.generator.importers.onnx.file import read_model
from leti.generator.importers.onnx.folding import FOLDS, fold
from leti.generator.importers.onnx.functions import all_nodes, inlined
from leti.generator.importers.onnx.inputs import input_types, is_static, type_proto
from leti.generator.importers.onnx.operators import OPERATORS
from leti.generator.weights import Array

with needs("import-onnx"):
    import onnx
    from google.protobuf.message import Error as ProtobufError  # type: ignore[import-untyped]
    from onnx import shape_inference
    from onnx.defs import SchemaError

_FIELD = "model"
_MOST_FOLDED = 65_536  # elements: what is larger is computed when somebody asks for it
_MOST_LAZY = 32  # computations of computations: a longer chain is left to run
_DOMAINS = ("", "ai.onnx")
_POSITIONS = ("ArgMax", "ArgMin", "TopK")
_SPREADING = ("Expand", "Tile")  # of weights: run as such, to count each once
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_LIKE_INPUT = frozenset(
    {
        "GroupNormalization",  # a function of other operators, and those of ONNX Runtime, for which ONNX has no rules
        *(f"com.microsoft.{name}" for name in ("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "SkipLayerNormalization")),
    }
)
"""Operators that make a tensor like their first input, which ONNX does not tell."""

_FOREIGN = (
    *(ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError, RecursionError, RuntimeError),
    *(onnx.checker.ValidationError, SchemaError, ProtobufError),
)


def read_onnx(source: Path | onnx.ModelProto, input_shapes: Mapping[str, Shape]) -> Draft:
    """Return the draft of an ONNX file, or of a model in memory.

    ``input_shapes`` are in the file's own layout. The first dimension of the first input is 1 where the file leaves it
    open. Raises :class:`ArtifactError` for a damaged model, :class:`InvalidInput` for other open dimensions and for
    external data outside of the file's folder, :class:`TooLarge` for more nodes than a graph may have operators.
    """
    path = source if isinstance(source, Path) else None
    model = read_model(source) if isinstance(source, Path) else source
    if not model.HasField("graph") or not model.graph.node:
        raise ArtifactError("holds no network", field=_FIELD, remedy="give a complete ONNX model")
    if len(model.graph.node) > Graph.MAX_OPS:
        raise TooLarge(f"has {len(model.graph.node)} nodes", field=_FIELD, remedy=f"at most {Graph.MAX_OPS}")
    try:
        return _Reader(inlined(model), path).read(input_shapes)
    except (*_FOREIGN, MemoryError) as error:
        raise ArtifactError(f"cannot be read: {error}"[:500], field=_FIELD) from error


@final
class _Reader:
    """Reads one model; ``values`` and ``types`` are what the names of the file stand for so far."""

    def __init__(self, model: onnx.ModelProto, path: Path | None) -> None:
        self._graph, self._path = model.graph, path
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._opset = max(self._opsets.get(domain, 0) for domain in _DOMAINS)
        if self._opset < 1 and any(node.domain in _DOMAINS for node in self._graph.node):
            raise ArtifactError("does not say which version of ONNX's operators it uses", field=_FIELD)
        self._imports = [onnx.helper.make_opsetid("", self._opset)]
        self._draft = Draft()
        self._values: dict[str, Operand] = {}
        self._types: dict[str, onnx.TypeProto] = {}
        self._depths: dict[str, int] = {}
        self._casts = _casts(self._graph)
        self._stated = {info.name: info.type for info in (*model.graph.value_info, *model.graph.output)}

    def read(self, input_shapes: Mapping[str, Shape]) -> Draft:
        """Read the graph."""
        self._initializers(self._graph)
        given = [info for info in self._graph.input if info.name not in self._values]
        for info, tensor_type in zip(given, input_types(given, input_shapes), strict=True):
            self._bind(info.name, self._draft.input(tensor_type))
        self._nodes(self._graph.node)
        for info in self._graph.output:
            value = self._find(info.name, "output")
            self._draft.outputs.append(self._draft.constant(value) if isinstance(value, Constant) else value)
        if not self._draft.outputs:
            raise ArtifactError("returns nothing", field=_FIELD)
        self._draft.nodes = [replace(node, weights=tuple(map(_guarded, node.weights))) for node in self._draft.nodes]
        return self._draft

    def _initializers(self, graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            self._bind(tensor.name, constant_of(tensor, self._path))
        if graph.sparse_initializer:
            raise InvalidInput("has sparse weights", field=_FIELD, remedy="store them densely")

    def _nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for number, node in enumerate(nodes):
            name = _text(node.name or next(iter(node.output), "") or f"{node.op_type}{number}")[:200]
            try:
                made = self._make(node, name)
            except LetiError:
                raise
            except (*_FOREIGN, MemoryError) as error:
                raise ArtifactError(f"{node.op_type} cannot be read: {error}"[:500], field=name) from error
            for output, value in zip([output for output in node.output if output], made, strict=False):
                self._bind(output, value)

    def _make(self, node: onnx.NodeProto, name: str) -> Sequence[Operand]:
        """Return what a node makes, one operand for each output that has a name."""
        native = node.domain in _DOMAINS
        kind = node.op_type if native else f"{node.domain}.{node.op_type}"
        if kind == "Constant":
            return (self._constant(node),)
        operands = tuple(self._find(source, name) if source else None for source in node.input)
        if kind == "If" and isinstance(operands[0], Constant):
            return self._branch(node, bool(operands[0].array().any()))
        types = self._infer(kind, node, operands, native)
        if kind in _POSITIONS:
            self._narrow(types)
        if kind == "CastLike":
            operands = operands[:1]  # of the other, the data type is enough
        known = [self._known_type(types.get(output), output) for output in node.output if output]
        call = Call(node, self._opset, operands, tuple(known), self._draft, name)
        self._types.update({output: found for output, found in types.items() if is_static(found)})
        if native and (folded := self._fold(call)) is not None:
            return folded
        handler = OPERATORS.get(kind)
        if handler is not None:
            placed = len(self._draft.nodes)
            try:
                return handler(call)
            except NoCounterpart:
                del self._draft.nodes[placed:]
        reads = [operand for operand in operands if operand is not None]
        made = [call.output(i) for i in range(len(known))]
        return self._draft.unknown(kind, reads, made, name=name)

    def _branch(self, node: onnx.NodeProto, condition: bool) -> Sequence[Operand]:
        """Read the branch that a known condition takes as if it stood in the place of the node."""
        wanted = "then_branch" if condition else "else_branch"
        graph = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        self._initializers(graph)
        self._stated |= {info.name: info.type for info in (*graph.value_info, *graph.output)}
        self._nodes(graph.node)
        return [self._find(info.name, node.name) for info in graph.output]

    def _narrow(self, types: dict[str, onnx.TypeProto]) -> None:
        """Make positions of the data type that they are cast to where nothing else reads them, as other formats do."""
        for output, found in list(types.items()):
            if output in self._casts and found.tensor_type.elem_type == onnx.TensorProto.INT64:
                types[output] = onnx.TypeProto()
                types[output].CopyFrom(found)
                types[output].tensor_type.elem_type = self._casts[output]

    # --- constants ----------------------------------------------------------------------------------------------------

    def _constant(self, node: onnx.NodeProto) -> Constant:
        (attribute,) = node.attribute
        if attribute.name == "value":
            return constant_of(attribute.t, self._path)
        integers = attribute.name in ("value_int", "value_ints")
        if not integers and attribute.name not in ("value_float", "value_floats"):
            raise InvalidInput(f"constants by {attribute.name} are not known", field=node.name or "Constant")
        several = attribute.name.endswith("s")
        numbers = (attribute.ints or attribute.floats) if several else [attribute.i if integers else attribute.f]
        values = attribute_values(numbers, integers)
        return Constant.of(values if several else values[0], "int64" if integers else "float32")

    def _fold(self, call: Call) -> Sequence[Constant] | None:
        """Return what a node makes if it is known now: at once where it is little, else to be computed when asked."""
        node = call.node
        read = [operand for operand in call.inputs if isinstance(operand, Constant)]
        if node.op_type not in FOLDS or len(read) != sum(operand is not None for operand in call.inputs):
            return None
        sizes = [math.prod(constant.shape) for constant in read]
        if node.op_type in _SPREADING and 1 < sizes[0] < math.prod(call.output().shape) and read[0].dtype in _FLOATS:
            return None
        made = [None if t is None else t.elements for t in call.outputs]
        if max(sizes, default=0) <= _MOST_FOLDED and all(n is None or n <= _MOST_FOLDED for n in made):
            arrays = fold(call, [o.load() if isinstance(o, Constant) else None for o in call.inputs])
            return [Constant.of(array, self._dtype(call, array, i)) for i, array in enumerate(arrays)]
        depth = 1 + max((self._depths.get(source, 0) for source in node.input), default=0)
        if depth > _MOST_LAZY or any(t is None or t.elements > sum(sizes) for t in call.outputs):
            return None
        self._depths.update(dict.fromkeys(node.output, depth))
        return [self._lazy(call, i) for i in range(len(call.outputs))]

    def _lazy(self, call: Call, position: int) -> Constant:
        def load() -> Any:
            return fold(call, [o.load() if isinstance(o, Constant) else None for o in call.inputs])[position]

        return Constant(call.output(position).shape, self._dtype(call, None, position), load)

    def _dtype(self, call: Call, array: Any, position: int) -> str:
        """Return what a folded constant counts as: dequantised weights as what the file stores."""
        first = call.inputs[0] if call.inputs else None
        rearranged = call.node.op_type in ("DequantizeLinear", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
        if rearranged and isinstance(first, Constant):
            return first.dtype
        made = call.outputs[position]
        return made.dtype if made is not None else str(array.dtype)

    # --- types --------------------------------------------------------------------------------------------------------

    def _infer(
        self, kind: str, node: onnx.NodeProto, operands: Sequence[Operand | None], native: bool
    ) -> dict[str, onnx.TypeProto]:
        """Return the types of what a node makes, from ONNX's own rules, else from what the file states."""
        found: dict[str, onnx.TypeProto] = {}
        if native:
            try:
                schema = onnx.defs.get_schema(node.op_type, self._opset, "")
            except SchemaError:
                schema = None
            if schema is not None:
                found = self._by_schema(schema, node, operands)
        if kind in _LIKE_INPUT and not is_static(found.get(node.output[0])):
            found[node.output[0]] = self._types[node.input[0]]
        for output in node.output:
            if output in self._stated and not is_static(found.get(output)):
                found[output] = self._stated[output]
        return found

    def _by_schema(
        self, schema: Any, node: onnx.NodeProto, operands: Sequence[Operand | None]
    ) -> dict[str, onnx.TypeProto]:
        inner = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        sources = [source for part in (all_nodes([node]) if inner else [node]) for source in part.input]
        types = {source: self._types[source] for source in sources if source in self._types}
        data = {
            source: tensor_of(operand.load())
            for source, operand in zip(node.input, operands, strict=True)
            if isinstance(operand, Constant) and math.prod(operand.shape) <= 1024 and len(operand.shape) <= 1
        }
        try:
            return dict(shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=self._imports))
        except shape_inference.InferenceError as error:
            if inner:
                return {}
            raise ArtifactError(f"{node.op_type} does not fit its inputs: {error}"[:500], field=node.name) from error

    def _known_type(self, found: onnx.TypeProto | None, where: str) -> TensorType | None:
        if found is not None and found.HasField("sequence_type"):
            remedy = "simplify the model, or export it with optimisations on"
            raise InvalidInput("is a sequence of tensors, which graphs have not", field=where, remedy=remedy)
        if found is None or not is_static(found):
            return None
        shape = tuple(int(dim.dim_value) for dim in found.tensor_type.shape.dim)
        if 0 in shape:
            return None
        return TensorType(shape, dtype_of(found.tensor_type.elem_type, where))

    def _bind(self, name: str, value: Operand) -> None:
        self._values[name] = value
        if isinstance(value, Constant):
            if name not in self._types:
                self._types[name] = type_proto(value.shape, value.dtype)
        else:
            known = self._draft.types[value]
            self._types[name] = type_proto(known.shape, known.dtype)

    def _find(self, name: str, where: str) -> Operand:
        try:
            return self._values[name]
        except KeyError:
            raise ArtifactError(f"reads {name[:200]!r}, which nothing before it makes", field=where) from None


def _guarded(weight: Constant) -> Constant:
    """Return a weight whose values, computed when somebody asks, raise no errors but the project's own."""

    def load() -> Array:
        try:
            return weight.load()
        except (*_FOREIGN, MemoryError) as error:
            raise ArtifactError(f"cannot be computed: {error}"[:500], field="weights") from error

    return Constant(weight.shape, weight.dtype, load)


def _casts(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the data types that names are cast to which one cast alone reads."""
    readers = Counter(source for node in graph.node for source in node.input)
    readers.update(info.name for info in graph.output)
    return {
        node.input[0]: attribute.i
        for node in graph.node
        if node.op_type == "Cast" and len(node.input) == 1 and readers[node.input[0]] == 1
        for attribute in node.attribute
        if attribute.name == "to" and attribute.i == onnx.TensorProto.INT32
    }


def _text(name: str | bytes) -> str:
    """Return a name of the file as text: protobuf gives the bytes of one that is not UTF-8."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
