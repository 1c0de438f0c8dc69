"""What the client makes of everything that can go wrong between it and a service."""

import inspect
import itertools
import json
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti.client import Backoff, LatencyClient
from leti.client.exchange import translated
from leti.core.errors import (
    InvalidInput,
    LeaseLost,
    LetiError,
    NotFound,
    Unavailable,
    VersionMismatch,
    error_classes,
)
from leti.core.farm import LeaseRequest
from leti.core.queries import PredictionRequest
from leti.core.training import TrainingRequest
from leti.core.wire import PROTOCOL_HEADER, PROTOCOL_VERSION, NetworksRequest

HEALTH = {"status": "ok", "version": "0.1.0", "protocol": PROTOCOL_VERSION}
HTTPX_EXCEPTIONS = [value for _, value in inspect.getmembers(httpx, inspect.isclass) if issubclass(value, Exception)]


def of_httpx(cls: type[Exception]) -> Exception:
    """Make any of httpx's exceptions, whatever its constructor wants."""
    request = httpx.Request("GET", "http://service.test")
    error = cls.__new__(cls)
    Exception.__init__(error, "it broke")
    if isinstance(error, httpx.HTTPError):
        error.request = request
    return error


def test_httpx_has_exceptions_to_translate() -> None:
    assert len(HTTPX_EXCEPTIONS) > 20


@pytest.mark.parametrize("cls", HTTPX_EXCEPTIONS, ids=lambda cls: cls.__name__)
def test_every_exception_of_httpx_is_translated(wired: Callable[..., LatencyClient], cls: type[Exception]) -> None:
    error = of_httpx(cls)

    def broken(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises((Unavailable, InvalidInput)) as caught:
        wired(broken).health()
    assert caught.value.__cause__ is error
    assert caught.value.field == "base_url"
    assert caught.value.remedy
    assert "service.test" in str(caught.value)


def test_a_cause_without_words_is_named() -> None:
    assert "ReadTimeout" in str(translated(httpx.ReadTimeout(""), "http://service.test"))


@pytest.mark.parametrize("kind", sorted(error_classes()))
def test_problems_are_raised_again_as_their_class(
    wired: Callable[..., LatencyClient], mark: dict[str, str], kind: str
) -> None:
    problem = {
        "type": f"urn:leti:problem:{kind}",
        "title": "Title",
        "status": 418,
        "detail": "what happened",
        "field": "networks[3]",
        "remedy": "what to do",
        "details": {"count": 3, "message": "a detail named like an argument"},
        "instance": "/an/extension/of/rfc9457",
    }
    client = wired(lambda _: httpx.Response(418, json=problem, headers=mark))
    with pytest.raises(LetiError) as caught:
        client.health()
    assert type(caught.value) is error_classes()[kind]
    assert (caught.value.message, caught.value.field, caught.value.remedy) == (
        "what happened",
        "networks[3]",
        "what to do",
    )
    assert caught.value.details == problem["details"]


def test_a_kind_from_the_future_is_still_an_error(wired: Callable[..., LatencyClient], mark: dict[str, str]) -> None:
    problem = {"type": "urn:leti:problem:from-2030", "title": "", "status": 400, "detail": "odd"}
    with pytest.raises(LetiError, match="odd"):
        wired(lambda _: httpx.Response(400, json=problem, headers=mark)).health()


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<h1>Welcome to nginx</h1>"),
        httpx.Response(200, json=HEALTH),  # JSON that fits, from something that does not speak the protocol
        httpx.Response(302, headers={"location": "https://login.example/"}),
        httpx.Response(404, html="not here"),
        httpx.Response(502, html="bad gateway"),
        httpx.Response(400, json=["a", "list"]),
        httpx.Response(400, json={"type": "about:blank", "title": "", "status": 400, "detail": "another's problem"}),
        httpx.Response(500, content=b"\xff\xfe"),
        httpx.Response(204),
    ],
    ids=lambda answer: f"{answer.status_code}-{answer.headers.get('content-type')}",
)
def test_answers_that_are_not_letis_say_so(wired: Callable[..., LatencyClient], answer: httpx.Response) -> None:
    with pytest.raises(Unavailable, match=r"did not answer GET /v1/health as LETI does") as caught:
        wired(lambda _: answer).health()
    assert str(answer.status_code) in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b"NaN"])
def test_a_marked_answer_that_is_no_json(
    wired: Callable[..., LatencyClient], mark: dict[str, str], body: bytes
) -> None:
    with pytest.raises((Unavailable, VersionMismatch)):
        wired(lambda _: httpx.Response(200, content=body, headers=mark)).health()


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["status", "id", "x"]), inner),
    ),
    status=st.integers(200, 599),
)
def test_no_answer_makes_anything_but_an_error_of_letis(body: object, status: int) -> None:
    mark = {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=json.dumps(body).encode(), headers=mark))
    client = LatencyClient("http://service.test", transport=transport, backoff=Backoff(0, 0))
    with client, pytest.raises(LetiError):
        client.health()


def test_an_answer_of_another_shape_is_a_mismatch_that_names_the_field(
    wired: Callable[..., LatencyClient], mark: dict[str, str]
) -> None:
    answer = {**HEALTH, "mood": "good"}
    with pytest.raises(VersionMismatch, match="mood"):
        wired(lambda _: httpx.Response(200, json=answer, headers=mark)).health()


def test_another_protocol_is_a_mismatch(wired: Callable[..., LatencyClient]) -> None:
    answer = httpx.Response(200, json=HEALTH, headers={PROTOCOL_HEADER: "1"})
    with pytest.raises(VersionMismatch, match=f"protocol 1, this client {PROTOCOL_VERSION}"):
        wired(lambda _: answer).health()


def test_requests_carry_the_protocol(wired: Callable[..., LatencyClient], mark: dict[str, str]) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=HEALTH, headers=mark)

    wired(answer).health()
    assert seen[0].headers[PROTOCOL_HEADER] == str(PROTOCOL_VERSION)
    assert seen[0].headers["user-agent"].startswith("leti/")


class Flaky:
    """Fails ``times`` times with ``fault``, then answers; counts the tries."""

    def __init__(self, fault: Exception | httpx.Response, times: int, answer: httpx.Response) -> None:
        self.fault, self.times, self.answer, self.tries = fault, times, answer, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.tries += 1
        if self.tries > self.times:
            return self.answer
        if isinstance(self.fault, Exception):
            raise self.fault
        return self.fault


REFUSED = httpx.ConnectError("refused")
DROPPED = httpx.RemoteProtocolError("server disconnected")
BUSY = httpx.Response(503, html="busy")
NO_REPLICA = httpx.Response(502)
"""As proxies answer where the replica died over the request."""
SLOW = httpx.ReadTimeout("slow")
LEASE = LeaseRequest("agent", "platform")


@pytest.mark.parametrize(
    ("fault", "safe_tries", "unsafe_tries"),
    [(REFUSED, 3, 3), (DROPPED, 3, 1), (BUSY, 3, 1), (NO_REPLICA, 3, 1), (SLOW, 1, 1)],
)
def test_only_what_is_safe_is_sent_again(
    wired: Callable[..., LatencyClient],
    mark: dict[str, str],
    fault: Exception | httpx.Response,
    safe_tries: int,
    unsafe_tries: int,
) -> None:
    good = httpx.Response(200, json=HEALTH, headers=mark)
    nothing = httpx.Response(204, headers=mark)
    safe, unsafe = Flaky(fault, 2, good), Flaky(fault, 2, nothing)
    for flaky, call in ((safe, wired(safe).health), (unsafe, lambda: wired(unsafe).lease(LEASE))):
        expected = safe_tries if flaky is safe else unsafe_tries
        if expected == 3:
            call()
        else:
            with pytest.raises(Unavailable):
                call()
        assert flaky.tries == expected


def test_patience_ends(wired: Callable[..., LatencyClient]) -> None:
    flaky = Flaky(REFUSED, 100, httpx.Response(500))
    with pytest.raises(Unavailable):
        wired(flaky, retries=4).health()
    assert flaky.tries == 5


def test_no_service_at_all() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with LatencyClient(url, retries=1, backoff=Backoff(0, 0)) as client, pytest.raises(Unavailable) as caught:
            client.health()
    assert "leti serve" in caught.value.remedy


@pytest.mark.parametrize("half", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", b"SSH-2.0-OpenSSH_9.9\r\n"])
def test_a_peer_that_hangs_up(half: bytes) -> None:
    """Over a real socket: resets, truncated bodies and other protocols are Unavailable, after the retries."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []

        def hang_up() -> None:
            for _ in range(3):
                peer, _ = listener.accept()
                accepted.append(peer.recv(65536))
                peer.sendall(half)
                peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with LatencyClient(url, retries=2, backoff=Backoff(0, 0)) as client, pytest.raises(Unavailable):
            client.health()
        thread.join(10)
    assert len(accepted) == 3


def test_a_silent_peer_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with LatencyClient(url, timeout_s=0.2) as client, pytest.raises(Unavailable, match=r"(?i)timed out"):
            client.health()


@pytest.mark.parametrize("url", ["", "service", "ftp://service", "http://", "http://a:99999", "http://[", "//x"])
def test_wrong_addresses_are_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        LatencyClient(url)
    assert caught.value.field == "base_url"


@pytest.mark.parametrize(("name", "value"), [("timeout_s", 0.0), ("timeout_s", -1.0), ("retries", -1)])
def test_wrong_options_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        LatencyClient("http://service.test", **{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


@pytest.mark.parametrize("body", [math.nan, {"spec": {1, 2}}])
def test_what_json_cannot_say_is_refused_before_it_is_sent(
    wired: Callable[..., LatencyClient], mark: dict[str, str], body: object
) -> None:
    client = wired(lambda _: httpx.Response(200, json=HEALTH, headers=mark))
    request = PredictionRequest(("p",), (body,), coverage=0.9)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="JSON"):
        client.predict(request)


def test_identifiers_stay_one_segment_of_the_path(wired: Callable[..., LatencyClient], mark: dict[str, str]) -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(404, headers=mark)

    client = wired(answer)
    for text in ("a/../b", "x?y=1", "ü#"):
        with pytest.raises(Unavailable):
            client.platform(text)
    assert seen == [b"/v1/platforms/a%2F..%2Fb", b"/v1/platforms/x%3Fy%3D1", b"/v1/platforms/%C3%BC%23"]
    for text in ("", ".", ".."):
        with pytest.raises(InvalidInput):
            client.platform(text)


# --- batches ---------------------------------------------------------------------------------------------------------


def prediction(network: str) -> dict[str, object]:
    return {
        "fingerprint": network,
        "latency_ms": 1.0,
        "low_ms": 0.9,
        "high_ms": 1.1,
        "coverage": 0.9,
        "source": "predicted",
        "predictor": "flops",
        "version": 1,
        "unknown": [],
        "degenerate": False,
    }


def test_large_prediction_batches_are_split_and_kept_in_order(
    wired: Callable[..., LatencyClient], mark: dict[str, str]
) -> None:
    sizes: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        networks = json.loads(request.content)["networks"]
        sizes.append(len(networks))
        items = [prediction(network) for network in networks]
        items[-1] = None
        wrong = {"type": "urn:leti:problem:not-found", "title": "", "status": 404, "detail": "?"}
        place = {"index": len(items) - 1, "stage": "read", "platform_id": ""}
        failure = {**place, "problem": {**wrong, "field": f"networks[{place['index']}].layers[3]"}}
        said = {"platforms": [{"platform_id": "p", "items": items, "queued": 1}], "failures": [failure]}
        return httpx.Response(200, json=said, headers=mark)

    networks = tuple(str(i) for i in range(20_001))
    response = wired(answer).predict(PredictionRequest(("p",), networks))
    assert sizes == [10_000, 10_000, 1]
    (platform,) = response.platforms
    assert platform.queued == 3
    lost = {9_999, 19_999, 20_000}
    assert [item and item.fingerprint for item in platform.items] == [
        None if i in lost else name for i, name in enumerate(networks)
    ]
    assert {failure.index for failure in response.failures} == lost
    assert {failure.problem.field for failure in response.failures} == {f"networks[{i}].layers[3]" for i in lost}
    with pytest.raises(NotFound):
        response.only()


def test_an_answer_with_too_few_predictions_is_an_error(
    wired: Callable[..., LatencyClient], mark: dict[str, str]
) -> None:
    answer = httpx.Response(200, json={"platforms": [{"platform_id": "p", "items": []}]}, headers=mark)
    with pytest.raises(Unavailable, match="0 predictions for 1"):
        wired(lambda _: answer).predict(PredictionRequest(("p",), ("a",)))


def test_an_empty_batch_is_asked_all_the_same(wired: Callable[..., LatencyClient], mark: dict[str, str]) -> None:
    flaky = Flaky(REFUSED, 0, httpx.Response(200, json=[], headers=mark))
    assert wired(flaky).add_networks(NetworksRequest(())) == ()
    assert flaky.tries == 1


def test_training_is_sent_again_under_one_key(wired: Callable[..., LatencyClient]) -> None:
    keys: list[str] = []

    def dropping(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        raise httpx.ReadError("it broke")

    client = wired(dropping)
    for _ in range(2):
        with pytest.raises(Unavailable):
            client.start_training(TrainingRequest("p"))
    assert len(keys) == 8
    assert [len(set(keys[:4])), len(set(keys[4:])), len(set(keys))] == [1, 1, 2]


def test_a_client_that_is_too_fast_comes_back_when_it_is_told(
    wired: Callable[..., LatencyClient], mark: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("leti.client.connection.time.sleep", slept.append)
    answers = [
        httpx.Response(429, headers={**mark, "retry-after": "7"}),
        httpx.Response(200, json=HEALTH, headers=mark),
    ]
    assert wired(lambda request: answers.pop(0)).health().status == "ok"
    assert slept == [7.0]
    with pytest.raises(Unavailable):  # an hour is too long to wait for
        wired(lambda request: httpx.Response(429, headers={**mark, "retry-after": "3600"})).health()
    assert slept == [7.0]


# --- the rest --------------------------------------------------------------------------------------------------------


def test_a_lost_lease_is_its_own_class(wired: Callable[..., LatencyClient], mark: dict[str, str]) -> None:
    problem = {"type": "urn:leti:problem:lease-lost", "title": "", "status": 409, "detail": "run out"}
    with pytest.raises(LeaseLost):
        wired(lambda _: httpx.Response(409, json=problem, headers=mark)).heartbeat(1, 2)


@given(first=st.floats(0, 10), factor=st.floats(1, 100))
def test_delays_grow_with_jitter_and_stay_bounded(first: float, factor: float) -> None:
    backoff = Backoff(first, first * factor)
    delays = list(itertools.islice(backoff.delays(), 20))
    ceiling = first
    for delay in delays:
        assert 0.5 * ceiling - 1e-9 <= delay <= ceiling + 1e-9
        ceiling = min(2 * ceiling, backoff.most_s)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    service_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with LatencyClient(service_url, retries=0) as client:
        assert client.health().status == "ok"


def test_the_client_is_light_and_imports_without_posix() -> None:
    """In a process where POSIX-only and heavy modules cannot be imported."""
    code = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "numpy", "fastapi", "sqlalchemy", "torch", "psutil"):
    sys.modules[name] = None
import leti.client
assert leti.client.LatencyClient("http://127.0.0.1:1").base_url == "http://127.0.0.1:1"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
