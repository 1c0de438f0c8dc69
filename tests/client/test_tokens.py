"""What identifies the caller is sent, and told to nobody else."""

import logging
from collections.abc import Callable

import httpx
import pytest

from leti.client import LatencyClient
from leti.core.errors import InvalidInput, NotFound, Unavailable


def test_a_token_is_sent_with_every_request_and_shown_nowhere(
    wired: Callable[..., LatencyClient],
    service_url: str,
    mark: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret, seen = "abc.DEF_123~+/==", []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(503, json={"type": "about:blank"}, headers=mark)

    with caplog.at_level(logging.DEBUG):
        with LatencyClient(service_url, token=secret) as client:  # over a socket: what httpx logs, it logs here
            assert client.health().status == "ok"
            with pytest.raises(NotFound) as caught:
                client.platform("nowhere")
        with pytest.raises(Unavailable) as refused:
            wired(answer, token=secret, retries=1).health()
    assert seen == [f"Bearer {secret}"] * 2
    shown = (caplog.text, str(caught.value), str(refused.value), repr(refused.value), repr(client))
    assert not [text for text in shown if secret in text]


@pytest.mark.parametrize("token", ["", " ", "two words", "line\nbreak", "ünïcode", "=", "x" * 5000])
def test_what_is_no_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        LatencyClient("https://service.test", token=token)
    assert caught.value.field == "token"
    assert len(token) < 3 or token not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://service.test", True),
        ("http://10.0.0.7:8000", True),
        ("https://service.test", False),
        ("http://127.0.0.1:8000", False),
        ("http://localhost:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_a_token_in_the_clear_is_warned_of(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        LatencyClient(url).close()
        assert not caplog.records
        LatencyClient(url, token="secret").close()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert "secret" not in caplog.text
