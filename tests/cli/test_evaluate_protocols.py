"""``leti evaluate --protocol``: tables of the public form, resuming, failures that are told, parts side by side."""

import csv
import gzip
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xgboost", reason="needs leti[boosting]")
pytest.importorskip("flatbuffers", reason="needs leti[export]")

from leti.cli import judging
from leti.cli.evaluate_protocols import evaluate_protocols, results
from leti.cli.protocol_runs import Plan, run
from leti.cli.protocols import TABLES
from leti.cli.run_store import RunStore
from leti.cli.table import read_table, twins_agreement
from leti.core.errors import InvalidInput
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.generator.spaces.nasbench201 import architecture_of

DATA = Path(__file__).parents[3] / "shared" / "data"
MAIN, HALF = 60, 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables of the public form: 200 cells, latencies linear in MACs and traffic, 2 % noise."""
    folder = tmp_path_factory.mktemp("public tables")
    rng = random.Random(0)
    specs = get_space("nasbench201").sample(200, 0, NetworkConfig())
    costs = [(architecture_of(spec), graph.macs / 5e7 + graph.traffic_bytes / 2e7)
             for spec, graph in ((spec, lower(spec, "fold")) for spec in specs)]  # fmt: skip
    with gzip.open(folder / "hwnasbench360_pi5.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arch_idx", "arch", "device", "framework", "task", "lat_ms_median", "lat_ms_var"))
        for framework in ("litert", "torchmobile"):
            for task in ("cifar100", "ninapro"):
                for i, (cell, cost) in enumerate(costs):
                    latency_ms = cost * rng.gauss(1, 0.02)
                    writer.writerow((i, cell, "pi5", framework, task, f"{latency_ms:.6f}", "0.0001"))
    with gzip.open(folder / "latbench_i7_7820x_fp32.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arch", "latency_ms", "isomorphism_class"))
        for cell, cost in (*costs, *costs[:20]):
            writer.writerow((cell, f"{cost * rng.gauss(1, 0.02):.6f}", ""))
    return folder


def plan_of(data: Path, out: Path, **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "data": data, "out": out, "protocols": ("A", "C"), "kinds": ("flops", "linear"), "curve": (HALF,),
        "counts": (5, 10), "seeds": 2, "zero": "fold", "train": MAIN, "test": 40, "started": time.time(),
    }  # fmt: skip
    return Plan(**{**given, **changes})


def test_every_part_is_judged_and_the_page_says_what_was_missed(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, tmp_path)
    evaluate_protocols(plan, tmp_path / "copy.json")
    written = json.loads((tmp_path / "accuracy.json").read_text())
    assert written == json.loads((tmp_path / "copy.json").read_text())
    tables = {table["id"]: table for table in written["figures"]["tables"]}
    assert list(tables) == [table.id for table in TABLES if table.protocol in "AC"]
    for name, table in tables.items():
        assert [row["kind"] for row in table["rows"]] == ["flops", "linear"]
        assert all((row["n_train"], row["n_test"], row["seeds"]) == (MAIN, 40, [0, 1]) for row in table["rows"])
        assert all(row["metrics"]["within_10"]["std"] is not None for row in table["rows"])
        assert table["zeros"] == {"fold": 2}
        assert sum(table["chosen"].values()) == 2
        drawn_on = [row["n_train"] for row in table["curve"] if row["kind"] == "linear"]
        assert drawn_on == ([HALF, MAIN] if name in ("A-litert-cifar100", "C-latbench") else [])
    assert tables["C-latbench"]["repeatability"]["0.1"] > 0.9
    page = (tmp_path / "accuracy.md").read_text()
    judged = {"reached": 0, "missed": 0, "not run": 0}
    for reached in written["figures"]["goals"]:
        judged[reached["verdict"]] += 1
    assert judged["missed"]
    assert judged["not run"]
    assert f"Of 15 wanted figures, {judged['reached']} are reached." in page
    assert len(re.findall(r"\*\*missed by [0-9.]+( points)?\*\*", page)) == judged["missed"]
    assert len(re.findall(r"\| \*\*not run\*\* \|", page)) == judged["not run"]
    assert "*ridge on counts of operators that run* | *42.4* | *96.7* | *99.9*" in page
    assert "one version of the code" in page


def test_pictures_are_drawn_and_linked(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="needs leti[plot]")
    pytest.importorskip("vl_convert", reason="needs leti[plot]")
    evaluate_protocols(plan_of(data, tmp_path, protocols=("C",), seeds=1))
    page = (tmp_path / "accuracy.md").read_text()
    linked = re.findall(r"\]\((images/[^)]+\.png)\)", page)
    assert linked == ["images/accuracy-tables.png", "images/accuracy-curve.png"]
    for path in linked:
        content = (tmp_path / path).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 150_000


def test_a_resumed_evaluation_does_only_what_is_missing(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, tmp_path, protocols=("C",), seeds=1, curve=())
    run(plan)
    flops, linear = (tmp_path / "runs" / f"C-latbench.seed0.n{MAIN}.{kind}.json" for kind in ("flops", "linear"))
    first = flops.stat().st_mtime_ns
    linear.unlink()
    run(plan_of(data, tmp_path, protocols=("C",), seeds=1, curve=(), resume=True))
    assert flops.stat().st_mtime_ns == first
    again = linear.stat().st_mtime_ns
    run(plan_of(data, tmp_path, protocols=("C",), seeds=1, curve=(), resume=True, coverage=0.8))
    assert flops.stat().st_mtime_ns > first, "results of other settings must not stay"
    assert linear.stat().st_mtime_ns > again


def test_a_kind_that_fails_is_told_and_the_others_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = judging.create

    def broken(kind: str) -> Any:
        if kind == "linear":
            raise ZeroDivisionError("by zero | in a kind")
        return create(kind)

    monkeypatch.setattr(judging, "create", broken)
    plan = plan_of(data, tmp_path, protocols=("B",), seeds=1)
    evaluate_protocols(plan)
    (table,) = json.loads((tmp_path / "accuracy.json").read_text())["figures"]["tables"]
    assert [row["kind"] for row in table["rows"]] == ["flops"]
    assert table["failures"] == [f"linear, seed 0, {MAIN} networks: ZeroDivisionError: by zero | in a kind"]
    assert "failed: linear, seed 0" in (tmp_path / "accuracy.md").read_text()
    monkeypatch.undo()
    evaluate_protocols(plan_of(data, tmp_path, protocols=("B",), seeds=1, resume=True))
    (table,) = json.loads((tmp_path / "accuracy.json").read_text())["figures"]["tables"]
    assert [row["kind"] for row in table["rows"]] == ["flops", "linear"], "what failed is tried again"
    assert not table["failures"]


def test_a_part_that_cannot_be_run_is_told_and_the_others_go_on(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "hwnasbench360_pi5.csv.gz").write_bytes(b"no table")
    (folder / "latbench_i7_7820x_fp32.csv.gz").write_bytes((data / "latbench_i7_7820x_fp32.csv.gz").read_bytes())
    plan = plan_of(folder, tmp_path / "out", kinds=("flops",), seeds=1, curve=())
    evaluate_protocols(plan)
    page = (tmp_path / "out" / "accuracy.md").read_text()
    assert len(re.findall(r"^- A-.*, seed 0: --table: .* cannot be read as a table", page, re.MULTILINE)) == 4
    assert "## C. LatBench" in page
    (folder / "hwnasbench360_pi5.csv.gz").write_bytes((data / "hwnasbench360_pi5.csv.gz").read_bytes())
    evaluate_protocols(plan_of(folder, tmp_path / "out", kinds=("flops",), seeds=1, curve=(), resume=True))
    assert "Parts that failed" not in (tmp_path / "out" / "accuracy.md").read_text()


def test_a_stack_is_made_of_the_kinds_that_are_fitted_already(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leti.predictors.stacking import predictor as stacked

    created: list[str] = []
    create = judging.create
    monkeypatch.setattr(judging, "create", lambda kind: created.append(kind) or create(kind))
    monkeypatch.setattr(stacked, "installed_members", lambda: ("linear", "xgboost"))
    kinds = ("flops", "linear", "xgboost", "stacked")
    run(plan_of(data, tmp_path, protocols=("C",), kinds=kinds, seeds=1, curve=()))
    assert created == ["flops", "linear", "xgboost"]
    records = {record["kind"]: record for record in RunStore(tmp_path / "runs").all()}
    assert set(records) == {*kinds, "stacked_all"}
    spent = {kind: record["metrics"]["fit_s"] for kind, record in records.items()}
    assert spent["stacked"] >= spent["linear"] + spent["xgboost"]
    assert spent["stacked_all"] >= spent["flops"] + spent["linear"] + spent["xgboost"]
    assert records["stacked"]["cv_mdape"] < records["flops"]["cv_mdape"]


def test_what_none_meant_is_chosen_inside_the_training_part(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, tmp_path, protocols=("C",), kinds=("flops",), seeds=1, curve=(), zero="auto", train=120)
    run(plan)
    (record,) = results(plan)
    tried = record["zero_cross_validation_error"]
    assert set(tried) == {"execute", "fold", "prune"}
    assert record["zero"] == min(tried, key=tried.get)
    assert record["zero_judge"] == "xgboost"


def test_parts_run_side_by_side_from_the_command(leti, data: Path, tmp_path: Path) -> None:
    ran = leti(
        "evaluate", "--protocol", "C", "--data", data, "--out", tmp_path, "--seeds", "2", "--jobs", "2",
        "--train", "60",
        "--test", "40", "--curve", "", "--predictors", "flops", "--zero", "fold",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "2 of 2 parts" in ran.stdout
    assert "wanted figures: " in ran.stdout
    alone = plan_of(data, tmp_path / "alone", protocols=("C",), kinds=("flops",), curve=())
    run(alone)
    beside = plan_of(data, tmp_path, protocols=("C",), kinds=("flops",), curve=())
    errors = [[record["metrics"]["mdape"] for record in results(plan)] for plan in (alone, beside)]
    assert errors[0] == errors[1], "the same seeds give the same figures, however they are run"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--protocol", "Z"), ("--protocol", "A, B, C, D, E")),
        (("--protocol", "A"), ("--data", "must be given")),
        (("--protocol", "A", "--data", "nowhere"), ("--data", "holds no hwnasbench360_pi5.csv.gz")),
        (("--protocol", "A", "--data", ".", "--curve", "5,many"), ("--curve", "whole numbers")),
        (("--protocol", "A", "--table", "x.csv"), ("--table", "--protocol A")),
        ((), ("--table", "--protocol A")),
        (("--table", "x.csv"), ("--latency-column", "must be given")),
        (("--adapt", "--protocol", "D"), ("--table", "--adapt")),
        (("--adapt",), ("--sources", "must be given")),
        (
            ("--adapt", "--sources", "x.csv", "--source-columns", "a", "--target", "x.csv", "--target-column", "b"),
            ("--pool", "FIRST:END"),
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(leti, tmp_path: Path, arguments: Any, words: tuple[str, ...]) -> None:
    ran = leti("evaluate", *arguments, cwd=tmp_path)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert all(word in ran.stderr for word in words), ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_result_that_is_none_is_told(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, tmp_path, protocols=("C",), kinds=("flops",), seeds=1, curve=())
    run(plan)
    (path,) = (tmp_path / "runs").glob("*.json")
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInput, match="is no result"):
        results(plan)


@pytest.mark.skipif(not DATA.is_dir(), reason="the public tables are not at hand")
def test_isomorphic_cells_of_latbench_agree_as_published() -> None:
    measured = read_table(DATA / "latbench_i7_7820x_fp32.csv.gz", "nasbench201", "arch", "latency_ms")
    agreement = twins_agreement(measured)
    assert agreement is not None
    assert [round(100 * share, 1) for share in agreement.within.values()] == [69.9, 93.2, 97.5]
