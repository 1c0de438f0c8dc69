"""Model files that are damaged on their way, or have no end."""

import hashlib
import itertools
from collections.abc import Callable

import httpx
import pytest

from leti.client import LatencyClient
from leti.client import exchange as connection_module
from leti.core.errors import ArtifactError, TooLarge


def test_a_damaged_model_file_is_not_handed_on(wired: Callable[..., LatencyClient], mark: dict[str, str]) -> None:
    sha256 = hashlib.sha256(b"model").hexdigest()
    good = httpx.Response(200, content=b"model", headers={**mark, "leti-model-sha256": sha256})
    bad = httpx.Response(200, content=b"modem", headers={**mark, "leti-model-sha256": sha256})
    none = httpx.Response(200, content=b"model", headers=mark)
    assert wired(lambda _: good).model("f" * 64) == b"model"
    for answer in (bad, none):
        with pytest.raises(ArtifactError, match="SHA-256"):
            wired(lambda _, answer=answer: answer).model("f" * 64)


def test_an_endless_model_file_is_cut_off(
    wired: Callable[..., LatencyClient], mark: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MOST_BYTES", 1_000_000)
    sent = itertools.count()

    class Endless(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            while True:
                next(sent)
                yield b"x" * 65536

    with pytest.raises(TooLarge):
        wired(lambda _: httpx.Response(200, stream=Endless(), headers=mark)).model("f" * 64)
    assert next(sent) < 20
