"""The text of a token: ``leti_``, its public id, ``_``, 256 random bits, and a checksum.

A scanner for leaked secrets finds it by :data:`PATTERN`; by the checksum a text that was copied badly is told from a
token that is unknown, without a question to the database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from typing import Final

PREFIX: Final = "leti_"
PATTERN: Final = re.compile(r"leti_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}[0-9A-Za-z]{6}")

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID, _SECRET, _CHECK = 8, 43, 6  # 62**43 > 2**256, 62**6 > 2**32


def make_token() -> tuple[str, str]:
    """Return a new token's id and its text."""
    token_id = _drawn(_ID)
    text = f"{PREFIX}{token_id}_{_drawn(_SECRET)}"
    return token_id, text + _checksum(text)


def well_formed(text: str) -> bool:
    """Return whether a text is a whole token; whether anybody made it is another question."""
    return PATTERN.fullmatch(text) is not None and _checksum(text[:-_CHECK]) == text[-_CHECK:]


def digest(text: str) -> str:
    """Return what is kept of a token: its SHA-256.

    A slow hash would protect a password, which somebody may guess; among 2**256 texts nobody guesses. Tokens are looked
    up by this hash, so that no comparison depends on how much of a secret was right.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def _drawn(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECK):
        value, index = divmod(value, len(_ALPHABET))
        digits += _ALPHABET[index]
    return digits
