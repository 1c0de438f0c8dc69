"""TFLite import: a model file that the generator wrote → the spec that it was made from.

The file says in its metadata which network it is; the importer believes it only as far as the file bears it out: the
spec must lower to the fingerprint stated, and the file's operators must be the graph's, in order, with their shapes,
activations and wiring. Everything read is bounded by what the spec leads to expect, so that no file, however damaged,
costs more than its network.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from leti.core.codec import Json, from_json, read_object
from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.cost import Shape, Shapes, weight_shapes
from leti.generator.export.tflite import FILE_IDENTIFIER, METADATA_FORMAT, METADATA_NAME, form_of, kernel_options
from leti.generator.lowering import lower

with needs("export"):
    from ai_edge_litert import schema_py_generated as schema

_FIELD = "model"
_REMEDY = "give a .tflite file that LETI's generator wrote, unchanged, or the network's spec as JSON"
_MOST_METADATA = 64
_MOST_METADATA_BYTES = 16 * 1024 * 1024  # a spec of 1,000 nodes, the largest that is valid, takes some 2 MB


@dataclass(frozen=True, slots=True)
class _Kernel:
    """An operator of a file: what it is, its output's shape, what makes its inputs, the shapes of its constants.

    ``sources`` numbers operators from 0 on, the graph's inputs are -1, -2, …; constants stand apart.
    """

    builtin: int
    options: tuple[tuple[str, int], ...]
    shape: Shape
    sources: tuple[int, ...]
    constants: Shapes


def read_network(data: bytes) -> tuple[NetworkSpec, Zero]:
    """Return the spec of a model file, and what its ``none`` does; raise :class:`ArtifactError` for any other file."""
    if len(data) < 8 or data[4:8] != FILE_IDENTIFIER:
        raise ArtifactError("is no TFLite model file", field=_FIELD, remedy=_REMEDY)
    with _damage_reported():
        model = schema.Model.GetRootAs(data, 0)
        text = _find_metadata(model)
    if text is None:
        raise ArtifactError(
            f"does not say which network it holds (metadata {METADATA_NAME!r})", field=_FIELD, remedy=_REMEDY
        )
    spec, zero, graph = _parse(text)
    expected = _expected(graph)
    with _damage_reported():
        _compare(expected, model, graph)
    return spec, zero


@contextmanager
def _damage_reported() -> Iterator[None]:
    """Turn what the schema module raises for offsets that lead nowhere into :class:`ArtifactError`."""
    try:
        yield
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ArtifactError("is damaged: its tables lead outside the file", field=_FIELD, remedy=_REMEDY) from error


def _find_metadata(model: Any) -> bytes | None:
    for i in range(min(model.MetadataLength(), _MOST_METADATA)):
        entry = model.Metadata(i)
        if entry.Name() == METADATA_NAME.encode():
            number = entry.Buffer()
            if number >= model.BuffersLength():
                raise IndexError(number)
            value = model.Buffers(number).DataAsNumpy()
            if len(value) > _MOST_METADATA_BYTES:
                raise ValueError(len(value))
            return bytes(value)
    return None


def _parse(text: bytes) -> tuple[NetworkSpec, Zero, Graph]:
    try:
        values: Json = json.loads(text)
        stated = values.get("format") if isinstance(values, dict) else None
        if stated != METADATA_FORMAT:
            raise ArtifactError(
                f"describes its network in format {stated!r:.20}, this LETI reads {METADATA_FORMAT}",
                field=_FIELD,
                remedy="use the version of LETI that wrote it, or give the network's spec as JSON",
            )
        read = read_object(values, METADATA_NAME, required=("format", "spec", "zero", "fingerprint"))
        zero: Zero = from_json(Zero, read["zero"], f"{METADATA_NAME}.zero")  # type: ignore[arg-type]
        spec = NetworkSpec.from_json(read["spec"], f"{METADATA_NAME}.spec")
        graph = lower(spec, zero)
    except (InvalidInput, ValueError, RecursionError) as error:
        raise ArtifactError(f"describes its network wrongly: {error}", field=_FIELD, remedy=_REMEDY) from error
    if graph.fingerprint() != read["fingerprint"]:
        raise ArtifactError("names a network of another fingerprint than it states", field=_FIELD, remedy=_REMEDY)
    return spec, zero, graph


def _expected(graph: Graph) -> list[_Kernel]:
    first_values = graph.first_values()
    makers = {i: -1 - i for i in range(len(graph.inputs))}
    found = []
    for number, kernel in enumerate(graph.kernels):
        op, last = graph.ops[kernel[0]], kernel[-1]
        form = form_of(op)
        found.append(
            _Kernel(
                getattr(schema.BuiltinOperator, form.builtin),
                _values(kernel_options(graph, kernel)),
                graph.ops[last].outputs[0].shape,
                tuple(makers[value] for value in graph.wiring[kernel[0]]),
                (*weight_shapes(op), *(array.shape for array in form.constants(op))),
            )
        )
        makers[first_values[last]] = number
    return found


def _values(options: Any) -> tuple[tuple[str, int], ...]:
    """Return what an options table says, all of it numbers; of no options, nothing."""
    if options is None:
        return ()
    return (type(options).__name__, 1), *sorted((name, int(value or 0)) for name, value in vars(options).items())


def _compare(expected: Sequence[_Kernel], model: Any, graph: Graph) -> None:
    """Raise :class:`ArtifactError` where the file's only subgraph is not made of the expected operators."""
    if model.SubgraphsLength() != 1:
        raise _differs("has more than one subgraph")
    subgraph = model.Subgraphs(0)
    if subgraph.InputsLength() != len(graph.inputs) or subgraph.OperatorsLength() != len(expected):
        raise _differs(f"has {subgraph.OperatorsLength()} operators, not {len(expected)}")
    makers = {int(subgraph.Inputs(i)): -1 - i for i in range(len(graph.inputs))}
    for i, tensor_type in enumerate(graph.inputs):
        if _shape(subgraph, int(subgraph.Inputs(i))) != tensor_type.shape:
            raise _differs(f"takes another input shape than {tensor_type.shape}")
    for number, kernel in enumerate(expected):
        operator = subgraph.Operators(number)
        if _read_kernel(model, subgraph, operator, makers, kernel) != kernel:
            raise _differs(f"has another operator {number}")
        makers[int(operator.Outputs(0))] = number
    last = makers.get(int(subgraph.Outputs(0)))
    if subgraph.OutputsLength() != 1 or last != len(expected) - 1:
        raise _differs("returns another operator's output")


def _read_kernel(model: Any, subgraph: Any, operator: Any, makers: dict[int, int], like: _Kernel) -> _Kernel:
    """Return an operator of the file, read no further than an operator ``like`` the expected one reaches."""
    read = [int(operator.Inputs(i)) for i in range(operator.InputsLength())] if _sized(operator, like) else []
    return _Kernel(
        int(model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()),
        _read_options(operator, like),
        _shape(subgraph, int(operator.Outputs(0))),
        tuple(makers[tensor] for tensor in read if tensor in makers),
        tuple(_shape(subgraph, tensor) for tensor in read if tensor not in makers),
    )


def _sized(operator: Any, like: _Kernel) -> bool:
    return bool(operator.InputsLength() == len(like.sources) + len(like.constants) and operator.OutputsLength() == 1)


def _read_options(operator: Any, like: _Kernel) -> tuple[tuple[str, int], ...]:
    """Return the options if they are of the kind expected, which holds numbers alone."""
    kind = operator.BuiltinOptionsType()
    if kind == schema.BuiltinOptions.NONE:
        return ()
    name = like.options[0][0] if like.options else ""
    if kind != getattr(schema.BuiltinOptions, name.removesuffix("T"), None):
        return (("other", int(kind)),)
    return _values(schema.BuiltinOptionsCreator(kind, operator.BuiltinOptions()))


def _shape(subgraph: Any, tensor: int) -> tuple[int, ...]:
    if not 0 <= tensor < subgraph.TensorsLength():
        raise IndexError(tensor)
    read = subgraph.Tensors(tensor)
    return tuple(int(read.Shape(i)) for i in range(min(read.ShapeLength(), 8)))


def _differs(how: str) -> ArtifactError:
    return ArtifactError(f"is not the network that it names: it {how}", field=_FIELD, remedy=_REMEDY)
