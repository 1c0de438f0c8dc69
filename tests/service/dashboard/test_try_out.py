"""Trying networks: what the page answers is what the API answers, and what is wrong is told where it was typed."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("fastapi", reason="needs the extra service")

from leti.core.queries import PredictionRequest
from leti.core.spec import NetworkConfig
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.service.dashboard.words import latency

EVIL = "<script>alert(1)</script>"
CHOICES = (3, 1, 3, 1, 2, 3)
V = ",".join(map(str, CHOICES))
SPACE = SPACES["nasbench201"]
PART = {"hx-request": "true", "hx-target": "answer"}


def see(house, path="", status=200, headers=None, **params):
    address = f"/dashboard/try{path}"
    answer = house.client.get(address, params=params, headers=headers, follow_redirects=False)
    assert answer.status_code == status, answer.text[:2000]
    return answer


def send(house, path, status, **form):
    answer = house.client.post(f"/dashboard/try{path}", data=form, follow_redirects=False)
    assert answer.status_code == status, answer.text[:2000]
    return answer


def said(answer):
    """Return what the address says that an answer leads to."""
    query = urlsplit(answer.headers["location"]).query
    return {name: values[0] for name, values in parse_qs(query).items()}


def decoded(space, v):
    return SPACES[space].decode(tuple(map(int, v.split(","))), SPACES[space].default_config)


def test_the_answer_is_that_of_the_api(learned):
    text = see(learned, space="nasbench201", v=V).text
    asked = PredictionRequest((learned.platform_id,), (f"nasbench201:{V}",))
    (item,) = learned.post("/predictions", asked).json()["platforms"][0]["items"]
    assert f"<strong>{latency(item['latency_ms'])}</strong>" in text
    assert item["fingerprint"][:12] in text
    assert '<option value="3" selected>nor_conv_3x3</option>' in text
    rows = see(learned, "/breakdown", space="nasbench201", v=V, platform_id=learned.platform_id, format="csv").text
    assert rows.count("\n") > 20
    part = see(learned, space="nasbench201", v=list(map(str, CHOICES)), headers=PART)
    assert part.headers["hx-push-url"] == f"/dashboard/try?space=nasbench201&v={V}"
    assert "<html" not in part.text
    assert f"<strong>{latency(item['latency_ms'])}</strong>" in part.text


def test_choices_are_drawn_and_mutated_into_an_address_that_says_them(house):
    house.add_platform()
    for name in SPACES:
        drawn = said(see(house, status=303, space=name))
        assert (drawn["space"], len(drawn["v"].split(","))) == (name, len(SPACES[name].positions))
        changed = said(see(house, status=303, space=name, v=drawn["v"], change="mutate"))
        before, after = (decoded(name, one["v"]) for one in (drawn, changed))
        assert SPACES[name].isomorphism_class(after) in map(
            SPACES[name].isomorphism_class, SPACES[name].neighbours(before)
        )
    assert said(see(house, status=303, space="nasbench201", v=list(map(str, CHOICES)))) == {
        "space": "nasbench201",
        "v": V,
    }


def test_what_is_wrong_is_told_where_it_was_typed_and_stays_there(house):
    house.add_platform()
    text = see(house, status=422, space="nasbench201", v="0,9,2,3,4,0").text
    assert "<strong>edge 0→2</strong> must be a whole number from 0 to 4" in text
    assert '<option value="4" selected>' in text
    assert "there is no search space" in see(house, status=422, space=EVIL).text
    for given, told in (
        ("", "is empty"),
        (EVIL, "network"),
        ("{", "spec"),
        (json.dumps({"space": "nasbench201"}), "adjacency"),
        ("fbnet:1,2", "has 2 entries"),
        ("0123456789abcdef", "no network has"),
    ):
        text = send(house, "", 422, network=given).text
        assert told in re.search(r'<div class="refused" role="alert">(.*?)</div>', text).group(1)
        assert EVIL not in text
        assert given.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;") in text
    see(house, status=422, space="nasbench201", v="0," * 600)
    see(house, status=422, network="x" * 20_000)


def test_a_spec_of_another_config_keeps_it_while_its_choices_change(house):
    house.add_platform()
    spec = SPACE.decode(CHOICES, NetworkConfig(modules_per_stack=1))
    kept = said(send(house, "", 303, network=json.dumps(spec.to_json())))
    assert kept == {"space": "nasbench201", "v": V, "like": lower(spec).fingerprint()}
    text = see(house, **kept).text
    assert kept["like"][:12] in text
    other = {**kept, "v": "3,1,3,1,2,2"}
    page = send(house, "/keep", 303, **other).headers["location"]
    smaller = lower(SPACE.decode((3, 1, 3, 1, 2, 2), NetworkConfig(modules_per_stack=1)))
    assert page == f"/dashboard/networks/{smaller.fingerprint()}"
    assert said(send(house, "", 303, network=smaller.fingerprint())) == {**other, "like": smaller.fingerprint()}
    assert said(send(house, "", 303, network=f"nasbench201:{V}")) == {"space": "nasbench201", "v": V}


def test_a_network_is_measured_from_the_page(house):
    house.add_platform()
    form = {"space": "nasbench201", "v": V, "platform_id": house.platform_id}
    refused = send(house, "/measure", 422, **form, name=EVIL, repeats="99").text
    assert "must be from 1 to 20" in refused
    assert EVIL not in refused
    assert 'value="99"' in refused
    assert "characters" in send(house, "/measure", 422, **form, name=" ", repeats="2").text
    campaign = send(house, "/measure", 303, **form, name="try it", repeats="2").headers["location"]
    (found,) = house.store.campaigns.page(platform_id=None, cursor=0, limit=9).items
    assert (campaign, found.queued) == (f"/dashboard/campaigns/{found.id}", 2)
    assert send(house, "/measure", 303, **form, name="try it", repeats="2").headers["location"] == campaign
    assert house.measure_all() == 2
    assert "<small>(2 ×)</small>" in see(house, space="nasbench201", v=V).text


def test_a_model_file_is_followed_until_its_network_is_known(house):
    house.add_platform()
    graph = lower(SPACE.decode(CHOICES, NetworkConfig(modules_per_stack=1)))
    for content, format in ((export_model(graph), "tflite"), (b"no model at all" * 20, "onnx")):
        headers = {"content-type": "application/octet-stream"}
        sent = house.client.post("/v1/uploads", params={"format": format}, content=content, headers=headers)
        at = f"/uploads/{sent.json()['id']}"
        waiting = see(house, at).text
        assert 'hx-trigger="every 1s"' in waiting
        assert "No worker runs" in waiting
        house.run_tasks()
        if format == "tflite":
            address = f"/dashboard/try?network={graph.fingerprint()}"
            assert see(house, at, 303).headers["location"] == address
            assert see(house, at, headers={**PART, "hx-target": "reading"}).headers["hx-redirect"] == address
            assert "no predictor is active there" in see(house, network=graph.fingerprint()).text
        else:
            refused = see(house, at, headers={**PART, "hx-target": "reading"}).text
            assert "The file is refused." in refused
            assert "hx-trigger" not in refused
    see(house, "/uploads/99", 404)


def test_without_a_platform_or_a_network_the_page_says_what_is_missing(house):
    assert "No network is chosen yet." in see(house).text
    assert "there is no platform yet" in see(house, status=422, space="nasbench201", v=V).text


def test_only_who_may_ask_may_try(guarded):
    guarded.client.headers.update(guarded.bearer("viewer"))
    see(guarded, status=403)
    send(guarded, "/measure", 403, platform_id="x")
    send(guarded, "/keep", 403, space="nasbench201", v=V)
    guarded.client.headers.update(guarded.bearer("client"))
    assert "data-upload" in see(guarded).text
    send(guarded, "/keep", 303, space="nasbench201", v=V)
