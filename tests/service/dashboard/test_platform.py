"""The page on accuracy: what it says of real predictors, and that what it concludes is what the numbers tell."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient

from leti.core.device import Device
from leti.core.measurement import Repeatability
from leti.core.prediction import Metrics
from leti.core.training import PredictorInfo
from leti.core.wire import NetworkSource
from leti.service.app import create_app
from leti.service.dashboard.figures import Figure
from leti.service.dashboard.figures.accuracy import WORST, scatter
from leti.service.dashboard.figures.errors import by_kind, by_space, coverage, wilson
from leti.service.dashboard.verdict import contest, judge
from leti.service.store.holdouts import HoldoutColumns, SharedHoldout

np = pytest.importorskip("numpy")
stats = pytest.importorskip("scipy.stats", reason="needs the extra boosting")

pytestmark = pytest.mark.sqlite

EVIL = "<script>alert(1)</script>"


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.text)))


def address(house: Any, end: str = "") -> str:
    return f"/dashboard/platforms/{house.platform_id}{end}"


# --- pages -----------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_predictor_the_simplest_first_and_the_one_that_serves(learned: Any) -> None:
    answer = learned.client.get(address(learned))
    said = text(answer)
    infos = {one.kind: one for one in learned.store.predictors.list(learned.platform_id)}
    rows = re.findall(r'<tr[^>]*>\s*<th scope="row"><a href="[^"]*predictor=(\d+)"', answer.text)
    assert [int(row) for row in rows] == [infos[kind].id for kind in ("linear", "lookup_table", "xgboost")]
    for one in infos.values():
        assert f"{100 * one.metrics.within_10:.1f} %" in said
        assert f"{one.metrics.n_train} / {one.metrics.n_test}" in said
    (active,) = (one for one in infos.values() if one.active)
    assert f"{active.kind} version {active.version} active" in said
    assert f"{active.kind}, version {active.version}" in said, "the one that serves is looked into"
    other = next(one for one in infos.values() if not one.active)
    assert f"{other.kind}, version 1" in text(learned.client.get(address(learned), params={"predictor": other.id}))
    assert "Best on the holdout is" in said
    assert "no network was measured more than once" in said, "the house measures each network once"
    assert 'aria-current="page">Accuracy' in answer.text


def test_figures_hold_every_network_and_their_file_does(learned: Any) -> None:
    active = learned.store.predictors.active(learned.platform_id)
    points = {one["fingerprint"]: one for one in learned.get(f"/predictors/{active.id}/holdout").json()}
    for name in ("scatter", "by-latency", "by-space", "by-kind", "coverage"):
        answer = learned.client.get(address(learned, f"/predictors/{active.id}/{name}"))
        assert answer.status_code == 200
        drawn = json.loads(re.search(r'type="application/json">(.*?)</script>', answer.text)[1])  # type: ignore[index]
        source = drawn["option"]["dataset"]["source"]
        assert sum(source["networks"]) == len(points)
    file = learned.client.get(address(learned, f"/predictors/{active.id}/scatter"), params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert {row["Network"]: float(row["Measured (ms)"]) for row in rows} == {
        key: one["measured_ms"] for key, one in points.items()
    }
    errors = [abs(float(row["Error (%)"])) for row in rows]
    assert errors == sorted(errors, reverse=True)
    shares = learned.client.get(address(learned, "/shares"), params={"format": "csv"})
    assert [row["Predictor"] for row in csv.DictReader(io.StringIO(shares.text))] == [
        "linear",
        "lookup_table",
        "xgboost",
    ]


@pytest.mark.parametrize(
    ("end", "status"),
    [("?predictor=999", 404), ("?dataset=999", 404), ("/predictors/999/scatter", 404), ("?predictor=x", 422)],
)
def test_what_is_not_there_is_said(learned: Any, end: str, status: int) -> None:
    assert learned.client.get(address(learned, end)).status_code == status


def test_a_figure_that_there_is_not_and_a_predictor_of_another_platform(learned: Any) -> None:
    active = learned.store.predictors.active(learned.platform_id)
    assert learned.client.get(address(learned, f"/predictors/{active.id}/nonsense")).status_code == 404
    other = replace(learned.platform, threads=2)
    learned.post("/platforms", other)
    assert learned.client.get(f"/dashboard/platforms/{other.id}/predictors/{active.id}/scatter").status_code == 422


def test_a_platform_without_measurements_and_one_without_predictors(measured: Any) -> None:
    assert "No predictor of this platform yet." in text(measured.client.get(address(measured)))
    evil = replace(measured.platform, device=Device(EVIL, "desktop", EVIL, 2))
    assert measured.post("/platforms", evil).status_code == 200
    answer = measured.client.get(f"/dashboard/platforms/{evil.id}")
    assert "Nothing is measured on this platform yet." in answer.text
    assert EVIL not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert measured.client.get("/dashboard/platforms/nowhere").status_code == 404


def test_a_learning_curve_is_asked_for_by_who_may_and_then_drawn(measured: Any) -> None:
    measured.train("flops", "linear")
    before = measured.store.predictors.active(measured.platform_id)
    asked = re.search(r'name="kind" value="(\w+)"', measured.client.get(address(measured)).text)
    assert asked
    form = {"dataset": str(before.dataset_id), "kind": asked[1]}
    refused = measured.client.post(address(measured, "/learning-curve"), data={**form, "kind": EVIL})
    assert refused.status_code == 422
    assert "is not a kind that can be trained here" in refused.text
    assert EVIL not in refused.text
    answer = measured.client.post(address(measured, "/learning-curve"), data=form, follow_redirects=False)
    assert answer.status_code == 303
    assert "is to draw a learning curve" in text(measured.client.get(address(measured)))
    assert measured.run_tasks() == 1
    (task,) = measured.store.tasks.page(
        platform_id=None, kind="train", state="done", cursor=0, limit=1, newest_first=True
    ).items
    page = measured.client.get(answer.headers["location"])
    assert f"/dashboard/tasks/{task.id}/learning-curve" in page.text
    assert 'name="kind"' not in page.text, "it is drawn already"
    assert measured.store.predictors.active(measured.platform_id) == before


def test_who_only_reads_is_offered_no_training(learned: Any) -> None:
    guarded = TestClient(create_app(learned.store, replace(learned.settings, auth=True)), "http://127.0.0.1")
    for role, offered in (("viewer", False), ("client", True)):
        header = learned.bearer(role)
        assert ('name="kind"' in guarded.get(address(learned), headers=header).text) == offered
    answer = guarded.post(
        address(learned, "/learning-curve"),
        data={"dataset": "1", "kind": "linear"},
        headers=learned.bearer("viewer", "another"),
    )
    assert answer.status_code == 403


# --- what is concluded -----------------------------------------------------------------------------------------------


def info(key: int, kind: str, errors: Any) -> PredictorInfo:
    size = np.abs(errors)
    metrics = Metrics(
        n_train=1000, n_test=len(size), within_1=0.1, within_5=float((size <= 0.05).mean()),
        within_10=float((size <= 0.1).mean()), mdape=float(np.median(size)), mape=float(size.mean()), r2=0.9,
        spearman=0.9, kendall=0.8, coverage=0.9, interval_coverage=0.9, fit_s=1.0, us_per_prediction=1.0,
    )  # fmt: skip
    return PredictorInfo(key, kind, "p", 1, 1, False, "", metrics, metrics.mdape, "2026-01-01T00:00:00Z")


def concluded(errors: dict[str, Any], groups: list[str] | None = None) -> Any:
    infos = [info(key, kind, column) for key, (kind, column) in enumerate(errors.items(), 1)]
    count = infos[0].metrics.n_test
    columns = {one.id: [1 + error for error in errors[one.kind]] for one in infos}
    shared = SharedHoldout(groups or [str(i) for i in range(count)], [1.0] * count, columns)
    ceiling = Repeatability(30, 90, {"0.01": 0.5, "0.05": 0.97, "0.1": 1.0}, {"0.01": 0.4, "0.05": 0.9, "0.1": 1.0})
    return judge(infos, shared, ceiling, {one.id: one.id for one in infos})


def test_the_simple_one_is_as_good_where_the_difference_may_be_chance() -> None:
    noise = np.random.default_rng(0)
    errors = {"flops": noise.normal(0, 0.3, 250), "lookup_table": noise.normal(0, 0.05, 250)}
    errors["gcn"] = noise.permuted(errors["lookup_table"]) * 0.98
    found = concluded(errors)
    assert (found.best.kind, found.simple.kind) == ("gcn", "lookup_table")
    assert found.sentences[0].startswith("lookup_table is as good as gcn, and simpler: ")
    assert "of 250 networks" in found.sentences[0]


def test_a_better_one_is_said_to_be_better_and_by_how_much() -> None:
    noise = np.random.default_rng(0)
    found = concluded({"lookup_table": noise.normal(0, 0.12, 400), "gcn": noise.normal(0, 0.04, 400)})
    assert found.simple is None
    assert found.sentences[0].startswith("gcn is better on these networks than every simpler predictor")
    assert "points below the ceiling of 97.0 % within ±5 %" in " ".join(found.sentences)


def test_one_that_is_right_as_often_but_farther_off_is_not_as_good() -> None:
    noise = np.random.default_rng(0)
    found = concluded({"linear": noise.normal(0, 0.02, 300), "gcn": noise.normal(0, 0.005, 300)})
    assert found.simple is None
    assert "Where ±10 % is enough, linear does as well" in found.sentences[-1]


def test_twins_are_no_evidence_of_their_own() -> None:
    errors = {"linear": np.repeat([0.2, 0.0], [30, 70]), "gcn": np.zeros(100)}
    assert concluded(errors).simple is None
    assert concluded(errors, ["twins"] * 30 + [str(i) for i in range(70)]).simple.kind == "linear"


def test_the_simplest_may_win_outright() -> None:
    found = concluded({"flops": np.full(50, 0.01), "gcn": np.full(50, 0.2)})
    assert found.sentences[0] == "The simplest predictor wins: nothing else is better than flops."


def test_chances_and_intervals_are_those_of_the_books() -> None:
    noise = np.random.default_rng(1)
    for count in (0, 7, 900):
        lead = noise.choice([-1.0, 0.0, 1.0], count + 5, p=[0.2, 0.5, 0.3])
        found = contest(lead, np.arange(len(lead)))
        assert found.ahead == (lead > 0).sum()
        if found.ahead + found.behind:
            book = stats.binomtest(found.ahead, found.ahead + found.behind, alternative="greater").pvalue
            assert found.p == pytest.approx(book, rel=1e-9)
        assert found.low < found.high
    for hits, of in ((0, 10), (10, 10), (901, 1000)):
        book = stats.binomtest(hits, of).proportion_ci(0.95, method="wilson")
        assert wilson(hits, of) == pytest.approx((book.low, book.high), abs=1e-4)


def test_the_interval_of_a_difference_holds_it_about_as_often_as_it_says() -> None:
    noise, held = np.random.default_rng(2), 0
    for _ in range(1000):
        found = contest(noise.choice([-1.0, 0.0, 1.0], 60, p=[0.05, 0.8, 0.15]), np.arange(60))
        held += found.low <= 0.1 <= found.high
    assert 930 <= held <= 985


def cells(figure: Figure) -> dict[str, list[Any]]:
    return {column.key: list(column.cells) for column in figure.columns}


def test_ten_thousand_points_become_few_that_stand_for_all_and_the_worst_stay() -> None:
    noise = np.random.default_rng(3)
    measured = np.exp(noise.uniform(0, 5, 10_000))
    error = noise.normal(0, 0.05, 10_000)
    error[:3] = 2.0, -0.8, 1.5
    predicted = measured * (1 + error)
    names = [f"{i:064x}" for i in range(10_000)]
    spaces = [EVIL if i % 4 == 0 else "b" for i in range(10_000)]
    low, high = (predicted * 0.9).tolist(), (predicted * 1.1).tolist()
    sources: list[NetworkSource] = ["spec" if i % 5 else "patch" for i in range(10_000)]
    holdout = HoldoutColumns(names, spaces, measured.tolist(), predicted.tolist(), low, high, sources)
    one = info(1, "gcn", error)
    drawn = cells(scatter(one, holdout))
    assert sum(drawn["networks"]) == 10_000
    assert len(drawn["networks"]) < 2_000
    assert list(drawn["fingerprint"][:3]) == [names[0], names[2], names[1]]
    assert [value is not None for value in drawn["worst_ms"]].count(True) == WORST
    assert scatter(one, holdout, whole=True).rows == 10_000
    spread = cells(by_space(one, holdout))
    assert dict(zip(spread["part"], spread["networks"], strict=True)) == {EVIL: 2_500, "b": 7_500}
    kinds = cells(by_kind(one, holdout))
    assert dict(zip(kinds["part"], kinds["networks"], strict=True)) == {"of a search space": 8_000, "compressed": 2_000}
    inside = cells(coverage(one, holdout))
    assert inside["networks"] == [2_000] * 5
    for low, share, high in zip(inside["low"], inside["inside"], inside["high"], strict=True):
        assert low < share < high
