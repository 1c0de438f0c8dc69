"""Latency tables as one download: of a search space by position, and of a look-up table's kernels."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import random
import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `boosting`")

from leti.core.codec import from_json, to_json
from leti.core.queries import Encodings, PredictionRequest, PredictionResponse
from leti.core.searching import KernelPrice, LatencyTable
from leti.core.spec import NetworkSpec
from leti.generator.spaces import get_space
from leti.generator.spaces.places import places_of
from leti.service.server import running

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def config(learned):
    """The config of the networks that are measured, as a query says it."""
    return json.dumps(to_json(learned.small))


def ask(house, space="nasbench201", headers=None, **params):
    return house.client.get(f"/v1/platforms/{house.platform_id}/tables/{space}", params=params, headers=headers or {})


def table_of(house, space="nasbench201", **params):
    answer = ask(house, space, **params)
    assert answer.status_code == 200, answer.text
    return from_json(LatencyTable, answer.json())


def kinds_of(house):
    return {info.kind: info for info in house.store.predictors.list(house.platform_id)}


def sums_of(table, vectors):
    return [
        table.constant_ms + sum(place.latency_ms[choice] for place, choice in zip(table.places, vector, strict=True))
        for vector in vectors
    ]


def test_a_sum_over_positions_tells_latencies(learned, config):
    table = table_of(learned, config=config)
    active = learned.store.predictors.active(learned.platform_id)
    assert (table.predictor_id, table.predictor, table.version) == (active.id, active.kind, active.version)
    assert table.config == to_json(learned.small)
    space = get_space("nasbench201")
    assert [(place.name, place.options) for place in table.places] == [
        (place.name, place.options) for place in places_of(space)
    ]
    for place in table.places:
        assert min(place.latency_ms) == 0.0
    specs = space.sample(200, 77, learned.small)
    vectors = tuple(map(space.encode, specs))
    request = PredictionRequest((learned.platform_id,), encodings=Encodings("nasbench201", vectors, learned.small))
    items = from_json(PredictionResponse, learned.post("/predictions", request).json()).platforms[0].items
    predicted = [(i, item.latency_ms) for i, item in enumerate(items) if item.source == "predicted"]
    error = [abs(sums_of(table, [vectors[i]])[0] / latency_ms - 1) for i, latency_ms in predicted]
    assert np.median(error) == pytest.approx(table.against_predictor.mdape, rel=0.5)
    assert table.against_predictor.networks >= 150
    assert table.against_predictor.mdape < 0.05
    assert np.mean(np.array(error) <= 0.1) == pytest.approx(table.against_predictor.within_10, abs=0.1)


def test_a_table_is_held_against_what_is_measured(learned, config):
    table = table_of(learned, config=config)
    rows = learned.rows("SELECT fingerprint, ratio FROM measurements WHERE NOT noisy")
    vectors, measured_ms = [], []
    for fingerprint, ratio in rows:
        spec = NetworkSpec.from_json(learned.store.networks.get(fingerprint).spec)
        vectors.append(get_space("nasbench201").encode(spec))
        measured_ms.append(ratio * 1.25)
    error = np.abs(np.array(sums_of(table, vectors)) / np.array(measured_ms) - 1)
    told = table.against_measured
    assert told.networks == len(rows) == 60
    assert told.mdape == pytest.approx(np.median(error))
    assert told.within_5 == pytest.approx(np.mean(error <= 0.05))
    assert told.max_error == pytest.approx(error.max())
    assert table_of(learned).against_measured is None  # the space's own config: nothing of it is measured
    pinned = table_of(learned, config=config, fixed="0=3")
    assert pinned.against_measured.networks == sum(vector[0] == 3 for vector in vectors)
    assert pinned.fixed == {"0": 3}
    assert [entry is None for entry in pinned.places[0].latency_ms] == [True, True, True, False, True]


def test_a_sheet_says_the_same(learned, config):
    table = table_of(learned, config=config)
    answer = ask(learned, headers={"accept": "text/csv"}, config=config)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == ["position", "name", "choice", "option", "latency_ms"]
    assert (rows[0]["position"], rows[0]["name"], float(rows[0]["latency_ms"])) == ("", "constant", table.constant_ms)
    said = [
        (str(position), place.name, str(choice), option, latency_ms)
        for position, place in enumerate(table.places)
        for choice, (option, latency_ms) in enumerate(zip(place.options, place.latency_ms, strict=True))
    ]
    assert [(*list(row.values())[:4], float(row["latency_ms"])) for row in rows[1:]] == said
    assert ask(learned, headers={"accept": "image/png"}, config=config).status_code == 406


def test_what_the_client_has_is_not_sent_again(learned, config):
    first = ask(learned, config=config)
    tag = first.headers["etag"]
    for given in (tag, f'W/{tag}, "other"', "*"):
        again = ask(learned, headers={"if-none-match": given}, config=config)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert first.headers["leti-predictor"] == table_of(learned, config=config).predictor
    assert first.headers["cache-control"] == "private, no-cache"
    others = [
        ask(learned).headers["etag"],
        ask(learned, config=config, fixed="0=3").headers["etag"],
        ask(learned, config=config, zero="fold").headers["etag"],
        ask(learned, headers={"accept": "text/csv"}, config=config).headers["etag"],
    ]
    active = learned.store.predictors.active(learned.platform_id)
    rest = [info for info in learned.store.predictors.list(learned.platform_id) if info.id != active.id]
    learned.store.predictors.promote(rest[0].id, by="a test")
    try:
        others.append(ask(learned, config=config).headers["etag"])
        assert table_of(learned, config=config).predictor == rest[0].kind
    finally:
        learned.store.predictors.promote(active.id, by="a test")
    assert len({tag, *others}) == 6
    assert ask(learned, headers={"if-none-match": others[0]}, config=config).status_code == 200


def test_a_table_of_fbnet_has_its_blocks(learned):
    small = json.dumps({"input_shape": [32, 32, 3], "classes": 10})
    table = table_of(learned, "fbnet", config=small)
    assert [len(place.latency_ms) for place in table.places] == [9] * 22
    assert table.places[1].name == "stage 2, block 1"
    assert table.against_predictor.mdape < 0.05
    vectors = [[random.Random(i).randrange(9) for _ in range(22)] for i in range(3)]
    assert all(total > 0 for total in sums_of(table, vectors))


@pytest.mark.parametrize(
    ("space", "params", "status", "field"),
    [
        ("nasbench101", {}, 422, "space"),
        ("random", {}, 422, "space"),
        ("nowhere", {}, 404, "space"),
        ("nasbench201", {"config": "{"}, 422, "config"),
        ("nasbench201", {"config": '{"stacks": 99}'}, 422, "config.stacks"),
        ("nasbench201", {"config": '{"colour": 3}'}, 422, "config.colour"),
        ("nasbench201", {"fixed": "6=0"}, 422, "fixed"),
        ("nasbench201", {"fixed": "0=5"}, 422, "fixed"),
        ("nasbench201", {"fixed": "0=1,0=2"}, 422, "fixed"),
        ("nasbench201", {"fixed": "zero"}, 422, "fixed"),
        ("nasbench201", {"fixed": "0=1,1=1,2=1,3=1,4=1"}, 422, "fixed"),  # four networks are left
        ("chains", {"config": '{"input_shape": [16, 16, 3]}'}, 422, "fixed"),  # kernels and channels multiply
    ],
)
def test_where_there_is_no_table_the_reason_is_told(learned, problem_of, space, params, status, field):
    said = problem_of(ask(learned, space, **params), status)
    assert said["field"] == field
    assert said["remedy"] or "must be" in said["detail"]


def test_without_a_predictor_there_is_no_table(house, problem_of):
    house.add_platform()
    assert "train" in problem_of(ask(house), 404, "not-found")["remedy"]


# --- kernels ---------------------------------------------------------------------------------------------------------


def test_the_kernels_of_a_look_up_table_can_be_had(learned, problem_of):
    info = kinds_of(learned)["lookup_table"]
    answer = learned.get(f"/predictors/{info.id}/table")
    assert answer.status_code == 200
    prices = from_json(tuple[KernelPrice, ...], answer.json())
    assert [price.latency_ms for price in prices] == sorted((price.latency_ms for price in prices), reverse=True)
    assert {price.source for price in prices} == {"solved"}
    assert "conv2d" in {price.kind for price in prices}
    headers = {"accept": "text/csv"}
    sheet = learned.client.get(f"/v1/predictors/{info.id}/table", headers=headers)
    rows = list(csv.DictReader(io.StringIO(sheet.text)))
    assert [(row["name"], row["shapes"], float(row["latency_ms"])) for row in rows] == [
        (price.name, price.shapes, price.latency_ms) for price in prices
    ]
    headers["if-none-match"] = sheet.headers["etag"]
    assert learned.client.get(f"/v1/predictors/{info.id}/table", headers=headers).status_code == 304
    linear = kinds_of(learned)["linear"]
    assert "lookup_table" in problem_of(learned.get(f"/predictors/{linear.id}/table"), 422)["remedy"]
    problem_of(learned.get("/predictors/999/table"), 404)


# --- a solver --------------------------------------------------------------------------------------------------------


def test_a_solver_finds_a_network_within_a_budget(learned, capsys):
    example = runpy.run_path(str(EXAMPLES / "budget_by_table.py"))
    table = table_of(learned, "fbnet")
    budget_ms = table.constant_ms + 0.3 * sum(max(place.latency_ms) for place in table.places)
    with running(learned.settings) as url:
        example["main"](url, budget_ms)
    first, blocks, last = capsys.readouterr().out.splitlines()
    assert table.predictor in first
    assert len(blocks.split()) == 22
    told_ms, predicted_ms = (float(part.split()[-2]) for part in last.split(",")[1:])
    assert told_ms <= budget_ms
    assert predicted_ms == pytest.approx(told_ms, rel=3 * table.against_predictor.max_error)
    tiny = dataclasses.replace(
        table,
        places=tuple(
            dataclasses.replace(place, options=place.options[:3], latency_ms=place.latency_ms[:3])
            for place in table.places[:5]
        ),
    )
    scores = example["made_up_scores"](tiny)
    tiny_ms = tiny.constant_ms + 0.5 * sum(max(place.latency_ms) for place in tiny.places)
    found = example["best_within"](tiny, scores, tiny_ms)
    assert sums_of(tiny, [found])[0] <= tiny_ms
    score = {v: sum(of[o] for of, o in zip(scores, v, strict=True)) for v in itertools.product(range(3), repeat=5)}
    # Trying all of them finds no better one, but for what rounding up to steps costs.
    assert score[found] >= max(score[v] for v in score if sums_of(tiny, [v])[0] <= 0.99 * tiny_ms)
