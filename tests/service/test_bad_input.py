"""Whatever is sent, the answer is a problem that names the field: never a 500, never a traceback."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from leti.core.codec import to_json
from leti.core.errors import InvalidInput, LetiError, error_classes
from leti.core.farm import CampaignRequest, LeaseRequest, Sample
from leti.core.queries import PredictionRequest
from leti.core.wire import PROTOCOL_VERSION, NetworksRequest
from leti.service.problems import STATUSES, problem
from leti.service.settings import Settings

JSON = {"content-type": "application/json"}


def cell(**fields):
    spec = {
        "space": "nasbench101",
        "adjacency": [[0, 1, 1], [0, 0, 1], [0, 0, 0]],
        "layers": ["input", "conv3x3-bn-relu", "output"],
    }
    return {**spec, **fields}


BAD_SPECS = {
    "not square": (cell(adjacency=[[0, 1], [0, 0, 1], [0, 0, 0]]), "adjacency"),
    "too few rows": (cell(adjacency=[[0, 1], [0, 0]]), "adjacency"),
    "not triangular": (cell(adjacency=[[0, 1, 1], [0, 0, 1], [1, 0, 0]]), "adjacency"),
    "a loop": (cell(adjacency=[[1, 1, 1], [0, 0, 1], [0, 0, 0]]), "adjacency"),
    "not zero or one": (cell(adjacency=[[0, 2, 1], [0, 0, 1], [0, 0, 0]]), "adjacency"),
    "a float": (cell(adjacency=[[0, 1.0, 1], [0, 0, 1], [0, 0, 0]]), "adjacency"),
    "unknown layer": (cell(layers=["input", "conv9x9", "output"]), "layers[1]"),
    "unreachable output": (cell(adjacency=[[0, 1, 0], [0, 0, 0], [0, 0, 0]]), "adjacency"),
    "unknown space": (cell(space="nasbench999"), "space"),
    "unknown field": (cell(colour="red"), "colour"),
    "no layers": ({"space": "nasbench101", "adjacency": []}, "layers"),
    "10,000 nodes": (cell(adjacency=[[0]] * 10_000, layers=["input"] * 10_000), "adjacency"),
    "a row of 10,000": (cell(adjacency=[[0] * 10_000] * 3), "adjacency"),
    "huge config": (cell(config={"stem_channels": 10**30}), "config"),
    "not an architecture": ("|conv~0|", ""),
    "an empty string": ("", ""),
    "NaN attribute": (cell(layers=["input", {"name": "conv3x3-bn-relu", "stride": float("nan")}, "output"]), "layers"),
}


@pytest.mark.parametrize("case", BAD_SPECS)
@pytest.mark.parametrize("route", ["networks", "predictions", "campaigns"])
def test_a_bad_spec_is_named(shared, problem_of, route, case):
    spec, place = BAD_SPECS[case]
    good = shared.architecture
    bodies = {
        "networks": NetworksRequest((good, spec)),
        "predictions": PredictionRequest((shared.platform_id,), (good, spec)),
        "campaigns": CampaignRequest("c", shared.platform_id, networks=(good, spec)),
    }
    answer = shared.client.post(f"/v1/{route}", content=json.dumps(to_json(bodies[route])), headers=JSON)
    if route == "predictions":  # what can be answered is: here the first network, were it not for the predictor
        (said,) = [failed["problem"] for failed in answer.json()["failures"] if failed["stage"] == "read"]
        assert said["status"] in (413, 422)
    else:
        assert answer.status_code in (413, 422), answer.text
        said = problem_of(answer, answer.status_code)
    assert said["field"].startswith("networks[1]")
    assert place in said["field"]
    assert shared.get("/campaigns").json()["items"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"networks": ' + b"[" * 500 + b"]" * 500 + b"}", 422),
        (b'{"networks": [{"space": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}", 422),
        (b"9" * 5000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"{}", 422),
        (b"", 422),
        (b'{"networks": []}', 422),
        (b'{"networks": 3}', 422),
        (b'{"networks": [3]}', 422),
        (b'{"networks": ["x"], "zero": "half"}', 422),
        (b'{"networks": ["x"], "zero": NaN}', 422),
        (b'{"networks": ["x"], "extra": 1}', 422),
        (b'{"networks": ["\\ud800"]}', 422),
        (b'{"networks": [{"space": "\\ud800", "adjacency": [], "layers": []}]}', 422),
    ],
)
def test_a_bad_body_is_a_problem(shared, problem_of, body, status):
    said = problem_of(shared.client.post("/v1/networks", content=body, headers=JSON), status)
    assert said["field"]


def test_a_body_that_is_not_announced_as_json_is_refused(shared, problem_of):
    for headers in ({"content-type": "text/plain"}, {}):
        answer = shared.client.post("/v1/networks", content=b'{"networks": ["x"]}', headers=headers)
        assert problem_of(answer, 415, "not-readable")["field"] == "content-type"


def small_house(house, **limits):
    house.close()
    house.settings = Settings(house.settings.home, auth=False, **limits)
    house.open()
    return house


def test_a_body_over_the_limit_is_refused_announced_or_not(shared, problem_of):
    big = b"x" * (100 * 1024 * 1024)
    announced = shared.client.post("/v1/networks", content=big, headers=JSON)
    assert problem_of(announced, 413, "too-large")["details"]["limit"] == shared.settings.max_body_bytes
    chunks = (big[:1_000_000] for _ in range(100))
    problem_of(shared.client.post("/v1/networks", content=chunks, headers=JSON), 413, "too-large")


def test_batches_have_limits(house, problem_of):
    small_house(house, max_batch=3, max_campaign_networks=5)
    house.add_platform()
    four = (house.architecture,) * 4
    for path, body in (
        ("/networks", NetworksRequest(four)),
        ("/predictions", PredictionRequest((house.platform_id,), four)),
        ("/campaigns", CampaignRequest("c", house.platform_id, (Sample("nasbench201", 2),), four)),
        ("/campaigns", CampaignRequest("c", house.platform_id, (Sample("nasbench201", 10**12),))),
    ):
        said = problem_of(house.post(path, body), 413, "too-large")
        assert said["details"]["limit"] in (3, 5)
        assert said["remedy"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"repeats": 0}, "repeats"),
        ({"repeats": 10**30}, "repeats"),
        ({"repeat_share": 1.5}, "repeat_share"),
        ({"samples": [], "networks": []}, "samples"),
        ({"samples": [{"space": "nowhere", "count": 1}]}, "samples[0].space"),
        ({"samples": [{"space": "nasbench201", "count": 0}]}, "samples[0].count"),
        ({"samples": [{"space": "nasbench201", "count": 1, "seed": -1}]}, "samples[0].seed"),
        ({"samples": [{"space": "nasbench201", "count": 1, "config": {"stacks": 99}}]}, "samples[0].config.stacks"),
        ({"samples": [{"space": "nasbench201", "count": 10**40}]}, "samples[0].count"),
        ({"name": "\ud800"}, "name"),
    ],
)
def test_a_bad_campaign_is_named(shared, problem_of, fields, place):
    body = {"name": "c", "platform_id": shared.platform_id, "samples": [{"space": "nasbench201", "count": 1}], **fields}
    answer = shared.client.post("/v1/campaigns", content=json.dumps(body), headers=JSON)
    assert problem_of(answer, 422)["field"].startswith(place)


def test_more_networks_than_a_space_has_are_refused(house, problem_of):
    small_house(house, max_campaign_networks=100_000)
    house.add_platform()
    request = CampaignRequest("c", house.platform_id, (Sample("nasbench201", 50_000),))
    assert problem_of(house.post("/campaigns", request), 422)["field"] == "samples[0].count"


def test_a_network_too_large_for_a_file_is_refused_before_it_is_queued(house, problem_of):
    house.add_platform()
    request = CampaignRequest("c", house.platform_id, networks=(cell(config={"stem_channels": 4096}),))
    problem_of(house.post("/campaigns", request), 413, "too-large")
    assert house.get("/campaigns").json()["items"] == []


def test_a_network_with_more_multiplications_than_can_be_counted_is_refused(shared, problem_of):
    size = {"input_shape": [4096] * 3, "batch": 1024, "stem_channels": 4096, "stacks": 8, "modules_per_stack": 32}
    answer = shared.post("/networks", NetworksRequest((cell(config=size),)))
    assert problem_of(answer, 413, "too-large")["field"] == "networks[0].config"


@pytest.mark.parametrize("odd", ["\ud800", "\0"])
def test_text_that_no_answer_or_database_could_hold_is_not_kept(house, problem_of, odd):
    device = {"name": f"pi{odd}", "kind": "desktop", "soc": "x", "cores": 4}
    body = json.dumps({"device": device, "runtime": "litert", "runtime_version": "1"})
    answer = house.client.post("/v1/platforms", content=body, headers=JSON)
    assert problem_of(answer, 422)["field"] == "device.name"
    assert house.get("/platforms").json() == []


def test_an_unknown_platform_is_not_found(shared, problem_of):
    for path, body in (
        ("/campaigns", CampaignRequest("c", "nowhere", (Sample("nasbench201", 1),))),
        ("/leases", LeaseRequest("a", "nowhere")),
        ("/predictors", {"platform_id": "nowhere"}),
        ("/predictions", PredictionRequest(("nowhere",), (shared.architecture,))),
    ):
        field = problem_of(shared.post(path, body), 404, "not-found")["field"]
        assert field == ("platform_ids[0]" if path == "/predictions" else "platform_id")
    for path in ("/platforms/nowhere", "/measurements?platform_id=nowhere", "/predictors?platform_id=nowhere"):
        assert problem_of(shared.client.get(f"/v1{path}"), 404, "not-found")["field"] == "platform_id"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "-1", "0", "1e999", '"1"', "true", "null", "1e400"])
def test_a_latency_that_is_no_time_is_refused(house, problem_of, text):
    house.add_campaign(count=1)
    lease = house.lease()
    body = json.dumps(to_json(house.result(lease, lease.jobs[0]))).replace("1.25,", f"{text},", 1)
    said = problem_of(house.client.post("/v1/results", content=body, headers=JSON), 422)
    assert said["field"].startswith("measurement.passes[0]")
    assert house.get("/measurements").json()["items"] == []


def test_an_integer_too_long_for_a_float_is_refused(house, problem_of):
    house.add_campaign(count=1)
    lease = house.lease()
    body = json.dumps(to_json(house.result(lease, lease.jobs[0]))).replace("1.25,", "9" * 400 + ",", 1)
    problem_of(house.client.post("/v1/results", content=body, headers=JSON), 422)


@pytest.mark.parametrize("number", ["0", "-1", str(2**63), "9" * 30, "1.5", "x", "%00", "1e3"])
@pytest.mark.parametrize(
    "path", ["/campaigns/{}", "/measurements/{}", "/predictors/{}/holdout", "/measurements?campaign_id={}"]
)
def test_ids_that_cannot_be_are_problems(shared, problem_of, path, number):
    problem_of(shared.client.get(f"/v1{path.format(number)}"), 422, "invalid-input")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
@pytest.mark.parametrize("field", ["lease_id", "token", "job_id", "repeat"])
def test_numbers_that_the_database_cannot_hold_are_problems(house, problem_of, field, number):
    house.add_campaign(count=1)
    lease = house.lease()
    body = {**to_json(house.result(lease, lease.jobs[0])), field: number}
    answer = house.post("/results", body)
    assert answer.status_code in (404, 409, 422)
    problem_of(answer, answer.status_code)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/measurements?limit=0", "limit"),
        ("/measurements?limit=100000", "limit"),
        ("/measurements?limit=many", "limit"),
        ("/measurements?cursor=-1", "cursor"),
        ("/measurements?fingerprint=xyz", "fingerprint"),
        ("/measurements?plattform_id=a", "plattform_id"),
        ("/measurements?platform_id=a%00", "platform_id"),
        ("/measurements?limit=1&limit=2", "limit"),
        ("/platforms/a%00", "platform_id"),
        ("/networks/xyz", "fingerprint"),
        (f"/networks/{'A' * 64}/model", "fingerprint"),
        ("/predictors?platform_id=", "platform_id"),
        ("/health?verbose=1", "verbose"),
    ],
)
def test_bad_parameters_are_named(shared, problem_of, path, place):
    assert problem_of(shared.client.get(f"/v1{path}"), 422, "invalid-input")["field"] == place


def test_what_does_not_exist_is_not_found(shared, problem_of):
    for path in (
        "/campaigns/9",
        "/measurements/9",
        "/predictors/9/holdout",
        f"/networks/{'0' * 64}",
        f"/networks/{'0' * 64}/model",
        "/no/such/route",
        "/networks/..%2f..%2fetc%2fpasswd/model",
    ):
        problem_of(shared.client.get(f"/v1{path}"), 404, "not-found")
    problem_of(shared.post("/predictors/9/promote"), 404, "not-found")
    problem_of(shared.client.delete("/v1/leases/9", params={"token": 1}), 404, "not-found")


def test_a_wrong_method_says_which_are_right(shared, problem_of):
    answer = shared.client.put("/v1/networks")
    assert problem_of(answer, 405)["field"] == "method"
    assert "POST" in answer.headers["allow"]


def test_another_protocol_is_refused_and_the_right_one_or_none_is_not(shared, problem_of):
    for spoken in (str(PROTOCOL_VERSION - 1), str(PROTOCOL_VERSION + 1), "", "one", f"{PROTOCOL_VERSION}.0"):
        answer = shared.client.get("/v1/health", headers={"leti-protocol": spoken})
        assert problem_of(answer, 426, "version-mismatch")["field"] == "leti-protocol"
    for headers in ({"leti-protocol": str(PROTOCOL_VERSION)}, {}):
        answer = shared.client.get("/v1/health", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["leti-protocol"] == str(PROTOCOL_VERSION)


def test_requests_have_ids(shared):
    given = shared.client.get("/v1/health", headers={"x-request-id": "search-42"}).headers["x-request-id"]
    assert given == "search-42"
    for bad in ("a b", "x" * 65, "<script>"):
        made = shared.client.get("/v1/health", headers={"x-request-id": bad}).headers["x-request-id"]
        assert made != bad
        assert len(made) == 32
    assert shared.client.get("/v1/health").headers["x-content-type-options"] == "nosniff"


def test_a_disk_that_refuses_is_a_storage_error(house, problem_of):
    (network,) = house.post("/networks", NetworksRequest((house.architecture,))).json()
    house.settings.models.write_text("a file where the folder should be")
    said = problem_of(house.get(f"/networks/{network['fingerprint']}/model"), 503, "storage-error")
    assert str(house.settings.home) not in json.dumps(said)


def test_the_unexpected_is_a_problem_that_tells_nothing_of_the_inside(house, problem_of, caplog):
    house.store.close()
    house.settings.database_file.write_bytes(b"this is no database" * 1000)
    with caplog.at_level(logging.ERROR):
        said = problem_of(house.get("/platforms"), 503, "storage-error")
    assert "SELECT" not in json.dumps(said)
    assert caplog.records

    @house.app.get("/v1/broken")
    def broken() -> None:
        raise ZeroDivisionError("a secret")

    caplog.clear()
    with caplog.at_level(logging.ERROR):
        answer = house.get("/broken")
    problem_of(answer, 500, "error")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text


def test_every_error_of_the_tree_has_a_status():
    assert set(STATUSES) == set(error_classes().values())
    for cls in STATUSES:
        assert 400 <= problem(cls("x")).status < 600
    assert problem(LetiError("x", value=float("nan"))).details == {"value": "nan"}


def test_an_error_of_a_plugins_own_has_the_status_and_kind_of_its_parent():
    class OwnError(InvalidInput):
        pass

    assert problem(OwnError("is wrong")).status == STATUSES[InvalidInput]
    assert error_classes()[InvalidInput.kind] is InvalidInput


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
BODIES = {
    "/networks": ("networks", "zero"),
    "/platforms": ("device", "runtime", "runtime_version", "threads", "affinity"),
    "/campaigns": ("name", "platform_id", "samples", "networks", "repeats", "repeat_share", "priority", "profile"),
    "/jobs/retry": ("job_ids", "campaign_id", "kinds"),
    "/jobs/cancel": ("job_ids", "campaign_id", "kinds"),
    "/leases": ("agent", "platform_id", "max_jobs"),
    "/results": ("lease_id", "token", "job_id", "repeat", "measurement", "failure"),
    "/predictors": ("platform_id", "kinds", "holdout_share", "seed"),
    "/predictions": ("platform_id", "networks", "coverage", "predictor_id"),
}


@hypothesis_settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_nothing_that_is_json_makes_the_service_fail(house, data):
    path = data.draw(st.sampled_from(sorted(BODIES)))
    body = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(BODIES[path], JSONS)))
    answer = house.client.post(f"/v1{path}", content=json.dumps(body), headers=JSON)
    assert answer.status_code < 500, answer.text
