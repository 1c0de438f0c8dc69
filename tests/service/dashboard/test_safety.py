"""Who sees which page, and that nobody else's page makes a browser change anything here."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.service.test_access import filled, routes

from leti.core.access import ROLES, Role, TokenRequest
from leti.core.farm import CampaignRequest, Sample
from leti.service.gate.access import PERMISSIONS, route_name
from leti.service.gate.sessions import COOKIE

pytestmark = pytest.mark.sqlite

EVIL = "<script>alert(1)</script>"


class Browser:
    """Keeps the session and the proof of its pages, as a browser does that signed in."""

    def __init__(self, house: Any, role: Role) -> None:
        self.house = house
        made = house.store.tokens.create(TokenRequest(f"the {role}", role))
        self.token_id = made.info.id
        answer = self.house.client.post("/dashboard/sign-in", data={"token": made.token}, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        self.set_cookie = answer.headers["set-cookie"]
        self.cookie = self.set_cookie.partition(";")[0]
        house.client.cookies.clear()

    def get(self, path: str, **headers: str) -> Any:
        return self.house.client.get(path, headers={"cookie": self.cookie, **headers}, follow_redirects=False)

    def proof(self) -> str:
        found = re.search(r'"x-csrf-token": "([0-9a-f]+)"', self.get("/dashboard").text)
        assert found
        return found[1]

    def post(self, path: str, data: dict[str, str], **headers: str) -> Any:
        headers = {"cookie": self.cookie, **headers}
        return self.house.client.post(path, data=data, headers=headers, follow_redirects=False)


def test_the_session_is_a_cookie_that_no_script_and_no_other_site_gets(guarded: Any) -> None:
    browser = Browser(guarded, "viewer")
    assert browser.cookie.startswith(f"{COOKIE}=")
    assert COOKIE.startswith("__Host-")
    said = {part.strip().lower() for part in browser.set_cookie.split(";")[1:]}
    assert {"path=/", "secure", "httponly", "samesite=lax"} <= said
    assert not any(part.startswith("domain") for part in said)
    secret = browser.cookie.partition("=")[2]
    assert secret not in str(guarded.rows("SELECT * FROM sessions"))
    assert "the viewer" in browser.get("/dashboard").text


def test_who_is_not_known_is_asked_to_sign_in_and_led_back(guarded: Any) -> None:
    client = guarded.client
    answer = client.get("/dashboard/agents?a=b", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/dashboard/sign-in?next=/dashboard/agents%3Fa%3Db",
    )
    assert 'value="/dashboard/agents?a=b"' in client.get(answer.headers["location"]).text
    part = client.get("/dashboard/agents", headers={"hx-request": "true"}, follow_redirects=False)
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/dashboard/sign-in?next=/dashboard")
    assert client.get("/", follow_redirects=False).headers["location"] == "/dashboard"
    assert client.get("/dashboard/static/leti.css").status_code == 200
    for wrong in ("", "leti_wrong", "<b>"):
        answer = client.post("/dashboard/sign-in", data={"token": wrong}, follow_redirects=False)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "refused" in answer.text


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "/dashboard/../v1", "/v1/tokens"]
)
def test_nobody_is_led_elsewhere_after_signing_in(guarded: Any, elsewhere: str) -> None:
    made = guarded.store.tokens.create(TokenRequest("one", "viewer"))
    answer = guarded.client.post(
        "/dashboard/sign-in", data={"token": made.token, "next": elsewhere}, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")


def test_every_page_is_for_the_roles_of_the_table(guarded: Any) -> None:
    browsers = {role: Browser(guarded, role) for role in ROLES}
    for method, path in routes(guarded.app):
        if not path.startswith("/dashboard") or path.endswith(("/sign-in", "/sign-out", "/events")):
            continue
        allowed = PERMISSIONS[route_name(method, path)]
        for role, browser in browsers.items():
            data = {"csrf": browser.proof()} if role != "agent" and method == "POST" else {}
            answer = browser.get(filled(path)) if method == "GET" else browser.post(filled(path), data)
            if role in allowed:
                assert answer.status_code not in (401, 403), (method, path, role)
                assert answer.status_code < 500, (method, path, role, answer.text)
            else:
                assert answer.status_code == 403, (method, path, role)
                assert answer.headers["content-type"].startswith("text/html")


def test_a_session_ends_with_its_time_its_token_and_its_holder(guarded: Any) -> None:
    signed_out, revoked, old = (Browser(guarded, "admin") for _ in range(3))
    answer = signed_out.post("/dashboard/sign-out", {"csrf": signed_out.proof()})
    assert answer.status_code == 303
    assert "Max-Age=0" in answer.headers["set-cookie"] or "expires=" in answer.headers["set-cookie"].lower()
    assert signed_out.get("/dashboard").status_code == 303
    admin = Browser(guarded, "admin")
    assert admin.post(f"/dashboard/tokens/{revoked.token_id}/revoke", {"csrf": admin.proof()}).status_code == 303
    assert revoked.get("/dashboard").status_code == 303
    assert old.get("/dashboard").status_code == 200
    guarded.app.state.parts.authenticator._verdicts.clear()  # remembered for seconds of real time
    guarded.clock.now += guarded.settings.session_s + 1
    assert old.get("/dashboard").status_code == 303
    Browser(guarded, "admin")
    assert len(guarded.rows("SELECT * FROM sessions")) == 1, "those that are over go with the next one that begins"


def test_a_change_needs_the_proof_of_a_page_of_this_session(guarded: Any) -> None:
    admin, other = Browser(guarded, "admin"), Browser(guarded, "admin")
    proof, form = admin.proof(), {"name": "x", "role": "viewer"}
    for wrong in ({}, {"csrf": ""}, {"csrf": other.proof()}, {"csrf": proof[:-1]}):
        assert admin.post("/dashboard/tokens", {**form, **wrong}).status_code == 403
    for foreign in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert admin.post("/dashboard/tokens", {**form, "csrf": proof}, **foreign).status_code == 403
    for path in ("/v1/tokens", "/v1/predictions"):
        answer = guarded.client.post(path, json=form, headers={"cookie": admin.cookie})
        assert answer.status_code == 403
        assert answer.json()["field"] == "x-csrf-token"
    assert not [info for info in guarded.store.tokens.list() if info.name == "x"]
    answer = admin.post("/dashboard/tokens", {**form, "csrf": proof}, origin="http://127.0.0.1")
    assert answer.status_code == 200
    headers = {"cookie": admin.cookie, "x-csrf-token": proof}
    assert guarded.client.post("/v1/tokens", json=form, headers=headers).status_code == 201
    assert guarded.client.get("/v1/tokens", headers={"cookie": admin.cookie}).status_code == 200


def test_pages_may_run_nothing_that_stands_in_them(guarded: Any) -> None:
    admin = Browser(guarded, "admin")
    for path in ("/dashboard", "/dashboard/tokens", "/dashboard/agents", "/dashboard/nothing"):
        answer = admin.get(path)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert not re.search(r"<script(?![^>]*(?:src=|application/json))|<style|\sstyle=|\son\w+=", answer.text)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text)
        assert answer.headers["cache-control"] == "no-store"


def test_names_from_outside_are_text_on_every_page(house: Any) -> None:
    house.add_platform()
    made = house.post(
        "/campaigns", CampaignRequest(EVIL, house.platform_id, (Sample("nasbench201", 1, 0, house.small),), repeats=1)
    )
    assert made.status_code == 201, made.text
    house.store.tokens.create(TokenRequest(EVIL, "viewer"))
    house.lease(agent=EVIL)
    house.store.devices.quarantine(house.platform.device.name, EVIL)
    (fingerprint,) = house.rows("SELECT fingerprint FROM jobs LIMIT 1")[0]
    seen = 0
    for method, path in routes(house.app):
        if method == "GET" and path.startswith("/dashboard") and not path.endswith("/events"):
            address = path.replace("{fingerprint}", fingerprint).replace("{platform_id}", house.platform_id)
            answer = house.client.get(filled(address.replace("{campaign_id}", "1")))
            assert EVIL not in answer.text, path
            assert answer.status_code < 500, (path, answer.text)
            seen += "&lt;script&gt;alert(1)" in answer.text
    assert seen >= 2
