"""Answers kept by the key of their request, so that a request that is sent again does nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, final

from sqlalchemy import delete, select, update

from leti.service.database import Database
from leti.service.tables import kept_answers

KEPT_S: Final = 24 * 3600.0
"""Seconds for which an answer is kept."""

AT_WORK_S: Final = 20.0
"""Seconds without a sign of life after which a request is taken for dead, with its process."""


@final
@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it was given: its status, the media type and the bytes of its body."""

    status: int
    media_type: str
    body: bytes


Claim = KeptAnswer | Literal["new", "at work", "another body"]
"""What a key stands for: an answer, nothing until now, a request still at work, or a request with another body."""


@final
class AnswerStore:
    """Keeps answers for a day; what is older goes when something new comes."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def claim(self, key_sha256: str, body_sha256: str) -> Claim:
        """Return what a key stands for; where that is nothing, the caller is to answer, then keep or forget it."""
        now = self._clock()
        row = {"key_sha256": key_sha256, "body_sha256": body_sha256, "expires_at": now + AT_WORK_S}
        with self._database.writing() as connection:
            connection.execute(delete(kept_answers).where(kept_answers.c.expires_at < now))
            found = connection.execute(select(kept_answers).where(kept_answers.c.key_sha256 == key_sha256)).first()
            if found is None:
                return "new" if self._database.insert_one(connection, kept_answers, row) else "at work"
        if found.body_sha256 != body_sha256:
            return "another body"
        if found.status is None:
            return "at work"
        return KeptAnswer(found.status, found.media_type, found.answer)

    def renew(self, key_sha256: str) -> None:
        """Show that a request that was claimed is still at work."""
        unanswered = kept_answers.c.key_sha256 == key_sha256, kept_answers.c.status.is_(None)
        expires_at = self._clock() + AT_WORK_S
        with self._database.writing() as connection:
            connection.execute(update(kept_answers).where(*unanswered).values(expires_at=expires_at))

    def keep(self, key_sha256: str, answer: KeptAnswer) -> None:
        """Keep the answer to a request that was claimed."""
        values = {
            "status": answer.status,
            "media_type": answer.media_type,
            "answer": answer.body,
            "expires_at": self._clock() + KEPT_S,
        }
        with self._database.writing() as connection:
            connection.execute(update(kept_answers).where(kept_answers.c.key_sha256 == key_sha256).values(**values))

    def forget(self, key_sha256: str) -> None:
        """Let a request that was claimed, and came to nothing, be sent again."""
        unanswered = kept_answers.c.key_sha256 == key_sha256, kept_answers.c.status.is_(None)
        with self._database.writing() as connection:
            connection.execute(delete(kept_answers).where(*unanswered))
