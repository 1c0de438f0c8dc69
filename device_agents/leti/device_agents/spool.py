"""Results on disk until the service has acknowledged them: nothing measured is lost when either side dies.

One file holds one result: a line with the SHA-256 of the rest, then the result's JSON. It is written under another
name, flushed to the disk and renamed, so that a file with its final name is whole. Names begin with a running number:
results are handed in in the order in which they were measured. One spool belongs to one service.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from leti.core.codec import from_json, to_json
from leti.core.errors import InvalidInput, LetiError, StorageError
from leti.core.farm import Result

NAME: Final = re.compile(r"(\d{12})-(\d+-\d+-\d+)\.json")
"""A running number, then job, repeat and lease."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A result that waits, and the file that holds it."""

    path: Path
    result: Result


@final
class Spool:
    """A folder of results. Damaged files are set aside in ``damaged``, refused results in ``refused``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._damaged = folder / "damaged"
        self._refused = folder / "refused"
        with _storage_errors(folder):
            for each in (folder, self._damaged, self._refused):
                each.mkdir(parents=True, exist_ok=True)
                _sync_folder(each.parent)

    def put(self, result: Result) -> Path:
        """Write ``result`` to the disk and return its file; the same result put twice is one file."""
        key = f"{result.job_id}-{result.repeat}-{result.lease_id}"
        names = self._names()
        known = next((name for name in names if NAME.fullmatch(name)[2] == key), None)  # type: ignore[index]
        number = int(names[-1].split("-", 1)[0]) + 1 if names else 0
        path = self._folder / (known or f"{number:012d}-{key}.json")
        text = json.dumps(to_json(result), allow_nan=False, separators=(",", ":")).encode()
        with _storage_errors(path):
            _write(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n")
        return path

    def pending(self) -> Iterator[Entry]:
        """Yield what waits, the oldest first; damaged files are set aside on the way."""
        for name in self._names():
            path = self._folder / name
            try:
                yield Entry(path, _read(path))
            except FileNotFoundError:
                continue
            except (ValueError, RecursionError, InvalidInput):
                self._set_aside(path, self._damaged)
            except OSError as error:
                raise StorageError(f"{path} cannot be read: {error}") from error

    def __len__(self) -> int:
        """Return how many results wait."""
        return len(self._names())

    def acknowledged(self, entry: Entry) -> None:
        """Forget a result that the service has."""
        with _storage_errors(entry.path):
            entry.path.unlink(missing_ok=True)

    def refused(self, entry: Entry, reason: LetiError) -> None:
        """Set aside a result that the service will never take, with the reason beside it."""
        with _storage_errors(entry.path):
            _write(self._refused / f"{entry.path.name}.reason", f"{reason.kind}: {reason}\n".encode())
        self._set_aside(entry.path, self._refused)

    def _names(self) -> list[str]:
        with _storage_errors(self._folder):
            return sorted(name for name in os.listdir(self._folder) if NAME.fullmatch(name))

    def _set_aside(self, path: Path, folder: Path) -> None:
        with _storage_errors(path), suppress(FileNotFoundError):
            path.replace(folder / path.name)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Translate the disk's errors, once."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror or error}", remedy="check the disk's space and permissions"
        ) from error


def _read(path: Path) -> Result:
    """Return the result in ``path``; raise :class:`ValueError` where the file is not what was written."""
    digest, _, text = path.read_bytes().partition(b"\n")
    text = text.removesuffix(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise ValueError("the SHA-256 differs")
    return from_json(Result, json.loads(text))


def _write(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # a disk that is full needs the room
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system can open folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
