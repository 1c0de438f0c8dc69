"""Uploads: model files that were sent, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects import postgresql, sqlite

from leti.core.codec import from_json, to_json
from leti.core.device import ModelFormat
from leti.core.errors import NotFound
from leti.core.uploads import Upload
from leti.core.wire import Problem
from leti.service.database import Database
from leti.service.store.networks import KnownNetwork, keep
from leti.service.store.times import utc
from leti.service.tables import model_files, uploads


@final
class UploadStore:
    """Keeps uploads by the SHA-256 and the format of their files."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def receive(self, sha256: str, model_format: ModelFormat, size_bytes: int) -> tuple[Upload, bool]:
        """Return the upload of a file, and whether it is new; one that was refused before waits to be read again."""
        same = uploads.c.sha256 == sha256, uploads.c.format == model_format
        values = {"sha256": sha256, "format": model_format, "bytes": size_bytes, "created_at": self._clock()}
        dialect = sqlite if self._database.is_sqlite else postgresql
        adding = (
            dialect.insert(uploads).on_conflict_do_nothing().values(**values, state="received").returning(uploads.c.id)
        )
        again = update(uploads).where(*same, uploads.c.state == "refused").values(state="received", problem=None)
        with self._database.writing() as connection:
            new = connection.execute(adding).first() is not None
            if not new:
                connection.execute(again)
            row = connection.execute(select(uploads).where(*same)).one()
        return _upload(row), new

    def find(self, sha256: str, model_format: ModelFormat) -> Upload | None:
        """Return the upload of a file, ``None`` where it was never uploaded."""
        same = uploads.c.sha256 == sha256, uploads.c.format == model_format
        with self._database.reading() as connection:
            row = connection.execute(select(uploads).where(*same)).first()
        return None if row is None else _upload(row)

    def get(self, upload_id: int) -> Upload:
        """Return an upload; raise :class:`NotFound`."""
        with self._database.reading() as connection:
            return _upload(_find(connection, upload_id))

    def hand_over(self, upload_id: int, task_id: int) -> Upload:
        """Note which task reads a file; return its upload."""
        with self._database.writing() as connection:
            connection.execute(update(uploads).where(uploads.c.id == upload_id).values(task_id=task_id))
            return _upload(_find(connection, upload_id))

    def begin(self, upload_id: int) -> Upload:
        """Return an upload: it is being read from now on, unless it has been; raise :class:`NotFound`."""
        waiting = uploads.c.id == upload_id, uploads.c.state == "received"
        with self._database.writing() as connection:
            connection.execute(update(uploads).where(*waiting).values(state="parsing"))
            return _upload(_find(connection, upload_id))

    def accept(self, upload_id: int, known: KnownNetwork) -> bool:
        """Keep the network of a file; return whether this file is the one that is measured as it.

        The first file of a network in a format stays its model, whether it was uploaded or written.
        """
        fingerprint = known.network.fingerprint
        with self._database.writing() as connection:
            row = _find(connection, upload_id)
            keep(self._database, connection, [known], self._clock())
            file = {"fingerprint": fingerprint, "format": row.format, "sha256": row.sha256}
            self._database.insert_new(connection, model_files, [file])
            done = {"state": "known", "fingerprint": fingerprint, "problem": None}
            connection.execute(update(uploads).where(uploads.c.id == upload_id).values(**done))
            model = select(model_files.c.sha256).where(
                model_files.c.fingerprint == fingerprint, model_files.c.format == row.format
            )
            return bool(connection.execute(model).scalar() == row.sha256)

    def refuse(self, upload_id: int, problem: Problem) -> None:
        """Note why a file that is being read holds no network that can be known."""
        reading = uploads.c.id == upload_id, uploads.c.state == "parsing"
        done = {"state": "refused", "problem": to_json(problem)}
        with self._database.writing() as connection:
            connection.execute(update(uploads).where(*reading).values(**done))


def _find(connection: Connection, upload_id: int) -> Row[Any]:
    row = connection.execute(select(uploads).where(uploads.c.id == upload_id)).first()
    if row is None:
        raise NotFound(f"there is no upload {upload_id}", field="upload_id", remedy="POST /v1/uploads makes one")
    return row


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        id=row.id,
        sha256=row.sha256,
        format=row.format,
        bytes=row.bytes,
        state=row.state,
        fingerprint=row.fingerprint,
        problem=None if row.problem is None else from_json(Problem, row.problem),
        created_at=utc(row.created_at),
        task_id=row.task_id,
    )
