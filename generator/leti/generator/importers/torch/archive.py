"""The archive of an exported PyTorch program (.pt2): its graph as JSON, and its tensors as plain bytes.

``torch.export.load`` is not used. It unpickles what an archive asks it to (tensors of subclasses, custom objects, and
the sample inputs, these without restriction where the restricted reader fails), and evaluates the shapes' expressions
as Python: a file could run code. All that a graph needs lies in the archive as JSON and raw tensors; these are read
here, nothing is unpickled or evaluated, and a file whose weights are pickled is refused. PyTorch need not be installed.

The form is that of ``torch/_export/serde/schema.py``, major version 8, as PyTorch 2.9 and later write it.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from leti.core.errors import ArtifactError, InvalidInput, TooLarge
from leti.core.extras import needs
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant
from leti.generator.weights import Array

with needs("import-torch"):
    import numpy as np

FIELD: Final = "model"
SAVE_AGAIN: Final = "torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')"
SCHEMA_MAJOR: Final = 8
"""The major version of the serialisation schema that is read."""

DTYPES: Mapping[int, str] = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64"},
    **{10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 34: "uint32", 35: "uint64"},
}
"""The name of each of the schema's data types of elements; floats of 8 bits have none."""

_MOST_MEMBERS_BYTES = 32 * 1024 * 1024  # of the zip's directory: about 300,000 members
_MOST_JSON_BYTES = 128 * 1024 * 1024  # 20,000 nodes with the stack traces that torch writes take some 60 MB
_MOST_EXPANDED = 2**24  # elements of a tensor, and bytes of all, that repeat what is stored
_LOCAL_HEADER = 30
_END, _END_SIZE = b"PK\x05\x06", 22
_LOCATOR, _LOCATOR_SIZE = b"PK\x06\x07", 20
_PICKLED = frozenset({"data.pkl", "constants.pkl"})  # torch.save, torch.jit.save
_OLD = frozenset({"serialized_exported_program.json", "serialized_exported_program.pt"})  # up to PyTorch 2.7


@final
class Archive:
    """A .pt2 archive: ``model`` is its graph as JSON. Raises what :func:`~leti.generator.importers.import_model` does.

    ``source`` is a file, or an archive in memory.
    """

    def __init__(self, source: Path | bytes) -> None:
        self._source = source
        self._claimed = 0
        with self._open() as file:
            self._members = _members(file)
            self._most = 2 * file.seek(0, io.SEEK_END) + _MOST_EXPANDED
        self._check()
        self.model = self._json("models/model.json")
        version = self.model.get("schema_version")
        major = version.get("major") if isinstance(version, dict) else None
        if major != SCHEMA_MAJOR:
            raise InvalidInput(
                f"is written in version {major!r:.20} of the schema of exported programs, this LETI reads "
                f"{SCHEMA_MAJOR}",
                field=FIELD,
                remedy="save it with PyTorch 2.13: " + SAVE_AGAIN,
            )
        self._payloads = {kind: self._payload(f"data/{kind}/model_{kind}_config.json") for kind in _KINDS}

    def tensor(self, kind: str, name: str) -> Constant:
        """Return a tensor of ``kind`` "weights" or "constants", which is loaded when somebody asks.

        Raises :class:`ArtifactError` where there is none, and :class:`InvalidInput` where it is pickled.
        """
        where = f"{kind}.{name}"
        with damage_reported(where):
            entry = self._payloads[kind][name]
            if entry["use_pickle"]:
                raise InvalidInput(
                    "is pickled, which is not read", field=where, remedy="turn it into a plain tensor before exporting"
                )
            meta = entry["tensor_meta"]
            shape, strides = _integers(meta["sizes"]), _integers(meta["strides"])
            offset = int(meta["storage_offset"]["as_int"])
            dtype = dtype_of(meta["dtype"], where)
            stored = _STORED[dtype]
            member = self._member(f"data/{kind}/{entry['path_name']}")
            elements, rest = divmod(member.file_size, stored.itemsize)
            _check_strides(shape, strides, offset, elements, rest, where)
            self._claimed += math.prod(shape) * stored.itemsize
            if self._claimed > self._most:
                raise TooLarge("reads what it stores again and again", field=where, limit=self._most)
            return Constant(shape, dtype, lambda: self._load(member, shape, strides, offset, dtype, where))

    def _open(self) -> BinaryIO:
        if isinstance(self._source, bytes):
            return io.BytesIO(self._source)
        try:
            return self._source.open("rb")
        except OSError as error:
            raise InvalidInput(f"cannot be read: {error.strerror}", field=FIELD, remedy="give a file") from error

    def _check(self) -> None:
        if self._members.keys() & _PICKLED:
            raise InvalidInput("is a pickled model, which is not read", field=FIELD, remedy=SAVE_AGAIN)
        if self._members.keys() & _OLD:
            raise InvalidInput("was saved by an older PyTorch", field=FIELD, remedy="save it with PyTorch 2.13")
        if "archive_format" not in self._members or self._read("archive_format", 16) != b"pt2":
            raise ArtifactError("is no archive of an exported program", field=FIELD, remedy=SAVE_AGAIN)
        if any(name.startswith("data/aotinductor/") for name in self._members):
            raise InvalidInput("is compiled, which is not read", field=FIELD, remedy=SAVE_AGAIN)
        if any(f"data/{kind}/model.pt" in self._members for kind in _KINDS):
            raise InvalidInput("has pickled weights", field=FIELD, remedy="save it with PyTorch 2.13: " + SAVE_AGAIN)
        if "byteorder" in self._members and self._read("byteorder", 16) != b"little":
            raise InvalidInput("has its bytes in big-endian order", field=FIELD, remedy="save it on another machine")
        models = [name for name in self._members if name.startswith("models/")]
        if models != ["models/model.json"]:
            raise InvalidInput(
                f"holds {len(models)} programs, not the one that is called 'model'", field=FIELD, remedy=SAVE_AGAIN
            )

    def _payload(self, name: str) -> Mapping[str, Any]:
        config = self._json(name).get("config")
        if not isinstance(config, dict):
            raise ArtifactError("has no table of tensors", field=name)
        return config

    def _json(self, name: str) -> dict[str, Any]:
        try:
            read = json.loads(self._read(name, _MOST_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"is damaged: {name} is no JSON", field=FIELD, remedy=SAVE_AGAIN) from error
        if not isinstance(read, dict):
            raise ArtifactError(f"is damaged: {name} holds no object", field=FIELD, remedy=SAVE_AGAIN)
        return read

    def _member(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._members[name]
        except KeyError:
            raise ArtifactError(f"is damaged: it has no {name:.200}", field=FIELD, remedy=SAVE_AGAIN) from None

    def _read(self, name: str, most: int) -> bytes:
        member = self._member(name)
        if member.file_size > most:
            raise TooLarge(f"has {member.file_size} bytes", field=name, remedy=f"at most {most}", limit=most)
        return self._bytes(member)

    def _bytes(self, member: zipfile.ZipInfo) -> bytes:
        """Return what a member holds: all are stored as they are, so that nothing grows in reading."""
        with self._open() as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER)
            if len(header) == _LOCAL_HEADER and header.startswith(b"PK\x03\x04"):
                name, extra = struct.unpack("<HH", header[26:])
                file.seek(name + extra, io.SEEK_CUR)
                data = file.read(member.file_size)
                if len(data) == member.file_size:
                    return data
        raise ArtifactError(f"is damaged: {member.filename:.200} is cut off", field=FIELD, remedy=SAVE_AGAIN)

    def _load(
        self, member: zipfile.ZipInfo, shape: Shape, strides: Shape, offset: int, dtype: str, where: str
    ) -> Array:
        flat = np.frombuffer(self._bytes(member), _STORED[dtype])
        if flat.size != member.file_size // _STORED[dtype].itemsize:
            raise ArtifactError("has changed since it was opened", field=where)
        if dtype == "bfloat16":  # the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        steps = tuple(stride * flat.itemsize for stride in strides)
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)


@contextmanager
def damage_reported(where: str = FIELD) -> Iterator[None]:
    """Turn what is raised for JSON of another form than the schema's into :class:`ArtifactError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ArtifactError(
            f"is damaged: it is not of the form that PyTorch writes ({type(error).__name__}: {error!s:.80})",
            field=where,
            remedy=SAVE_AGAIN,
        ) from error


def dtype_of(element: object, where: str) -> str:
    """Return the name of a data type; raise :class:`InvalidInput` for one that no graph has."""
    if not isinstance(element, int) or element not in DTYPES:
        raise InvalidInput(f"elements of type {element!r:.20} are not known", field=where)
    return DTYPES[element]


_KINDS: Final = ("weights", "constants")
_STORED: Mapping[str, np.dtype[Any]] = {
    name: np.dtype("<u2") if name == "bfloat16" else np.dtype(name).newbyteorder("<") for name in DTYPES.values()
}


def _members(file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    """Return the members of a zip by their names below its one folder; raise where it is none that torch writes."""
    length = _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, struct.error) as error:
        raise ArtifactError(f"is no zip archive: {error!s:.80}", field=FIELD, remedy=SAVE_AGAIN) from error
    members: dict[str, zipfile.ZipInfo] = {}
    root = infos[0].filename.partition("/")[0] if infos else ""
    for info in infos:
        folder, _, name = info.filename.partition("/")
        if not name:  # PyTorch 2.7 and before
            folder, name = root, info.filename
        if folder != root or name in members:
            raise ArtifactError(f"is damaged: {info.filename!r:.80} is misplaced", field=FIELD, remedy=SAVE_AGAIN)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise ArtifactError("is compressed, which PyTorch's archives are not", field=FIELD, remedy=SAVE_AGAIN)
        if not 0 <= info.header_offset <= length - info.file_size:
            raise ArtifactError(f"is damaged: {info.filename!r:.80} lies outside", field=FIELD, remedy=SAVE_AGAIN)
        members[name] = info
    return members


def _check_directory(file: BinaryIO) -> int:
    """Return the file's length; raise :class:`TooLarge` where reading the zip's directory would fill the memory."""
    length = file.seek(0, io.SEEK_END)
    file.seek(max(length - 2**16 - _END_SIZE - _LOCATOR_SIZE, 0))
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_SIZE:
        raise ArtifactError("is no zip archive", field=FIELD, remedy=SAVE_AGAIN)
    size = struct.unpack("<L", tail[end + 12 : end + 16])[0]
    locator = tail[max(end - _LOCATOR_SIZE, 0) : end]
    if locator.startswith(_LOCATOR):
        file.seek(min(struct.unpack("<Q", locator[8:16])[0], length))
        size = int.from_bytes(file.read(48)[40:], "little")
    if size > _MOST_MEMBERS_BYTES:
        raise TooLarge(f"has a directory of {size} bytes", field=FIELD, limit=_MOST_MEMBERS_BYTES)
    file.seek(0)
    return length


def _integers(sizes: Sequence[Mapping[str, int]]) -> Shape:
    return tuple(int(size["as_int"]) for size in sizes)


def _check_strides(shape: Shape, strides: Shape, offset: int, elements: int, rest: int, where: str) -> None:
    """Raise :class:`ArtifactError` where a tensor would be read outside of what is stored of it."""
    if len(shape) != len(strides) or min((*shape, *strides, offset)) < 0:
        raise ArtifactError(f"has the shape {shape} and the strides {strides}", field=where)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if rest or (math.prod(shape) and last >= elements):
        raise ArtifactError(f"holds {elements} elements, too few for {shape}", field=where)
    if math.prod(shape) > max(elements, _MOST_EXPANDED):
        raise TooLarge(f"repeats {elements} elements to {shape}", field=where, limit=_MOST_EXPANDED)
