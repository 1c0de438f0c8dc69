"""Tokens."""

from __future__ import annotations

from leti.client.call import Call, Flow, every, post, segment
from leti.client.exchange import reader
from leti.core.access import NewToken, TokenInfo, TokenPage, TokenRequest


def create_token(request: TokenRequest) -> Call[NewToken]:
    return post(NewToken, "/v1/tokens", request, repeats="never")


def tokens() -> Flow[tuple[TokenInfo, ...]]:
    return every(TokenPage, "/v1/tokens")


def revoke_token(token_id: str) -> Call[TokenInfo]:
    return Call("DELETE", f"/v1/tokens/{segment(token_id)}", reader(TokenInfo))
