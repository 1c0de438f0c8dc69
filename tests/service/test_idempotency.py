"""Idempotency keys, networks put by their fingerprint."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from leti.core.farm import CampaignRequest, Sample
from leti.core.wire import NetworkRequest
from leti.service.store.answers import AT_WORK_S, KEPT_S, KeptAnswer

DATABASES = ("sqlite", "postgresql")
KEY = {"idempotency-key": "a-key"}


@pytest.fixture
def request_(house):
    house.add_platform()
    return CampaignRequest("first", house.platform_id, (Sample("nasbench201", 2, 0, house.small),), repeats=1)


def keyed(house, request, key="a-key"):
    return house.post("/campaigns", request, **{"idempotency-key": key})


def test_a_repeat_gets_the_first_answer_even_where_it_would_be_another_now(house, request_, problem_of):
    first = keyed(house, request_)
    assert first.status_code == 201
    house.measure_all()
    again = keyed(house, request_)
    assert (again.status_code, again.content) == (201, first.content)
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert keyed(house, request_, "another").status_code == 200
    other = dataclasses.replace(request_, name="second")
    assert problem_of(keyed(house, other), 422, "invalid-input")["field"] == "idempotency-key"
    assert problem_of(keyed(house, request_, "two words"), 422)["field"] == "idempotency-key"
    house.clock.now += KEPT_S + 1
    assert keyed(house, other).status_code == 201
    assert house.rows("SELECT COUNT(*) FROM kept_answers") == [(1,)]  # what is old went when this came


@pytest.mark.sqlite
def test_what_headers_say_of_a_body_belongs_to_it(house, problem_of):
    kind = {"content-type": "application/octet-stream", "idempotency-key": "a-file"}
    sent = house.client.post("/v1/uploads?format=tflite", content=b"TFL3", headers=kind)
    assert sent.status_code == 201
    for stated in ("", "0" * 64, "None"):
        headers = {**kind, "leti-model-sha256": stated}
        again = house.client.post("/v1/uploads?format=tflite", content=b"TFL3", headers=headers)
        assert problem_of(again, 422)["field"] == "idempotency-key"


def test_a_refusal_is_not_kept(house, request_, problem_of):
    problem_of(keyed(house, dataclasses.replace(request_, repeats=0)), 422)
    assert keyed(house, request_).status_code == 201
    large = house.client.post("/v1/campaigns", content=b"{" * 33 * 2**20, headers={"idempotency-key": "large"})
    problem_of(large, 413, "too-large")


def test_requests_at_once_are_one(house, request_):
    """The first is held up at its work, so that the others meet it there."""
    entered, go_on = Event(), Event()
    create = house.app.state.parts.planner.create
    calls = []

    def slow(request):
        calls.append(request)
        entered.set()
        assert go_on.wait(30)
        return create(request)

    object.__setattr__(house.app.state.parts.planner, "create", slow)
    together = Barrier(4)

    def send(number):
        if number:
            assert entered.wait(30)
        together.wait()
        return keyed(house, request_)

    def send_first(_):
        return keyed(house, request_)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(send_first, 0)
        assert entered.wait(30)
        others = [pool.submit(send, number) for number in range(1, 5)]
        go_on.set()
        answers = [one.result() for one in (first, *others)]
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert len(calls) == 1


def test_a_key_whose_process_died_is_free_again(house):
    answers = house.store.answers
    assert answers.claim("k", "b") == "new"
    assert answers.claim("k", "b") == "at work"
    assert answers.claim("k", "c") == "another body"
    house.clock.now += AT_WORK_S + 1
    assert answers.claim("k", "c") == "new"
    answers.keep("k", KeptAnswer(201, "application/json", b"{}"))
    answers.forget("k")
    assert answers.claim("k", "c") == KeptAnswer(201, "application/json", b"{}")


def test_a_request_that_takes_long_stays_at_work(house, request_, monkeypatch):
    """Its replica shows that it lives: another one does not take the request over, however long it takes."""
    monkeypatch.setattr("leti.service.gate.idempotency.SIGN_S", 0.02)
    entered, go_on = Event(), Event()
    create = house.app.state.parts.planner.create

    def slow(request):
        entered.set()
        assert go_on.wait(30)
        return create(request)

    object.__setattr__(house.app.state.parts.planner, "create", slow)
    expiry = "SELECT expires_at FROM kept_answers"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(keyed, house, request_)
        assert entered.wait(30)
        for _ in range(3):
            house.clock.now += AT_WORK_S - 1
            while house.rows(expiry) != [(house.clock.now + AT_WORK_S,)]:
                time.sleep(0.01)
        go_on.set()
        assert first.result().status_code == 201
    assert house.rows(expiry) == [(house.clock.now + KEPT_S,)]


def test_a_network_is_put_by_its_fingerprint(house, problem_of):
    body = NetworkRequest(house.architecture)
    (known,) = house.post("/networks", {"networks": [body.network]}).json()
    path = f"/v1/networks/{known['fingerprint']}"
    for _ in range(2):
        answer = house.client.put(path, json={"network": body.network})
        assert (answer.status_code, answer.json()) == (200, known)
    wrong = house.client.put("/v1/networks/" + "0" * 64, json={"network": body.network})
    assert known["fingerprint"] in problem_of(wrong, 422, "invalid-input")["remedy"]
    other = house.client.put(path, json={"network": body.network.replace("nor_conv_1x1", "nor_conv_3x3")})
    assert problem_of(other, 422)["field"] == "fingerprint"
