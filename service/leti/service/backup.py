"""Backups of a service that keeps everything in its home folder: one file, made while the service runs.

The database comes first, as it is at one moment (SQLite's ``VACUUM INTO``), then the artifacts: these are written
before a row speaks of them and never change, so that the copy holds all that its database names. A PostgreSQL is backed
up by its own tools.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final, get_args

from leti.core.errors import ArtifactError, Conflict, InvalidInput, StorageError
from leti.service.artifacts import Kind
from leti.service.settings import Settings

KINDS: Final[tuple[str, ...]] = get_args(Kind)


@final
@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds: files beside the database, and bytes in all."""

    artifacts: int
    bytes: int


def back_up(settings: Settings, file: Path) -> Backup:
    """Write everything into one new tar ``file``, whole or not at all.

    Raises :class:`InvalidInput` where the database is not SQLite or artifacts lie elsewhere, :class:`Conflict` where
    the file is there already, and :class:`StorageError`.
    """
    _check_embedded(settings)
    if file.exists():
        raise Conflict(f"{file} is there already", field="FILE", remedy="name another")
    if not settings.database_file.exists():
        raise InvalidInput(f"there is no {settings.database_file}", field="home", remedy="name the service's folder")
    with _sqlite(), tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".leti-backup-") as name:
        copy, part = Path(name, "leti.sqlite"), Path(name, "backup.tar")
        with contextlib.closing(sqlite3.connect(settings.database_file)) as database:
            database.execute("VACUUM INTO ?", (str(copy),))
        with tarfile.open(part, "w") as tar:
            tar.add(copy, "leti.sqlite")
            count = 0
            for path in _artifacts(settings):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    tar.add(path, str(path.relative_to(settings.home)), recursive=False)
                    count += 1
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o600)
        os.replace(part, file)
    return Backup(count, file.stat().st_size)


def restore(file: Path, settings: Settings) -> Backup:
    """Fill a new home folder from a backup; it is there whole, its database checked, or not at all.

    Raises :class:`Conflict` where the folder holds something, :class:`ArtifactError` for a file that is no backup or
    damaged, and :class:`InvalidInput` where the settings name a database or artifacts outside it.
    """
    _check_embedded(settings)
    home = settings.home.absolute()
    if home.exists() and any(home.iterdir()):
        raise Conflict(f"{home} is not empty", field="home", remedy="name a new folder: nothing is overwritten")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".leti-restore-") as name:
        made = Path(name, "home")
        try:
            with tarfile.open(file) as tar:
                tar.extractall(made, filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise ArtifactError(f"{file} is no backup, or damaged: {error}", field="FILE") from error
        _check_database(made / "leti.sqlite")
        found = [path for path in made.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in found)
        with contextlib.suppress(FileNotFoundError):
            home.rmdir()
        shutil.move(made, home)
    return Backup(len(found) - 1, size)


def _check_embedded(settings: Settings) -> None:
    if settings.database_url:
        raise InvalidInput(
            "names a database of its own", field="database_url", remedy="pg_dump and pg_restore: docs/operations.md"
        )
    if settings.artifacts_url:
        raise InvalidInput("names another place", field="artifacts_url", remedy="back it up by its own means")


def _artifacts(settings: Settings) -> Iterator[Path]:
    for kind in KINDS:
        folder = settings.home / kind
        if folder.is_dir():
            yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _check_database(file: Path) -> None:
    if not file.is_file():
        raise ArtifactError("the backup holds no database", field="FILE")
    try:
        with contextlib.closing(sqlite3.connect(file)) as database:
            said = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said != "ok":
        raise ArtifactError(f"the database in the backup is damaged: {said}", field="FILE")


@contextlib.contextmanager
def _sqlite() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"the database refused: {error}", remedy="see to its folder and its space") from error
