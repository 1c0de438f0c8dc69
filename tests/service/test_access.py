"""Who may do what: every route for every role, tokens that are refused, leases of others, limits, what goes out."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from leti.core.access import ROLES, NewToken, TokenInfo, TokenPage, TokenRequest
from leti.core.codec import from_json, to_json
from leti.core.errors import InvalidInput, NotAuthenticated, TooManyRequests
from leti.core.farm import DeviceReport, Heartbeat, LeaseRequest, ResultBatch
from leti.service.gate import idempotency
from leti.service.gate.access import PERMISSIONS, route_name
from leti.service.gate.authentication import OPEN, VERDICT_S, Authentication, Authenticator, check_exposure, is_loopback
from leti.service.gate.middleware import Envelope
from leti.service.gate.pacing import ADDRESSES, Pace, address_key
from leti.service.server import running
from leti.service.settings import Settings
from leti.service.token_text import PATTERN, digest, make_token, well_formed

DATABASES = ("sqlite", "postgresql")

FILLED = {
    "fingerprint": "0" * 64,
    "platform_id": "nowhere",
    "name": "nobody",
    "space": "nasbench201",
    "token_id": "A" * 8,
}
"""What stands for a parameter of a path; numbers are 7, of which there is none."""


def routes(app: Any) -> list[tuple[str, str]]:
    """Return method and path of every route, but for the document's own, which the framework serves to all."""
    found = [
        (method, str(getattr(route, "path_format", route.path)))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
    ]
    return [(method, path) for method, path in found if path != "/openapi.json"]


def asked_by_programs(app: Any) -> list[tuple[str, str]]:
    """Return the routes without the dashboard's, whose refusals are pages."""
    return [(method, path) for method, path in routes(app) if path != "/" and not path.startswith("/dashboard")]


def filled(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda one: FILLED.get(one[1], "7"), path)


# --- permission ------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_every_route_has_its_line_in_the_table_and_every_line_its_route(guarded: Any) -> None:
    assert {route_name(*route) for route in routes(guarded.app)} == set(PERMISSIONS)
    assert all("admin" in roles for roles in PERMISSIONS.values())


@pytest.mark.sqlite
def test_every_role_may_do_what_the_table_says_and_nothing_else(guarded: Any, problem_of: Any) -> None:
    headers = {role: guarded.bearer(role) for role in ROLES}
    for method, path in asked_by_programs(guarded.app):
        allowed = PERMISSIONS[route_name(method, path)]
        body: dict[str, Any] = {"json": {}} if method in ("POST", "PUT") else {}
        answer = guarded.client.request(method, filled(path), **body)
        if path in OPEN:
            assert answer.status_code == 200, path
            continue
        assert problem_of(answer, 401, "not-authenticated")["field"] == "authorization"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        for role in ROLES:
            answer = guarded.client.request(method, filled(path), headers=headers[role], **body)
            if role in allowed:
                assert answer.status_code not in (401, 403), (method, path, role)
                assert answer.status_code < 500, (method, path, role, answer.text)
            else:
                said = problem_of(answer, 403, "not-permitted")
                assert said["details"]["needed"] in allowed, (method, path, role)
                assert said["details"]["needed"] in said["remedy"]


@pytest.mark.sqlite
def test_a_route_without_permission_is_refused_to_all(guarded: Any, problem_of: Any) -> None:
    guarded.app.add_api_route("/v1/forgotten", lambda: "secret")
    for role in ROLES:
        answer = guarded.client.get("/v1/forgotten", headers=guarded.bearer(role))
        assert "nobody may" in problem_of(answer, 403)["remedy"]


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_tokens_are_made_listed_used_and_revoked_by_an_admin(guarded: Any, problem_of: Any) -> None:
    admin = guarded.bearer("admin", "root")
    guarded.clock.now += 1
    answer = guarded.post("/tokens", TokenRequest("a search", "client", 1.0), **admin)
    assert answer.status_code == 201, answer.text
    made = from_json(NewToken, answer.json())
    assert made.token not in repr(made)
    assert made.info.created_by == guarded.store.tokens.list()[0].id
    client = {"authorization": f"Bearer {made.token}"}
    assert guarded.client.get("/v1/platforms", headers=client).status_code == 200
    listed = guarded.client.get("/v1/tokens", headers=admin)
    assert made.token not in listed.text
    assert digest(made.token) not in listed.text
    infos = from_json(TokenPage, listed.json()).items
    assert [(info.name, info.role) for info in infos] == [("root", "admin"), ("a search", "client")]
    assert all(info.last_used_at for info in infos)
    stored = guarded.rows("SELECT * FROM tokens") + guarded.rows("SELECT * FROM leases")
    assert made.token not in str(stored)
    assert digest(made.token) in str(stored)

    answer = guarded.client.delete(f"/v1/tokens/{made.info.id}", headers=admin)
    assert from_json(TokenInfo, answer.json()).revoked_at
    problem_of(guarded.client.get("/v1/platforms", headers=client), 401)
    assert guarded.client.delete(f"/v1/tokens/{made.info.id}", headers=admin).json() == answer.json()
    problem_of(guarded.client.delete("/v1/tokens/00000000", headers=admin), 404)


def test_tokens_are_listed_page_by_page(guarded, problem_of):
    admin = guarded.bearer("admin", "root")
    for number in range(4):
        guarded.clock.now += number // 2  # two at the same moment: their ids decide
        guarded.store.tokens.create(TokenRequest(f"client {number}", "client"), "root")
    found, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = from_json(TokenPage, guarded.client.get("/v1/tokens", headers=admin, params=params).json())
        assert 1 <= len(page.items) <= 2
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    assert found == list(guarded.store.tokens.list())
    problem_of(guarded.client.get("/v1/tokens", headers=admin, params={"cursor": "no id"}), 422)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "", "role": "client"}, "name"),
        ({"name": "a\nb", "role": "client"}, "name"),
        ({"name": "x" * 201, "role": "client"}, "name"),
        ({"name": "x", "role": "king"}, "role"),
        ({"name": "x", "role": "client", "expires_in_days": 0}, "expires_in_days"),
        ({"name": "x", "role": "client", "expires_in_days": 1e9}, "expires_in_days"),
    ],
)
def test_a_token_that_cannot_be_is_refused(house: Any, problem_of: Any, body: Any, field: str) -> None:
    assert problem_of(house.client.post("/v1/tokens", json=body), 422)["field"] == field


@pytest.mark.sqlite
def test_what_is_no_valid_token_is_refused_alike(guarded: Any, problem_of: Any) -> None:
    good = guarded.bearer("viewer")["authorization"]
    expired = guarded.bearer("viewer", "old", expires_in_days=1.0)["authorization"]
    revoked = guarded.store.tokens.create(TokenRequest("gone", "viewer"))
    guarded.store.tokens.revoke(revoked.info.id)
    guarded.clock.now += 2 * 86_400
    unknown = f"Bearer {make_token()[1]}"
    answers = [
        guarded.client.get("/v1/platforms", headers={"authorization": given})
        for given in (expired, f"Bearer {revoked.token}", unknown)
    ]
    assert len({str(problem_of(answer, 401, "not-authenticated")) for answer in answers}) == 1
    for given in ("Bearer garbage", good[:-1], good + "x", good.replace("Bearer", "Basic"), good[7:], "Bearer", ""):
        problem_of(guarded.client.get("/v1/platforms", headers={"authorization": given}), 401)
    twice = [("authorization", good), ("authorization", good)]
    problem_of(guarded.client.get("/v1/platforms", headers=twice), 401)
    problem_of(guarded.client.get("/v1/platforms", params={"token": good[7:], "access_token": good[7:]}), 401)
    assert guarded.client.get("/v1/platforms", headers={"authorization": good.replace("B", "b", 1)}).status_code == 200
    problem_of(guarded.client.post("/v1/networks", content=b"x" * 5_000_000), 401)  # and its sender reads that


def test_the_text_of_a_token_shows_a_typo_and_is_found_by_scanners() -> None:
    token_id, text = make_token()
    assert well_formed(text)
    assert PATTERN.findall(f"token={text};") == [text]
    assert text.startswith(f"leti_{token_id}_")
    assert len({make_token()[1] for _ in range(100)}) == 100
    for i in range(5, len(text)):
        assert not well_formed(text[:i] + ("a" if text[i] != "a" else "b") + text[i + 1 :])
        assert not well_formed(text[:i])


@pytest.mark.sqlite
def test_last_use_is_written_once_a_minute(guarded: Any) -> None:
    made = guarded.store.tokens.create(TokenRequest("one", "viewer"))
    begun = guarded.clock.now
    for seconds, written in ((0, 0), (59, 0), (60, 60), (100, 60), (121, 121)):
        guarded.clock.now = begun + seconds
        assert guarded.store.tokens.find(digest(made.token)) is not None
        assert guarded.rows("SELECT last_used_at FROM tokens")[0][0] == begun + written


@pytest.mark.sqlite
def test_a_verdict_is_remembered_for_seconds_only(house: Any) -> None:
    now = [100.0]
    authenticator = Authenticator(house.store, house.settings, lambda: now[0])
    made = house.store.tokens.create(TokenRequest("one", "client"))
    header = f"Bearer {made.token}"
    assert asyncio.run(authenticator.caller(header, "")).token_id == made.info.id
    house.store.tokens.revoke(made.info.id)  # by another process
    now[0] += VERDICT_S - 0.1
    assert asyncio.run(authenticator.caller(header, "")).role == "client"
    now[0] += 0.2
    with pytest.raises(NotAuthenticated):
        asyncio.run(authenticator.caller(header, ""))
    assert VERDICT_S <= 5


@pytest.mark.sqlite
def test_metrics_are_read_by_whom_was_known_while_the_database_is_away(
    guarded: Any, problem_of: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    viewer, stranger = guarded.bearer("viewer"), guarded.bearer("viewer", "stranger")
    monkeypatch.setattr("leti.service.gate.authentication.VERDICT_S", -1.0)
    monkeypatch.setattr("leti.service.metrics.FRESH_S", -1.0)
    assert "leti_database_up 1.0" in guarded.client.get("/metrics", headers=viewer).text
    guarded.store._database._engine.dispose()
    guarded.settings.database_file.write_bytes(b"no database any more" * 1000)
    for suffix in ("-wal", "-shm"):
        guarded.settings.database_file.with_name(f"leti.sqlite{suffix}").unlink(missing_ok=True)
    assert "leti_database_up 0.0" in guarded.client.get("/metrics", headers=viewer).text
    said = problem_of(guarded.client.get("/metrics", headers=stranger), 503, "storage-error")
    assert said["detail"] == "the database refused", "why stands in the log"
    assert "file is not a database" in caplog.text
    problem_of(guarded.client.get("/v1/platforms", headers=viewer), 503, "storage-error")


# --- leases ----------------------------------------------------------------------------------------------------------


def test_an_agent_touches_its_own_leases_only(guarded: Any, problem_of: Any) -> None:
    one, other, admin = guarded.bearer("agent", "one"), guarded.bearer("agent", "other"), guarded.bearer("admin")
    guarded.client.headers.update(admin)
    guarded.add_campaign(count=3)
    guarded.client.headers.update(one)
    lease = guarded.lease(2)
    result = guarded.result(lease, lease.jobs[0])
    beat = (f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token))
    for answer in (
        guarded.post("/results", result, **other),
        guarded.post(*beat, **other),
        guarded.client.delete(f"/v1/leases/{lease.id}", params={"token": lease.token}, headers=other),
    ):
        assert problem_of(answer, 409, "lease-lost")["field"] == "authorization"
    batch = guarded.post("/results/batch", ResultBatch((result,)), **other).json()
    assert batch["items"][0]["problem"]["type"].endswith("lease-lost")
    assert guarded.rows("SELECT count(*) FROM measurements")[0][0] == 0
    assert guarded.post(*beat).status_code == 204
    assert guarded.post("/results", result).json()["status"] == "stored"
    assert guarded.post(*beat, **admin).status_code == 204, "an admin may end anybody's"
    guarded.clock.now += 2 * guarded.settings.lease_s
    assert guarded.post("/leases", LeaseRequest("one", guarded.platform_id)).status_code == 200
    late = guarded.post("/results", guarded.result(lease, lease.jobs[1]))
    assert late.json()["status"] == "late", "its own, though it is lost"


def test_an_agent_speaks_for_its_own_device_only(guarded: Any, problem_of: Any) -> None:
    one, other, admin = guarded.bearer("agent", "one"), guarded.bearer("agent", "other"), guarded.bearer("admin")
    guarded.client.headers.update(admin)
    guarded.add_campaign(count=3)  # an admin holds nothing
    state = f"/v1/devices/{guarded.platform.device.name}/state"

    def speak(headers: dict[str, str]) -> list[Any]:
        return [
            guarded.client.put(state, json=to_json(DeviceReport("cooling", "hot")), headers=headers),
            guarded.post("/platforms", guarded.platform, **headers),
            guarded.post("/leases", LeaseRequest("agent", guarded.platform_id), **headers),
        ]

    assert [answer.status_code for answer in speak(one)] == [200, 200, 200]
    (holder,) = [info for info in guarded.store.tokens.list() if info.name == "one"]
    for answer in speak(other):
        said = problem_of(answer, 403, "not-permitted")
        assert said["details"]["holder"] == holder.id
        assert holder.id in said["remedy"]
    assert [answer.status_code for answer in speak(admin)] == [200, 200, 204]
    assert speak(other)[0].status_code == 403, "what an admin does takes nobody's place"
    guarded.client.delete(f"/v1/tokens/{holder.id}", headers=admin)
    assert [answer.status_code for answer in speak(other)] == [200, 200, 204]
    assert speak(one)[0].status_code == 401


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_requests_of_a_token_have_a_limit(guarded_by: Callable[..., Any], problem_of: Any) -> None:
    house = guarded_by(rate_limit="3/hour", agent_rate_limit="")
    first, second, agent = house.bearer("viewer"), house.bearer("viewer"), house.bearer("agent")
    for _ in range(3):
        assert house.client.get("/v1/platforms", headers=first).status_code == 200
    answer = house.client.get("/v1/platforms", headers=first)
    said = problem_of(answer, 429, "too-many-requests")
    assert 1 <= int(answer.headers["retry-after"]) == said["details"]["retry_after_s"] <= 1200
    assert house.client.get("/v1/platforms", headers=second).status_code == 200
    assert {house.client.get("/v1/platforms", headers=agent).status_code for _ in range(10)} == {200}
    assert house.client.get("/healthz").status_code == 200


@pytest.mark.sqlite
def test_guesses_from_one_address_have_a_limit(guarded_by: Callable[..., Any], problem_of: Any) -> None:
    house = guarded_by(failure_limit="3/hour")
    known, fresh = house.bearer("viewer"), house.bearer("viewer")
    assert house.client.get("/v1/platforms", headers=known).status_code == 200
    for _ in range(3):
        guess = {"authorization": f"Bearer {make_token()[1]}"}
        problem_of(house.client.get("/v1/platforms", headers=guess), 401)
    for header in (guess, {"authorization": "Bearer garbage"}, fresh):
        problem_of(house.client.get("/v1/platforms", headers=header), 429)
    assert house.client.get("/v1/platforms", headers=known).status_code == 200, "was valid here before"
    elsewhere = TestClient(house.app, "http://127.0.0.1", client=("192.0.2.7", 4711))
    assert elsewhere.get("/v1/platforms", headers=fresh).status_code == 200


def test_who_is_not_known_and_drips_a_body_is_not_listened_to_for_long() -> None:
    async def run() -> None:
        sent: list[Any] = []

        async def drip() -> Any:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b".", "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        settings = Settings(receive_timeout_s=0.1)
        guarded = Authentication(Envelope, Authenticator(None, settings), settings)  # type: ignore[arg-type]
        scope = {"type": "http", "method": "POST", "path": "/v1/networks", "headers": [], "client": ("192.0.2.1", 1)}
        await asyncio.wait_for(guarded(scope, drip, send), 30)
        assert sent[0]["status"] == 401

    asyncio.run(run())


@pytest.mark.sqlite
def test_a_body_is_read_for_its_key_only_of_who_may_send_it(guarded: Any, monkeypatch: Any) -> None:
    reads: list[str] = []
    read = idempotency._read

    async def counted(receive: Any, body: Any, scope: Any) -> str:
        reads.append(scope["path"])
        return await read(receive, body, scope)

    monkeypatch.setattr(idempotency, "_read", counted)
    for role, status in (("viewer", 403), ("client", 201)):
        headers = {**guarded.bearer(role), "idempotency-key": "one", "content-type": "application/octet-stream"}
        answer = guarded.client.post("/v1/uploads?format=tflite", content=b"TFL3", headers=headers)
        assert answer.status_code == status
    assert reads == ["/v1/uploads"]


@pytest.mark.sqlite
def test_whose_request_it_is_says_a_proxy_that_is_trusted(settings: Settings) -> None:
    def refusals(trusted: tuple[str, ...]) -> list[int]:
        """Guess from three addresses behind a proxy on this machine."""
        guarded = replace(settings, auth=True, failure_limit="2/day", trusted_proxies=trusted)
        headers = {"authorization": "Bearer x"}
        with running(guarded) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            return [
                http.get("/v1/platforms", headers={"x-forwarded-for": address}).status_code
                for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.3, 192.0.2.1", "192.0.2.1")
            ]

    assert refusals(()) == [401, 401, 429, 429, 429], "nobody else is believed"
    assert refusals(("10.0.0.0/8", "127.0.0.1")) == [401, 401, 401, 401, 429], "the last that the proxy says"
    with pytest.raises(InvalidInput, match="trusted_proxies"), running(replace(settings, trusted_proxies=("*",))):
        pass


def test_a_pace_lets_all_come_at_once_and_then_one_by_one() -> None:
    now = [50.0]
    pace, free = Pace("6/minute", lambda: now[0]), Pace("", lambda: now[0])
    came = 0
    for second in range(120):
        now[0] = 50.0 + second
        for _ in range(10):
            free.hit("one")
            with contextlib.suppress(TooManyRequests):
                pace.hit("one")
                came += 1
        assert came == 6 + second // 10
    with pytest.raises(TooManyRequests) as refused:
        pace.check("one")
    now[0] += refused.value.details["retry_after_s"]
    pace.check("one")
    pace.check("one")
    pace.hit("one")
    pace.hit("another")


def test_counters_of_addresses_are_bounded() -> None:
    assert len({address_key(f"10.{i // 256}.{i % 256}.1") for i in range(20_000)}) <= ADDRESSES
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1")
    assert address_key("no address") == address_key("")


@pytest.mark.parametrize("limit", ["many", "5", "5/fortnight", "-1/minute"])
def test_a_rate_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(InvalidInput, match="rate_limit"):
        Settings(rate_limit=limit)


def spoken(app: Any, path: str = "/v1/x") -> Any:
    """Return a coroutine function that asks an ASGI application and returns status and body."""

    async def ask() -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "scheme": "http", "method": "GET", "path": path, "headers": []}
        await app(scope, receive, send)
        starts = [message for message in sent if message["type"] == "http.response.start"]
        assert len(starts) == 1
        return starts[0]["status"], b"".join(message.get("body", b"") for message in sent)

    return ask


def test_what_takes_too_long_is_answered_for_and_too_many_at_once_are_refused() -> None:
    async def run() -> None:
        done, entered = asyncio.Event(), asyncio.Event()

        async def slow(_scope: Any, _receive: Any, send: Any) -> None:
            entered.set()
            await done.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"late"})

        hasty = asyncio.create_task(spoken(Envelope(slow, Settings(request_timeout_s=0.01)))())
        await entered.wait()
        asyncio.get_running_loop().call_later(0.2, done.set)
        status, body = await hasty
        assert (status, b"takes too long" in body or b"no answer was found" in body) == (503, True)
        assert b"late" not in body

        done.clear()
        entered.clear()
        narrow = Envelope(slow, Settings(max_requests=1))
        first = asyncio.create_task(spoken(narrow)())
        await entered.wait()
        status, body = await spoken(narrow)()
        assert (status, b"are being answered" in body) == (503, True)
        done.set()
        assert await first == (200, b"late")
        assert (await spoken(narrow)())[0] == 200

    asyncio.run(run())


# --- without authentication ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "leti.example.org", "localhost.example.org"])
def test_without_authentication_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(InvalidInput, match="host"):
        check_exposure(Settings(auth=False), host)
    check_exposure(Settings(auth=True), host)
    for own in ("127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST."):
        assert is_loopback(own)


@pytest.mark.sqlite
def test_without_authentication_only_names_of_this_machine_are_answered(house: Any, problem_of: Any) -> None:
    for host in ("localhost:8000", "127.0.0.1:1", "[::1]:8000", "localhost"):
        assert house.client.get("/v1/platforms", headers={"host": host}).status_code == 200
    for host in ("evil.example:8000", "localhost.evil.example", "192.168.1.5", "", "127.0.0.1.evil.example:80"):
        answer = house.client.get("/v1/platforms", headers={"host": host})
        assert problem_of(answer, 403, "not-permitted")["field"] == "host"


@pytest.mark.sqlite
def test_without_authentication_no_page_of_others_may_ask(house: Any, problem_of: Any) -> None:
    for origin in ("https://evil.example", "http://localhost:3000", "null", ""):
        answer = house.client.post("/v1/platforms/nowhere/rollback", headers={"origin": origin})
        assert problem_of(answer, 403, "not-permitted")["field"] == "origin"
    answer = house.client.post("/v1/platforms/nowhere/rollback", headers={"origin": "http://127.0.0.1"})
    problem_of(answer, 404)


# --- what goes out ---------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_every_answer_carries_the_headers_that_keep_browsers_in_check(guarded: Any) -> None:
    viewer = guarded.bearer("viewer")
    answers = [
        guarded.client.get(path, headers=viewer) for path in ("/v1/platforms", "/v1/jobs?x=1", "/nowhere", "/docs")
    ]
    answers.append(guarded.client.get("/v1/platforms"))
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "permissions-policy" in answer.headers
        assert "strict-transport-security" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    encrypted = TestClient(guarded.app, "https://127.0.0.1").get("/healthz")
    assert "max-age" in encrypted.headers["strict-transport-security"]


@pytest.mark.sqlite
def test_the_page_of_the_document_needs_no_script_and_no_network(guarded: Any) -> None:
    page = guarded.client.get("/docs").text
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    for method, path in asked_by_programs(guarded.app):
        assert path in page or path == "/docs", (method, path)
    assert page.count("Roles: ") == len(asked_by_programs(guarded.app)) - 1
