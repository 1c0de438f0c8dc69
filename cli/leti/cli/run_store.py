"""The results of an evaluation, one JSON file each, so that one that was cut off goes on where it stopped."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from leti.core.errors import InvalidInput

ROOMS = ("leti.core", "leti.generator", "leti.predictors")
"""The code that results depend on."""

Record = dict[str, Any]
"""One result as JSON: what was judged, with which settings and code, and its figures or its ``error``."""


@final
@dataclass(frozen=True, slots=True)
class RunStore:
    """A folder of records. A record is there whole or not at all."""

    folder: Path

    def write(self, name: str, record: Record) -> None:
        """Keep a record; one of the same name is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{name}.{os.getpid()}.part"
        part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(self.folder / f"{name}.json")

    def read(self, name: str) -> Record | None:
        """Return a record, or nothing where there is none."""
        path = self.folder / f"{name}.json"
        return _read(path) if path.is_file() else None

    def forget(self, name: str) -> None:
        """Take a record away, if there is one."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def all(self) -> list[Record]:
        """Return every record, by name."""
        return [_read(path) for path in sorted(self.folder.glob("*.json"))]


def _read(path: Path) -> Record:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is no result: {error}", field="--out", remedy="delete it") from None
    if not isinstance(record, dict):
        raise InvalidInput(f"{path} is no result", field="--out", remedy="delete it")
    return record


@functools.cache
def code_version() -> str:
    """Return a digest of the code that results depend on, taken once a process: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        for folder in sorted(spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def data_version(path: Path) -> str:
    """Return a digest of a file, 12 hexadecimal digits; raise :class:`InvalidInput` where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="--data") from None
