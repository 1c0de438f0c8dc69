"""``leti evaluate``: somebody else's table, its bad rows, and published figures."""

import csv
import gzip
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("xgboost", reason="needs leti[boosting]")
pytest.importorskip("flatbuffers", reason="needs leti[export]")

from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.generator.spaces.nasbench201 import architecture_of

DATA = Path(__file__).parents[3] / "shared" / "data"
FIELDS = (
    "n_train", "n_test", "within_1", "within_5", "within_10", "mdape", "mape", "r2", "spearman", "kendall",
    "interval_coverage", "fit_s", "us_per_prediction",
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose latency is linear in MACs and traffic, with 2 % noise, and rows that nobody can use."""
    path = tmp_path_factory.mktemp("a table") / "latencies.csv.gz"
    rng = random.Random(0)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "cell", "device", "ms"))
        for i, spec in enumerate(get_space("nasbench201").sample(160, 0, NetworkConfig())):
            graph = lower(spec)
            latency_ms = (graph.macs / 5e7 + graph.traffic_bytes / 2e7) * rng.gauss(1, 0.02)
            writer.writerow((i, architecture_of(spec), "phone", f"{latency_ms:.6f}"))
        skip = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
        empty = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
        bad = ((skip, "fast"), (skip, "nan"), (skip, "-3"), ("|conv~0|", "1.0"), ("", "1.0"), (empty, "0.01"))
        for cell, latency in bad:
            writer.writerow(("bad", cell, "phone", latency))
        writer.writerow(("other", skip, "tablet", "1.0"))
    return path


def test_it_writes_every_figure_and_names_what_it_left_out(leti, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    ran = leti(
        "evaluate", "--table", table, "--space", "nasbench201", "--arch-column", "cell", "--latency-column", "ms",
        "--where", "device=phone", "--train", "100", "--split", "isomorphism", "--seed", "0",
        "--predictors", "flops,linear,xgboost,stacked",
        "--json", out,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    data = json.loads(out.read_text())
    assert list(data["predictors"]) == ["flops", "linear", "xgboost", "stacked"]
    for metrics in data["predictors"].values():
        assert set(FIELDS) <= set(metrics)
        assert (metrics["n_train"], metrics["n_test"]) == (100, 60)
    tried = data["zero_cross_validation_error"]
    assert set(tried) == {"execute", "fold", "prune"}
    assert data["zero"] == min(tried, key=tried.get)
    assert data["predictors"]["xgboost"]["within_10"] > 0.9
    assert data["predictors"]["xgboost"]["mdape"] <= data["predictors"]["flops"]["mdape"]
    assert sum(reason["count"] for reason in data["skipped"].values()) == 6
    assert data["skipped"]["the latency is not a number"]["lines"] == [162]
    assert "left out 2 rows: the latency is not positive and finite (lines 163, 164)" in ran.stdout
    assert "left out 1 rows: degenerate" in ran.stdout


def test_the_same_seed_gives_the_same_figures(leti, table: Path, tmp_path: Path) -> None:
    figures = []
    for run in ("a", "b"):
        out = tmp_path / f"{run}.json"
        arguments = ("--arch-column", "cell", "--latency-column", "ms", "--train", "80", "--split", "random")
        arguments += ("--predictors", "flops,flops_by_memory,xgboost")
        ran = leti(
            "evaluate", "--table", table, *arguments, "--seed", "3", "--zero", "prune", "--json", out, anew=run == "b"
        )
        assert ran.returncode == 0, ran.stderr
        metrics = json.loads(out.read_text())["predictors"]
        figures.append({k: {n: m[n] for n in FIELDS[:11]} for k, m in metrics.items()})
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--table", "absent.csv"), ("--table", "absent.csv")),
        (("--latency-column", "speed"), ("--table", "columns: name, cell, device, ms")),
        (("--space", "nasbench999"), ("space", "nasbench201")),
        (("--train", "5000"), ("--train", "161")),
        (("--train", "3"), ("--train", "3 rows are too few")),
        (("--predictors", "oracle"), ("--predictors", "xgboost")),
        (("--where", "device"), ("--where", "COLUMN=VALUE")),
        (("--where", "device=watch"), ("--table", "none fits --where")),
        (("--predictors", "flops,flops"), ("--predictors", "twice")),
        (("--seed", "-1"), ("--seed",)),
        (("--split", "sideways"), ("--split",)),
        (("--coverage", "1.5"), ("--coverage", "between 0 and 1")),
        (("--json", "/dev/null/x.json"), ("--json", "/dev/null is in the way")),
        (("--json", "/proc/nowhere/x.json"), ("--json",)),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    leti, table: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    given = {"--table": str(table), "--arch-column": "cell", "--latency-column": "ms", "--train": "80"}
    given |= {"--predictors": "flops", "--zero": "fold"}
    given.update(dict([arguments]))
    ran = leti("evaluate", *(part for pair in given.items() for part in pair), cwd=tmp_path)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert all(word in ran.stderr for word in words), ran.stderr


def test_a_table_may_hold_specs(leti, tmp_path: Path) -> None:
    rng, path, out = random.Random(1), tmp_path / "specs.csv", tmp_path / "out.json"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arch", "ms"))
        for spec in get_space("nasbench101").sample(60, 0, NetworkConfig(modules_per_stack=1)):
            writer.writerow((json.dumps(spec.to_json()), lower(spec).macs / 1e7 * rng.gauss(1, 0.02)))
    ran = leti(
        "evaluate", "--table", path, "--space", "nasbench101", "--latency-column", "ms", "--train", "40",
        "--predictors", "flops", "--json", out,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    data = json.loads(out.read_text())
    assert (data["rows_used"], data["zero"]) == (60, "execute")
    assert data["predictors"]["flops"]["within_10"] > 0.9


def test_a_table_from_a_spreadsheet_is_read_and_its_broken_rows_are_named(leti, table: Path, tmp_path: Path) -> None:
    lines = gzip.decompress(table.read_bytes()).decode("utf-8").splitlines()
    broken = tmp_path / "sheet.csv"
    broken.write_text("\n".join([*lines[:120], "7,|none~0|", lines[3] + ",too,much"]) + "\n", encoding="utf-8-sig")
    arguments = (
        "--table",
        broken,
        "--arch-column",
        "cell",
        "--latency-column",
        "ms",
        "--train",
        "80",
        "--zero",
        "prune",
    )
    ran = leti("evaluate", *arguments, "--predictors", "flops")
    assert ran.returncode == 0, ran.stderr
    assert "left out 2 rows: more or fewer fields than columns (lines 121, 122)" in ran.stdout
    broken.write_text(lines[0].replace("name", "ms") + "\n" + "\n".join(lines[1:120]), encoding="utf-8")
    ran = leti("evaluate", *arguments)
    assert (ran.returncode, "has two columns 'ms'" in ran.stderr) == (2, True), ran.stderr


@pytest.mark.skipif(not DATA.is_dir(), reason="the public tables are not at hand")
def test_published_table_of_a_raspberry_pi_5(leti, tmp_path: Path) -> None:
    """Protocol A: known figures are 87.5 % within ±10 % for FLOPs, 99.9 % for a ridge on the operators that run."""
    out = tmp_path / "pi5.json"
    ran = leti(
        "evaluate", "--table", DATA / "hwnasbench360_pi5.csv.gz", "--space", "nasbench201", "--arch-column", "arch",
        "--latency-column", "lat_ms_median", "--where", "framework=litert", "--where", "task=cifar100",
        "--train", "1000", "--split", "isomorphism", "--seed", "0", "--zero", "fold",
        "--predictors", "flops,xgboost", "--json", out,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    predictors = json.loads(out.read_text())["predictors"]
    assert predictors["flops"]["within_10"] > 0.83
    assert predictors["xgboost"]["within_10"] > 0.99
    assert predictors["xgboost"]["within_5"] > 0.95
    assert 0.87 < predictors["xgboost"]["interval_coverage"] < 0.93
