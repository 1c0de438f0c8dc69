"""Tokens: made, listed, revoked, by admins."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Body, Path, Query

from leti.core.access import NewToken, TokenInfo, TokenPage, TokenRequest
from leti.service.gate.access import GivenCaller
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import FromWire, GivenParts, Limit
from leti.service.store.tokens import BESIDE

router = APIRouter(prefix="/tokens", tags=["tokens"])

_ID: Final = "^[0-9A-Za-z]{8}$"

TokenId = Annotated[str, Path(pattern=_ID, examples=["k3J9x2Qa"])]
TokenCursor = Annotated[str | None, Query(pattern=_ID, description="`next` of the page before")]


@router.post("", status_code=201, responses=posted(answer=NewToken, status=201))
def create_token(
    request: Annotated[TokenRequest, FromWire(), Body(openapi_examples=body_examples(TokenRequest))],
    parts: GivenParts,
    caller: GivenCaller,
) -> NewToken:
    """Make a token; its text is answered this once, and kept nowhere."""
    made = parts.store.tokens.create(request, caller.token_id or BESIDE)
    return made


@router.get("", responses=responses(answer=TokenPage))
def list_tokens(parts: GivenParts, cursor: TokenCursor = None, limit: Limit = 100) -> TokenPage:
    """Return tokens without their texts, the oldest first, also those that are revoked or whose time is over."""
    return parts.store.tokens.page(cursor=cursor, limit=limit)


@router.delete("/{token_id}", responses=responses(404, answer=TokenInfo))
def revoke_token(token_id: TokenId, parts: GivenParts) -> TokenInfo:
    """End a token for good; other web processes may let it in for some seconds more."""
    revoked = parts.store.tokens.revoke(token_id)
    parts.authenticator.forget(token_id)
    return revoked
