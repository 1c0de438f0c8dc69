"""Figures over seeds, and the page's own judgement of them."""

from typing import Any

import pytest

from leti.cli.accuracy_figures import CHOSEN, Figures, figures, is_met
from leti.cli.accuracy_report import render
from leti.cli.protocols import GOALS, TABLES, Goal, chosen_protocols
from leti.core.errors import InvalidInput

SIZES = {table.id: table.train for table in TABLES}
ORDER = ("flops", "linear", "xgboost", "gcn")


def record(
    kind: str, seed: int, within: tuple[float, float, float], cv: float | None, **changes: Any
) -> dict[str, Any]:
    metrics = {
        "n_train": 1000, "n_test": 5461, "within_1": within[0], "within_5": within[1], "within_10": within[2],
        "mdape": cv or 0.01, "mape": 0.02, "r2": 0.9, "spearman": None, "kendall": None, "coverage": 0.9,
        "interval_coverage": 0.9, "fit_s": 1.0, "us_per_prediction": 50.0,
    }  # fmt: skip
    base = {
        "table": "A-litert-cifar100", "seed": seed, "size": 1000, "kind": kind, "code": "abc", "zero": "fold",
        "zero_cross_validation_error": {"fold": 0.01, "prune": 0.02}, "zero_judge": "xgboost", "repeatability": None,
        "cv_mdape": cv, "metrics": metrics,
    }  # fmt: skip
    return {**base, **changes}


def adaptation(method: str, seed: int, spearman: dict[str, float], n_samples: int = 10) -> dict[str, Any]:
    rows = [
        {"target": target, "method": method, "sampling": "random", "n_samples": n_samples, "seed": seed,
         "spearman": value, "within_10": 0.8, "sources": "predicted"}
        for target, value in spearman.items()
    ]  # fmt: skip
    return {"table": "D", "seed": seed, "kind": "D", "code": "abc", "settings": {}, "rows": rows}


def operators(platform: str, seed: int, plain: float, corrected: float) -> dict[str, Any]:
    shares = [{"within_1": x / 4, "within_5": x / 2, "within_10": x, "mdape": 0.05} for x in (plain, corrected)]
    row = {"platform": platform, "seed": seed, "n_train": 20, "n_test": 82}
    row |= {"plain_sum": shares[0], "corrected": shares[1]}
    return {"table": "E", "seed": seed, "kind": "E", "code": "abc", "settings": {}, "rows": [row]}


def made(*records: dict[str, Any]) -> Figures:
    return figures(TABLES, records, SIZES, ORDER)


def goal(found: Figures, table: str, metric: str, *, each: bool = False) -> Any:
    (one,) = (r for r in found.goals if (r.goal.table, r.goal.metric, bool(r.goal.kinds)) == (table, metric, each))
    return one


def page(found: Figures) -> str:
    return render(found, protocols=("A",), coverage=0.9, images={}, machine="a computer")


def test_goals_are_judged_on_what_cross_validation_chose_not_on_the_test_part() -> None:
    found = made(
        record("linear", 0, (0.70, 0.99, 1.0), cv=0.012), record("xgboost", 0, (0.58, 0.99, 1.0), cv=0.010),
        record("linear", 1, (0.70, 0.99, 1.0), cv=0.009), record("xgboost", 1, (0.58, 0.97, 1.0), cv=0.010),
    )  # fmt: skip
    (table,) = found.tables
    assert table.chosen == {"xgboost": 1, "linear": 1}
    assert table.chosen_row is not None
    assert table.chosen_row.kind == CHOSEN
    within_1 = goal(found, "A-litert-cifar100", "within_1")
    assert within_1.reached.mean == pytest.approx(0.64)
    assert within_1.reached.std == pytest.approx(0.0848528, rel=1e-5)
    assert (within_1.verdict, within_1.best_by) == ("reached", "linear")
    within_5 = goal(found, "A-litert-cifar100", "within_5")
    assert within_5.reached.mean == pytest.approx(0.99)
    assert "| linear | 70.0 ± 0.0 |" in page(found)
    assert "| *chosen by cross-validation* | 64.0 ± 8.5 |" in page(found)


def test_a_miss_is_said_by_how_much() -> None:
    found = made(record("flops", 0, (0.169, 0.667, 0.888), cv=0.03))
    assert goal(found, "A-litert-cifar100", "within_1").verdict == "missed"
    text = page(found)
    assert "**missed by 43.1 points**" in text
    assert "Missed: A-litert-cifar100 ±1 %, A-litert-cifar100 ±5 %, A-litert-cifar100 ±10 %." in text
    assert "Of 15 wanted figures, 0 are reached." in text


def test_figures_are_compared_as_goals_are_stated() -> None:
    wanted = Goal("A-litert-cifar100", "within_10", 0.999, 0.999)
    assert is_met(wanted, 0.99851)
    assert not is_met(wanted, 0.99849)
    assert is_met(Goal("D", "spearman", None, 0.96), 0.9601)
    assert not is_met(Goal("D", "spearman", None, 0.96), 0.9594)


def test_a_goal_of_several_kinds_takes_the_least_and_is_not_reached_while_one_is_missing() -> None:
    three = [record(kind, 0, (0.5, 0.9, 0.995), cv=0.01) for kind in ("xgboost", "lightgbm", "catboost")]
    found = goal(made(*three), "A-litert-cifar100", "within_10", each=True)
    assert found.verdict == "not run"
    assert "not run: gcn" in found.by
    found = goal(made(*three, record("gcn", 0, (0.5, 0.9, 0.98), cv=0.01)), "A-litert-cifar100", "within_10", each=True)
    assert (found.verdict, found.by.split(",")[0]) == ("missed", "gcn")
    found = goal(made(*three, record("gcn", 0, (0.5, 0.9, 0.99), cv=0.01)), "A-litert-cifar100", "within_10", each=True)
    assert found.verdict == "reached"


def test_adaptation_is_averaged_over_targets_then_over_seeds() -> None:
    found = made(
        adaptation("auto", 0, {"titanx_1": 0.95, "gold_6240": 0.97}),
        adaptation("auto", 1, {"titanx_1": 0.97, "gold_6240": 0.99}),
        adaptation("ridge", 0, {"titanx_1": 0.5, "gold_6240": 0.5}),
        adaptation("auto", 0, {"titanx_1": 0.99, "gold_6240": 0.99}, n_samples=50),
    )
    (auto, *_) = found.adaptation
    assert (auto.spearman.mean, auto.seeds) == (pytest.approx(0.97), (0, 1))
    assert auto.spearman.std == pytest.approx(0.0141421, rel=1e-5)
    assert auto.targets == {"titanx_1": pytest.approx(0.96), "gold_6240": pytest.approx(0.98)}
    reached = goal(found, "D", "spearman")
    assert (reached.verdict, reached.by, reached.seeds) == ("reached", "auto, random samples", 2)
    assert "| auto | random | predicted | 0.970 ± 0.014 | 0.990 |" in page(found)


def test_operator_sums_are_judged_on_each_phone() -> None:
    found = made(
        operators("pixel4", 0, 0.18, 0.95), operators("pixel4", 1, 0.18, 0.93), operators("mi8se", 0, 0.5, 0.8)
    )
    assert goal(found, "E-pixel4", "within_10").verdict == "reached"
    assert goal(found, "E-mi8se", "within_10").verdict == "missed"
    assert goal(found, "E-iphonexs", "within_10").verdict == "not run"
    assert "| pixel4 | corrected | 23.5 ± 0.4 | 47.0 ± 0.7 | 94.0 ± 1.4 |" in page(found)


def test_a_figure_that_no_seed_has_is_a_dash_and_failures_and_versions_are_told() -> None:
    failed = {"table": "D", "seed": 0, "kind": "", "code": "def", "error": "InvalidInput: a | b"}
    text = page(made(record("flops", 0, (0.1, 0.2, 0.3), cv=None), failed))
    assert "| 0.900 | – | 90.0 | 1.0 | 50 | 1000 / 5461 |" in text
    assert "2 versions of the code (abc, def)" in text
    assert "- D, seed 0: InvalidInput: a | b" in text


def test_every_goal_is_of_a_table_or_protocol_that_is_there() -> None:
    known = {table.id for table in TABLES} | {"D"}
    assert {each.table for each in GOALS if not each.table.startswith("E-")} <= known
    assert all(each.known is None or each.known < each.wanted or each.wanted == 0.999 for each in GOALS)


def test_protocols_are_chosen_by_letter() -> None:
    assert chosen_protocols(["c,A"]) == ("A", "C")
    assert chosen_protocols(["all"]) == ("A", "B", "C", "D", "E")
    with pytest.raises(InvalidInput, match="--protocol"):
        chosen_protocols(["F"])
