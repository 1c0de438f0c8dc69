"""Shapes of an ONNX model's inputs: what the file states, what it leaves open, and what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.importers.onnx.constants import DTYPES, dtype_of

with needs("import-onnx"):
    import onnx

_ELEMENTS = {name: element for element, name in reversed(DTYPES.items())}


def input_types(inputs: Sequence[onnx.ValueInfoProto], given: Mapping[str, Shape]) -> list[TensorType]:
    """Return the type of each input, open dimensions filled from the shapes ``given``.

    A dimension that has a name is the same wherever it stands. The first dimension of the first input, the batch, is 1
    where nothing says otherwise. Raises :class:`InvalidInput` for a shape that is missing or does not fit.
    """
    given = _by_name(inputs, given)
    named: dict[str, int] = {}
    for info in inputs:
        if info.name in given and _is_ranked(info):
            named |= _fit(info, given[info.name], named)
    if inputs and _is_ranked(inputs[0]) and inputs[0].name not in given:
        for dim in inputs[0].type.tensor_type.shape.dim[:1]:
            named.setdefault(dim.dim_param, 1)
    return [_input_type(info, given.get(info.name), named, first=i == 0) for i, info in enumerate(inputs)]


def is_static(found: onnx.TypeProto | None) -> bool:
    """Return whether a type is a tensor's whose dimensions are all numbers."""
    if found is None or not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        return False
    return all(bool(dim.HasField("dim_value")) for dim in found.tensor_type.shape.dim)


def type_proto(shape: Shape, dtype: str) -> onnx.TypeProto:
    """Return a type as a file writes it."""
    return onnx.helper.make_tensor_type_proto(_ELEMENTS[dtype], shape)


def _by_name(inputs: Sequence[onnx.ValueInfoProto], given: Mapping[str, Shape]) -> dict[str, Shape]:
    if set(given) == {""} and len(inputs) == 1:
        return {inputs[0].name: given[""]}
    names = [info.name for info in inputs]
    for name in given:
        if name not in names:
            raise InvalidInput(
                f"there is no input {name!r}", field="input_shapes", remedy=f"inputs here: {', '.join(names)}"
            )
    return dict(given)


def _is_ranked(info: onnx.ValueInfoProto) -> bool:
    return bool(info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape"))


def _fit(info: onnx.ValueInfoProto, shape: Shape, named: Mapping[str, int]) -> dict[str, int]:
    """Return what a shape says of named dimensions; raise :class:`InvalidInput` where the file states another."""
    stated = info.type.tensor_type.shape.dim
    found: dict[str, int] = {}
    fits = len(stated) == len(shape)
    for dim, size in zip(stated, shape, strict=False):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            fits = fits and dim.dim_value == size
        elif dim.dim_param:
            fits = fits and named.get(dim.dim_param, size) == found.setdefault(dim.dim_param, size) == size
    if not fits:
        raise InvalidInput(f"{shape} is not {_written(info)}", field=f"input_shapes.{info.name}")
    return found


def _input_type(info: onnx.ValueInfoProto, given: Shape | None, named: Mapping[str, int], *, first: bool) -> TensorType:
    where = f"input {info.name!r}"
    if not info.type.HasField("tensor_type"):
        raise InvalidInput("is no tensor", field=where)
    dtype = dtype_of(info.type.tensor_type.elem_type, where)
    if given is not None:
        return TensorType(tuple(given), dtype)
    if not _is_ranked(info):
        raise _open(info)
    shape: list[int] = []
    for i, dim in enumerate(info.type.tensor_type.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 1:
            shape.append(dim.dim_value)
        elif dim.dim_param in named and (dim.dim_param or (first and i == 0)):
            shape.append(named[dim.dim_param])
        elif dim.HasField("dim_value") and dim.dim_value < -1:
            raise ArtifactError(f"has a dimension of {dim.dim_value}", field=where)
        else:
            raise _open(info)
    return TensorType(tuple(shape), dtype)


def _open(info: onnx.ValueInfoProto) -> InvalidInput:
    written = _written(info)
    return InvalidInput(
        f"input {info.name!r} leaves its shape open: {written}",
        field=f"input_shapes.{info.name}",
        remedy=f"say it, as in --input-shape {info.name}=1,3,224,224",
    )


def _written(info: onnx.ValueInfoProto) -> str:
    if not _is_ranked(info):
        return "any"
    dims = info.type.tensor_type.shape.dim
    return "(" + ", ".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in dims) + ")"
