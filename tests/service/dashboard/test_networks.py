"""The pages of networks: found, and each with all that is known of it, true to what is stored."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import pytest

pytest.importorskip("fastapi", reason="needs the extra service")

from leti.core.graph import Graph, TensorType
from leti.core.measurement import Conditions, OperatorTime, Recipe
from leti.core.wire import AccuracyRequest
from leti.generator.cost import make_operator
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.generator.spaces.places import described
from leti.service.dashboard.drawing import MAX_BOXES, draw

DATABASES = ("sqlite", "postgresql")
EVIL = "<script>alert(1)</script>"
SHAPE = TensorType((1, 8, 8, 4), "float32")
RELU = make_operator("relu", (SHAPE,), (SHAPE,), ())


def see(house, path, status=200, **params):
    answer = house.client.get(f"/dashboard{path}", params=params, follow_redirects=False)
    assert answer.status_code == status, answer.text[:2000]
    return answer


def table(answer):
    return list(csv.DictReader(io.StringIO(answer.text)))


def first(house):
    return house.rows("SELECT fingerprint FROM measurements ORDER BY id LIMIT 1")[0][0]


@pytest.mark.sqlite
def test_nothing_is_known_yet_and_the_page_says_what_would_bring_it(house):
    assert "No network is known yet." in see(house, "/networks").text
    assert "No network is found." in see(house, "/networks", space="fbnet").text
    assert "no network" in see(house, "/networks/0123456789", 404).text


def test_networks_are_listed_newest_first_by_space_and_by_the_beginning_of_a_fingerprint(measured):
    fingerprint = first(measured)
    listed = see(measured, "/networks", space="nasbench201").text
    assert listed.count('<th scope="row">') == 40 + 1  # the reference network is of the space too
    assert listed.count("1 on 1 platform") == 40
    assert see(measured, "/networks", space="fbnet").text.count('<th scope="row">') == 0
    assert see(measured, "/networks", find=fingerprint[:9].upper()).text.count('<th scope="row">') == 1
    assert see(measured, f"/networks/{fingerprint[:9]}", 303).headers["location"].endswith(fingerprint)
    wrong = see(measured, "/networks", 422, find=f"{EVIL}").text
    assert EVIL not in wrong
    assert "8 to 64 of the digits" in wrong
    assert 'value="&lt;script' in wrong


def test_pages_of_the_list_hold_each_network_once(house):
    house.add_campaign(count=9)
    found, after = [], None
    while page := house.store.networks.newest("", None, after, 4):
        found += page
        after = page[-1].fingerprint
    assert len({one.fingerprint for one in found}) == len(found) == 10
    assert all(a.created_at >= b.created_at for a, b in pairwise(found))


def test_a_network_shows_its_measurements_samples_and_recipe_and_escapes_what_others_named(house):
    house.add_campaign(EVIL, count=1, repeats=2, repeat_share=1.0)
    recipe = Recipe(
        *("0.1.0", "2.3.0", "ab" * 32),
        command=("bench", EVIL),
        before=Conditions(load=0.625),
        facts=(("kernel", EVIL),),
    )
    while (lease := house.lease()) is not None:
        for job in lease.jobs:
            times = (OperatorTime(EVIL, "xnnpack", (12.0, 14.0)),) if job.repeat == 0 else ()
            told = house.report(lease, job, recipe=recipe, noisy=job.repeat == 1, operator_times=times)
            assert told.status == "stored"
    fingerprint = first(house)
    house.store.accuracies.put(fingerprint, "cifar10-valid", AccuracyRequest(0.9312, EVIL))
    text = see(house, f"/networks/{fingerprint}").text
    assert EVIL not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 5  # the campaign twice, command, fact, remark
    assert "93.12 %" in text
    assert "0.625" in text
    assert "state-noisy" in text
    assert f"/v1/networks/{fingerprint}/model?format=tflite" in text
    older = house.rows("SELECT id FROM measurements ORDER BY id LIMIT 1")[0][0]
    profiled = see(house, f"/networks/{fingerprint}", measurement=older).text
    assert '<th scope="row">&lt;script&gt;alert(1)&lt;/script&gt;</th><td>xnnpack</td>' in profiled
    whole = house.store.measurements.get(older)
    rows = table(see(house, f"/networks/{fingerprint}/samples", measurement=older, format="csv"))
    assert [float(row["network, ms"]) for row in rows] == [s for one in whole.passes for s in one.samples_ms]
    reference = house.add_platform()["reference"]
    see(house, f"/networks/{reference}/samples", 404, measurement=older)
    assert "It was never measured." in see(house, f"/networks/{reference}").text


@pytest.mark.sqlite
def test_what_predictors_say_stands_beside_what_was_measured(learned):
    fingerprint = first(learned)
    (row,) = table(see(learned, f"/networks/{fingerprint}/latencies", format="csv"))
    info = learned.store.predictors.active(learned.platform_id)
    (graph,) = learned.store.networks.graphs([fingerprint])
    said = learned.app.state.parts.answerer.predict(learned.platform_id, [graph], coverage=0.9)[1][0]
    truth = learned.store.lookups.find(learned.platform_id, [fingerprint])
    assert float(row["measured, ms"]) == truth.truths[fingerprint].ratio * truth.reference_ms
    assert (float(row["low, ms"]), float(row["high, ms"])) == (said.low_ms, said.high_ms)
    assert row["predictor"] == f"{info.kind} {info.version}"
    sides = learned.store.networks.sides(fingerprint, [info.dataset_id])
    assert row["trained on it"] == ("yes" if sides == {info.dataset_id: "train"} else "no")
    parts = table(see(learned, f"/networks/{fingerprint}/breakdown", platform_id=learned.platform_id, format="csv"))
    assert len(parts) > 20
    assert sum(float(part["share, %"]) for part in parts) == pytest.approx(100)


@pytest.mark.sqlite
def test_files_and_operators_say_the_graph_and_the_spec(measured):
    fingerprint = first(measured)
    (graph,) = measured.store.networks.graphs([fingerprint])
    answer = see(measured, f"/networks/{fingerprint}/graph")
    assert Graph.from_json(answer.json()).fingerprint() == fingerprint
    assert "attachment" in answer.headers["content-disposition"]
    assert see(measured, f"/networks/{fingerprint}/spec").json() == measured.store.networks.get(fingerprint).spec
    rows = table(see(measured, f"/networks/{fingerprint}/operators", format="csv"))
    assert [int(row["MACs"]) for row in rows] == [op.macs for op in graph.ops]
    drawn = see(measured, f"/networks/{fingerprint}/drawing", grain="kernels").json()
    inside = [box for box in drawn["boxes"] if box["operators"]]
    assert sorted(tuple(box["operators"]) for box in inside) == sorted(graph.kernels)
    see(measured, f"/networks/{fingerprint}/drawing", 422, grain="atoms")


@pytest.mark.sqlite
def test_who_may_only_read_sees_measurements_and_asks_no_predictor(guarded):
    guarded.client.headers.update(guarded.bearer("admin"))
    guarded.add_campaign(count=1)
    guarded.measure_all()
    fingerprint = first(guarded)
    guarded.client.headers.update(guarded.bearer("viewer"))
    text = see(guarded, f"/networks/{fingerprint}").text
    assert "for the roles client and admin" in text
    assert "/dashboard/try" not in text
    see(guarded, f"/networks/{fingerprint}/latencies", 403)
    see(guarded, f"/networks/{fingerprint}/operators")
    guarded.client.headers.update(guarded.bearer("agent"))
    see(guarded, "/networks", 403)


@pytest.mark.sqlite
def test_equal_modules_in_a_row_share_a_box_and_what_is_too_large_is_drawn_more_coarsely():
    space = SPACES["nasbench201"]
    graph = lower(space.decode((3, 1, 3, 1, 1, 3), space.default_config))
    drawn = draw(graph, "modules")
    assert [box.times for box in drawn.boxes if box.times > 1] == [5, 5, 5]
    assert sorted(i for box in drawn.boxes for i in box.operators) == list(range(len(graph.ops)))
    joined = {node for edge in drawn.edges for node in edge}
    assert joined == set(range(len(drawn.boxes)))
    count = MAX_BOXES + 1
    chain = Graph((SHAPE,), (RELU,) * count, tuple((i,) for i in range(count)), (count,))
    coarse = draw(chain)
    assert (coarse.grain, coarse.grains) == ("modules", ("modules",))
    assert [box.times for box in coarse.boxes] == [1, count, 1]
    wide = Graph((SHAPE,), (RELU,) * count, ((0,),) * count, tuple(range(1, count + 1)))
    assert len(draw(wide).boxes) == 1 + 1 + count


@pytest.mark.sqlite
@pytest.mark.parametrize("name", SPACES)
def test_every_space_describes_every_position(name):
    places = described(SPACES[name])
    assert tuple(len(place.options) for place in places) == SPACES[name].positions
    assert len({place.name for place in places}) == len(places)
