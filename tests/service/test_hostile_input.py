"""What an attacker sends, or what ends up in other people's tools: requests that parsers read differently, texts that
are commands elsewhere, bodies that grow, stall or end.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra service")

import httpx

from leti.core.access import TokenRequest
from leti.core.codec import to_json
from leti.core.farm import CampaignRequest, Sample
from leti.core.queries import Encodings, PredictionRequest
from leti.core.wire import NetworksRequest
from leti.service import logs
from leti.service.server import running
from leti.service.settings import Settings

JSON = {"content-type": "application/json"}
HOST = b"host: localhost\r\n"
BODY = b'{"networks": ["x"]}'
SCRIPT = "<script>alert(1)</script>"
NASTY = ("a\r\nset-cookie: c", SCRIPT, "../../etc/passwd", "${jndi:ldap}", "=HYPERLINK(A1)", "x%0d%0ay: z")


# --- bytes that are not quite HTTP -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A service on a socket, as it is served."""
    settings = Settings(tmp_path_factory.mktemp("raw"), auth=False, receive_timeout_s=5.0)
    with running(settings) as url:
        yield "127.0.0.1", int(url.rsplit(":", 1)[1])


def said(address: tuple[str, int], sent: bytes) -> list[bytes]:
    """Send bytes; return the status codes of what is answered until the service closes the connection."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(sent)
        found = b""
        while part := connection.recv(65536):
            found += part
    return [line[9:12] for line in found.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


POST = b"POST /v1/networks HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
SMUGGLED = b"0\r\n\r\nGET /v1/platforms HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(POST + b"content-length: 5\r\n" + CHUNKED + SMUGGLED, id="two lengths of two kinds"),
        pytest.param(POST + b"content-length: 5\r\ncontent-length: 19\r\n\r\n" + BODY, id="two lengths"),
        pytest.param(POST + b"content-length: 19, 19\r\n\r\n" + BODY, id="a list of lengths"),
        pytest.param(POST + b"content-length: +19\r\n\r\n" + BODY, id="a signed length"),
        pytest.param(POST + b"content-length: -1\r\n\r\n" + BODY, id="a negative length"),
        pytest.param(POST + b"content-length: " + b"9" * 40 + b"\r\n\r\n" + BODY, id="an endless length"),
        pytest.param(POST + b"content-length : 19\r\n\r\n" + BODY, id="a blank before the colon"),
        pytest.param(POST + b"transfer-encoding: xchunked\r\n\r\n" + SMUGGLED, id="an unknown coding"),
        pytest.param(POST + b"transfer-encoding: chunked, identity\r\n\r\n" + SMUGGLED, id="chunked not last"),
        pytest.param(POST + CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n", id="a chunk of no length"),
        pytest.param(POST + CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n", id="a chunk of negative length"),
        pytest.param(POST + CHUNKED + b"F" * 17 + b"\r\nabc\r\n", id="an endless chunk"),
        pytest.param(b"GET /v1/health HTTP/1.1\r\n" + HOST + b"x: a\r\n b\r\n\r\n", id="a folded header"),
        pytest.param(b"GET /v1/health HTTP/1.1\r\n" + HOST + b"x: a\0b\r\n\r\n", id="NUL in a header"),
        pytest.param(b"GET /v1/health HTTP/1.1\nhost: localhost\n\n", id="bare line feeds"),
        pytest.param(b"G=T /v1/health HTTP/1.1\r\n" + HOST + b"\r\n", id="no method"),
        pytest.param(b"GET /v1/\xff HTTP/1.1\r\n" + HOST + b"\r\n", id="no address"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
    ],
)
def test_what_parsers_could_read_differently_is_refused_once_and_ends_the_connection(
    address: tuple[str, int], sent: bytes
) -> None:
    assert said(address, sent) == [b"400"]


def test_a_body_is_no_second_request(address: tuple[str, int]) -> None:
    inner = b"DELETE /v1/tokens/00000000 HTTP/1.1\r\n" + HOST + b"\r\n"
    head = f"connection: close\r\ncontent-length: {len(inner)}\r\n\r\n".encode()
    assert said(address, b"GET /v1/health HTTP/1.1\r\n" + HOST + head + inner) == [b"200"]
    assert said(address, POST + head + inner) == [b"400"]  # which is no JSON


@pytest.mark.parametrize("hosts", [b"", HOST + b"host: evil.example\r\n", b"host: evil.example\r\n" + HOST])
def test_without_authentication_the_host_must_be_one(address: tuple[str, int], hosts: bytes) -> None:
    assert said(address, b"GET /v1/health HTTP/1.1\r\nconnection: close\r\n" + hosts + b"\r\n") == [b"403"]


def test_nothing_is_upgraded_overridden_or_served_in_parts(address: tuple[str, int]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{address[1]}/v1", timeout=60) as http:
        for headers in (
            {"connection": "upgrade", "upgrade": "h2c", "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA"},
            {
                "connection": "upgrade",
                "upgrade": "websocket",
                "sec-websocket-key": "A",
                "sec-websocket-version": "13",
            },
            {"x-http-method-override": "DELETE", "x-original-url": "/v1/tokens", "x-rewrite-url": "/v1/tokens"},
            {"range": "bytes=0-0"},
            {"range": f"bytes={','.join(f'{i}-' for i in range(2000))}"},
            {"te": "trailers", "if-match": '"x"', "if-modified-since": "never"},
        ):
            answer = http.get("/health", headers=headers)
            assert (answer.status_code, answer.json()["status"]) == (200, "ok"), headers
        for method in ("TRACE", "CONNECT", "PROPFIND", "HEAD", "OPTIONS"):
            assert http.request(method, "/tokens").status_code in (400, 405), method


def test_a_sender_that_hangs_up_leaves_nothing_behind(address: tuple[str, int]) -> None:
    json_, bytes_ = b"application/json", b"application/octet-stream"
    for path, kind in ((b"/v1/networks", json_), (b"/v1/uploads?format=tflite", bytes_)):
        for _ in range(20):
            with socket.create_connection(address, timeout=60) as connection:
                head = b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"content-type: " + kind
                connection.sendall(head + b"\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1000)
    with httpx.Client(base_url=f"http://127.0.0.1:{address[1]}/v1", timeout=60) as http:
        assert http.get("/tasks").json()["items"] == []
        assert http.get("/uploads/1").status_code == 404


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "x"])
def test_what_is_packed_is_not_unpacked(shared: Any, problem_of: Any, coding: str) -> None:
    packed = gzip.compress(b" " * 50_000_000)
    for path in ("networks", "predictions", "uploads?format=tflite", "datasets?format=csv"):
        kind = {} if "?" in path else JSON
        answer = shared.client.post(f"/v1/{path}", content=packed, headers={"content-encoding": coding, **kind})
        assert problem_of(answer, 415, "not-readable")["field"] == "content-encoding"
    plain = shared.client.post("/v1/networks", content=BODY, headers={"content-encoding": "identity", **JSON})
    assert problem_of(plain, 422)["field"] == "networks[0]"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"platform_ids": ["%s"], "networks": ' + "[" * 5_000 + "]" * 5_000 + "}", (400, 422)),
        ('{"platform_ids": ["%s"], "networks": [{"graph": ' + '{"ops":' * 900 + "1" + "}" * 900 + "}]}", (200, 400)),
        ('{"platform_ids": ["%s"], "networks": ["x"], "coverage": ' + "9" * 5_000 + "}", (400,)),
        ('{"platform_ids": ["%s"], "networks": ["x"], "coverage": NaN}', (422,)),
        ('{"platform_ids": ["%s"], "networks": ["x"], "coverage": 1e999}', (422,)),
        ('{"platform_ids": ["%s"], "networks": ["x"], "predictor_id": 1e3}', (422,)),
        ('{"platform_ids": ["%s"], "networks": ["x"], "predictor_id": true}', (422,)),
        ('{"platform_ids": ["\\ud800"], "networks": ["x"]}', (422,)),
        ('{"platform_ids": ["\\u0000"], "networks": ["x"]}', (422,)),
        ('{"platform_ids": [], "networks": ["x"]}', (422,)),
        ('{"platform_ids": ["%s"], "networks": ["x"], "\\ud800": 1}', (422,)),
        ('{"platform_ids": ["%s"], "networks": ["x"], "__proto__": {"admin": true}}', (422,)),
        ('["%s"]', (422,)),
        ("\ufeff{}", (400, 422)),
        ("{} {}", (400,)),
        ("{'platform_ids': []}", (400,)),
        ('{"platform_ids": ["%s"], "networks": ["x"],}', (400,)),
    ],
)
@pytest.mark.parametrize("query", ["", "?wait=measure"])  # the short way, and the usual one
def test_bodies_are_refused_alike_on_both_ways(
    shared: Any, problem_of: Any, body: str, status: tuple[int, ...], query: str
) -> None:
    content = body.replace("%s", shared.platform_id).encode()
    answer = shared.client.post(f"/v1/predictions{query}", content=content, headers=JSON)
    assert answer.status_code in status, answer.text
    if answer.status_code == 200:
        (failure,) = answer.json()["failures"]
        assert failure["problem"]["field"].startswith("networks[0]")
    else:
        assert problem_of(answer, answer.status_code)["field"]


def test_of_a_name_that_is_there_twice_the_last_holds_everywhere(shared: Any, problem_of: Any) -> None:
    """Python's reader takes the last; that both ways take the same keeps what is checked what is used."""
    for query in ("", "?wait=measure"):
        body = f'{{"platform_ids": ["{shared.platform_id}"], "platform_ids": ["nowhere"], "networks": ["x"]}}'
        answer = shared.client.post(f"/v1/predictions{query}", content=body, headers=JSON)
        assert problem_of(answer, 404)["field"] == "platform_ids[0]"


def test_ten_thousand_and_one_networks_are_too_many_in_every_form(shared: Any, problem_of: Any) -> None:
    limit = shared.settings.max_batch
    vectors = Encodings("nasbench201", ((0,) * 6,) * (limit + 1))
    for request in (
        PredictionRequest((shared.platform_id,), (shared.architecture,) * (limit + 1)),
        PredictionRequest((shared.platform_id,), encodings=vectors),
        PredictionRequest((shared.platform_id,), (shared.architecture,), Encodings("nasbench201", vectors.vectors[1:])),
    ):
        assert problem_of(shared.post("/predictions", request), 413, "too-large")["details"]["limit"] == limit


@pytest.mark.parametrize(
    "encodings",
    [
        {"space": "nasbench201", "vectors": [[5, 0, 0, 0, 0, 0]]},
        {"space": "nasbench201", "vectors": [[-1, 0, 0, 0, 0, 0]]},
        {"space": "nasbench201", "vectors": [[2**62] * 6]},
        {"space": "nasbench201", "vectors": [[0] * 5]},
        {"space": "nasbench201", "vectors": [[]]},
        {"space": "nasbench201", "vectors": [[0] * 100_000]},
        {"space": "fbnet", "vectors": [[9] * 22]},
        {"space": "nasbench101", "vectors": [[1] * 26]},
    ],
)
def test_vectors_out_of_range_fail_one_by_one(learned: Any, encodings: Any) -> None:
    body = {"platform_ids": [learned.platform_id], "encodings": encodings}
    answer = learned.client.post("/v1/predictions", json=body)
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 200:
        (failure,) = answer.json()["failures"]
        assert (failure["stage"], failure["problem"]["status"]) == ("read", 422)
        assert failure["problem"]["field"].startswith("encodings.vectors[0]")


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/platforms/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/platforms/..%5c..%5cwindows",
        "/v1/devices/..%2f..%2fetc/state",
        "/v1/networks/%2e%2e%2f%2e%2e%2fetc%2fpasswd/model",
        "/v1/platforms/x/tables/..%2f..%2fpasswd",
        "/v1/../v1/../../etc/passwd",
        "/v1//platforms",
        "/v1/platforms/",
        "/v1/platforms;a=b",
        "/V1/platforms",
        "/v1/platforms%2f",
        "/v1/%E2%80%AE",
    ],
)
def test_no_address_leads_to_a_file_or_elsewhere(shared: Any, problem_of: Any, path: str) -> None:
    method = "PUT" if path.endswith("state") else "GET"
    body: dict[str, Any] = {"json": {"state": "gone"}} if method == "PUT" else {}
    answer = shared.client.request(method, path, follow_redirects=False, **body)
    assert problem_of(answer, answer.status_code)["status"] in (404, 422)
    assert "location" not in answer.headers
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "query",
    ["&".join(f"x{i}=1" for i in range(3_000)), "=", "&&&&", "?" * 500, "%", "%zz=1", "limit", "limit=%EF%BC%91",
     "limit=1e2", "limit=0x10", "limit[]=1", "limit=1;limit=2", "a" * 50_000, "%7f=1", "limit=%ff"],
)  # fmt: skip
def test_absurd_queries_are_refused_or_say_nothing(shared: Any, problem_of: Any, query: str) -> None:
    answer = shared.client.get(f"/v1/jobs?{query}")
    if query == "&&&&":
        assert answer.status_code == 200
    else:
        assert problem_of(answer, 422)["field"]
        assert len(answer.content) < 4_000


def test_every_method_of_an_address_is_told(shared: Any, problem_of: Any) -> None:
    for path, methods in (
        ("/platforms", "GET, POST"),
        (f"/networks/{'0' * 64}", "GET, PUT"),
        ("/devices/a/quarantine", "DELETE, PUT"),
        ("/predictions", "POST"),
    ):
        for method in ("PATCH", "OPTIONS"):
            answer = shared.client.request(method, f"/v1{path}")
            problem_of(answer, 405)
            assert answer.headers["allow"] == methods


# --- texts that are commands elsewhere -------------------------------------------------------------------------------


@pytest.fixture
def written(guarded: Any) -> Iterator[Callable[[str], list[str]]]:
    """Send the logs of a service to a stream, in one of their forms, and return the lines on demand."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("leti").level
    stream = io.StringIO()

    def lines(form: str) -> list[str]:
        if not stream.getvalue():
            logs.configure(Settings(guarded.settings.home, log_format=form, log_level="debug"), stream)
            return []
        return stream.getvalue().splitlines()

    yield lines
    root.handlers[:], level, own = before
    root.setLevel(level)
    logging.getLogger("leti").setLevel(own)
    logging.captureWarnings(False)


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_text_of_a_request_begins_a_line_of_the_log(guarded: Any, written: Any, form: str) -> None:
    fake = 'x\n2026-01-01T00:00:00Z [info] a fake line\r\n{"event": "fake"}\x1b[2J'
    written(form)
    guarded.client.headers.update(guarded.bearer("admin"))
    guarded.add_platform()
    platform = {**to_json(guarded.platform), "device": {"name": fake, "kind": "desktop", "soc": fake, "cores": 1}}
    guarded.post("/platforms", platform)
    guarded.post("/campaigns", CampaignRequest(fake, guarded.platform_id, (Sample("nasbench201", 1),)))
    guarded.post("/networks", NetworksRequest((fake,)))
    guarded.post("/predictions", PredictionRequest((fake,), (fake,)))
    guarded.post("/leases", {"agent": fake, "platform_id": guarded.platform_id})
    guarded.post("/tokens", {"name": fake, "role": "viewer"})
    for path in ("/v1/x%0afake", "/v1/platforms/%0d%0afake", "/v1/jobs?a%0afake=1", "/v1/devices/%1b%5b2J/state"):
        guarded.client.get(path, headers={"user-agent": "a\x0bfake", "x-request-id": "fake fake", "referer": "fake"})
    found = written(form)
    assert len(found) >= 10
    for line in found:
        assert "\x1b" not in line
        if form == "json":
            assert {"time", "level", "event"} <= json.loads(line).keys()
        else:
            assert line.startswith("20"), line


def test_no_text_of_a_request_is_markup_or_a_header(shared: Any) -> None:
    for name in NASTY:
        for answer in (
            shared.client.get(f"/v1/platforms/{httpx.QueryParams({'a': name})}"),
            shared.client.get("/v1/jobs", params={name: "1"}),
            shared.post("/networks", NetworksRequest((name,))),
            shared.post("/predictions", PredictionRequest((name,), (name,))),
            shared.client.get("/v1/health", headers={"x-request-id": name.replace("\r\n", "")}),
        ):
            assert answer.headers["content-type"] in ("application/problem+json", "application/json")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not any(name in value or "\n" in value for value in answer.headers.values())


def test_the_page_of_the_document_shows_nothing_of_what_was_sent(house: Any) -> None:
    body = {**to_json(house.platform), "device": {"name": SCRIPT, "kind": "desktop", "soc": SCRIPT, "cores": 1}}
    assert house.post("/platforms", body).status_code == 200
    house.store.tokens.create(TokenRequest(SCRIPT, "viewer"))
    page = house.client.get(f"/docs?{SCRIPT}", headers={"host": "127.0.0.1", "referer": SCRIPT})
    assert page.status_code == 200
    assert "alert(1)" not in page.text
    assert "script" not in page.headers["content-security-policy"]


def test_no_cell_of_a_sheet_is_a_formula(learned: Any) -> None:
    """Spreadsheets take a cell that begins with one of =+-@ for a formula; a negative number is none."""
    predictors = {one["kind"]: one["id"] for one in learned.get("/predictors").json()["items"]}
    for path in (
        f"/predictors/{predictors['lookup_table']}/table",
        f"/platforms/{learned.platform_id}/tables/nasbench201?config=%7B%22modules_per_stack%22%3A1%7D",
        "/datasets/1/items",
    ):
        answer = learned.client.get(f"/v1{path}", headers={"accept": "text/csv"})
        assert answer.status_code == 200, answer.text
        rows = list(csv.reader(io.StringIO(answer.text, newline="")))
        assert len(rows) > 3
        for cell in (cell for row in rows for cell in row):
            if cell[:1] in "=+-@\t\r" and cell:
                float(cell)
