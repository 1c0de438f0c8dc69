"""Tokens: made, found by their hash, revoked. Their texts are in no row."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Final, final

from sqlalchemy import Row, insert, select, tuple_, update

from leti.core.access import NewToken, TokenInfo, TokenPage, TokenRequest
from leti.core.errors import InvalidInput, NotFound, StorageError
from leti.service.database import Database
from leti.service.store.times import utc
from leti.service.tables import tokens
from leti.service.token_text import digest, make_token

log = logging.getLogger(__name__)

BESIDE: Final = "command line"
"""Who made a token that no other token asked for."""

USED_EVERY_S: Final = 60.0
"""Seconds between two notes of one token's use: what only reads shall not write for that."""

DAY_S: Final = 86_400.0
MOST_DAYS: Final = 36_500.0


@final
class TokenStore:
    """Keeps tokens as hashes. A token that is revoked, or whose time is over, is found no more but still listed."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def create(self, request: TokenRequest, created_by: str = BESIDE) -> NewToken:
        """Make a token; raise :class:`InvalidInput` for a name or a time that cannot be."""
        name, days = request.name.strip(), request.expires_in_days
        if not 1 <= len(name) <= 200 or not name.isprintable():
            raise InvalidInput("must be 1 to 200 printable characters", field="name")
        if days is not None and not (math.isfinite(days) and 0 < days <= MOST_DAYS):
            raise InvalidInput(f"must be above 0 and at most {MOST_DAYS:g}, not {days}", field="expires_in_days")
        now = self._clock()
        token_id, text = make_token()
        values = {
            "id": token_id,
            "name": name,
            "role": request.role,
            "digest": digest(text),
            "created_at": now,
            "created_by": created_by,
            "expires_at": None if days is None else now + days * DAY_S,
        }
        with self._database.writing() as connection:
            row = connection.execute(insert(tokens).values(**values).returning(tokens)).one()
        return NewToken(text, token_info(row))

    def find(self, hashed: str) -> TokenInfo | None:
        """Return the valid token of this hash, and note that it is used."""
        now = self._clock()
        with self._database.reading() as connection:
            row = connection.execute(select(tokens).where(tokens.c.digest == hashed)).first()
        if row is None or not is_valid(row, now):
            return None
        if row.last_used_at is None or now - row.last_used_at >= USED_EVERY_S:
            self._used(row.id, now)
        return token_info(row)

    def list(self) -> tuple[TokenInfo, ...]:
        """Return every token, the oldest first."""
        with self._database.reading() as connection:
            return tuple(map(token_info, connection.execute(select(tokens).order_by(tokens.c.created_at, tokens.c.id))))

    def page(self, *, cursor: str | None, limit: int) -> TokenPage:
        """Return up to ``limit`` tokens after the one with the id ``cursor``, the oldest first; none goes ever."""
        order = tokens.c.created_at, tokens.c.id
        query = select(tokens).order_by(*order).limit(limit + 1)
        if cursor is not None:
            last = tokens.alias()
            query = query.join(last, last.c.id == cursor).where(tuple_(*order) > tuple_(last.c.created_at, last.c.id))
        with self._database.reading() as connection:
            items = tuple(map(token_info, connection.execute(query)))
        return TokenPage(items[:limit], items[limit - 1].id if len(items) > limit else None)

    def revoke(self, token_id: str) -> TokenInfo:
        """End a token for good; one that is revoked already stays as it is. Raises :class:`NotFound`."""
        now = self._clock()
        named = tokens.c.id == token_id
        with self._database.writing() as connection:
            connection.execute(update(tokens).where(named, tokens.c.revoked_at.is_(None)).values(revoked_at=now))
            row = connection.execute(select(tokens).where(named)).first()
        if row is None:
            raise NotFound(f"there is no token {token_id!r}", field="token_id", remedy="GET /v1/tokens lists them")
        return token_info(row)

    def _used(self, token_id: str, now: float) -> None:
        try:
            with self._database.writing() as connection:
                connection.execute(update(tokens).where(tokens.c.id == token_id).values(last_used_at=now))
        except StorageError as error:  # what was asked may well succeed
            log.warning("the use of token %s is not noted: %s", token_id, error)


def is_valid(row: Row[Any], now: float) -> bool:
    """Return whether a token opens anything: it is not revoked, and its time is not over."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


def token_info(row: Row[Any]) -> TokenInfo:
    """Return what is known of a token by its row."""

    def at(seconds: float | None) -> str | None:
        return None if seconds is None else utc(seconds)

    return TokenInfo(
        row.id,
        row.name,
        row.role,
        utc(row.created_at),
        row.created_by,
        at(row.expires_at),
        at(row.revoked_at),
        at(row.last_used_at),
    )
