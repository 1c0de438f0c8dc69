"""Protocol D on a table of HELP's form made by hand, and its refusals."""

import csv
import gzip
import io
import itertools
import random
from pathlib import Path

import pytest

from leti.core.errors import InvalidInput
from leti.core.spec import NetworkConfig

pytest.importorskip("scipy", reason="needs the extra `boosting`")
protocol_d = pytest.importorskip("leti.cli.protocol_d")

from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.generator.spaces.nasbench201 import architecture_of

POOL, QUERIES = (0, 60), (60, 100)
PRICES = {"a": (1 / 5e7, 0.01), "b": (1 / 2e8, 0.1), "c": (1 / 1e7, 0.02), "new": (1 / 4e7, 0.03)}
SOURCES, TARGETS = ("a", "b", "c"), ("new",)


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    chance = random.Random(0)
    found: list[dict[str, object]] = []
    for i, spec in enumerate(get_space("nasbench201").sample(QUERIES[1] + 10, 0, NetworkConfig())):
        graph = lower(spec)
        times = {
            device: (graph.macs * mac + len(graph.ops) * op) * chance.lognormvariate(0, 0.01)
            for device, (mac, op) in PRICES.items()
        }
        found.append({"arch_idx": i, "arch": architecture_of(spec), **times})
    return found


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    (folder / protocol_d.TABLE).write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_d, "POOL", POOL)
    monkeypatch.setattr(protocol_d, "QUERIES", QUERIES)


def run(folder: Path, seeds=(0,), counts=(10,)):
    return protocol_d.run(folder, seeds, counts, sources=SOURCES, targets=TARGETS)


def test_there_is_a_record_of_everything_that_was_tried(lines, tmp_path: Path) -> None:
    records = run(write(tmp_path, lines), (0, 1), (6, 10))
    plan = [(known, how, method) for known, how, methods in protocol_d._PLAN for method in methods]
    expected = {(*tried, count, seed) for tried, count, seed in itertools.product(plan, (6, 10), (0, 1))}
    found = [(r["sources"], r["sampling"], r["method"], r["n_samples"], r["seed"]) for r in records]
    assert len(found) == len(set(found))
    assert set(found) == expected
    for record in records:
        assert (record["target"], record["n_sources"], record["n_query"]) == ("new", 3, 32)
        if record["n_samples"] == 10:
            assert record["spearman"] > 0.8
            assert record["mdape"] < 0.1


def test_sources_of_the_publication_know_the_pool_alone(lines, tmp_path: Path) -> None:
    """Whatever the queries take on the sources, and however long what stands behind them takes."""
    spoilt = [{**row, **{device: 1000.0 + i for device in SOURCES if i >= QUERIES[0]}} for i, row in enumerate(lines)]
    before, after = (
        [record for record in run(write(tmp_path, rows)) if record["sources"] == "predicted"]
        for rows in (lines, spoilt)
    )
    assert before == after


def test_a_device_can_be_a_target_and_is_then_no_source(lines, tmp_path: Path) -> None:
    records = protocol_d.run(write(tmp_path, lines), (0,), (6,), sources=SOURCES, targets=("a",))
    assert {(record["target"], record["n_sources"]) for record in records} == {("a", 2)}


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"a,b\n1,2\n", mtime=0), gzip.compress(b"arch,a\n|x~0|,soon\n", mtime=0)],
)
def test_a_file_that_is_no_such_table_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / protocol_d.TABLE).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        run(tmp_path)
    assert protocol_d.TABLE in str(caught.value)


def test_too_few_rows_and_latencies_that_are_none_are_told(lines, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds 99 networks, the protocol is for 100"):
        run(write(tmp_path, lines[:99]))
    for bad in ("nan", "inf", 0, -1):
        with pytest.raises(InvalidInput, match="latencies of b"):
            run(write(tmp_path, [*lines[:70], {**lines[70], "b": bad}, *lines[71:]]))


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        run(tmp_path)
