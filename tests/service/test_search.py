"""Searches under constraints: which networks keep limits on several platforms, and what latencies are made of."""

from __future__ import annotations

import ast
import dataclasses
import json
import random
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="needs the extra `boosting`")

from leti.core.codec import from_json
from leti.core.compression import SlabRequest, WidthsRequest
from leti.core.device import Device, Platform
from leti.core.measurement import OperatorTime
from leti.core.queries import Encodings, PredictionRequest, PredictionResponse
from leti.core.searching import BreakdownRequest, BreakdownResponse, FilterRequest, FilterResponse, LatencyLimit
from leti.predictors.profiles.runtime_names import kernels_of, litert_kernels
from leti.service.server import running
from leti.service.serving import LoadedPredictors

OTHER = Platform(Device("phone", "android", "soc", 8), "litert", "2.3.0", "xnnpack")


@pytest.fixture(scope="module")
def learned(learned_apart):
    return learned_apart


@pytest.fixture(scope="module")
def other(learned):
    """A second platform of the same service, with a predictor of another kind."""
    made = type(learned)(learned.settings, OTHER)
    made.add_campaign("other", count=60, seed=1)
    made.measure_all()
    made.train("flops")
    yield made
    made.close()


def vectors(count, seed=5):
    rng = random.Random(seed)
    return tuple(tuple(rng.randrange(1, 5) for _ in range(6)) for _ in range(count))


def encoded(house, count, seed=5):
    return Encodings("nasbench201", vectors(count, seed), house.small)


def predicted(house, platform_id, **fields):
    answer = house.post("/predictions", PredictionRequest((platform_id,), **fields))
    assert answer.status_code == 200, answer.text
    return from_json(PredictionResponse, answer.json()).only()


def filtered(house, *limits, **fields):
    answer = house.post("/search/filter", FilterRequest(limits, **fields))
    assert answer.status_code == 200, answer.text
    return from_json(FilterResponse, answer.json())


# --- limits ----------------------------------------------------------------------------------------------------------


def test_networks_fit_that_keep_every_limit(learned, other):
    networks = encoded(learned, 80)
    items = [predicted(learned, one.platform_id, encodings=networks, coverage=0.8) for one in (learned, other)]
    limits = [sorted(item.high_ms for item in of_one)[50] for of_one in items]
    asked = [LatencyLimit(one.platform_id, most) for one, most in zip((learned, other), limits, strict=True)]
    found = filtered(learned, *asked, encodings=networks)
    for answer, of_one, most in zip(found.limits, items, limits, strict=True):
        assert answer.bound_ms == tuple(item.high_ms for item in of_one)  # one-sided at 0.9: two-sided at 0.8
        assert answer.latency_ms == tuple(item.latency_ms for item in of_one)
        assert answer.margin_ms == pytest.approx([most - item.high_ms for item in of_one])
        assert (answer.predictor, answer.version) == (of_one[0].predictor, of_one[0].version)
    room = [
        min(1 - item.high_ms / most for item, most in zip(of, limits, strict=True)) for of in zip(*items, strict=True)
    ]
    assert found.fits == tuple(left >= 0 for left in room)
    assert 0 < sum(found.fits) < 80
    assert found.fitting == tuple(sorted((i for i in range(80) if room[i] >= 0), key=lambda i: -room[i]))
    assert found.failures == ()


@pytest.mark.parametrize(
    ("confidence", "coverage", "end"),
    [(0.75, 0.5, "high_ms"), (0.5, 0.5, "latency_ms"), (0.25, 0.5, "low_ms"), (0.05, 0.9, "low_ms")],
)
def test_a_bound_is_one_sided(learned, confidence, coverage, end):
    networks = encoded(learned, 3)
    items = predicted(learned, learned.platform_id, encodings=networks, coverage=coverage)
    found = filtered(learned, LatencyLimit(learned.platform_id, 1.0, confidence), encodings=networks)
    assert found.limits[0].bound_ms == tuple(getattr(item, end) for item in items)


def test_a_filter_says_what_the_predictor_did_not_know(learned):
    networks = {"networks": ("fbnet:" + ",".join("0" * 22),), "encodings": encoded(learned, 3)}
    items = predicted(learned, learned.platform_id, **networks)
    found = filtered(learned, LatencyLimit(learned.platform_id, 1e6), **networks)
    assert found.fits == (True,) * 4
    assert found.limits[0].unknown == {str(i): item.unknown for i, item in enumerate(items) if item.unknown}
    assert "0" in found.limits[0].unknown
    assert len(found.limits[0].unknown) < 4


def test_the_holdout_says_how_often_a_bound_holds(learned):
    found = filtered(learned, LatencyLimit(learned.platform_id, 1.0, 0.7), encodings=encoded(learned, 3))
    (limit,) = found.limits
    factor = limit.bound_ms[0] / limit.latency_ms[0]
    active = learned.store.predictors.active(learned.platform_id)
    points = learned.store.predictors.holdout(active.id)
    held = sum(point.measured_ms / point.latency_ms <= factor for point in points)
    assert 0 < held < len(points) == limit.holdout
    assert limit.holdout_share == pytest.approx(held / len(points))


def test_a_measured_network_is_bound_by_its_measurements(house):
    house.add_campaign(count=0, networks=(house.architecture,), repeats=3, repeat_share=1.0)
    for ratio in (0.5, 0.52, 0.6):
        lease = house.lease()
        house.report(lease, lease.jobs[0], ratio=ratio)
    for confidence, bound in ((0.9, 0.6), (0.5, 0.52), (0.1, 0.44)):
        found = filtered(house, LatencyLimit(house.platform_id, 0.7, confidence), networks=(house.architecture,))
        (limit,) = found.limits
        assert limit.bound_ms == pytest.approx([bound * 1.25])  # the reference takes 1.25 ms
        assert limit.measured == (True,)
        assert (limit.predictor, limit.holdout_share) == ("", None)
        assert found.fits == (bound * 1.25 <= 0.7,)


def test_each_platform_predicts_all_networks_in_one_call(learned, other, monkeypatch):
    calls = []
    get = LoadedPredictors.get

    def counted(self, sha256):
        predictor = get(self, sha256)
        predict = predictor.predict
        monkeypatch.setattr(
            predictor,
            "predict",
            lambda graphs, **how: calls.append(len(graphs)) or predict(graphs, **how),
            raising=False,
        )
        return predictor

    monkeypatch.setattr(LoadedPredictors, "get", counted)
    limits = [LatencyLimit(one.platform_id, 1.0, confidence) for one, confidence in ((learned, 0.9), (other, 0.8))]
    networks = encoded(learned, 200, seed=8)
    found = filtered(learned, *limits, encodings=networks)
    assert len(found.fits) == 200
    assert len(calls) == 2
    assert all(100 < count <= 200 for count in calls)  # equal networks once


def test_a_network_that_cannot_be_read_fails_alone(learned):
    networks = (learned.architecture, "no network", "ab" * 32, learned.architecture)
    found = filtered(learned, LatencyLimit(learned.platform_id, 1e6), networks=networks)
    assert found.fits == (True, False, False, True)
    assert found.fitting == (0, 3)
    assert found.limits[0].bound_ms[1:3] == (None, None)
    assert [(failure.index, failure.stage) for failure in found.failures] == [(1, "read"), (2, "read")]
    assert found.failures[0].problem.field == "networks[1]"


def test_a_platform_without_predictor_fits_nothing(learned):
    bare = Platform(Device("bare", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")
    assert learned.post("/platforms", bare).status_code == 200
    limits = (LatencyLimit(learned.platform_id, 1e6, 0.9), LatencyLimit(bare.id, 1e6, 0.8))
    found = filtered(learned, *limits, networks=(learned.architecture,))
    assert found.fits == (False,)
    (failure,) = found.failures
    assert (failure.platform_id, failure.stage) == (bare.id, "predict")
    assert "train" in failure.problem.remedy


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"limits": ()}, 422, "limits"),
        ({"networks": ()}, 422, "networks"),
        ({"at_most_ms": 0.0}, 422, "limits[0].at_most_ms"),
        ({"confidence": 1.0}, 422, "limits[0].confidence"),
        ({"confidence": 0.9999}, 422, "limits[0].confidence"),  # more than the networks of the training can promise
        ({"platform_id": "nowhere"}, 404, "limits[0].platform_id"),
        ({"twice": True}, 422, "limits[1].platform_id"),
    ],
)
def test_what_is_wrong_is_named(learned, problem_of, change, status, field):
    given = {name: change[name] for name in ("at_most_ms", "confidence", "platform_id") if name in change}
    limit = dataclasses.replace(LatencyLimit(learned.platform_id, 1.0), **given)
    limits = change.get("limits", (limit, limit) if "twice" in change else (limit,))
    # not the measured one among them: what is measured needs no predictor
    request = FilterRequest(limits, change.get("networks", ("nasbench201:1,1,1,1,1,2",)))
    said = problem_of(learned.post("/search/filter", request), status)
    assert said["field"] == field
    assert said["remedy"] or "must be" in said["detail"]


# --- breakdowns ------------------------------------------------------------------------------------------------------


def broken_down(house, **fields):
    answer = house.post("/breakdowns", BreakdownRequest(house.platform_id, **fields))
    assert answer.status_code == 200, answer.text
    return from_json(BreakdownResponse, answer.json())


def kinds_of(house):
    return {info.kind: info for info in house.store.predictors.list(house.platform_id)}


def test_shares_of_kernels_add_up(learned):
    networks = encoded(learned, 5)
    found = broken_down(learned, encodings=networks)
    active = learned.store.predictors.active(learned.platform_id)
    assert (found.predictor, found.grain) == ("lookup_table", "operators")
    assert found.active == (active.kind == "lookup_table")
    served = predicted(learned, learned.platform_id, encodings=networks)
    for item, answer in zip(found.items, served, strict=True):
        assert item.latency_ms == pytest.approx(sum(share.latency_ms for share in item.shares))
        assert (item.fingerprint, item.served_ms, item.source) == (answer.fingerprint, answer.latency_ms, "predicted")
        covered = sorted(number for share in item.shares for number in share.operators)
        assert covered == list(range(len(covered)))  # every operator stands in one kernel
        assert item.shares[0].described.startswith("conv2d 3×3")
        assert item.shares[0].described.endswith("1×32×32×3 → 1×32×32×16")
        assert [share.described for share in item.shares if not share.operators] == [""] * sum(
            not share.operators for share in item.shares
        )


def test_a_predictor_that_is_named_is_asked(learned):
    linear = kinds_of(learned)["linear"]
    found = broken_down(learned, networks=(learned.architecture,), predictor_id=linear.id)
    assert (found.predictor_id, found.predictor, found.grain) == (linear.id, "linear", "features")
    (item,) = found.items
    assert item.latency_ms == pytest.approx(sum(share.latency_ms for share in item.shares))
    (named,) = predicted(learned, learned.platform_id, networks=(learned.architecture,), predictor_id=linear.id)
    assert item.latency_ms == pytest.approx(named.latency_ms)


def test_a_predictor_that_cannot_tell_says_which_can(learned, other, problem_of):
    flops = kinds_of(other)["flops"]
    asked = BreakdownRequest(other.platform_id, (learned.architecture,), predictor_id=flops.id)
    said = problem_of(learned.post("/breakdowns", asked), 422, "not-predictable")
    assert "lookup_table" in said["remedy"]
    wrong = BreakdownRequest(learned.platform_id, (learned.architecture,), predictor_id=flops.id)
    assert problem_of(learned.post("/breakdowns", wrong), 422)["field"] == "predictor_id"


def test_breakdowns_fail_one_by_one_and_not_by_the_hundred(learned, problem_of):
    found = broken_down(learned, networks=("no network", learned.architecture))
    assert [item.index for item in found.items] == [1]
    assert [(failure.index, failure.stage) for failure in found.failures] == [(0, "read")]
    assert problem_of(learned.post("/breakdowns", BreakdownRequest(learned.platform_id, ("no network",))), 422)
    many = BreakdownRequest(learned.platform_id, encodings=encoded(learned, 101))
    assert problem_of(learned.post("/breakdowns", many), 413)["remedy"] == "at most 100 in one request"


def test_without_a_predictor_nothing_can_be_told(house, problem_of):
    house.add_platform()
    said = problem_of(house.post("/breakdowns", BreakdownRequest(house.platform_id, (house.architecture,))), 404)
    assert "train" in said["remedy"]


def test_what_the_runtime_measured_of_kernels_stands_beside(house):
    house.add_campaign(count=40, profile=True)
    graphs = {}
    while (lease := house.lease(64)) is not None:
        for job in lease.jobs:
            (graph,) = house.store.networks.graphs([job.fingerprint])
            graphs[job.fingerprint] = graph
            times = tuple(
                OperatorTime(f"{name} (NHWC, F32)", "xnnpack", (1 + sum(graph.ops[i].macs for i in kernel) / 1e4,) * 5)
                for kernel, names in zip(kernels_of(graph), litert_kernels(graph), strict=True)
                for name in names
            )
            house.report(lease, job, operator_times=times)
    house.train("lookup_table")
    fingerprint, graph = next(iter(graphs.items()))
    found = broken_down(house, networks=(fingerprint,))
    (item,) = found.items
    assert (item.source, found.active) == ("measured", True)
    assert item.served_ms == pytest.approx(house.ratio(fingerprint) * 1.25)
    convolutions = [share for share in item.shares if "conv2d" in share.name]
    assert convolutions
    for share in convolutions:
        macs = sum(graph.ops[i].macs for i in share.operators)
        assert share.measured_ms == pytest.approx((1 + macs / 1e4) / 1e3)


# --- the page --------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_work(learned, other, capsys):
    names = {"PLATFORM": learned.platform_id, "OTHER": other.platform_id}

    def filled(text):
        return re.sub("PLATFORM|OTHER", lambda name: names[name[0]], text)

    blocks = re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)
    paths = {
        "FilterRequest": (FilterRequest, "/search/filter"),
        "BreakdownRequest": (BreakdownRequest, "/breakdowns"),
        "PredictionRequest": (PredictionRequest, "/predictions"),
        "SlabRequest": (SlabRequest, "/slabs"),
        "WidthsRequest": (WidthsRequest, "/widths"),
    }
    assert [name for name, _ in blocks] == list(paths)
    for name, body in blocks:
        cls, path = paths[name]
        answer = learned.post(path, from_json(cls, json.loads(filled(body))))
        assert answer.status_code == 200, answer.text
        assert not answer.json().get("failures"), name
        assert not answer.json().get("missing"), name
    addresses = re.findall(r"'http://127.0.0.1:8000(/v1/\S+)'", filled(PAGE))
    assert len(addresses) == 4
    for address in addresses:
        path, _, query = address.partition("?")
        path = re.sub(r"/predictors/\d+", f"/predictors/{kinds_of(learned)['lookup_table'].id}", path)
        params = dict(part.split("=", 1) for part in query.split("&") if part)
        assert learned.client.get(path, params=params).status_code == 200, address
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with running(learned.settings) as url:
        for program in programs:
            if "leti.compression" not in program or find_spec("optuna"):
                exec(compile(filled(program).replace("http://127.0.0.1:8000", url), "search.md", "exec"), {})
    summed, *_, fitting = capsys.readouterr().out.splitlines()
    assert float(summed) > 0
    assert set(ast.literal_eval(fitting)) <= {(3, 1, 2, 4, 3, 1), (3, 3, 3, 3, 3, 3)}
