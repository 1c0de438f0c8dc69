"""The .keras archive: what is in it is checked before Keras sees it, so that loading it runs no code but Keras's own.

The file form is Keras 3's (``keras.saving.save_model``): a zip of ``config.json``, ``metadata.json``, a file of weights
and a folder of assets.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from leti.core.errors import ArtifactError, InvalidInput, TooLarge
from leti.core.graph import Graph

CONFIG = "config.json"
WEIGHTS = ("model.weights.h5", "model.weights.npz")
MAX_CONFIG_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 4 * 2**30
_MOST_MEMBERS = 1_000
_MOST_EXPANSION = 100
_EXPANSION_FLOOR_BYTES = 2**20  # smaller members may shrink as much as they like
_FIELD = "model"
_DAMAGED = "give a .keras file that keras.Model.save wrote, whole"
_CUSTOM = "load the model yourself with its classes, and give the model object to import_model"

_RUNS_FOREIGN_CODE = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
"""Keras's own layers that run what somebody else wrote."""


def read_config(path: Path) -> tuple[dict[str, Any], int]:
    """Return the configuration of a model file, checked, and the bytes of its weights.

    Raises :class:`ArtifactError` for a file that is damaged or no .keras file, :class:`TooLarge` for one that unpacks
    to more than the limits, and :class:`InvalidInput`, naming the layer, where it would take code from outside Keras.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = _sizes(archive)
            text = archive.read(CONFIG)
        config = json.loads(text)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ArtifactError(f"cannot be read as a .keras file: {error}", field=_FIELD, remedy=_DAMAGED) from error
    except RecursionError as error:
        raise ArtifactError("is damaged: its configuration nests too deep", field=_FIELD, remedy=_DAMAGED) from error
    if not isinstance(config, dict):
        raise ArtifactError("is damaged: its configuration is no object", field=_FIELD, remedy=_DAMAGED)
    _check_classes(config)
    return {**config, "compile_config": None}, max(sizes.get(name, 0) for name in WEIGHTS)


def _sizes(archive: zipfile.ZipFile) -> Mapping[str, int]:
    """Return the bytes that each member says it unpacks to; ``zipfile`` reads no further than that."""
    members = archive.infolist()
    sizes = {member.filename: member.file_size for member in members}
    if len(members) > _MOST_MEMBERS or sum(sizes.values()) > MAX_TOTAL_BYTES:
        raise _too_large("its members", sum(sizes.values()), MAX_TOTAL_BYTES)
    if len(sizes) != len(members):
        raise ArtifactError("is damaged: it holds two members of one name", field=_FIELD, remedy=_DAMAGED)
    for member in members:
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
            raise ArtifactError(
                f"holds a member outside itself: {member.filename!r:.80}", field=_FIELD, remedy=_DAMAGED
            )
        if member.file_size > max(_EXPANSION_FLOOR_BYTES, _MOST_EXPANSION * member.compress_size):
            raise _too_large(member.filename, member.file_size, _MOST_EXPANSION * member.compress_size)
    if CONFIG not in sizes or not any(name in sizes for name in WEIGHTS):
        raise ArtifactError(f"is no .keras file: it needs {CONFIG} and {WEIGHTS[0]}", field=_FIELD, remedy=_DAMAGED)
    if sizes[CONFIG] > MAX_CONFIG_BYTES:
        raise _too_large(CONFIG, sizes[CONFIG], MAX_CONFIG_BYTES)
    return sizes


def _too_large(what: str, size: int, limit: int) -> TooLarge:
    return TooLarge(f"{what:.80} would unpack to {size} bytes", field=_FIELD, remedy=f"at most {limit}", limit=limit)


def _check_classes(config: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidInput` for a class, or a function, that is not Keras's own."""
    layers = 0
    for item in _objects(config):
        kind, module, registered = item.get("class_name"), item.get("module"), item.get("registered_name")
        if not isinstance(kind, str):
            raise ArtifactError("is damaged: a class has no name", field=_FIELD, remedy=_DAMAGED)
        layers += "inbound_nodes" in item
        if layers > Graph.MAX_OPS:
            raise TooLarge(f"has more than {Graph.MAX_OPS} layers", field=_FIELD, limit=Graph.MAX_OPS)
        if kind in _RUNS_FOREIGN_CODE or kind == "__lambda__":
            raise _custom(kind, item, "runs code that the file brings along")
        if kind.startswith("__"):
            continue  # a tensor, a slice: plain values
        of_keras = module is not None and str(module).partition(".")[0] in ("keras", "builtins")
        if not of_keras or (isinstance(registered, str) and ">" in registered):
            raise _custom(str(registered or kind), item, "is not a part of Keras")


def _custom(kind: str, item: Mapping[str, Any], why: str) -> InvalidInput:
    inner = item.get("config")
    name = item.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    layer = f" (layer {name!r:.80})" if isinstance(name, str) else ""
    return InvalidInput(f"{kind:.80}{layer} {why}", field=_FIELD, remedy=_CUSTOM, layer=str(name or kind)[:200])


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every description of an object in a configuration: a mapping with a class's name."""
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
