"""Uploads: model files sent over the wire, read by a worker, predicted and measured by their fingerprints."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="needs the extra service")
pytest.importorskip("onnx", reason="needs the extra import-onnx")

import httpx

from leti.core.codec import from_json, to_json
from leti.core.farm import CampaignRequest
from leti.core.queries import PredictionRequest
from leti.core.spec import NetworkConfig
from leti.core.uploads import Upload
from leti.core.wire import NetworksRequest
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.precision import quantize
from leti.generator.spaces import get_space
from leti.service.artifacts import ArtifactStore
from leti.service.server import running
from leti.service.store import Store
from leti.service.tasks.worker import run_tasks

DATABASES = ("sqlite", "postgresql")
BINARY = {"content-type": "application/octet-stream"}
SPEC = get_space("nasbench201").sample(1, 3, NetworkConfig(modules_per_stack=1))[0]
GRAPH = lower(SPEC)
FILE = export_model(GRAPH)
SHA256 = hashlib.sha256(FILE).hexdigest()


def send(house, content, model_format="tflite", **headers):
    return house.client.post("/v1/uploads", params={"format": model_format}, content=content, headers=BINARY | headers)


def read(house, answer):
    """Have a worker read what was sent; return what became of it."""
    house.run_tasks()
    found = house.get(f"/uploads/{answer.json()['id']}", wait_s=1)
    assert found.status_code == 200, found.text
    return from_json(Upload, found.json())


def stored(house, kind):
    return [item.artifact.name for item in ArtifactStore.open(house.settings).list(kind)]


def test_files_are_streamed_over_a_socket_and_read_by_a_worker_elsewhere(settings, tmp_path):
    """The web process and the worker share a database and a store of artifacts, and no home."""
    settings = replace(settings, artifacts_url=str(tmp_path / "shared"))
    url = settings.database_url or f"sqlite:///{settings.database_file}"
    worker = replace(settings, home=tmp_path / "worker", database_url=url)
    stop, store = threading.Event(), Store.open(worker)

    def work() -> None:
        while not stop.wait(0.05):
            run_tasks(store, worker)

    working = threading.Thread(target=work)
    working.start()
    try:
        with running(settings) as base, httpx.Client(base_url=f"{base}/v1", timeout=60) as client:
            for model_format in ("tflite", "onnx"):
                content = export_model(GRAPH, model_format)
                pieces = (content[start : start + 10_000] for start in range(0, len(content), 10_000))
                answer = client.post("/uploads", params={"format": model_format}, content=pieces, headers=BINARY)
                assert answer.status_code == 201, answer.text
                sent = from_json(Upload, answer.json())
                assert (sent.sha256, sent.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
                while (found := client.get(f"/uploads/{sent.id}", params={"wait_s": 30}).json())["state"] == "received":
                    assert working.is_alive()
                assert found == answer.json() | {"state": "known", "fingerprint": GRAPH.fingerprint()}
                model = client.get(f"/networks/{GRAPH.fingerprint()}/model", params={"format": model_format})
                assert model.content == content
    finally:
        stop.set()
        working.join()
        store.close()


def test_the_same_file_is_the_same_upload(house):
    first = send(house, FILE, **{"leti-model-sha256": SHA256})
    assert first.status_code == 201, first.text
    waiting = send(house, FILE)
    assert (waiting.status_code, waiting.json()) == (200, first.json())
    assert house.rows("SELECT count(*) FROM tasks") == [(1,)]
    known = read(house, first)
    assert (known.state, known.fingerprint) == ("known", GRAPH.fingerprint())
    again = send(house, FILE)
    assert (again.status_code, again.json()) == (200, to_json(known))
    assert house.run_tasks() == 0
    assert stored(house, "uploads") == []
    assert stored(house, "models") == [f"{SHA256}.tflite"]
    network = house.get(f"/networks/{GRAPH.fingerprint()}").json()
    assert (network["source"], network["spec"], network["space"], network["precision"]) == (
        "upload",
        None,
        "",
        "float32",
    )
    assert (network["macs"], network["params"]) == (GRAPH.macs, GRAPH.params)


def test_what_is_no_upload_is_refused_at_once(house, problem_of):
    assert problem_of(send(house, FILE, **{"leti-model-sha256": "0" * 64}), 422)["field"] == "leti-model-sha256"
    assert problem_of(send(house, b""), 422)["field"] == "(body)"
    assert problem_of(send(house, FILE, "pt2"), 422)["field"] == "format"
    said = problem_of(house.client.post("/v1/uploads?format=tflite", json={}), 415)
    assert (said["field"], said["remedy"]) == ("content-type", "application/octet-stream")
    problem_of(house.get("/uploads/99"), 404, "not-found")
    assert house.rows("SELECT count(*) FROM uploads") == [(0,)]
    assert stored(house, "uploads") == []


@pytest.mark.sqlite
def test_a_file_over_the_limit_is_refused_announced_or_not(settings, problem_of):
    """It may be larger than any other body, and has a limit of its own."""
    settings = replace(settings, max_body_bytes=10_000, max_upload_bytes=100_000)
    with running(settings) as base, httpx.Client(base_url=f"{base}/v1", timeout=60) as client:
        for content in (b"a" * 100_001, iter([b"a" * 20_000] * 6)):
            answer = client.post("/uploads", params={"format": "onnx"}, content=content, headers=BINARY)
            problem_of(answer, 413, "too-large")
        answer = client.post("/uploads", params={"format": "onnx"}, content=b"a" * 100_000, headers=BINARY)
        assert answer.status_code == 201
        problem_of(client.post("/networks", content=b"a" * 10_001), 413, "too-large")
    assert not list(settings.home.rglob(".parts/*"))
    assert len(ArtifactStore.open(settings).list("uploads")) == 1


def test_a_file_that_holds_no_network_is_refused_with_the_reason_and_goes(house):
    content = FILE[:2000]
    found = read(house, send(house, content))
    assert found.state == "refused"
    assert found.fingerprint is None
    assert found.problem is not None
    assert found.problem.status == 422
    assert found.problem.detail
    assert stored(house, "uploads") == stored(house, "models") == []
    assert house.rows("SELECT count(*) FROM networks") == [(0,)]
    again = send(house, content)
    assert (again.status_code, again.json()["state"]) == (200, "received")
    assert again.json()["task_id"] != found.task_id
    assert read(house, again).state == "refused"


@pytest.mark.sqlite
def test_a_reader_out_of_time_costs_its_upload_alone(house):
    house.settings = replace(house.settings, parse_timeout_s=0.01)
    found = read(house, send(house, FILE))
    assert found.state == "refused"
    assert found.problem is not None
    assert found.problem.type == "urn:leti:problem:too-large"
    house.settings = replace(house.settings, parse_timeout_s=60.0)
    assert read(house, send(house, FILE)).state == "known"


@pytest.mark.sqlite
def test_of_two_files_of_one_network_the_first_is_measured(house):
    other = export_model(GRAPH, seed=1)
    assert other != FILE
    first, second = read(house, send(house, FILE)), read(house, send(house, other))
    assert first.fingerprint == second.fingerprint
    assert house.client.get(f"/v1/networks/{first.fingerprint}/model").content == FILE
    assert stored(house, "models") == [f"{SHA256}.tflite"]
    assert stored(house, "uploads") == []
    # In another format there is none yet: it is written of the graph.
    answer = house.get(f"/networks/{first.fingerprint}/model", format="onnx")
    assert answer.status_code == 200, answer.text


@pytest.mark.sqlite
def test_a_lost_file_is_not_replaced_by_another_but_by_itself(house, problem_of):
    found = read(house, send(house, FILE))
    path = house.settings.models / f"{SHA256}.tflite"
    path.write_bytes(b"damaged")
    said = problem_of(house.get(f"/networks/{found.fingerprint}/model"), 500, "artifact-error")
    assert said["remedy"] == "upload the file again: POST /v1/uploads"
    assert send(house, FILE).status_code == 200
    assert house.get(f"/networks/{found.fingerprint}/model").content == FILE


def test_an_uploaded_network_is_measured_as_its_file(house):
    """It is measured under its fingerprint, of a campaign and of an agent that knows of no upload."""
    content = export_model(GRAPH, seed=5)
    found = read(house, send(house, content))
    house.add_platform()
    request = CampaignRequest("mine", house.platform_id, networks=(found.fingerprint,), repeats=1)
    assert house.post("/campaigns", request).status_code == 201
    lease = house.lease()
    (job,) = lease.jobs
    assert job.fingerprint == found.fingerprint
    model = house.get(f"/networks/{job.fingerprint}/model")
    assert model.content == content
    assert model.headers["leti-model-sha256"] == found.sha256
    assert house.report(lease, job, ratio=2.0).status == "stored"
    request = PredictionRequest((house.platform_id,), networks=(found.fingerprint, SPEC.to_json()))
    answer = house.post("/predictions", request)
    assert answer.status_code == 200, answer.text
    (platform,) = answer.json()["platforms"]
    assert [item["source"] for item in platform["items"]] == ["measured", "measured"]
    assert platform["items"][0]["latency_ms"] == platform["items"][1]["latency_ms"]


def test_a_fingerprint_that_nobody_knows_is_no_campaign(house, problem_of):
    house.add_platform()
    request = CampaignRequest("mine", house.platform_id, networks=("0" * 64,), repeats=1)
    assert problem_of(house.post("/campaigns", request), 404)["field"] == "networks[0]"


@pytest.mark.sqlite
def test_an_int8_file_is_a_network_of_its_own(house):
    graph = quantize(GRAPH, "full_integer")
    found = read(house, send(house, export_model(graph)))
    assert found.fingerprint == graph.fingerprint() != GRAPH.fingerprint()
    assert house.get(f"/networks/{found.fingerprint}").json()["precision"] == "full_integer"


def test_a_spec_that_comes_later_is_kept_with_the_network(house):
    found = read(house, send(house, FILE))
    (posted,) = house.post("/networks", NetworksRequest((SPEC.to_json(),))).json()
    assert posted["fingerprint"] == found.fingerprint
    assert house.get(f"/networks/{found.fingerprint}").json() == posted
    assert house.client.get(f"/v1/networks/{found.fingerprint}/model").content == FILE


@pytest.mark.sqlite
def test_an_uploaded_network_is_predicted_as_its_spec_is(learned):
    found = read(learned, send(learned, FILE))
    networks = (found.fingerprint, SPEC.to_json(), {"graph": GRAPH.to_json()})
    asked = PredictionRequest((learned.platform_id,), networks=networks)
    answer = learned.post("/predictions", asked)
    assert answer.status_code == 200, answer.text
    (platform,) = answer.json()["platforms"]
    latencies = {item["latency_ms"] for item in platform["items"]}
    assert len(latencies) == 1
    assert {item["fingerprint"] for item in platform["items"]} == {found.fingerprint}


def test_a_graph_has_a_limit_wherever_it_comes_from(guarded_by):
    house = guarded_by(max_graph_operators=3)
    house.client.headers.update(house.bearer("admin"))
    house.add_platform()
    found = read(house, send(house, FILE))
    assert (found.state, found.problem.type, found.problem.details["limit"]) == (
        "refused",
        "urn:leti:problem:too-large",
        3,
    )
    answer = house.post("/predictions", PredictionRequest((house.platform_id,), ({"graph": GRAPH.to_json()},)))
    (failure,) = answer.json()["failures"]
    assert failure["problem"]["type"] == "urn:leti:problem:too-large"
