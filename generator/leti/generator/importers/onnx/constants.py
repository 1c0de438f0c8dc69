"""Constants of an ONNX file: its tensors, loaded when somebody asks, and what can be computed of them beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.generator.importers.draft import Constant
from leti.generator.importers.onnx.file import IN_PLACE
from leti.generator.weights import Array

with needs("import-onnx"):
    import numpy as np
    import onnx
    from onnx import numpy_helper

_T = onnx.TensorProto
DTYPES = {
    **{_T.FLOAT: "float32", _T.DOUBLE: "float64", _T.FLOAT16: "float16", _T.BFLOAT16: "bfloat16", _T.BOOL: "bool"},
    **{_T.INT64: "int64", _T.INT32: "int32", _T.INT16: "int16", _T.INT8: "int8", _T.INT4: "int4", _T.UINT4: "int4"},
    **{_T.UINT64: "uint64", _T.UINT32: "uint32", _T.UINT16: "uint16", _T.UINT8: "uint8"},
    **{_T.COMPLEX64: "complex64", _T.COMPLEX128: "complex128"},
}
"""The name of each of ONNX's data types of elements; text and floats of 8 bits have none."""

_MOST_DIMENSION = 2**40
_FIELDS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")
_PACKED = frozenset({_T.INT4, _T.UINT4, _T.COMPLEX64, _T.COMPLEX128})  # whose numbers are not one an element
_REFUSED = "external data must lie beside the model"


def dtype_of(element: int, where: str) -> str:
    """Return the name of a data type; raise :class:`InvalidInput` for one that no graph has."""
    try:
        return DTYPES[element]
    except KeyError:
        known = _T.DataType.Name(element) if element in _T.DataType.values() else str(element)
        raise InvalidInput(f"elements of type {known} are not known", field=where) from None


def constant_of(tensor: onnx.TensorProto, model: Path | None) -> Constant:
    """Return a tensor of a file as a constant, its data left where it is until it is asked for.

    ``model`` is the model's file, ``None`` for a model in memory. Raises :class:`ArtifactError` where the data is not
    as long as the shape says, and :class:`InvalidInput` for external data outside of the file's folder.
    """
    where = f"initializer {tensor.name or 'constant'}"
    shape = tuple(tensor.dims)
    if any(not 0 <= n <= _MOST_DIMENSION for n in shape):
        raise ArtifactError(f"has the shape {shape}", field=where)
    dtype = dtype_of(tensor.data_type, where)
    elements = math.prod(shape)
    size_bytes = _size_bytes(tensor.data_type, elements)
    if tensor.data_location == _T.EXTERNAL:
        path, offset = _external(tensor, model, size_bytes, where)
        return Constant(shape, dtype, lambda: _load_external(tensor, path, offset, size_bytes, where))
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size_bytes:
            raise ArtifactError(f"holds {len(tensor.raw_data)} bytes, not {size_bytes}", field=where)
    elif tensor.data_type not in _PACKED:
        given = sum(len(getattr(tensor, name)) for name in _FIELDS)
        if given != elements:
            raise ArtifactError(f"holds {given} elements, not {elements}", field=where)
    return Constant(shape, dtype, lambda: _load(tensor, where))


def tensor_of(array: Array) -> onnx.TensorProto:
    """Return an array as a tensor of a file."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape))


def attribute_values(values: Iterable[float], integers: bool) -> Array:
    """Return numbers of a node's attribute as an array of int64 or float32."""
    return np.asarray(list(values), np.int64 if integers else np.float32)


def _size_bytes(element: int, elements: int) -> int:
    if element in (_T.INT4, _T.UINT4):
        return (elements + 1) // 2
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(element).itemsize)


def _external(tensor: onnx.TensorProto, model: Path | None, size_bytes: int, where: str) -> tuple[Path, int]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if model is None:
        raise InvalidInput(
            "has its data in another file", field=where, remedy="give the model's path, or load its data"
        )
    path = model if location == IN_PLACE else _beside(model.parent, location, where)
    try:
        offset, stated = int(entries.get("offset", 0)), int(entries.get("length", size_bytes))
        stored = path.stat().st_size if path.is_file() else -1
    except (ValueError, OSError) as error:
        raise ArtifactError(f"has external data that cannot be read: {error}", field=where) from error
    if stored < 0:
        raise ArtifactError(f"misses its data, the file {location!r}", field=where, remedy="put it beside the model")
    if stated != size_bytes or offset < 0 or offset + size_bytes > stored:
        name = "the file" if location == IN_PLACE else repr(location)
        raise ArtifactError(f"{name} holds {stated} bytes at {offset}, not {size_bytes}", field=where)
    return path, offset


def _beside(folder: Path, location: str, where: str) -> Path:
    """Return the path of external data; raise :class:`InvalidInput` where it leads outside of the folder."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute()
    if not location or "\0" in location or absolute or ".." in parts:
        raise InvalidInput(f"has its data in {location!r}", field=where, remedy=_REFUSED)
    path = (folder / location).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidInput(f"has its data in {location!r}, which leads elsewhere", field=where, remedy=_REFUSED)
    return path


def _load_external(tensor: onnx.TensorProto, path: Path, offset: int, size_bytes: int, where: str) -> Array:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size_bytes)
    except OSError as error:
        raise ArtifactError(f"has external data that cannot be read: {error.strerror}", field=where) from error
    return _load(_T(dims=tensor.dims, data_type=tensor.data_type, raw_data=data), where)


def _load(tensor: onnx.TensorProto, where: str) -> Array:
    try:
        return _plain(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ArtifactError(f"cannot be read: {error}", field=where) from error


def _plain(array: Array) -> Array:
    """Return values of numpy's extension types (bfloat16, integers of 4 bits) in a type of its own that holds them."""
    name = array.dtype.name
    if name in ("int4", "uint4", "int2", "uint2"):
        return array.astype(np.int8)
    return array.astype(np.float32) if name == "bfloat16" or name.startswith("float8") else array
