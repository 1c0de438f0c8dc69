"""A request's body, counted as it arrives: too long, or too slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

pytest.importorskip("starlette", reason="needs the extra service")

from starlette.exceptions import HTTPException
from starlette.types import Message

from leti.service.gate.bodies import Body


def sender(*pieces: bytes) -> Body:
    """Return a body of at most ten bytes whose sender sends some pieces and then stalls."""
    left = list(pieces)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    return Body(receive, 10, 0.01)


@pytest.mark.parametrize(("pieces", "status"), [((b"x" * 10,), 408), ((b"x" * 10, b"x"), 413), ((b"x" * 11,), 413)])
def test_a_sender_that_stalls_is_told_what_was_wrong_first(pieces: Sequence[bytes], status: int) -> None:
    async def read_all() -> None:
        body = sender(*pieces)
        while True:
            await body.receive()

    with pytest.raises(HTTPException) as caught:
        asyncio.run(read_all())
    assert caught.value.status_code == status
