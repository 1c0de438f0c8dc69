"""Predictions as a search asks for them: every form of network, of answer and of failure."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

pytest.importorskip("sklearn", reason="needs the extra boosting")
pytest.importorskip("xgboost", reason="needs the extra boosting")

from leti.core.codec import from_json, to_json
from leti.core.device import Device, Platform
from leti.core.queries import Encodings, PredictionColumns, PredictionRequest, PredictionResponse
from leti.core.spec import NetworkConfig
from leti.core.wire import NetworksRequest
from leti.generator.lowering import lower
from leti.generator.precision import quantize
from leti.generator.spaces import get_space
from leti.service.settings import Settings

SPACE = get_space("nasbench201")
PLATFORM = Platform(Device("box", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")
INT8 = dataclasses.replace(PLATFORM, model_precision="full_integer")
UNTRAINED = dataclasses.replace(PLATFORM, threads=2)
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture(scope="module")
def trained(shared, tmp_path_factory):
    """A house with a trained platform, an int8 one with another predictor, and one that nothing is known of."""
    made = type(shared)(Settings(tmp_path_factory.mktemp("trained"), auth=False))
    for platform, kind in ((INT8, "flops"), (PLATFORM, "xgboost")):
        made.platform, made.platform_id = platform, platform.id
        made.add_campaign(count=40)
        made.measure_all()
        made.train(kind)
    assert made.post("/platforms", UNTRAINED).status_code == 200
    yield made
    made.close()


def ask(house, *networks, accept="application/json", path="/predictions", **fields):
    request = PredictionRequest(fields.pop("platform_ids", (house.platform_id,)), networks, **fields)
    answer = house.post(path, request, accept=accept)
    assert answer.status_code == 200, answer.text
    return answer


def rows(house, *networks, **fields) -> PredictionResponse:
    return from_json(PredictionResponse, ask(house, *networks, **fields).json())


def specs(count, seed=77):
    return SPACE.sample(count, seed, SPACE.default_config)


def code(spec):
    return "nasbench201:" + ",".join(map(str, SPACE.encode(spec)))


def with_op(graph, of, **changes):
    """Return a graph's JSON with something else said of its first operator of a kind."""
    i = next(i for i, op in enumerate(graph["ops"]) if op["kind"] == of)
    ops = [*graph["ops"][:i], {**graph["ops"][i], **changes}, *graph["ops"][i + 1 :]]
    return {**graph, "ops": ops}, f"networks[0].graph.ops[{i}]"


def test_every_form_of_a_network_is_the_same_network(trained):
    spec = specs(1)[0]
    graph = lower(spec)
    assert trained.post("/networks", NetworksRequest((spec.to_json(),))).status_code == 200
    bare = {**graph.to_json(), "kernels": [], "peak_memory_bytes": 7, "encoding": None}
    forms = (
        spec.to_json(),
        code(spec),
        graph.fingerprint(),
        {"fingerprint": graph.fingerprint()},
        {"graph": graph.to_json()},
        {"graph": bare},
    )
    items = rows(trained, *forms, encodings=Encodings("nasbench201", (SPACE.encode(spec),))).only()
    assert len(items) == len(forms) + 1
    assert set(items) == {items[0]}
    assert items[0].fingerprint == graph.fingerprint()
    on_int8 = rows(trained, *forms, platform_ids=(INT8.id,)).only()
    assert set(on_int8) == {on_int8[0]}
    assert on_int8[0].fingerprint == quantize(graph, "full_integer").fingerprint()


def test_a_graph_that_nobody_knows_is_priced_as_its_spec_is(trained):
    spec = specs(1, seed=4)[0]
    small = dataclasses.replace(spec, config=NetworkConfig(stem_channels=24, stacks=2))
    for one in (spec, small):
        graph = lower(one).to_json()
        (alone,) = rows(trained, {"graph": graph}).only()
        assert alone == rows(trained, one.to_json()).only()[0]
    lying = {**lower(small).to_json(), "encoding": {"space": "nasbench201", "choices": [0] * 6}}
    assert rows(trained, {"graph": lying}).only() == (alone,)


@pytest.mark.parametrize("name", ["macs", "params", "traffic_bytes"])
def test_costs_that_a_graph_states_are_never_believed(trained, name):
    graph = lower(specs(1)[0]).to_json()
    for factor in (0, 2):
        cost = next(op for op in graph["ops"] if op["kind"] == "conv2d")[name]
        wrong, place = with_op(graph, "conv2d", **{name: factor * cost})
        (failure,) = rows(trained, {"graph": wrong}).failures
        assert (failure.index, failure.stage, failure.platform_id) == (0, "read", "")
        assert failure.problem.field == f"{place}.{name}"
        assert f"must be {cost}" in failure.problem.detail


def test_graphs_that_cannot_be_are_refused_each_by_its_place(trained):
    graph = lower(specs(1)[0]).to_json()
    conv = next(op for op in graph["ops"] if op["kind"] == "conv2d")
    huge = {"kind": "relu", "attributes": {}, "inputs": [0], "macs": 0, "params": 0, "traffic_bytes": 1}
    image = {"shape": [1, 10**18, 1], "dtype": "float32"}
    cases = [
        ({**graph, "ops": graph["ops"] * 100}, "graph.ops"),
        (with_op(graph, "conv2d", kind="conv9d")[0], "graph.ops[0].kind"),
        (with_op(graph, "conv2d", attributes={**conv["attributes"], "kernel": "3x3"})[0], "graph.ops[0]"),
        (with_op(graph, "conv2d", attributes={**conv["attributes"], "colour": 3})[0], "graph.ops[0]"),
        (with_op(graph, "conv2d", attributes={})[0], "graph.ops[0]"),
        (with_op(graph, "conv2d", inputs=[7])[0], "graph.ops[0].inputs"),
        (with_op(graph, "conv2d", outputs=[{"shape": [1, 0, 1, 1]}])[0], "graph.ops[0].outputs"),
        (
            {"inputs": [image], "ops": [{**huge, "outputs": [image], "traffic_bytes": 1}], "outputs": [1]},
            "graph.ops[0]",
        ),
        ({"inputs": [], "ops": [], "outputs": []}, "graph"),
        ({"ops": 3}, "graph"),
        ([], "graph"),
        (None, "graph"),
    ]
    answer = rows(trained, *({"graph": case} for case, _ in cases))
    assert [failure.index for failure in answer.failures] == list(range(len(cases)))
    for (_, place), failure in zip(cases, answer.failures, strict=True):
        assert failure.stage == "read"
        assert failure.problem.status in (413, 422)
        assert f"networks[{failure.index}].{place}" in failure.problem.field, failure


def test_a_graph_with_an_impossible_shape_is_refused(trained):
    relu = {"kind": "relu", "attributes": {}, "inputs": [0], "macs": 0, "params": 0}
    small, large = ({"shape": [1, 8, 8, n], "dtype": "float32"} for n in (1, 8))
    graph = {"inputs": [small], "ops": [{**relu, "outputs": [large], "traffic_bytes": 2304}], "outputs": [1]}
    (failure,) = rows(trained, {"graph": graph}).failures
    assert failure.problem.field == "networks[0].graph.ops[0]"
    assert "cannot make" in failure.problem.detail


GOOD = (*(code(spec) for spec in specs(3)), specs(4)[3].to_json(), NOTHING)
BAD = ("nonsense", "0" * 64, "nasbench201:9,9,9,9,9,9", {"space": "nowhere"}, {}, {"graph": {}}, {"fingerprint": 3}, "")
VECTORS = (SPACE.encode(specs(1)[0]), (4, 4, 4, 4, 4, 4), (5, 0, 0, 0, 0, 0), (), (1,))


@profile(deadline=None, max_examples=30)
@given(
    networks=st.lists(st.sampled_from(GOOD + BAD), max_size=8),
    vectors=st.lists(st.sampled_from(VECTORS), max_size=4),
    several=st.booleans(),
)
def test_every_network_has_an_answer_or_a_failure_and_all_forms_say_the_same(trained, networks, vectors, several):
    pyarrow = pytest.importorskip("pyarrow")
    if not networks and not vectors:
        return
    ids = (PLATFORM.id, INT8.id, UNTRAINED.id) if several else (PLATFORM.id,)
    fields = {"platform_ids": ids, "encodings": Encodings("nasbench201", tuple(vectors))}
    answer = rows(trained, *networks, **fields)
    columns = from_json(PredictionColumns, ask(trained, *networks, form="columns", **fields).json())
    table = pyarrow.ipc.open_stream(ask(trained, *networks, accept=ARROW, **fields).content).read_all().to_pylist()
    assert answer.failures == columns.failures
    assert [p.platform_id for p in answer.platforms] == [p.platform_id for p in columns.platforms] == list(ids)
    good = [n in GOOD for n in networks] + [v in VECTORS[:2] for v in vectors]
    for platform, column in zip(answer.platforms, columns.platforms, strict=True):
        failed = {f.index for f in answer.failures if f.platform_id in ("", platform.platform_id)}
        assert len(platform.items) == len(good)
        lines = [line for line in table if line["platform_id"] == platform.platform_id]
        names = columns.fingerprints[column.precision]
        for i, item in enumerate(platform.items):
            assert (item is None) == (i in failed)
            assert (i not in failed) == (good[i] and platform.platform_id != UNTRAINED.id)
            assert (names[i] is not None) == good[i]
            line = lines[i]
            assert (line["index"], line["fingerprint"], line["error"] is None) == (i, names[i], item is not None)
            said = (column.latency_ms[i], column.low_ms[i], column.high_ms[i], column.distance[i])
            assert said == tuple(line[name] for name in ("latency_ms", "low_ms", "high_ms", "distance"))
            if item is None:
                assert said == (None,) * 4
                continue
            assert said == (item.latency_ms, item.low_ms, item.high_ms, item.distance)
            assert (item.source == "measured") == column.measured[i] == (line["source"] == "measured")
            assert column.count[i] == item.count == line["count"]
            assert column.unknown.get(str(i), ()) == item.unknown == tuple(line["unknown"])
            assert (i in columns.degenerate) == item.degenerate == line["degenerate"]
            assert (item.coverage, item.predictor, item.version) == (
                line["coverage"],
                line["predictor"],
                line["version"],
            )


def test_parquet_holds_what_rows_say(trained):
    parquet = pytest.importorskip("pyarrow.parquet")
    networks = (*GOOD, BAD[0])
    answer = ask(trained, *networks, accept=f"text/html;q=0.9, {PARQUET}, application/json;q=0.5")
    assert answer.headers["content-type"] == PARQUET
    lines = parquet.read_table(io.BytesIO(answer.content)).to_pylist()
    items = rows(trained, *networks).platforms[0].items
    assert [line["latency_ms"] for line in lines] == [item and item.latency_ms for item in items]
    assert lines[-1]["error"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/*", "application/json"),
        ("application/*;q=0.2, application/vnd.apache.arrow.stream", ARROW),
        ("application/json;q=0, */*", ARROW),
        ("application/json;q=0.1, application/vnd.apache.parquet;q=0.2", PARQUET),
        ("text/html, application/xml", None),
        ("application/json;q=0", None),
        ("application/json;q=much", None),
        (";;,,=", None),
    ],
)
def test_the_form_is_the_one_that_is_accepted(trained, problem_of, accept, expected):
    request = PredictionRequest((trained.platform_id,), (GOOD[0],))
    answer = trained.post("/predictions", request, accept=accept)
    if expected is None:
        assert problem_of(answer, 406, "not-acceptable")["field"] == "accept"
    else:
        assert answer.headers["content-type"] == expected


def test_what_is_wrong_with_the_whole_request_is_a_problem(trained, problem_of):
    here, good = (trained.platform_id,), (GOOD[0],)
    cases = {
        "coverage": PredictionRequest(here, good, coverage=1.5),
        "platform_ids": PredictionRequest((), good),
        "networks": PredictionRequest(here),
        "encodings.space": PredictionRequest(here, encodings=Encodings("nowhere", ((1,),))),
    }
    for field, request in cases.items():
        assert problem_of(trained.post("/predictions", request), 422)["field"].endswith(field.rpartition(".")[2])
    assert problem_of(trained.post("/predictions", PredictionRequest(here * 2, good)), 422)["field"] == "platform_ids"
    unknown = PredictionRequest((*here, "nowhere"), good)
    assert problem_of(trained.post("/predictions", unknown), 404)["field"] == "platform_ids[1]"
    wait = trained.client.post("/v1/predictions?wait=forever", json=to_json(PredictionRequest(here, good)))
    assert problem_of(wait, 422)["field"] == "wait"
    for broken in ({"networks": [3]}, {"encodings": {"space": "nasbench201", "vectors": [["1"]]}}):
        body = {"platform_ids": list(here), **broken}
        assert problem_of(trained.post("/predictions", body), 422)["field"] in (
            "networks[0]",
            "encodings.vectors[0][0]",
        )


def test_what_was_predicted_is_kept_once(trained):
    networks = [spec.to_json() for spec in specs(5, seed=12)]
    items = rows(trained, *networks, networks[0]).only()
    rows(trained, *networks)
    rows(trained, *networks, coverage=0.8)
    trained.store.predictions.flush()
    kept = trained.rows("SELECT fingerprint, coverage, latency_ms, low_ms, high_ms FROM predictions")
    for item in items:
        found = [tuple(row[2:]) for row in kept if (row[0], row[1]) == (item.fingerprint, 0.9)]
        assert found == [(item.latency_ms, item.low_ms, item.high_ms)]
        assert sum(row[0] == item.fingerprint for row in kept) == 2


def test_json_is_written_without_what_is_no_number(trained):
    answer = ask(trained, *GOOD, form="columns")
    json.loads(answer.content, parse_constant=lambda name: pytest.fail(name))
