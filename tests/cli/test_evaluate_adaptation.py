"""``leti evaluate --adapt``: tables of several devices, and what is wrong with them."""

import csv
import gzip
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="needs leti[boosting]")
pytest.importorskip("flatbuffers", reason="needs leti[export]")

from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.generator.spaces.nasbench201 import architecture_of

DATA = Path(__file__).parents[3] / "shared" / "data"
POOL, QUERIES = 80, 40
PRICES = {"phone": (1 / 5e7, 0.01), "tablet": (1 / 2e8, 0.1), "watch": (1 / 1e7, 0.02), "new": (1 / 4e7, 0.03)}
"""What a MAC and an operator cost, in ms."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latencies of four devices, 1 % of them noise, and a row in pool and queries that cannot be used."""
    path = tmp_path_factory.mktemp("a table") / "devices.csv.gz"
    rng = random.Random(0)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("cell", *PRICES))
        for i, spec in enumerate(get_space("nasbench201").sample(POOL + QUERIES, 0, NetworkConfig())):
            graph = lower(spec)
            times = [(graph.macs * mac + len(graph.ops) * op) * rng.gauss(1, 0.01) for mac, op in PRICES.values()]
            cell = architecture_of(spec) if i != POOL + 3 else "|conv~0|"
            writer.writerow((cell, *(f"{ms:.6f}" for ms in (times if i != 5 else (*times[:3], float("nan"))))))
    return path


def arguments_of(table: Path, **changes: str) -> list[str]:
    given = {
        "arch-column": "cell", "sources": str(table), "source-columns": "phone,tablet,watch", "target": str(table),
        "target-column": "new", "samples": "10", "trim-middle": "0.9", "pool": f"0:{POOL}",
        "query": f"{POOL}:{POOL + QUERIES}", "zero": "execute",
    } | {name.replace("_", "-"): value for name, value in changes.items()}  # fmt: skip
    return [part for name, value in given.items() if value for part in (f"--{name}", value)]


def test_every_method_is_judged_at_every_number_of_samples(leti, table: Path, tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.json"
        arguments = arguments_of(table, samples="20,6", seed="3", json=str(out))
        ran = leti("evaluate", "--adapt", "--space", "nasbench201", *arguments, anew=name == "b")
        assert ran.returncode == 0, ran.stderr
        runs.append(json.loads(out.read_text()))
    first = runs[0]
    per_count = len(first) // 2
    assert [record["n_samples"] for record in first] == [6] * per_count + [20] * per_count
    assert len({(record["method"], record["n_samples"]) for record in first}) == len(first)
    assert {"auto", "mix", "residual", "bayes", "auto, diverse", "auto, disagreement"} <= {
        record["method"] for record in first
    }
    for record in first:
        assert (record["seed"], record["n_sources"]) == (3, 3)
        assert 0.8 * QUERIES < record["n_query"] < QUERIES
        assert record["fit_s"] > 0
        if record["n_samples"] == 20:
            assert record["spearman"] > 0.95
            assert record["kendall"] > 0.8
            assert record["within_10"] > 0.8
            assert record["mdape"] < 0.05
    for one, other in zip(*runs, strict=True):
        assert {**one, "fit_s": 0} == {**other, "fit_s": 0}
    assert "left out 1 rows: --pool" in ran.stdout
    assert "left out 1 rows: --query" in ran.stdout
    assert "Spearman" in ran.stdout


def test_the_queries_of_sources_are_not_looked_at(leti, table: Path, tmp_path: Path) -> None:
    rows = gzip.decompress(table.read_bytes()).decode().splitlines()
    only = tmp_path / "sources.csv"
    only.write_text("\n".join(rows[: POOL + 1]) + "\n", encoding="utf-8")
    found = []
    for sources in (table, only):
        out = tmp_path / "out.json"
        ran = leti("evaluate", "--adapt", *arguments_of(table, sources=str(sources), json=str(out)))
        assert ran.returncode == 0, ran.stderr
        found.append([{**record, "fit_s": 0} for record in json.loads(out.read_text())])
    assert found[0] == found[1]


def test_what_none_meant_is_chosen_on_the_sources(leti, table: Path, tmp_path: Path) -> None:
    ran = leti("evaluate", "--adapt", *arguments_of(table, zero="auto", source_columns="phone"))
    assert ran.returncode == 0, ran.stderr
    assert "none = execute: mean error of linear in cross-validation on the sources: execute" in ran.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": ""}, ("--sources", "must be given")),
        ({"target_column": ""}, ("--target-column", "must be given")),
        ({"pool": ""}, ("--pool", "FIRST:END")),
        ({"query": "9:3"}, ("--query", "FIRST:END")),
        ({"query": "79:100"}, ("--query", "overlaps --pool")),
        ({"query": "5000:5100"}, ("--target", "no row from 5000 to 5099")),
        ({"source_columns": "phone,phone"}, ("--source-columns", "each once")),
        ({"source_columns": "phone,toaster"}, ("--sources", "no column 'toaster'")),
        ({"target_column": "cell"}, ("--target", "the latency is not a number")),
        ({"samples": "3"}, ("--samples", "3")),
        ({"samples": "79"}, ("--samples", "from 0 to")),
        ({"samples": "many"}, ("--samples", "whole numbers")),
        ({"space": "nasbench101"}, ("--sources", "nasbench101")),
        ({"sources": "absent.csv"}, ("--sources", "absent.csv")),
        ({"pool": "0:12"}, ("--source-columns phone", "20 are needed")),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    leti, table: Path, tmp_path: Path, changes: dict[str, str], words: tuple[str, ...]
) -> None:
    ran = leti("evaluate", "--adapt", *arguments_of(table, **changes), cwd=tmp_path)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert all(word in ran.stderr for word in words), ran.stderr


def test_a_table_and_adaptation_are_not_both(leti, table: Path) -> None:
    ran = leti("evaluate", "--adapt", "--table", table)
    assert (ran.returncode, "--adapt" in ran.stderr) == (2, True)


@pytest.mark.skipif(not DATA.is_dir(), reason="the public tables are not at hand")
def test_published_table_of_a_titan_x(leti, tmp_path: Path) -> None:
    """Protocol D on one target: HELP's mean Spearman of other devices is .932."""
    out, table = tmp_path / "titanx.json", str(DATA / "help_nasbench201.csv.gz")
    arguments = arguments_of(
        table, arch_column="arch", source_columns="1080ti_1,silver_4114,pixel3,samsung_s7", target_column="titanx_1",
        trim_middle="0.8", pool="0:900", query="900:1900", json=str(out),
    )  # fmt: skip
    ran = leti("evaluate", "--adapt", *arguments)
    assert ran.returncode == 0, ran.stderr
    found = {record["method"]: record for record in json.loads(out.read_text())}
    assert (found["auto"]["n_query"], found["auto"]["n_samples"]) == (800, 10)
    assert found["auto"]["spearman"] > 0.94
