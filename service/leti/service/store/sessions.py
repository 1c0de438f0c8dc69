"""Sessions: a token's holder in a browser, known by the hash of a secret that the browser keeps."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, final

from sqlalchemy import delete, insert, select

from leti.core.access import TokenInfo
from leti.service.database import Database
from leti.service.store.tokens import is_valid, token_info
from leti.service.tables import sessions, tokens
from leti.service.token_text import digest

_BYTES: Final = 32


@final
class SessionStore:
    """Keeps sessions; one ends with its time, with its token, or when its holder signs out."""

    def __init__(self, database: Database, clock: Callable[[], float], *, lasts_s: float) -> None:
        self._database = database
        self._clock = clock
        self._lasts_s = lasts_s

    def create(self, token_id: str) -> str:
        """Begin a session of a token's holder; return its secret, which is kept nowhere. Those that are over go."""
        secret, now = secrets.token_urlsafe(_BYTES), self._clock()
        row = {
            "digest": digest(secret),
            "token_id": token_id,
            "created_at": now,
            "expires_at": now + self._lasts_s,
        }
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
            connection.execute(insert(sessions).values(**row))
        return secret

    def find(self, hashed: str) -> TokenInfo | None:
        """Return the valid token of the session of this hash."""
        now = self._clock()
        query = select(tokens).join(sessions, sessions.c.token_id == tokens.c.id)
        with self._database.reading() as connection:
            row = connection.execute(query.where(sessions.c.digest == hashed, sessions.c.expires_at > now)).first()
        return token_info(row) if row is not None and is_valid(row, now) else None

    def end(self, secret: str) -> None:
        """End a session, if there is one."""
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.digest == digest(secret)))
