"""Precisions: a platform's networks and its reference are stored, measured and predicted in the platform's own."""

from __future__ import annotations

import dataclasses

import pytest

from leti.core.codec import from_json, to_json
from leti.core.device import Device, Platform
from leti.core.farm import CampaignRequest, Sample
from leti.core.queries import PredictionRequest, PredictionResponse
from leti.core.wire import NetworksRequest
from leti.generator.importers import import_model
from leti.generator.importers.embedded import read_network
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, quantize
from leti.generator.reference import reference_spec
from leti.generator.spaces import get_space, parse_network
from leti.service.catalogue import read_batch

INT8 = Platform(Device("box", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack", model_precision="full_integer")
ARCHITECTURE = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|"
SMALL = dataclasses.replace(reference_spec().config, stacks=1, modules_per_stack=1)
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture
def int8(house_on):
    return house_on(INT8)


def graph_of(architecture, precision):
    return quantize(lower(parse_network(architecture, where="networks[0]")), precision)


def predicted(house, networks, platform_id=None, **fields):
    request = PredictionRequest((platform_id or house.platform_id,), tuple(networks), **fields)
    answer = house.post("/predictions", request)
    assert answer.status_code == 200, answer.text
    return from_json(PredictionResponse, answer.json()).platforms[0].items


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_platform_has_a_reference_of_its_own_precision(house, precision):
    platform = dataclasses.replace(INT8, model_precision=precision)
    found = house.post("/platforms", platform).json()
    assert found["platform"]["model_precision"] == precision
    graph = quantize(lower(reference_spec()), precision)
    reference = house.get(f"/networks/{found['reference']}").json()
    assert (found["reference"], reference["precision"]) == (graph.fingerprint(), precision)
    assert house.store.networks.graphs([found["reference"]]) == [graph]
    content = house.get(f"/networks/{found['reference']}/model").content
    assert import_model(content).graph == graph
    assert read_network(content) == (reference_spec(), "execute")


def test_a_network_is_another_one_in_each_precision(house):
    found = {}
    for precision in PRECISIONS:
        answer = house.post("/networks", NetworksRequest((ARCHITECTURE, NOTHING), precision=precision))
        assert answer.status_code == 200, answer.text
        for architecture, network in zip((ARCHITECTURE, NOTHING), answer.json(), strict=True):
            graph = graph_of(architecture, precision)
            assert network["fingerprint"] == graph.fingerprint()
            assert network["peak_memory_bytes"] == graph.peak_memory_bytes
            assert house.get(f"/networks/{network['fingerprint']}").json() == network
            found.setdefault(architecture, []).append(network)
    for networks in found.values():
        assert [network["precision"] for network in networks] == list(PRECISIONS)
        for said in ("isomorphism_class", "degenerate", "spec", "macs"):  # the spec's, whatever the precision
            assert all(network[said] == networks[0][said] for network in networks)
    assert len({network["fingerprint"] for networks in found.values() for network in networks}) == 2 * len(PRECISIONS)
    assert found[NOTHING][3]["degenerate"]
    one = found[ARCHITECTURE]
    assert one[3]["peak_memory_bytes"] < one[0]["peak_memory_bytes"]


def test_a_precision_that_changes_nothing_leaves_the_network_what_it_was(house):
    narrow = [s.to_json() for s in get_space("nasbench201").sample(1, 0, dataclasses.replace(SMALL, stem_channels=2))]
    (plain,) = house.post("/networks", NetworksRequest(tuple(narrow))).json()
    (dynamic,) = house.post("/networks", NetworksRequest(tuple(narrow), precision="dynamic_range")).json()
    assert plain == dynamic  # no filter is large enough to become int8
    assert plain["precision"] == "float32"


def test_a_precision_that_is_none_is_refused(house, problem_of):
    body = {"networks": [ARCHITECTURE], "precision": "int8"}
    assert problem_of(house.post("/networks", body), 422, "invalid-input")["field"] == "precision"
    platform = {**to_json(INT8), "model_precision": "int8"}
    assert problem_of(house.post("/platforms", platform), 422, "invalid-input")["field"] == "model_precision"


def test_a_campaign_measures_networks_in_the_precision_of_its_platform(int8):
    campaign = int8.add_campaign(count=4, networks=(ARCHITECTURE,))
    lease = int8.lease()
    specs = get_space("nasbench201").sample(4, 0, int8.small)
    expected = {quantize(lower(spec), "full_integer").fingerprint() for spec in specs}
    expected.add(graph_of(ARCHITECTURE, "full_integer").fingerprint())
    assert {job.fingerprint for job in lease.jobs} == expected
    assert lease.reference == quantize(lower(reference_spec()), "full_integer").fingerprint()
    assert campaign["networks"] == 5


def test_what_is_measured_in_one_precision_is_not_an_answer_in_another(int8):
    int8.add_campaign(count=0, networks=(ARCHITECTURE,))
    int8.measure_all()
    (item,) = predicted(int8, [ARCHITECTURE])
    assert (item.source, item.fingerprint) == ("measured", graph_of(ARCHITECTURE, "full_integer").fingerprint())
    plain = dataclasses.replace(INT8, model_precision="float32")
    int8.post("/platforms", plain)
    answer = int8.post("/predictions", PredictionRequest((plain.id,), (ARCHITECTURE,)))
    (failure,) = from_json(PredictionResponse, answer.json()).failures
    assert (failure.index, failure.problem.title) == (0, "Not found")


def test_predictors_are_trained_and_asked_in_the_precision_of_their_platform(int8):
    pytest.importorskip("sklearn", reason="needs the extra boosting")
    pytest.importorskip("xgboost", reason="needs the extra boosting")
    house, precision = int8, INT8.model_precision
    house.add_campaign(count=40)
    house.measure_all()
    report = house.train()
    trained_on = [row[0] for row in house.rows("SELECT fingerprint FROM dataset_items")]
    assert {house.get(f"/networks/{name}").json()["precision"] for name in trained_on} == {precision}
    groups = {row[0] for row in house.rows('SELECT "group" FROM dataset_items')}
    plain = get_space("nasbench201").sample(40, 0, get_space("nasbench201").default_config)
    assert groups == {f"nasbench201:{get_space('nasbench201').isomorphism_class(spec)}" for spec in plain}
    assert len(trained_on) == 40

    new = [spec.to_json() for spec in get_space("nasbench201").sample(10, 99, plain[0].config)]
    for info in report.predictors:
        items = predicted(house, new, predictor_id=info.id)
        asked = [item for item in items if item.source == "predicted"]
        assert asked
        for item in asked:
            assert item.low_ms <= item.latency_ms <= item.high_ms
            assert not [said for said in item.unknown if "dtype" in said or "quantize" in said], item.unknown
    names = [quantize(lower(parse_network(value, where="networks[0]")), precision).fingerprint() for value in new]
    assert [item.fingerprint for item in predicted(house, new)] == names


def test_the_same_request_in_another_precision_is_another_campaign(int8):
    plain = dataclasses.replace(INT8, model_precision="float32")
    int8.add_campaign(count=3)
    int8.post("/platforms", plain)
    answer = int8.post("/campaigns", CampaignRequest("first", plain.id, (Sample("nasbench201", 3),), repeats=1))
    assert answer.status_code == 201
    precisions = int8.rows(
        "SELECT jobs.platform_id, networks.precision FROM jobs"
        " JOIN networks ON networks.fingerprint = jobs.fingerprint GROUP BY 1, 2"
    )
    assert {tuple(row) for row in precisions} == {(INT8.id, "full_integer"), (plain.id, "float32")}


def test_lowering_is_remembered_by_precision():
    architectures = ["nasbench201:3,1,2,4,3,0"]

    def read(precision):
        return read_batch(architectures, "execute", precision, limit=1)[0]

    assert read("full_integer") is read("full_integer")
    assert read("full_integer").fingerprint != read("float32").fingerprint
