"""Who may do what: roles, and the bearer tokens that carry them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, get_args

from leti.core.wire import STRICT

Role = Literal["viewer", "client", "agent", "admin"]
"""``viewer`` reads; ``client`` also asks for latencies and measurements; ``agent`` measures; ``admin`` may all."""

ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token is wanted, under a name that says whose it is; without ``expires_in_days`` it lasts until revoked."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    role: Role
    expires_in_days: float | None = None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What is known of a token: not its text, of which the service keeps a hash alone.

    ``id`` stands in the token's text and is no secret. ``created_by`` is the id of the token that asked for it, or says
    that it was made beside the database. ``last_used_at`` is exact to a minute.
    """

    id: str
    name: str
    role: Role
    created_at: str
    created_by: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None


@dataclass(frozen=True, slots=True)
class TokenPage:
    """One page of tokens; ``next`` is the cursor of the page after it."""

    items: tuple[TokenInfo, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token's text, shown this once, and what stays known of it."""

    token: str = field(repr=False)
    info: TokenInfo
