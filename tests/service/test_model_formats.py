"""Model files by format: what is handed out, kept, and refused."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest

from leti.core.codec import to_json
from leti.core.device import RUNTIME_FORMATS, Device, ModelFormat, Platform
from leti.core.farm import CampaignRequest, Sample
from leti.core.graph import Graph, TensorType
from leti.core.queries import PredictionRequest
from leti.core.wire import NetworksRequest
from leti.generator.cost import make_operator
from leti.generator.importers import import_model
from leti.generator.precision import PRECISIONS

FORMATS = ("tflite", "onnx", "pt2")
STARTS = {"tflite": (4, b"TFL3"), "onnx": (0, b"\x08"), "pt2": (0, b"PK\x03\x04")}
BOX = Device("box", "desktop", "soc", 2)
DATABASES = ("sqlite", "postgresql")
NEEDED = {"tflite": "ai_edge_litert", "onnx": "onnx", "pt2": "torch"}


def network(house, **fields):
    (found,) = house.post("/networks", NetworksRequest((house.architecture,), **fields)).json()
    return found["fingerprint"]


def kept(house):
    return {tuple(row) for row in house.rows("SELECT fingerprint, format, sha256 FROM model_files")}


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_file_of_each_format_is_written_once_and_holds_the_network(house, model_format):
    pytest.importorskip(NEEDED[model_format], reason="reads the format")
    fingerprint = network(house)
    path = f"/networks/{fingerprint}/model"
    answer = house.get(path, format=model_format)
    assert answer.status_code == 200, answer.text
    offset, start = STARTS[model_format]
    assert answer.content[offset:].startswith(start)
    sha256 = answer.headers["leti-model-sha256"]
    assert hashlib.sha256(answer.content).hexdigest() == sha256
    assert kept(house) == {(fingerprint, model_format, sha256)}
    file = house.settings.models / f"{sha256}.{model_format}"
    assert file.read_bytes() == answer.content
    written = file.stat().st_mtime_ns
    assert house.get(path, format=model_format).content == answer.content
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"damaged")
    assert house.get(path, format=model_format).content == answer.content  # the same bytes, written again
    model = file.with_name(f"model.{model_format}")
    model.write_bytes(answer.content)
    assert import_model(model).graph.fingerprint() == fingerprint


def test_files_of_one_network_stand_beside_each_other(house):
    pytest.importorskip("onnx", reason="needs the extra import-onnx")
    fingerprint = network(house)
    found = {house.get(f"/networks/{fingerprint}/model", format=name).headers["leti-model-sha256"] for name in FORMATS}
    assert len(found) == 3
    assert {name for _, name, _ in kept(house)} == set(FORMATS)
    plain = house.get(f"/networks/{fingerprint}/model").headers["leti-model-sha256"]
    assert (fingerprint, "tflite", plain) in kept(house)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize("model_format", FORMATS[1:])
def test_a_format_that_does_not_hold_a_precision_says_which_does(house, problem_of, precision, model_format):
    fingerprint = network(house, precision=precision)
    said = problem_of(house.get(f"/networks/{fingerprint}/model", format=model_format), 422, "invalid-input")
    assert said["field"] == "format"
    assert said["remedy"] == f"{precision} is written as tflite"
    assert said["details"] == {"precision": precision, "format": model_format}
    assert kept(house) == set()
    assert house.get(f"/networks/{fingerprint}/model").content[4:8] == b"TFL3"


def test_a_format_that_is_none_is_refused(house, problem_of):
    fingerprint = network(house)
    for bad in ("pb", "", "TFLITE", "../tflite"):
        said = problem_of(house.get(f"/networks/{fingerprint}/model", format=bad), 422, "invalid-input")
        assert said["field"] == "format"
    problem_of(house.get(f"/networks/{'0' * 64}/model", format="onnx"), 404, "not-found")


def test_a_writer_that_is_not_installed_is_named(house, problem_of, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("leti.generator.export.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    fingerprint = network(house)
    said = problem_of(house.get(f"/networks/{fingerprint}/model", format="onnx"), 501, "missing-extra")
    assert said["details"]["extra"] == "import-onnx"
    platform = Platform(BOX, "onnxruntime", "1.22")
    house.post("/platforms", platform)
    request = CampaignRequest("first", platform.id, networks=(house.architecture,))
    problem_of(house.post("/campaigns", request), 501, "missing-extra")
    assert house.get("/campaigns").json()["items"] == []


def test_every_runtime_has_a_format_and_plugins_load_tflite():
    assert set(RUNTIME_FORMATS.values()) == set(FORMATS) == set(ModelFormat.__args__)
    assert Platform(BOX, "onnxruntime", "1").model_format == "onnx"
    assert Platform(BOX, "somebodys", "1").model_format == "tflite"


@pytest.mark.parametrize(("runtime", "model_format"), sorted(RUNTIME_FORMATS.items()))
def test_files_of_the_format_that_a_runtime_loads_are_written_when_they_are_asked_for(house_on, runtime, model_format):
    if model_format == "onnx":
        pytest.importorskip("onnx", reason="needs the extra import-onnx")
    house = house_on(Platform(BOX, runtime, "1.0"))
    house.add_campaign(count=2)
    assert kept(house) == set(), "a campaign of thousands would take minutes to be made"
    for job in house.lease().jobs:
        assert house.get(f"/networks/{job.fingerprint}/model", format=model_format).status_code == 200
    assert [name for _, name, _ in sorted(kept(house))] == [model_format] * 2


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_a_campaign_in_a_precision_that_the_runtimes_format_does_not_hold_is_refused(house_on, problem_of, runtime):
    platform = Platform(BOX, runtime, "1.0", model_precision="full_integer")
    house = house_on(platform)
    house.add_platform()
    answer = house.post("/campaigns", CampaignRequest("first", platform.id, (Sample("nasbench201", 3),)))
    said = problem_of(answer, 422, "invalid-input")
    assert said["field"] == "platform_id"
    assert "full_integer is written as tflite" in said["remedy"]
    assert (house.get("/campaigns").json()["items"], kept(house)) == ([], set())


def test_a_network_that_a_format_cannot_hold_is_refused_before_it_is_queued(house_on, problem_of):
    house = house_on(Platform(BOX, "litert", "1.0"))
    house.add_platform()
    spec = house.post("/networks", NetworksRequest((house.architecture,))).json()[0]["spec"]
    large = {**spec, "config": {**spec["config"], "stem_channels": 2000}}
    request = CampaignRequest("first", house.platform_id, networks=(house.architecture, large))
    said = problem_of(house.post("/campaigns", request), 413, "too-large")
    assert said["details"]["format"] == "tflite"
    assert house.get(f"/networks/{said['details']['fingerprint']}").json()["spec"]["config"]["stem_channels"] == 2000
    assert house.get("/campaigns").json()["items"] == []


def test_an_operator_that_a_format_cannot_say_is_told_before_it_is_queued(house_on, problem_of):
    house = house_on(Platform(BOX, "litert", "1.0"))
    house.add_platform()
    image = TensorType((1, 4, 4, 1))
    attributes = (("method", "bicubic"),)
    resize = make_operator("resize", (image,), (TensorType((1, 8, 8, 1)),), attributes)
    graph = {"graph": Graph((image,), (resize,), ((0,),), (1,)).to_json()}
    request = CampaignRequest("first", house.platform_id, networks=(house.architecture, graph))
    said = problem_of(house.post("/campaigns", request), 422, "invalid-graph")
    assert said["field"] == "ops[0].resize"
    answer = house.post(
        "/predictions?wait=measure", PredictionRequest((house.platform_id,), (house.architecture, graph))
    )
    (failure,) = [one for one in answer.json()["failures"] if one["stage"] == "measure"]
    assert (failure["index"], failure["problem"]["field"]) == (1, "ops[0].resize")
    assert answer.json()["platforms"][0]["queued"] == 1


def test_a_campaign_of_the_release_before_is_found_by_the_same_request(house):
    request = CampaignRequest("first", house.platform_id, (Sample("nasbench201", 3),))
    house.add_platform()
    created = house.post("/campaigns", request).json()
    later = ("priority", "profile", "sampling", "compressed", "baseline")
    before = {name: value for name, value in to_json(request).items() if name not in later}
    digest = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    assert house.rows("SELECT digest FROM campaigns") == [(digest,)]
    assert house.post("/campaigns", request).json() == created
