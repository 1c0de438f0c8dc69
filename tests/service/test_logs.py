"""Logs: one line a request, in UTC, as JSON, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from leti.service import logs
from leti.service.settings import Settings
from leti.service.token_text import make_token

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the process's logs go for the length of a test."""
    root, leti = logging.getLogger(), logging.getLogger("leti")
    kept = root.handlers[:], root.level, leti.level
    yield io.StringIO()
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    leti.setLevel(kept[2])
    logging.captureWarnings(False)


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    logs.configure(Settings(log_format="json"), stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_request_is_one_line_without_what_was_asked(house: Any, lines: Lines) -> None:
    house.add_platform()
    house.client.get(
        f"/v1/platforms/{house.platform_id}", headers={"x-request-id": "mine-7", "authorization": "Bearer abcdefghij"}
    )
    house.client.get("/v1/jobs?unknown=parameter")
    house.client.get("/no/such/path")
    house.client.get("/healthz")
    added, read, refused, missing = lines()
    assert added["route"] == "/v1/platforms"
    assert read["duration_ms"] > 0
    assert read["time"].endswith("Z")
    assert {name: read[name] for name in read if name not in ("duration_ms", "time")} == {
        "level": "info",
        "logger": "leti.service.requests",
        "request_id": "mine-7",
        "event": "request",
        "method": "GET",
        "route": "/v1/platforms/{platform_id}",
        "status": 200,
    }
    assert (refused["route"], refused["status"], refused["problem"]) == ("/v1/jobs", 422, "invalid-input")
    assert (missing["route"], missing["status"]) == ("(none)", 404)
    assert "parameter" not in json.dumps(refused)
    assert house.platform_id not in json.dumps(read)


def test_what_is_logged_while_a_request_is_handled_names_it(house: Any, lines: Lines, monkeypatch: Any) -> None:
    def fail(*_given: object) -> None:
        raise RuntimeError("postgresql://leti:horse@db/leti is gone")

    monkeypatch.setattr(type(house.store.devices), "list", fail)
    assert house.client.get("/v1/devices", headers={"x-request-id": "broken-1"}).status_code == 500
    failed, request = lines()
    assert (failed["level"], failed["request_id"]) == ("error", "broken-1")
    assert "RuntimeError: postgresql://leti:***@db/leti is gone" in failed["exception"]
    assert (request["status"], request["request_id"]) == (500, "broken-1")


TOKEN = make_token()[1]


@pytest.mark.parametrize(
    ("said", "secret", "left"),
    [
        (
            "postgresql+psycopg://leti:ho/rs@e@db:5432/leti is down",
            "ho/rs@e",
            "postgresql+psycopg://leti:***@db:5432/leti",
        ),
        ("redis://:horse@cache/0", "horse", "redis://:***@cache/0"),
        ("authorization: Bearer abc.def-ghi", "abc.def-ghi", "authorization: Bearer ***"),
        pytest.param(f"got {TOKEN} from a header", TOKEN[6:], "got *** from", id="token"),  # another in each process
        ("aws_secret_access_key = wJalrXUt/K7 is wrong", "wJalrXUt", "aws_secret_access_key = *** is wrong"),
        ('{"password": "horse", "user": "leti"}', "horse", '{"password": "***", "user": "leti"}'),
        ("key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", "key ***"),
        ("GET http://127.0.0.1:8000/v1/platforms took 3 ms", "@", "http://127.0.0.1:8000/v1/platforms"),
        ("lease 3 of token 7 is lost", "horse", "lease 3 of token 7 is lost"),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_left(
    said: str, secret: str, left: str, lines: Lines, stream: io.StringIO
) -> None:
    logging.getLogger("any.library").warning("%s", said)
    logging.getLogger("leti.service").info("noted", extra={"where": {"deep": [said]}})
    for line in (logs.redacted(said), json.loads(stream.getvalue().splitlines()[0])["event"]):
        assert secret not in line
        assert left in line
    assert secret not in stream.getvalue()
    assert len(lines()) == 2


def test_levels_and_the_form_for_people(stream: io.StringIO) -> None:
    logs.configure(Settings(log_level="error", log_format="text"), stream)
    logging.getLogger("leti.service").warning("not this")
    logging.getLogger("leti.service").error("but this")
    (line,) = stream.getvalue().splitlines()
    assert "but this" in line
    assert not line.startswith("{")
    logs.configure(Settings(log_level="debug", log_format="auto"), stream)  # no terminal: JSON
    logging.getLogger("leti.service").debug("details")
    logging.getLogger("httpx").info("libraries keep quiet")
    assert json.loads(stream.getvalue().splitlines()[1])["event"] == "details"
    assert len(stream.getvalue().splitlines()) == 2
