"""What a compression search asks: predictions of patches, slabs of one operator, useful widths and ranks."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `boosting`")

from leti.client import AsyncLatencyClient, LatencyClient, prediction_batches
from leti.core.codec import from_json, to_json
from leti.core.compression import Slab, SlabAxes, SlabOperator, SlabRequest, Widths, WidthsRequest
from leti.core.graph import TensorType
from leti.core.patches import Patch
from leti.core.queries import Encodings, Patches, PredictionColumns, PredictionRequest
from leti.core.searching import FilterRequest, FilterResponse, LatencyLimit
from leti.core.spec import NetworkSpec
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import Patching
from leti.generator.lowering import lower
from leti.predictors.array_files import read_arrays
from leti.service.server import running
from leti.service.serving import LoadedPredictors


@pytest.fixture(scope="module")
def base(learned):
    """The spec of a measured network, as JSON, and its graph."""
    fingerprint = learned.rows("SELECT fingerprint FROM measurements ORDER BY fingerprint LIMIT 1")[0][0]
    spec = learned.store.networks.get(fingerprint).spec
    return spec, lower(NetworkSpec.from_json(spec))


def kinds_of(house):
    return {info.kind: info for info in house.store.predictors.list(house.platform_id)}


def predictor(house, kind):
    return LoadedPredictors.get(house.app.state.parts.searching.slabs._loaded, kinds_of(house)[kind].artifact_sha256)


def some_patches(graph, count, seed=0):
    rng, patching = random.Random(seed), Patching(graph)
    groups = [group for group in patching.channels.groups if group.producers and not group.fixed]
    convs = [i for i, op in enumerate(graph.ops) if op.kind == "conv2d" and op["kernel"] == (3, 3)]
    return tuple(
        Patch(
            {rng.choice(group.members): rng.randint(1, group.channels) for group in rng.sample(groups, 2)},
            {rng.choice(convs): (1, 1)} if i % 2 else {},
        )
        for i in range(count)
    )


def columns_of(house, request):
    answer = house.post("/predictions", request)
    assert answer.status_code == 200, answer.text
    return from_json(PredictionColumns, answer.json())


# --- patches ---------------------------------------------------------------------------------------------------------


def test_patches_are_answered_as_the_networks_that_they_make(learned, base):
    spec, graph = base
    changes = (Patch(), *some_patches(graph, 30))
    asked = PredictionRequest((learned.platform_id,), patches=Patches(spec, changes), form="columns")
    said = columns_of(learned, asked)
    assert not said.failures
    graphs = [Patching(graph).patched(patch).graph for patch in changes]
    assert said.fingerprints["float32"] == tuple(one.fingerprint() for one in graphs)
    (platform,) = said.platforms
    assert platform.measured == (True, *[False] * 30)
    assert platform.count[0] == 1
    found = predictor(learned, platform.predictor).predict(graphs)
    assert platform.latency_ms[1:] == pytest.approx(list(found.latency_ms)[1:])
    assert platform.low_ms[1:] == pytest.approx(list(found.low_ms)[1:])
    for sent in ({"graph": graph.to_json()}, {"fingerprint": graph.fingerprint()}):
        asked = PredictionRequest((learned.platform_id,), patches=Patches(sent, changes), form="columns")
        assert columns_of(learned, asked) == said


def test_what_is_wrong_with_a_patch_is_said_by_its_index(learned, base, problem_of):
    spec, graph = base
    output = len(graph.ops) - 1
    changes = (Patch(widths={output: 3}), some_patches(graph, 1)[0], Patch(ranks={999: (1,)}))
    asked = PredictionRequest((learned.platform_id,), ("nasbench201:0,1,2,3,4,3",), patches=Patches(spec, changes))
    answer = learned.post("/predictions", asked).json()
    assert [(one["index"], one["stage"], one["problem"]["field"]) for one in answer["failures"]] == [
        (1, "read", f"patches.changes[0].widths[{output}]"),
        (3, "read", "patches.changes[2].ranks[999]"),
    ]
    assert [item is None for item in answer["platforms"][0]["items"]] == [False, True, False, True]
    wrong = PredictionRequest((learned.platform_id,), patches=Patches("ab" * 32, changes))
    assert problem_of(learned.post("/predictions", wrong), 404)["field"] == "patches.base"
    body = to_json(PredictionRequest((learned.platform_id,), patches=Patches(spec, changes)))
    body["patches"]["changes"][1]["widths"] = {"one": 2}
    assert problem_of(learned.post("/predictions", body), 422)["field"].startswith("patches.changes[1].widths")


def test_patches_can_be_filtered(learned, base):
    spec, graph = base
    changes = some_patches(graph, 12)
    asked = PredictionRequest((learned.platform_id,), patches=Patches(spec, changes), form="columns", coverage=0.8)
    high_ms = columns_of(learned, asked).platforms[0].high_ms
    limit = LatencyLimit(learned.platform_id, sorted(high_ms)[5] * 1.0001)
    answer = learned.post("/search/filter", FilterRequest((limit,), patches=Patches(spec, changes)))
    found = from_json(FilterResponse, answer.json())
    assert list(found.fits) == [one <= limit.at_most_ms for one in high_ms]


# --- slabs -----------------------------------------------------------------------------------------------------------


def slab_of(house, request, **headers):
    answer = house.post("/slabs", request, **headers)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture(scope="module")
def slab_request(learned):
    operator = SlabOperator("conv2d", (1, 16, 16, 16), kernel=3, followed_by=("relu",))
    axes = SlabAxes(cin=(8, 16), cout=(8, 12, 16), kernel=(1, 3), size=(8, 16), rank=((), (4, 8), (9,)))
    return SlabRequest(learned.platform_id, operator, axes)


def test_a_slab_holds_what_an_operator_adds_to_a_network(learned, slab_request):
    slab = from_json(Slab, slab_of(learned, slab_request).json())
    assert slab.predictor == "lookup_table"  # whichever is active
    assert slab.axes == slab_request.axes
    assert slab.shape == (2, 3, 2, 2, 3)
    dense = np.array(slab.latency_ms, dtype=float).reshape(slab.shape)
    assert np.isnan(dense[:, :, 0, :, 1]).all()  # a window of 1×1 is taken apart into two, not into three
    assert sum(slab.missing.values()) == np.isnan(dense).sum()
    assert np.isnan(dense[0, 0, 0, 0, 2])  # a rank of 9 of 8 channels
    table = predictor(learned, "lookup_table")
    for (i, cin), (j, cout), (k, size) in itertools.product(
        *map(enumerate, (slab.axes.cin, slab.axes.cout, slab.axes.size))
    ):
        builder = GraphBuilder(TensorType((1, size, size, cin)))
        value = builder.relu(builder.conv(0, cout, 3))
        (told,) = table.explain([builder.graph(value)])
        (share,) = [one for one in told.shares if one.operators]
        assert dense[i, j, 1, k, 0] == pytest.approx(share.latency_ms)


def test_a_slab_comes_as_arrays(learned, slab_request):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `arrow`")
    slab = from_json(Slab, slab_of(learned, slab_request).json())
    told = np.array(slab.latency_ms, dtype=float)
    packed = read_arrays(slab_of(learned, slab_request, accept="application/x-npz").content)
    assert np.array_equal(packed.arrays["latency_ms"], told.reshape(slab.shape), equal_nan=True)
    assert packed.arrays["rank"].tolist() == [[0, 0], [4, 8], [9, 0]]
    assert packed.arrays["cout"].tolist() == [8, 12, 16]
    assert packed.about["predictor"] == slab.predictor
    assert packed.about["missing"] == slab.missing
    sheet = pyarrow.ipc.open_stream(
        slab_of(learned, slab_request, accept="application/vnd.apache.arrow.stream").content
    ).read_all()
    assert sheet.column_names == ["cin", "cout", "kernel", "size", "rank", "latency_ms"]
    assert sheet["latency_ms"].to_pylist() == list(slab.latency_ms)
    rows = list(itertools.product(*slab.axes.varied().values()))
    assert sheet["rank"].to_pylist() == [list(row[-1]) for row in rows]


def test_int8_is_an_axis_and_what_was_never_seen_is_counted(learned, slab_request):
    axes = SlabAxes(cout=(8, 16), precision=("float32", "full_integer"))
    request = SlabRequest(learned.platform_id, slab_request.operator, axes)
    slab = from_json(Slab, slab_of(learned, request).json())
    assert None not in slab.latency_ms
    large = SlabAxes(cin=(4, 65_536), cout=(65_536,), size=(65_536,))
    counted = from_json(Slab, slab_of(learned, replace(request, axes=large)).json())
    assert [ms is None for ms in counted.latency_ms] == [False, True]
    assert list(counted.missing.values()) == [1]
    assert sum(slab.extrapolated.values()) >= 2  # the networks of the training are all float32


@pytest.mark.parametrize(
    ("operator", "axes", "field"),
    [
        (SlabOperator("fully_connected", (1, 64)), SlabAxes(kernel=(1, 3)), "axes.kernel"),
        (SlabOperator("fully_connected", (1, 8, 8, 64)), SlabAxes(cout=(1,)), "operator.input_shape"),
        (SlabOperator("conv2d", (1, 8, 8, 4)), SlabAxes(), "axes"),
        (SlabOperator("conv2d", (1, 8, 8, 4)), SlabAxes(cout=(4, 4)), "axes.cout"),
        (SlabOperator("conv2d", (1, 8, 8, 4)), SlabAxes(cout=(4, 0)), "axes.cout[1]"),
        (SlabOperator("conv2d", (1, 8, 8, 4)), SlabAxes(rank=((), (0,))), "axes.rank[1]"),
        (
            SlabOperator("conv2d", (1, 8, 8, 4), attributes={"bias": True}),
            SlabAxes(cout=(4,)),
            "operator.attributes.bias",
        ),
        (
            SlabOperator("conv2d", (1, 8, 8, 4), attributes={"groups": 0}),
            SlabAxes(cout=(4,)),
            "operator.attributes.groups",
        ),
        (
            SlabOperator("conv2d", (1, 8, 8, 4), attributes={"dilations": (1,)}),
            SlabAxes(rank=((), (2, 2))),
            "operator.attributes.dilations",
        ),
        (
            SlabOperator("conv2d", (1, 8, 8, 4), attributes={"dilations": "two"}),
            SlabAxes(cout=(4,)),
            "operator.attributes.dilations",
        ),
        (SlabOperator("conv2d", (1, 8, 8, 4), followed_by=("shout",)), SlabAxes(cout=(4,)), "operator.followed_by[0]"),
        (SlabOperator("conv2d", (1, 8, 8, 4), followed_by=("add",)), SlabAxes(cout=(4,)), "operator.followed_by[0]"),
    ],
)
def test_what_no_slab_can_hold_is_refused(learned, problem_of, operator, axes, field):
    answer = learned.post("/slabs", SlabRequest(learned.platform_id, operator, axes))
    assert problem_of(answer, 422)["field"] == field


def test_a_slab_too_large_and_a_predictor_that_cannot_are_refused(learned, slab_request, problem_of):
    many = tuple(range(1, 200))
    large = SlabRequest(learned.platform_id, slab_request.operator, SlabAxes(cin=many, cout=many))
    assert problem_of(learned.post("/slabs", large), 413)["field"] == "axes"
    for kind in ("xgboost", "linear"):
        asked = SlabRequest(learned.platform_id, slab_request.operator, slab_request.axes, kinds_of(learned)[kind].id)
        said = problem_of(learned.post("/slabs", asked), 422, "not-predictable")
        assert "kernel_sum" in said["remedy"]


# --- widths and ranks ------------------------------------------------------------------------------------------------


def widths_of(house, request):
    answer = house.post("/widths", request)
    assert answer.status_code == 200, answer.text
    return from_json(Widths, answer.json())


@pytest.mark.parametrize("vary", ["width", "rank"])
def test_each_width_and_rank_is_looked_at(learned, base, vary):
    spec, graph = base
    patching = Patching(graph)
    operator, group = next(
        (i, patching.channels.groups[patching._group_of[i]])
        for i, op in enumerate(graph.ops)
        if op.kind == "conv2d" and op["kernel"] == (3, 3) and not patching.channels.groups[patching._group_of[i]].fixed
    )
    found = widths_of(learned, WidthsRequest(learned.platform_id, spec, operator, vary))
    last = group.channels if vary == "width" else min(graph.ops[operator].outputs[0].shape[-1], group.channels) - 1
    assert found.values == tuple(range(1, last + 1))
    cin = graph.ops[operator].inputs[0].shape[-1]
    cout = graph.ops[operator].outputs[0].shape[-1]
    changes = tuple(
        Patch({operator: value}) if vary == "width" else Patch(ranks={operator: (-(-value * cin // cout), value)})
        for value in found.values
    )
    asked = PredictionRequest((learned.platform_id,), patches=Patches(spec, changes), form="columns", coverage=0.8)
    (told,) = columns_of(learned, asked).platforms
    assert (found.latency_ms, found.low_ms, found.high_ms) == (told.latency_ms, told.low_ms, told.high_ms)
    assert found.coverage == pytest.approx(0.8)
    assert found.bound_ms == found.high_ms
    pairs = list(zip(found.values, found.latency_ms, strict=True))
    assert found.useful == tuple(v for v, ms in pairs if all(ms < other for w, other in pairs if w > v))
    limit = sorted(found.bound_ms)[len(pairs) // 2]
    request = WidthsRequest(learned.platform_id, spec, operator, vary, within_ms=limit, at_least=2, step=3)
    some = widths_of(learned, request)
    assert some.values[-1] == last
    assert set(some.values) < set(found.values)
    assert some.largest == max(
        (v for v, ms in zip(some.values, some.bound_ms, strict=True) if ms <= limit), default=None
    )
    hopeless = WidthsRequest(learned.platform_id, spec, operator, vary, within_ms=1e-6)
    none = widths_of(learned, hopeless)
    assert none.largest is None
    assert none.least_bound_ms == min(found.bound_ms)


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"operator": 999}, 422, "operator"),
        ({"operator": -1}, 422, "operator"),
        ({"vary": "rank", "operator": 1}, 422, "operator"),  # a ReLU
        ({"at_least": 0}, 422, "at_least"),
        ({"at_least": 1000}, 422, "at_least"),
        ({"at_most": 1000}, 422, "at_most"),
        ({"step": 0}, 422, "step"),
        ({"within_ms": 0.0}, 422, "within_ms"),
        ({"confidence": 1.0}, 422, "confidence"),
        ({"base": "nasbench201:9"}, 422, "base"),
        ({"platform_id": "nowhere"}, 404, "platform_ids[0]"),
    ],
)
def test_what_is_wrong_with_a_question_for_widths_is_named(learned, base, problem_of, fields, status, field):
    body = {**to_json(WidthsRequest(learned.platform_id, base[0], 0)), **fields}
    assert problem_of(learned.client.post("/v1/widths", json=body), status)["field"].startswith(field)


# --- tables as arrays ------------------------------------------------------------------------------------------------


def test_a_table_of_a_space_comes_as_arrays(learned):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `arrow`")
    path = f"/v1/platforms/{learned.platform_id}/tables/nasbench201"
    params = {"config": json.dumps(to_json(learned.small)), "fixed": "0=3"}
    table = learned.client.get(path, params=params).json()
    answer = learned.client.get(path, params=params, headers={"accept": "application/x-npz"})
    arrays, about = read_arrays(answer.content)
    assert float(arrays["constant_ms"]) == table["constant_ms"]
    for row, place in enumerate(table["places"]):
        told = [None if np.isnan(ms) else ms for ms in arrays["latency_ms"][row, : arrays["counts"][row]]]
        assert (told, arrays["places"][row]) == (place["latency_ms"], place["name"])
        assert arrays["options"][row].tolist() == place["options"]
    assert about["against_predictor"] == table["against_predictor"]
    assert about["fixed"] == {"0": 3}
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    sheet = pyarrow.ipc.open_stream(learned.client.get(path, params=params, headers=headers).content).read_all()
    assert sheet["latency_ms"].to_pylist() == [
        table["constant_ms"],
        *(ms for place in table["places"] for ms in place["latency_ms"]),
    ]
    assert json.loads(sheet.schema.metadata[b"leti"])["against_measured"] == table["against_measured"]
    again = {"accept": "application/x-npz", "if-none-match": answer.headers["etag"]}
    assert learned.client.get(path, params=params, headers=again).status_code == 304


def test_a_look_up_table_comes_as_arrays(learned):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `arrow`")
    path = f"/v1/predictors/{kinds_of(learned)['lookup_table'].id}/table"
    rows = learned.client.get(path).json()
    arrays, about = read_arrays(learned.client.get(path, headers={"accept": "application/x-npz"}).content)
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    sheet = pyarrow.ipc.open_stream(learned.client.get(path, headers=headers).content).read_all()
    for name in rows[0]:
        assert arrays[name].tolist() == sheet[name].to_pylist() == [row[name] for row in rows]
    assert about["predictor"] == "lookup_table"


def test_what_is_no_file_of_arrays_is_refused():
    from leti.core.errors import ArtifactError

    sheet = io.BytesIO()
    np.savez(sheet, about=np.array({"a": 1}, dtype=object), allow_pickle=True)
    for content in (b"", b"PK", b"\x80\x04N.", sheet.getvalue()):
        with pytest.raises(ArtifactError):
            read_arrays(content)


# --- the clients -----------------------------------------------------------------------------------------------------


def test_clients_ask_for_all_of_it(learned, base, slab_request, monkeypatch):
    spec, graph = base
    monkeypatch.setattr(prediction_batches, "BATCH", 4)
    changes = (*some_patches(graph, 5), Patch(ranks={999: (1,)}), *some_patches(graph, 3, seed=1))
    vectors = Encodings("nasbench201", ((3, 1, 2, 4, 3, 1), (3, 3, 3, 3, 3, 3)), learned.small)
    networks = ("nasbench201:0,1,2,3,4,3",)
    request = PredictionRequest((learned.platform_id,), networks, vectors, patches=Patches(spec, changes))
    whole = columns_of(learned, replace(request, form="columns"))
    widths = WidthsRequest(learned.platform_id, spec, 2)
    table = {"config": json.dumps(to_json(learned.small))}

    async def awaited(url):
        async with AsyncLatencyClient(url) as client:
            return await client.slab(slab_request), await client.slab_file(slab_request), await client.widths(widths)

    with running(learned.settings) as url, LatencyClient(url) as client:
        assert client.predict_columns(request) == whole
        told = client.slab(slab_request), client.slab_file(slab_request), client.widths(widths)
        assert told == asyncio.run(awaited(url))
        space = read_arrays(client.latency_table_file(learned.platform_id, "nasbench201", **table))
        kernels = read_arrays(client.kernel_table_file(kinds_of(learned)["lookup_table"].id))
        assert space.about["space"] == "nasbench201"
        assert client.slab_file(slab_request, "arrow") != told[1]
    assert (told[0].shape, told[2].values[-1]) == ((2, 3, 2, 2, 3), 16)
    assert len(kernels.arrays["latency_ms"]) > 10
