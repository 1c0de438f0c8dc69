"""Artifacts: model files, predictors and files that were sent, in a folder or an object store, named by what they hold.

A name is a kind and a SHA-256, and never comes from a request. What has a name is whole: it is written elsewhere first
and moved, or sent to an object store, where it exists once all of it has arrived. What is read is held against its
SHA-256. Services on different machines share artifacts through this alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, Literal, final
from urllib.parse import urlsplit

from leti.core.errors import ArtifactError, InvalidInput, LetiError, MissingExtra, StorageError
from leti.core.extras import needs
from leti.service.settings import Settings

with needs("service"):
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

Kind = Literal["models", "predictors", "uploads", "datasets"]

LEFT_BEHIND_S: Final = 24 * 3600.0
"""Age at which what a process left behind half-written is swept away."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FORMAT: Final = re.compile(r"[a-z0-9]{0,16}")
_NAME: Final = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,16})?")
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"})
"""Stores in which an object exists once all of it has arrived, and which have no folders."""

_REMEDY: Final = "see to the store that the setting artifacts_url names: its address, credentials, space"


@final
@dataclass(frozen=True, slots=True)
class Artifact:
    """The name of a file, or of a predictor's folder; ``format`` says what kind of model file it is."""

    kind: Kind
    sha256: str
    format: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no name: nothing else ever becomes a path."""
        if not _SHA256.fullmatch(self.sha256) or not _FORMAT.fullmatch(self.format):
            raise InvalidInput("is no SHA-256", field="sha256", remedy="give 64 hexadecimal digits")

    @property
    def name(self) -> str:
        """What it is called among its kind."""
        return f"{self.sha256}.{self.format}" if self.format else self.sha256


@final
@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact that is there, and the bytes that it takes."""

    artifact: Artifact
    size_bytes: int


@final
class Part:
    """A file on its way into the store: written piece by piece, hashed meanwhile."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.path: Final = path
        self.size_bytes = 0

    def write(self, piece: bytes) -> None:
        """Add a piece."""
        with _border():
            self._file.write(piece)
        self._hash.update(piece)
        self.size_bytes += len(piece)

    def flush(self) -> None:
        """Have the disk hold all of it."""
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written so far."""
        return self._hash.hexdigest()


@final
class ArtifactStore:
    """Artifacts below one folder of a file system of fsspec's. Safe to share between threads.

    Raises :class:`ArtifactError` for an artifact that is gone or damaged, and :class:`StorageError` where the store
    refuses or cannot be reached.
    """

    def __init__(self, files: Any, root: str, home: Path, cache_bytes: int) -> None:
        self._files = files
        self._root = root.rstrip("/")
        self._local: Final = isinstance(files, LocalFileSystem)
        spoken = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
        self._whole: Final = bool(_WHOLE & spoken)
        self._parts = Path(self._root, ".parts") if self._local else home / "cache" / ".parts"
        self._cache = home / "cache"
        self._cache_bytes = cache_bytes

    @classmethod
    def open(cls, settings: Settings) -> ArtifactStore:
        """Return the store that settings name: the folder ``home`` itself where they name none.

        Raises :class:`InvalidInput` for an address that is none and :class:`MissingExtra` where what speaks to such a
        store is not installed. Nothing is connected to yet.
        """
        url, home = settings.artifacts_url, settings.home.absolute()
        if not url:
            return cls(LocalFileSystem(), str(home), home, 0)._swept()
        if urlsplit(url).password:
            raise InvalidInput(
                "holds a password", field="artifacts_url", remedy="give credentials as the store's own tools take them"
            )
        try:
            files, root = fsspec.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            if url.startswith("s3"):
                raise MissingExtra.named("s3", "s3fs") from error
            raise MissingExtra(
                f"nothing is installed that speaks to {url.partition(':')[0]} stores",
                field="artifacts_url",
                remedy="pip install the package of fsspec that does",
            ) from error
        except ValueError as error:
            raise InvalidInput(
                f"is no address of a store: {str(error)[:200]}", field="artifacts_url", remedy="s3://bucket/prefix"
            ) from error
        return cls(files, root, home, settings.artifact_cache_bytes)._swept()

    # --- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def receiving(self) -> Iterator[Part]:
        """Open a part to be written, and then kept: what is not kept is gone at the end of the block."""
        with self._part() as path:
            with _border():
                file = path.open("xb")
            with file:
                yield Part(file, path)

    def keep(self, part: Part, kind: Kind, model_format: str = "") -> Artifact:
        """Give a part its name, at once or not at all; return it."""
        with _border():
            part.flush()
            artifact = Artifact(kind, part.sha256, model_format)
            self._place(part.path, self._path(artifact))
        return artifact

    def put(self, content: bytes, kind: Kind, model_format: str = "") -> Artifact:
        """Store a content, at once or not at all; return its name."""
        with self.receiving() as part:
            part.write(content)
            return self.keep(part, kind, model_format)

    @contextmanager
    def making(self) -> Iterator[Path]:
        """Open an absent folder to be made, and then kept: what is not kept is gone at the end of the block."""
        with self._part() as path:
            yield path

    def keep_folder(self, folder: Path, artifact: Artifact, *, last: str) -> None:
        """Give a folder of files its name; the file ``last`` stands for all of them, and comes last."""
        with _border():
            target = self._path(artifact)
            if self._local:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                with self._part() as old:
                    with suppress(FileNotFoundError):
                        os.replace(target, old)  # the same content, perhaps damaged since: what comes is whole
                    os.replace(folder, target)
                return
            names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name == last, name))
            for name in names:
                self._place(folder / name, f"{target}/{name}")

    def copy(self, artifact: Artifact, kind: Kind, model_format: str = "") -> Artifact:
        """Store a file under another kind as well; return its name there."""
        copied = Artifact(kind, artifact.sha256, model_format)
        with _border(artifact):
            target = self._path(copied)
            part = target if self._whole else f"{target}.{uuid.uuid4().hex}.part"
            self._make_folder(target)
            self._files.cp_file(self._path(artifact), part)
            if part != target:
                self._files.mv(part, target)
        return copied

    def delete(self, artifact: Artifact) -> None:
        """Delete an artifact, or find it gone."""
        self.forget(artifact)
        with _border(), suppress(FileNotFoundError):
            self._files.rm(self._path(artifact), recursive=True)

    # --- reading -----------------------------------------------------------------------------------------------------

    def exists(self, artifact: Artifact) -> bool:
        """Return whether an artifact is there, whole or damaged."""
        with _border():
            return bool(self._files.exists(self._path(artifact)))

    def get(self, artifact: Artifact) -> bytes:
        """Return a file's content."""
        with _border(artifact):
            content: bytes = self._files.cat_file(self._path(artifact))
        if hashlib.sha256(content).hexdigest() != artifact.sha256:
            raise _damaged(artifact)
        return content

    def path(self, artifact: Artifact) -> Path:
        """Return a file on this machine: the store's own where it is a folder, else a copy of it."""
        with _border(artifact):
            if self._local:
                return _checked(Path(self._path(artifact)), artifact)
            cached = self._cached(artifact)
            with suppress(ArtifactError, FileNotFoundError):
                _checked(cached, artifact)
                os.utime(cached)
                return cached
            with self._part() as part:
                self._files.get_file(self._path(artifact), str(part))
                _checked(part, artifact)
                self._cache_it(part, cached)
            return cached

    def folder(self, artifact: Artifact) -> Path:
        """Return a folder on this machine: the store's own where it is a folder, else a copy of it, unchecked."""
        with _border(artifact):
            if self._local:
                return Path(self._path(artifact))
            cached = self._cached(artifact)
            if cached.is_dir():
                os.utime(cached)
                return cached
            with self._part() as part:
                part.mkdir()
                for path in self._files.ls(self._path(artifact), detail=False):
                    name = str(path).rpartition("/")[2]
                    if _FILE.fullmatch(name):
                        self._files.get_file(path, str(part / name))
                self._cache_it(part, cached)
            return cached

    def age_s(self, artifact: Artifact) -> float:
        """Return the seconds since an artifact was last written, of a folder since the last of its files was."""
        with _border(artifact):
            found: Mapping[str, Any] = self._files.find(self._path(artifact), detail=True)
            if not found:
                raise FileNotFoundError
            newest: datetime = max(self._files.modified(path) for path in found)
        return time.time() - (newest if newest.tzinfo else newest.replace(tzinfo=UTC)).timestamp()

    def forget(self, artifact: Artifact) -> bool:
        """Drop this machine's copy of an artifact; return whether there was one."""
        cached = self._cached(artifact)
        there = not self._local and cached.exists()
        if there:
            _remove(cached)
        return there

    def list(self, kind: Kind) -> list[Stored]:
        """Return every artifact of a kind, by name."""
        folder = f"{self._root}/{kind}"
        with _border():
            try:
                found: Mapping[str, Any] = self._files.find(folder, detail=True)
            except FileNotFoundError:
                found = {}
        sizes: dict[str, int] = {}
        for path, info in found.items():
            name = str(path).rpartition(f"{folder.lstrip('/')}/")[2].partition("/")[0]
            if _NAME.fullmatch(name):
                sizes[name] = sizes.get(name, 0) + int(info.get("size") or 0)
        split = {name: name.partition(".") for name in sizes}
        return [Stored(Artifact(kind, split[name][0], split[name][2]), sizes[name]) for name in sorted(sizes)]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _path(self, artifact: Artifact) -> str:
        return f"{self._root}/{artifact.kind}/{artifact.name}"

    def _cached(self, artifact: Artifact) -> Path:
        return self._cache / artifact.kind / artifact.name

    def _make_folder(self, path: str) -> None:
        if not self._whole:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _place(self, file: Path, target: str) -> None:
        self._make_folder(target)
        if self._local:
            os.replace(file, target)
        elif self._whole:
            self._files.put_file(str(file), target)
        else:
            part = f"{target}.{uuid.uuid4().hex}.part"
            self._files.put_file(str(file), part)
            self._files.mv(part, target)

    @contextmanager
    def _part(self) -> Iterator[Path]:
        """Give a path that nothing has yet, on the disk that it may be moved on; remove what is there at the end."""
        with _border():
            self._parts.mkdir(parents=True, exist_ok=True)
        path = self._parts / uuid.uuid4().hex
        try:
            yield path
        finally:
            _remove(path)

    def _cache_it(self, part: Path, cached: Path) -> None:
        """Keep a copy, and drop those that were used longest ago where they take too much together."""
        cached.parent.mkdir(parents=True, exist_ok=True)
        _remove(cached)
        with suppress(OSError):  # somebody else's copy of it came first
            os.replace(part, cached)
        entries = sorted(
            ((path.stat().st_mtime, _size(path), path) for path in self._cache.glob("[!.]*/*") if path != cached),
            reverse=True,
        )
        taken = _size(cached)
        for _, size, path in entries:
            taken += size
            if taken > self._cache_bytes:
                _remove(path)

    def _swept(self) -> ArtifactStore:
        """Remove what was left half-written, and return the store."""
        with suppress(OSError):
            for path in self._parts.iterdir():
                if time.time() - path.stat().st_mtime > LEFT_BEHIND_S:
                    _remove(path)
        return self


@contextmanager
def _border(artifact: Artifact | None = None) -> Iterator[None]:
    """Translate what a file system raises; to read an artifact that is not there is an :class:`ArtifactError`."""
    try:
        yield
    except LetiError:
        raise
    except Exception as error:  # every file system has errors of its own
        if artifact is not None and isinstance(error, FileNotFoundError):
            raise ArtifactError(f"{artifact.kind}/{artifact.name} is gone", field=artifact.name) from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise StorageError(f"the artifact store refused: {reason[:200]}", remedy=_REMEDY) from error


def _checked(path: Path, artifact: Artifact) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != artifact.sha256:
        raise _damaged(artifact)
    return path


def _damaged(artifact: Artifact) -> ArtifactError:
    return ArtifactError(
        f"{artifact.kind}/{artifact.name} is damaged: it does not match its SHA-256", field=artifact.name
    )


def _size(path: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
    return 0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
