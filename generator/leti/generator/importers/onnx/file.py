"""An ONNX file but for its large tensors, whose values stay in the file until somebody asks for them.

A protobuf is parsed whole, into objects of many times its size where it holds many small parts. Here its fields are
walked first, those that hold no graph, node or tensor skipped: values of :data:`IN_PLACE_BYTES` and more are replaced
by a note of where they lie, as ONNX's external data says it, and what is left is parsed if it is not too large.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, final

from leti.core.errors import ArtifactError, InvalidInput, TooLarge
from leti.core.extras import needs
from leti.core.graph import Graph

with needs("import-onnx"):
    import onnx
    from google.protobuf.message import Error as ProtobufError  # type: ignore[import-untyped]

IN_PLACE: Final = "\0"
"""Location of external data that lies in the model's own file: no file has this name."""

IN_PLACE_BYTES: Final = 4096
"""Smaller values are read with the model."""

MAX_STRUCTURE_BYTES: Final = 128 * 2**20
"""The most that a model may take beside its large tensors."""

MAX_FIELDS: Final = 1_000_000
"""The most fields that are walked: nodes, tensors, types of values."""

_FIELD = "model"
_MOST_NESTED = 32  # branches and bodies inside of each other; what is deeper is read with the model
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Mapping[int, int] = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BYTES = 10

_INNER: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph"},
}
"""Fields of each message that may hold a large tensor, and which message they hold (onnx.proto)."""

_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14


def read_model(path: Path) -> onnx.ModelProto:
    """Return the model of a file, its large tensors as external data at :data:`IN_PLACE`.

    Raises :class:`InvalidInput` for a file that cannot be read, :class:`ArtifactError` for one that is damaged, and
    :class:`TooLarge` for one of more nodes than a graph may have operators, or too much beside its large tensors.
    """
    try:
        with path.open("rb") as file:
            data = _Walk(file).message("model", 0, file.seek(0, io.SEEK_END), 0)
        return onnx.ModelProto.FromString(data)
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field=_FIELD, remedy="give a file") from error
    except (ProtobufError, ValueError) as error:
        raise ArtifactError("is no ONNX model, or a damaged one", field=_FIELD) from error


@final
class _Walk:
    """One file being walked; raises ValueError where its fields do not fit into each other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = 0
        self._fields = 0
        self._nodes = 0

    def message(self, kind: str, start: int, end: int, depth: int) -> bytes:
        """Return the bytes of a message, the values of its large tensors left out."""
        if kind == "tensor":
            return self._tensor(start, end)
        parts = []
        for number, wire, at, value, after in self._walked(start, end):
            inner = _INNER[kind].get(number) if wire == _LENGTH else None
            self._count(inner)
            if inner is None or depth > _MOST_NESTED or (inner != "graph" and after - value < IN_PLACE_BYTES):
                parts.append(self._read(at, after))
            else:
                parts.append(_field(number, self.message(inner, value, after, depth + (inner == "graph"))))
        return b"".join(parts)

    def _tensor(self, start: int, end: int) -> bytes:
        fields = list(self._walked(start, end))
        raw = [field for field in fields if field[:2] == (_RAW_DATA, _LENGTH)]
        if len(raw) != 1 or raw[0][4] - raw[0][3] < IN_PLACE_BYTES or any(f[0] == _DATA_LOCATION for f in fields):
            return self._read(start, end)
        _, _, at, value, after = raw[0]
        entries = {"location": IN_PLACE, "offset": str(value), "length": str(after - value)}
        said = [onnx.StringStringEntryProto(key=k, value=v).SerializeToString() for k, v in entries.items()]
        external = bytes([_DATA_LOCATION << 3 | _VARINT, onnx.TensorProto.EXTERNAL])
        notes = b"".join(_field(_EXTERNAL_DATA, entry) for entry in said)
        return self._read(start, at) + self._read(after, end) + notes + external

    def _walked(self, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield number, wire type, place, place of the value and end of each field of a message."""
        at = start
        while at < end:
            self._file.seek(at)
            head = self._file.read(2 * _MOST_VARINT_BYTES)
            key, used = _varint(head, 0)
            value = at + used
            wire = key & 7
            if wire == _LENGTH:
                length, used = _varint(head, used)
                value = at + used
                after = value + length
            elif wire == _VARINT:
                after = at + _varint(head, used)[1]
            else:
                after = value + _FIXED_BYTES.get(wire, end)  # groups are of times before ONNX
            if not key >> 3 or after > end:
                raise ValueError(f"a field at {at} that ends at {after}, outside of its message")
            yield key >> 3, wire, at, value, after
            at = after

    def _count(self, inner: str | None) -> None:
        self._fields += 1
        self._nodes += inner == "node"
        if self._nodes > Graph.MAX_OPS:
            raise TooLarge(f"has more than {Graph.MAX_OPS} nodes", field=_FIELD, limit=Graph.MAX_OPS)
        if self._fields > MAX_FIELDS:
            raise TooLarge(f"has more than {MAX_FIELDS} fields", field=_FIELD, limit=MAX_FIELDS)

    def _read(self, start: int, end: int) -> bytes:
        self._bytes += end - start
        if self._bytes > MAX_STRUCTURE_BYTES:
            raise TooLarge(
                f"has more than {MAX_STRUCTURE_BYTES} bytes beside its large tensors",
                field=_FIELD,
                remedy="store weights as raw_data, as ONNX's own numpy_helper does",
                limit=MAX_STRUCTURE_BYTES,
            )
        self._file.seek(start)
        data = self._file.read(end - start)
        if len(data) != end - start:
            raise ValueError("shorter than it was")
        return data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length and the place after it; raise ValueError where it does not end."""
    number = shift = 0
    for place, byte in enumerate(data[at : at + _MOST_VARINT_BYTES], at + 1):
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
    raise ValueError("a number that does not end")


def _field(number: int, value: bytes) -> bytes:
    """Return a field of bytes as it is written."""
    head = bytearray([number << 3 | _LENGTH])  # numbers up to 15 take one byte
    length = len(value)
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + value
