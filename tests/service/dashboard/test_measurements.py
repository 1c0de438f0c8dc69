"""A platform's measurements, and two platforms compared, as pages say them: what is measured, and what is not yet."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from scipy import stats

from leti.core.device import Device, Platform
from leti.core.farm import CampaignRequest, Sample
from leti.core.wire import AccuracyRequest
from leti.service.dashboard.figures.clouds import WHOLE, Axis, cloud
from leti.service.dashboard.figures.costs import pareto_front
from leti.service.dashboard.figures.figure import MOST_ROWS
from leti.service.dashboard.figures.statistics import kendall, spearman

DATABASES = ("sqlite", "postgresql")

HOME = "/dashboard/platforms"
OTHER = Platform(Device("phone", "android", "soc", 8), "litert", "2.3.0", "gpu")
FIGURES = ("macs", "memory", "accuracy", "histogram", "repeats", "left-out", "reference", "drift")


def read(house, path, **params):
    answer = house.client.get(f"{HOME}/{house.platform_id}{path}", params=params)
    assert answer.status_code == 200, answer.text[:500]
    return answer.text


def rows(house, path, **params):
    return list(csv.DictReader(io.StringIO(read(house, path, format="csv", **params))))


def drawn(text):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.S)[1])


def says(text):
    return re.search(r'<p id="says-[^>]*>(.*?)</p>', text, re.S)[1]


@pytest.fixture
def twice(house):
    """A house that has measured 8 networks twice each, a measurement every 90 minutes."""
    house.add_campaign(count=8, repeats=2, repeat_share=1.0)
    while (lease := house.lease(1)) is not None:
        house.report(lease, lease.jobs[0])
        house.clock.now += 5_400
    return house


@pytest.fixture
def both(house, house_on):
    """Two platforms that share 12 networks; the second one ranks two of them the other way round."""
    house.add_campaign(count=12)
    house.measure_all()
    other = house_on(OTHER)
    other.add_platform()
    other.post(
        "/campaigns",
        CampaignRequest("first", other.platform_id, (Sample("nasbench201", 12, 0, other.small),), repeats=1),
    )
    ratios = sorted({house.ratio(row.fingerprint) for row in house.rows("SELECT fingerprint FROM truths")})
    lease = other.lease(64)
    for job in lease.jobs:
        ratio = other.ratio(job.fingerprint, job.repeat)
        other.report(lease, job, ratio=ratios[-1] * 4 if math.isclose(ratio, ratios[0]) else ratio * 2)
    return house, other


# --- measurements ----------------------------------------------------------------------------------------------------


def test_the_page_holds_its_figures_and_its_state(learned):
    text = read(learned, "/measurements", colour="space", spacing="log")
    for name in FIGURES:
        assert f"/measurements/{name}?colour=space&amp;spacing=log" in text
    assert re.search(r'<option value="space" selected>', text)
    assert "style=" not in text


def test_costs_say_how_far_they_order_latencies(learned):
    for name, column, scale in (("macs", "multiply-accumulates, millions", 1e6), ("memory", "peak memory, MiB", 2**20)):
        found = rows(learned, f"/measurements/{name}")
        assert len(found) == 60
        cost, latency = ([float(row[key]) for row in found] for key in (column, "latency, ms"))
        one = learned.store.networks.get(found[0]["network"])
        assert float(found[0][column]) == {"macs": one.macs, "memory": one.peak_memory_bytes}[name] / scale
        text = read(learned, f"/measurements/{name}")
        assert f"{stats.spearmanr(cost, latency).statistic:.3f}" in says(text)
        assert f"R² {np.corrcoef(cost, latency)[0, 1] ** 2:.3f}" in says(text)
        assert drawn(text)["link"] == {"key": "fingerprint", "page": "/dashboard/networks/{}"}


def test_the_histogram_counts_every_network_once(learned):
    assert sum(int(row["networks"]) for row in rows(learned, "/measurements/histogram")) == 60


def test_runs_stand_beside_each_other_and_say_the_repeatability(twice):
    found = rows(twice, "/measurements/repeats")
    assert len(found) == 8
    reference_ms = twice.store.platforms.get(twice.platform_id).reference_latency_ms
    for row in found:
        runs = [twice.ratio(row["network"], repeat) * reference_ms for repeat in (0, 1)]
        said = (float(row["first measurement, ms"]), float(row["second measurement, ms"]))
        assert sorted(said) == pytest.approx(sorted(runs))
    within = twice.store.platforms.get(twice.platform_id).repeatability.within
    assert f"{100 * within['0.05']:.1f} % within ±5 %" in says(read(twice, "/measurements/repeats"))


def test_time_is_told_in_spans_with_the_versions_of_the_pooled_reference(twice):
    found = rows(twice, "/measurements/reference")
    assert sum(int(row["measurements"]) for row in found) == 16
    assert {float(row["median, ms"]) for row in found} == {1.25}
    text = read(twice, "/measurements/reference")
    assert "(version 1)" in says(text)
    assert "pooled, version 1" in [one["name"] for one in drawn(text)["option"]["series"]]
    assert "Of 16 measurements, 0.0 % are noisy" in says(read(twice, "/measurements/left-out"))


def test_accuracies_have_a_front_of_their_own_for_each_task(measured):
    assert "PUT /v1/networks/{fingerprint}/accuracies/{task}" in read(measured, "/measurements/accuracy", task="none")
    known = rows(measured, "/measurements/macs")
    chosen = {row["network"]: float(row["latency, ms"]) for row in known[:9]}
    for number, fingerprint in enumerate(sorted(chosen, key=chosen.__getitem__)):
        accuracy = 0.5 if number % 3 else 0.6 + number / 100
        measured.store.accuracies.put(fingerprint, "cifar10-valid", AccuracyRequest(accuracy))
    page = read(measured, "/measurements")
    assert "<option selected>cifar10-valid</option>" in page
    assert "/measurements/accuracy?colour=density&amp;spacing=value&amp;task=cifar10-valid" in page
    found = rows(measured, "/measurements/accuracy", task="cifar10-valid")
    assert len(found) == 9
    assert [row["on the front"] for row in sorted(found, key=lambda row: float(row["latency, ms"]))] == [
        "no" if number % 3 else "yes" for number in range(9)
    ]
    assert "Of 9 networks with an accuracy on cifar10-valid, 3 are on the Pareto front" in says(
        read(measured, "/measurements/accuracy", task="cifar10-valid")
    )


def test_predictions_are_held_against_later_measurements(measured, problem_of):
    assert "No predictor serves this platform yet" in read(measured, "/measurements/drift")
    measured.train("linear")
    assert "have the same networks measured later" in read(measured, "/measurements/drift")
    cells = ["nasbench201:0,1,2,3,4,3", "nasbench201:1,1,2,3,4,3"]
    asked = {"platform_ids": [measured.platform_id], "networks": cells}
    assert measured.post("/predictions", asked).status_code == 200
    measured.store.predictions.flush()
    measured.clock.now += 3_600
    made = measured.add_campaign("later", 0, networks=tuple(cells))
    assert made["queued"] == 2
    measured.measure_all()
    assert "Of 2 networks measured after linear 1 had predicted them" in says(read(measured, "/measurements/drift"))


def test_nothing_measured_yet_is_said_with_what_would_fill_it(house):
    house.add_platform()
    text = read(house, "/measurements")
    assert "No network was measured here yet." in text
    assert "hx-get" not in text
    for name in FIGURES:
        assert "Nothing to draw yet." in read(house, f"/measurements/{name}"), name


def test_what_is_not_there_is_refused(learned):
    for path, status in (
        ("/measurements/nothing", 404),
        ("/measurements/macs?colour=mauve", 422),
        ("/measurements?task=<script>", 422),
        ("/compare?with=nowhere", 404),
        ("/compare/latencies?with=nowhere", 404),
        ("/compare/latencies", 422),
    ):
        answer = learned.client.get(f"{HOME}/{learned.platform_id}{path}")
        assert answer.status_code == status, path
        assert "<script>" not in answer.text.replace("<script src", "").replace("<script>\n", "")
    assert learned.client.get(f"{HOME}/nowhere/measurements").status_code == 404
    assert learned.client.get(f"{HOME}/nowhere/measurements/macs").status_code == 404


@pytest.mark.sqlite
def test_a_device_may_be_called_anything(house_on):
    hostile = house_on(Platform(Device("<script>alert(1)</script>", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack"))
    hostile.add_campaign(count=3)
    hostile.measure_all()
    for path in ("/measurements", "/measurements/macs", "/compare"):
        assert "<script>alert" not in read(hostile, path)


@pytest.mark.sqlite
def test_viewers_see_it_and_agents_do_not(guarded):
    for path in ("/measurements", "/measurements/macs", "/compare", "/compare/latencies?with=x"):
        address = f"{HOME}/{guarded.platform_id}{path}"
        assert guarded.client.get(address, headers=guarded.bearer("viewer")).status_code == 404  # there is no platform
        assert guarded.client.get(address, headers=guarded.bearer("agent")).status_code == 403


# --- comparing -------------------------------------------------------------------------------------------------------


def test_two_platforms_are_compared_on_what_both_have(both):
    house, other = both
    text = read(house, "/compare")
    assert f'<option value="{other.platform_id}" selected>' in text
    assert "12 networks are measured on" in text
    found = rows(house, "/compare/latencies", **{"with": other.platform_id})
    here, there = ([float(row[f"{one.platform_id}, ms"]) for row in found] for one in (house, other))
    text = read(house, "/compare/latencies", **{"with": other.platform_id})
    assert f"Spearman correlation of {stats.spearmanr(here, there).statistic:.3f}" in says(text)
    assert f"tau of {stats.kendalltau(here, there).statistic:.3f}" in says(text).replace("&#39;", "'")
    assert f"{np.median(np.array(there) / here):.3g} times as long" in says(text)


def test_the_network_that_changes_most_stands_first(both):
    house, other = both
    first, *rest = rows(house, "/compare/moved", **{"with": other.platform_id})
    assert (first["rank here"], first["rank there"], first["space"]) == ("1.0", "12.0", "nasbench201")
    assert all(abs(float(row["change of rank, % of the networks"])) <= 100 / 12 + 1e-9 for row in rest)
    (space,) = rows(house, "/compare/spaces", **{"with": other.platform_id})
    assert (space["space"], space["networks"]) == ("nasbench201", "12")


@pytest.mark.sqlite
def test_platforms_that_share_nothing_say_so(house, house_on):
    house.add_campaign(count=2)
    house.measure_all()
    assert "There is no other platform yet." in read(house, "/compare")
    other = house_on(OTHER)
    other.add_platform()
    text = read(house, "/compare", **{"with": other.platform_id})
    assert "No network is measured on both." in text
    assert "hx-get" not in text
    assert "Nothing to draw yet." in read(house, "/compare/latencies", **{"with": other.platform_id})


# --- figures ---------------------------------------------------------------------------------------------------------


def test_many_networks_are_drawn_by_few_that_stand_for_all():
    chance = np.random.default_rng(0)
    count = 50_000
    names = np.array([f"{i:064x}" for i in range(count)], object)
    spaces = np.array(["a", "b", ""], object)[chance.integers(0, 3, count)]
    x, y = Axis("x", "x", chance.uniform(1, 9, count)), Axis("y", "y", chance.uniform(1, 9, count))
    for colour in ("density", "space"):
        for scale in ("value", "log"):
            found = cloud(names, spaces, x, y, colour=colour, scales=(scale, scale), first=(7, 8))
            columns = {column.key: column.cells for column in found.columns}
            assert WHOLE < len(found.index) <= MOST_ROWS
            assert sum(columns["networks"]) == count
            assert {7, 8} <= set(found.index.tolist())
            assert len(set(found.index.tolist())) == len(found.index)
            assert columns["x"] == x.values[found.index].tolist()


def test_networks_at_zero_are_left_out_where_axes_go_by_factors():
    names = np.array(["a", "b", "c"], object)
    x = Axis("x", "x", np.array([0.0, 1.0, 2.0]))
    found = cloud(names, names, x, Axis("y", "y", np.array([1.0, 2.0, 3.0])), scales=("log", "log"))
    assert found.index.tolist() == [1, 2]
    assert found.notes == ("Networks at 0 have no place on an axis of factors: 1 left out.",)


def test_correlations_are_scipys():
    chance = np.random.default_rng(1)
    x = chance.integers(0, 40, 500).astype(float)  # with ties
    y = x + chance.normal(scale=9, size=500)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
    assert spearman(x, np.ones(500)) is None
    assert kendall(x[:1], y[:1]) is None


def test_the_front_holds_those_that_none_beats():
    chance = np.random.default_rng(2)
    latency, accuracy = chance.integers(1, 30, 200).astype(float), chance.integers(1, 30, 200).astype(float)
    beaten = [
        any(
            (a <= latency[i] and b > accuracy[i]) or (a < latency[i] and b >= accuracy[i])
            for a, b in zip(latency, accuracy, strict=True)
        )
        for i in range(200)
    ]
    front = set(pareto_front(latency, accuracy).tolist())
    assert {(latency[i], accuracy[i]) for i in front} == {
        (latency[i], accuracy[i]) for i in range(200) if not beaten[i]
    }
    assert pareto_front(np.empty(0), np.empty(0)).tolist() == []
